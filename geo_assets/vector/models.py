"""Messages between the sandboxed reader and its parent: requests, plans and reports.

Here: messages (`wire.py`), cheap to import. The parent checks everything in them that reaches SQL: names, types and the
geometry's type must be ones that this package could have written.
Not here: how a plan is made (`reader/inspect.py`) or turned into a table (`tables/load.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import PurePosixPath
from typing import Any, Literal, Self

from geo_assets.archives import MAX_UNPACKED_BYTES
from geo_assets.longitudes import check_box
from geo_assets.vector.encodings import find_codec
from geo_assets.vector.types import sql_type
from geo_assets.wire import Message, told

GeometryType = Literal["POINT", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON", "GEOMETRY"]
Part = Literal["point", "line", "polygon"]
BoundingBox = tuple[float, float, float, float]  # west, south, east, north

#: Number of features by the reason why they were rejected or repaired.
Counts = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class LayerOptions(Message):
    """Options for a layer: which features and columns, and the policies for geometry that one table cannot hold."""

    source_crs: str | None = None  # EPSG:code, for layers that carry no CRS
    target_crs: str | None = None  # EPSG:code; None keeps the layer's own
    # metres; a transformation that is worse, or unknown, is refused
    max_transform_accuracy_m: float | None = field(default=None, metadata={"gt": 0})
    where: str | None = None  # the grammar of `where.py`
    columns: tuple[str, ...] | None = None  # names in the source; None: all
    bbox: BoundingBox | None = None  # features that touch it
    bbox_crs: str = "EPSG:4326"
    mixed: Literal["split", "generic", "reject"] = "split"
    null_geometry: Literal["keep", "reject"] = "keep"
    attribute_tables: bool = False  # also layers without geometry
    trust_geometry: bool = False  # neither check nor repair geometry
    override_crs: bool = False  # source_crs also counts where the layer says something else
    encoding: str | None = None  # of text, where the file says nothing or something wrong
    geometry_column: str | None = None  # of plain Parquet
    # columns of coordinates, or of WKT, EWKT, WKB or GeoJSON, in tables that have no geometry of their own
    x: str | None = None
    y: str | None = None
    wkt: str | None = None
    delimiter: str | None = field(default=None, metadata={"pattern": r"^[^\w\s\"'.-]$|^\t$|^ $"})  # of CSV
    decimal: Literal[".", ","] | None = None  # decimal mark of its coordinates

    def __post_init__(self) -> None:
        if (self.x is None) != (self.y is None):
            msg = "x and y go together"
            raise ValueError(msg)
        if self.wkt is not None and self.x is not None:
            msg = "either wkt, or x and y"
            raise ValueError(msg)
        if self.override_crs and self.source_crs is None:
            msg = "override_crs needs source_crs"
            raise ValueError(msg)
        if self.encoding is not None and find_codec(self.encoding) is None:
            msg = f"{self.encoding[:40]!r} is no encoding; for example UTF-8, windows-1252, ISO-8859-15, GBK"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class InspectRequest(LayerOptions):
    """Inspect one source. Its directory is private and writable: archives are unpacked there."""

    source: str  # absolute path; a shapefile's parts are beside it
    layers: tuple[str, ...] | None = None  # names; None: all
    look_first: bool = False  # at every geometry, before any is sent
    thorough: bool = True  # also count invalid geometry that will be checked anyway while it is loaded
    max_unpacked_bytes: int = field(default=MAX_UNPACKED_BYTES, metadata={"ge": 1})


@dataclass(frozen=True, kw_only=True)
class ColumnPlan(Message):
    """One column: where it comes from and what it becomes."""

    position: int = field(metadata={"ge": 0})  # among the layer's attributes; two may have the same name
    source_name: str
    name: str = field(metadata={"pattern": r"^[a-z_][a-z0-9_]{0,62}$"})
    arrow_type: str  # on the wire between child and parent (`types.py`)
    sql_type: str

    def __post_init__(self) -> None:
        if self.sql_type != sql_type(self.arrow_type):
            msg = f"column {self.name}: {self.arrow_type} is not loaded as {self.sql_type}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class LayerPlan(Message):
    """One layer, or one kind of geometry of a mixed one: what it holds and the table that it becomes. All counts are
    features.
    """

    member: str | None = None  # path within the archive
    layer: str | None = None  # None where a file is one layer
    layer_index: int = field(default=0, metadata={"ge": 0})
    part: Part | None = None  # one kind of geometry, if the layer is split by kind
    driver: str
    columns: tuple[ColumnPlan, ...]
    geometry_type: GeometryType | None  # None: a table of attributes
    has_z: bool = False
    srid: int = field(default=0, metadata={"ge": 0, "le": 999_999})  # code of the authority; 0 without geometry
    authority: Literal["EPSG", "ESRI"] = "EPSG"
    source_crs: str = ""  # EPSG:code or WKT2 of the coordinates in the file
    crs_name: str = ""
    transform_name: str | None = None  # None: coordinates are kept
    transform_accuracy_m: float | None = None  # metres; None: unknown, or kept
    feature_count: int = field(metadata={"ge": 0})  # = loaded + rejected + filtered
    main: bool = True  # also accounts for features of no kind: null, rejected and filtered ones
    elsewhere: int = field(default=0, metadata={"ge": 0})  # features of the same layer that other parts take
    filtered: int = field(default=0, metadata={"ge": 0})
    null_geometries: int = 0
    linearised: int = 0  # curves that became lines
    m_dropped: int = 0
    rejected_by_reason: Counts = field(default_factory=dict)
    repaired_by_reason: Counts = field(default_factory=dict)
    looked_at_later: bool = False  # what the plan says is checked while the layer is sent; see `StreamReport`
    sound: bool = False  # every geometry of the file is valid, finite and plain WKB: not checked again
    wkb_as_is: bool = False  # the bytes are used as they are read, apart from a Multi header and from `changed`
    sound_values: bool = False  # each value of the file has its column's type: not checked again
    changed: tuple[int, ...] = ()  # positions, among the features that meet the condition, of those that need work
    options: LayerOptions = field(default_factory=LayerOptions)
    bounds: BoundingBox | None = None  # in the file's CRS
    bbox_4326: BoundingBox | None = None  # west > east where it crosses the antimeridian
    footprint: dict[str, Any] | None = None  # GeoJSON geometry of bbox_4326
    encoding: str | None = None  # of its text, where the format does not define it
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.geometry_type is None) != (self.srid == 0):
            msg = "a layer with geometry has an SRID, and only such a layer"
            raise ValueError(msg)
        check_box(self.bbox_4326)

    @property
    def crs_code(self) -> str:
        """Return the CRS of the table, as `EPSG:4326`."""
        return f"{self.authority}:{self.srid}"

    @property
    def label(self) -> str | None:
        """Return what distinguishes this layer from others in the same source: member, without its ending, layer and
        part.
        """
        member = str(PurePosixPath(self.member).with_suffix("")) if self.member else None
        return "/".join(filter(None, (member, self.layer, self.part))) or None


@dataclass(frozen=True, kw_only=True)
class InspectReport(Message):
    """The contents of a source."""

    layers: tuple[LayerPlan, ...]
    warnings: tuple[str, ...] = ()
    software: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class StreamRequest(Message):
    """Send one layer of an inspected source as an Arrow IPC stream."""

    source: str
    plan: LayerPlan
    max_unpacked_bytes: int = field(default=MAX_UNPACKED_BYTES, metadata={"ge": 1})


@dataclass(frozen=True, kw_only=True)
class Found(Message):
    """What a plan says of the geometries of a layer, where they were looked at while they were sent."""

    geometry_type: GeometryType | None = None
    has_z: bool = False
    null_geometries: int = 0
    linearised: int = 0
    m_dropped: int = 0
    rejected_by_reason: Counts = field(default_factory=dict)
    repaired_by_reason: Counts = field(default_factory=dict)
    bounds: BoundingBox | None = None
    bbox_4326: BoundingBox | None = None
    footprint: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_box(self.bbox_4326)

    @classmethod
    def of(cls, plan: LayerPlan) -> Self:
        """That part of a plan."""
        return cls(**{each.name: getattr(plan, each.name) for each in fields(cls)})

    def fits(self, plan: LayerPlan) -> bool:
        """Whether the table that the plan made is the one for these geometries. It is not where the headers of
        geometries contradict their members.
        """
        return (self.geometry_type, self.has_z) == (plan.geometry_type, plan.has_z)

    def in_place(self, plan: LayerPlan) -> LayerPlan:
        """The plan, which says this."""
        return replace(plan, **told(self))


@dataclass(frozen=True, kw_only=True)
class StreamReport(Message):
    """What was sent: `rows` + the sum of `rejected` + `filtered` = the plan's features."""

    found: Found | None = None  # what was found of a layer that was looked at while it was sent
    as_planned: bool = True  # that layer is the one that was planned; otherwise it was not sent to its end

    rows: int = field(metadata={"ge": 0})
    filtered: int = field(default=0, metadata={"ge": 0})
    rejected: Counts = field(default_factory=dict)
    repaired: Counts = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
