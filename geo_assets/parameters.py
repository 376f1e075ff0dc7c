"""The parameters of every job type, validated at the boundary, and the identity that follows from them.

Here: one pydantic model per job type, their registry, `job_id` and the partition key. Adding a job type starts here.
Not here: reading messages or HTTP bodies, recording anything (`ledger/`), running anything (`defs/`).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from geo_assets.capture import pattern, taken
from geo_assets.errors import GeoAssetsError, faults

#: Dagster tags and URLs carry the partition key; 63 is the strictest limit among them.
PARTITION_KEY_LENGTH = 63
_ID_HEX_IN_KEY = 12

#: Parameters that shape what a vector source becomes, beside those that every source has.
VECTOR_SHAPING = (
    "where",
    "columns",
    "bbox",
    "bbox_crs",
    "mixed_geometry",
    "null_geometry",
    "attribute_tables",
    "max_transform_accuracy_m",
    "mode",
    "key",
    "encoding",
    "geometry_column",
    "x",
    "y",
    "wkt",
    "delimiter",
    "decimal",
)

#: Parameters that were added when there were jobs already, and their defaults as JSON. With its default such a
#: parameter counts neither for a job's identity nor for a task's fingerprint: what was requested and made before it
#: existed stays the same request, and is not redone.
ADDED_LATER: dict[str, Any] = {
    "allow_empty": False,
    "max_retire_percent": 20,
    "override_crs": False,
    **dict.fromkeys(
        ("datetime", "datetime_regex", "encoding", "geometry_column", "x", "y", "wkt", "delimiter", "decimal")
    ),
}

#: Parameters that say how thoroughly to look, not what is wanted: with or without them a request is the same job.
NOT_IDENTITY = frozenset({"verify_sources"})


def without_later_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name, as JSON, without those that were added later and say nothing."""
    return {
        name: value
        for name, value in values.items()
        if name not in ADDED_LATER or value not in (None, ADDED_LATER[name])
    }


def _plain_text(value: str) -> str:
    """PostgreSQL text and jsonb refuse NUL; UTF-8 refuses lone surrogates. JSON parsers accept both."""
    if "\x00" in value:
        msg = "must not contain NUL"
        raise ValueError(msg)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        msg = "must not contain lone surrogates"
        raise ValueError(msg) from None
    return value


def _safe_path(value: str) -> str:
    """A blob path or prefix: opaque, but never a way out of its container."""
    value = _plain_text(value)
    if (
        value.startswith("/")
        or "\\" in value
        or ".." in value.split("/")
        or any(unicodedata.category(c) == "Cc" for c in value)
    ):
        msg = "must be a plain blob path: no leading '/', no '..', no backslash, no control character"
        raise ValueError(msg)
    return value


def _known_crs(value: str) -> str:
    """Only EPSG codes: PROJ's free-text form also takes URLs and files."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    value = value.upper()
    if not re.fullmatch(r"EPSG:\d{4,6}", value):
        msg = "must be EPSG:code, for example EPSG:3857"
        raise ValueError(msg)
    try:
        crs = CRS.from_user_input(value)
    except CRSError:
        msg = f"{value} is not a CRS that PROJ knows"
        raise ValueError(msg) from None
    if not (crs.is_geographic or crs.is_projected):
        msg = f"{value} ({crs.name}) is neither geographic nor projected"
        raise ValueError(msg)
    return value


def _condition(value: str) -> str:
    """A condition of the grammar; which columns there are is known when a file is opened."""
    from geo_assets.vector.where import parse

    try:
        parse(_plain_text(value))
    except GeoAssetsError as error:
        raise ValueError(error.message) from None
    return value


def _numbers(value: Any) -> Any:
    """`west,south,east,north`, as a person types it."""
    return value.split(",") if isinstance(value, str) else value


def _is_box(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if value[1] > value[3]:
        msg = "must be west,south,east,north"
        raise ValueError(msg)
    return value


def _time(value: str) -> str:
    if taken(_plain_text(value), "datetime") is None:
        msg = (
            "must be a time, a date, a month or a year as ISO 8601, or two with a slash between, the earlier one first"
        )
        raise ValueError(msg)
    return value


def _time_pattern(value: str) -> str:
    pattern(_plain_text(value))
    return value


Text = Annotated[str, AfterValidator(_plain_text)]
BlobPath = Annotated[str, Field(max_length=1024), AfterValidator(_safe_path)]
Crs = Annotated[str, AfterValidator(_known_crs)]
ContainerName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9](?:-?[a-z0-9]){2,62}$",
        description="the container to read; names are 3-63 of a-z, 0-9 and single hyphens",
    ),
]
Where = Annotated[str, Field(min_length=1), AfterValidator(_condition)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
Time = Annotated[str, AfterValidator(_time)]
TimePattern = Annotated[str, AfterValidator(_time_pattern)]
Box = Annotated[tuple[_Finite, _Finite, _Finite, _Finite], BeforeValidator(_numbers), AfterValidator(_is_box)]
Alias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
CollectionId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Parameters(BaseModel):
    """What every job type's parameters share: unknown fields are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_type: ClassVar[str]
    #: One line for `--help` and the Dagster UI.
    summary: ClassVar[str]
    #: Whether the same request can have more to do later: a container may have changed since.
    reads_container: ClassVar[bool] = False

    def slug(self) -> str:
        """The readable half of the partition key."""
        return self.job_type


