"""What crosses the border between the sandboxed reader and its parent: requests, plans and reports.

Here: plain pydantic models, cheap to import. The parent trusts nothing in them that reaches SQL: names, types and the
geometry's type are checked against what this package could have written.
Not here: how a plan is made (`read.py`) or turned into a table (`load.py`).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geo_assets.vector.types import sql_type

#: Most bytes that an archive may unpack to, unless the request says otherwise.
DEFAULT_MAX_UNPACKED_BYTES = 20 * 1024**3

GeometryType = Literal["POINT", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON"]
BoundingBox = tuple[float, float, float, float]  # west, south, east, north

#: Features by the reason why they were rejected or repaired.
Counts = dict[str, int]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InspectRequest(_Model):
    """Look at one source. Its directory is private and writable: archives are unpacked there."""

    source: str  # absolute path; a shapefile's parts lie beside it
    source_crs: str | None = None  # EPSG:code, for layers that carry no CRS
    target_crs: str | None = None  # EPSG:code; None keeps the layer's own
    max_unpacked_bytes: int = Field(DEFAULT_MAX_UNPACKED_BYTES, ge=1)


class ColumnPlan(_Model):
    """One column: where it comes from and what it becomes."""

    position: int = Field(ge=0)  # among the layer's attributes; two may have the same name
    source_name: str
    name: str = Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    arrow_type: str  # on the wire between child and parent (`types.py`)
    sql_type: str

    @model_validator(mode="after")
    def _types_agree(self) -> Self:
        if self.sql_type != sql_type(self.arrow_type):
            msg = f"column {self.name}: {self.arrow_type} is not loaded as {self.sql_type}"
            raise ValueError(msg)
        return self


class LayerPlan(_Model):
    """One layer: what it holds and the table that it becomes. All counts are features."""

    member: str | None = None  # path within the archive
    layer: str | None = None  # None where a file is one layer
    layer_index: int = Field(0, ge=0)
    driver: str
    columns: tuple[ColumnPlan, ...]
    geometry_type: GeometryType
    has_z: bool
    srid: int = Field(ge=1, le=999_999)  # EPSG code
    source_crs: str  # EPSG:code or WKT2 of the coordinates as they lie in the file
    crs_name: str
    transform_name: str | None = None  # None: coordinates are kept
    transform_accuracy_m: float | None = None  # metres; None: unknown, or kept
    feature_count: int
    null_geometries: int = 0
    rejected_by_reason: Counts = Field(default_factory=dict)
    repaired_by_reason: Counts = Field(default_factory=dict)
    sound: bool = False  # every geometry of the file is valid, finite and plain WKB: it need not be checked again
    wkb_as_is: bool = False  # the file's bytes need no work but a Multi header
    bounds: BoundingBox  # in the file's CRS
    bbox_4326: BoundingBox  # west > east where it crosses the antimeridian
    footprint: dict[str, Any]  # GeoJSON geometry of bbox_4326
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str | None:
        """What tells this layer from its siblings in the same source: member, without its ending, and layer."""
        member = str(PurePosixPath(self.member).with_suffix("")) if self.member else None
        return "/".join(filter(None, (member, self.layer))) or None


class InspectReport(_Model):
    """What a source holds."""

    layers: tuple[LayerPlan, ...]
    warnings: tuple[str, ...] = ()
    software: dict[str, str]


class StreamRequest(_Model):
    """Send one layer of an inspected source as an Arrow IPC stream."""

    source: str
    plan: LayerPlan
    max_unpacked_bytes: int = Field(DEFAULT_MAX_UNPACKED_BYTES, ge=1)


class StreamReport(_Model):
    """What was sent: `rows` + the sum of `rejected` = the layer's features."""

    rows: Annotated[int, Field(ge=0)]
    rejected: Counts = Field(default_factory=dict)
    repaired: Counts = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()