class HelloWorld(Parameters):
    """The two-stage fan-out and fan-in, without any file: n greetings, then n replies, each built from its greeting."""

    job_type: ClassVar[str] = "hello_world"
    summary: ClassVar[str] = "n greetings, then n replies: tries the machinery without a file"

    n: int = Field(3, ge=1, le=1000, description="how many greetings")
    message: Text = Field("hello", max_length=10_000, description="comes back unchanged in every greeting and reply")


class StacSetup(Parameters):
    """Checks that the catalogue is there and current, and that the pipeline may write to it."""

    job_type: ClassVar[str] = "stac_setup"
    summary: ClassVar[str] = "checks pgstac: version, roles, a written and removed item"


class ListContainer(Parameters):
    """Lists a container and says what each file is, without opening any."""

    job_type: ClassVar[str] = "list_container"
    summary: ClassVar[str] = "lists and classifies what a container holds"
    reads_container: ClassVar[bool] = True

    account: Alias = Field("default", description="storage account alias")
    container: ContainerName
    prefix: BlobPath = Field("", description="only blobs whose path starts with this")
    include: tuple[Text, ...] = Field((), max_length=50, description="globs; a path must match one (none: all match)")
    exclude: tuple[Text, ...] = Field((), max_length=50, description="globs; a path that matches one is left out")
    limit: int | None = Field(
        None, ge=1, le=10_000_000, description="at most this many sources, in path order, after the globs"
    )
    allow_empty: bool = Field(default=False, description="a prefix or globs that match nothing are no error")

    def slug(self) -> str:
        """The container's name."""
        return self.container.replace("-", "_")


class IngestContainer(ListContainer):
    """Rasters become COGs, vectors become PostGIS tables, both become STAC items."""

    job_type: ClassVar[str] = "ingest_container"
    summary: ClassVar[str] = "rasters to COGs, vectors to PostGIS tables, both to STAC"
    kinds: ClassVar[frozenset[str]] = frozenset({"raster", "vector", "zip"})

    collection: CollectionId = Field(
        "", validate_default=False, description="STAC collection (default: the container's name)"
    )
    source_crs: Crs | None = Field(None, description="CRS of files that carry none, as EPSG:code")
    override_crs: bool = Field(default=False, description="source_crs counts also where a file says something else")
    target_crs: Crs | None = Field(None, description="reproject to this CRS, as EPSG:code (default: keep the source's)")
    profile: Literal["web", "analysis", "archive", "visual", "dem"] | None = Field(
        None, description="how COGs are written (default: web; docs/formats.md)"
    )
    resolution: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="size of a raster's pixel in units of target_crs"
    )
    resampling: (
        Literal["nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "min", "max", "med"]
        | None
    ) = Field(None, description="of rasters that are reprojected (default: by the kind of pixels)")
    web_tiles: bool = Field(False, description="rasters on the grid of web map tiles, EPSG:3857")
    datetime: Time | None = Field(
        None, description="when all of it was taken: ISO 8601, a date, a month, a year, or two with a slash between"
    )
    datetime_regex: TimePattern | None = Field(
        None,
        max_length=300,
        description="finds it in a file's path: named groups (?P<year>…), …, or %Y%m%d in their place",
    )
    deleted: Literal["keep", "retire"] = Field(
        "keep", description="outputs of files that are no longer there: keep, or retire them"
    )
    max_retire_percent: float = Field(
        20,
        ge=0,
        le=100,
        description="deleted=retire: how much of what is published may be taken back without allow_mass_retire",
    )
    verify_sources: bool = Field(
        default=False, description="hash files that seem unchanged, where the store has no real etags (directories)"
    )
    on_error: Literal["continue", "fail"] = Field("continue", description="what one bad file does to the rest")

    where: Where | None = Field(
        None, description='vectors: only features that meet this condition, e.g. "population > 1000"'
    )
    columns: tuple[Text, ...] = Field((), max_length=1600, description="vectors: only these columns (none: all)")
    bbox: Box | None = Field(None, description="vectors: only features that touch this box: west,south,east,north")
    bbox_crs: Crs = Field("EPSG:4326", description="vectors: the CRS of bbox")
    mixed_geometry: Literal["split", "generic", "reject"] = Field(
        "split", description="vectors: a layer of points, lines and polygons"
    )
    null_geometry: Literal["keep", "reject"] = Field("keep", description="vectors: features without geometry")
    attribute_tables: bool = Field(
        default=False, description="vectors: also layers without geometry, as tables of attributes"
    )
    max_transform_accuracy_m: float | None = Field(
        None, gt=0, description="vectors: refuse a transformation that is less accurate"
    )
    mode: Literal["replace", "append", "upsert"] = Field(
        "replace", description="vectors: what happens to the table that is there"
    )
    key: tuple[Text, ...] = Field(
        (), max_length=32, description="vectors: the columns that identify a row, for mode=upsert"
    )
    encoding: Text | None = Field(
        None, max_length=40, description="vectors: encoding of text, where the file says nothing or something wrong"
    )
    geometry_column: Text | None = Field(
        None, max_length=200, description="vectors: the column of WKB or WKT in plain Parquet"
    )
    x: Text | None = Field(
        None, max_length=200, description="vectors: column of longitude or easting, in tables without geometry"
    )
    y: Text | None = Field(None, max_length=200, description="vectors: column of latitude or northing")
    wkt: Text | None = Field(
        None, max_length=200, description="vectors: column of WKT, EWKT, hexadecimal WKB or GeoJSON"
    )
    delimiter: Text | None = Field(None, min_length=1, max_length=1, description="vectors: of CSV")
    decimal: Literal[".", ","] | None = Field(
        None, description="vectors: what parts the decimals of coordinates in text"
    )
    schema_drift: Literal["allow", "refuse"] = Field("allow", description="vectors: when a table's columns change")
    keep_versions: int = Field(0, ge=0, le=100, description="vectors: how many replaced tables are kept")

    @model_validator(mode="after")
    def _upsert_has_a_key(self) -> Self:
        if (self.mode == "upsert") != bool(self.key):
            msg = "key and mode=upsert go together"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _reading_makes_sense(self) -> Self:
        from geo_assets.vector.encodings import find_codec

        if self.encoding is not None and find_codec(self.encoding) is None:
            msg = f"{self.encoding!r} is no encoding; for example UTF-8, windows-1252, ISO-8859-15, GBK"
            raise ValueError(msg)
        if self.override_crs and self.source_crs is None:
            msg = "override_crs needs source_crs"
            raise ValueError(msg)
        if (self.x is None) != (self.y is None) or (self.wkt is not None and self.x is not None):
            msg = "x and y go together, and not with wkt"
            raise ValueError(msg)
        return self

    @model_validator(mode="before")
    @classmethod
    def _default_collection(cls, data: Any) -> Any:
        """The default is filled in before the identity is computed: an explicit default is the same job."""
        if isinstance(data, dict) and not data.get("collection") and isinstance(data.get("container"), str):
            return {**data, "collection": data["container"]}
        return data


class StageRaster(IngestContainer):
    """`ingest_container` for the rasters of a container alone."""

    job_type: ClassVar[str] = "stage_raster"
    summary: ClassVar[str] = "ingest_container for the rasters alone"
    kinds: ClassVar[frozenset[str]] = frozenset({"raster"})

    @model_validator(mode="after")
    def _nothing_for_vectors(self) -> Self:
        for name in (*VECTOR_SHAPING, "schema_drift", "keep_versions"):
            if getattr(self, name) != type(self).model_fields[name].default:
                msg = f"{name} is for vectors, which this job type leaves alone"
                raise ValueError(msg)
        return self


class StageVector(IngestContainer):
    """`ingest_container` for the vectors of a container alone."""

    job_type: ClassVar[str] = "stage_vector"
    summary: ClassVar[str] = "ingest_container for the vectors alone"
    kinds: ClassVar[frozenset[str]] = frozenset({"vector", "zip"})


JOB_TYPES: dict[str, type[Parameters]] = {
    t.job_type: t for t in (IngestContainer, StageRaster, StageVector, ListContainer, HelloWorld, StacSetup)
}


class Job(BaseModel):
    """A valid submission: the same job type and parameters are the same job."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    job_type: str
    partition_key: str
    parameters: dict[str, Any]

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """The job that these parameters are."""
        body = parameters.model_dump(mode="json", exclude=set(NOT_IDENTITY))
        canonical = json.dumps(
            {"job_type": parameters.job_type, "parameters": without_later_defaults(body)},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )
        job_id = hashlib.sha256(canonical.encode("utf-8")).hexdigest()
        slug = parameters.slug()[: PARTITION_KEY_LENGTH - _ID_HEX_IN_KEY - 1]
        return cls(
            job_id=job_id,
            job_type=parameters.job_type,
            partition_key=f"{slug}_{job_id[:_ID_HEX_IN_KEY]}",
            parameters=body,
        )


def parameters_type(job_type: str) -> type[Parameters]:
    """The model of a job type.

    Raises:
        GeoAssetsError: UNKNOWN_JOB_TYPE.
    """
    try:
        return JOB_TYPES[job_type]
    except KeyError:
        raise GeoAssetsError(
            "UNKNOWN_JOB_TYPE", f"there is no job type {job_type!r}; there are: {', '.join(sorted(JOB_TYPES))}"
        ) from None


def validate_parameters(job_type: str, data: dict[str, Any]) -> Parameters:
    """Parameters as a model, defaults filled in.

    Raises:
        GeoAssetsError: UNKNOWN_JOB_TYPE; INVALID_PARAMETERS, one sentence that names every field at fault.
    """
    model = parameters_type(job_type)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise GeoAssetsError("INVALID_PARAMETERS", f"{job_type}: {'; '.join(faults(error))}") from error
