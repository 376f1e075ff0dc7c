"""The parameters of every job type, validated at the boundary, and the identity that follows from them.

Here: one pydantic model per job type, their registry, `job_id` and the partition key. Adding a job type starts here;
another distribution adds its own by an entry point. Not here: stages (`file_stages.py`), the types of single values
(`parameter_types.py`), reading messages or HTTP bodies, recording anything (`ledger/`), running anything (`defs/`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from geo_assets import plugins
from geo_assets.errors import GeoAssetsError
from geo_assets.faults import did_you_mean, wrong_parameters
from geo_assets.file_stages import COGS, FILE_STAGES, NAME, TABLES, Engine, Shapes, fault_of
from geo_assets.parameter_rules import contradiction, in_vain, shaping
from geo_assets.parameter_types import (
    Alias,
    AssetGlobs,
    BlobPath,
    Box,
    CollectionId,
    ContainerName,
    Crs,
    Encoding,
    Globs,
    License,
    Percent,
    Positive,
    Provider,
    ScenePattern,
    Searched,
    Text,
    Time,
    TimePattern,
    Where,
)
from geo_assets.raster.models import ResamplingName
from geo_assets.raster.profiles import DEFAULT, ProfileName

#: Dagster tags and URLs carry the partition key; 63 is the strictest limit among them.
PARTITION_KEY_LENGTH = 63
_ID_HEX_IN_KEY = 12


_BOTH = Shapes(Engine.RASTER, Engine.VECTOR)
_GROUPING = Shapes(Engine.RASTER, asked=False)
_RASTER, _VECTOR = Shapes(Engine.RASTER), Shapes(Engine.VECTOR)

#: Parameters that were added when there were jobs already, and their defaults as JSON. With its default such a
#: parameter counts neither for a job's identity nor for a task's fingerprint: what was requested and made before it
#: existed stays the same request, and is not redone.
ADDED_LATER: dict[str, Any] = {
    "allow_empty": False,
    "max_retire_percent": 20,
    **dict.fromkeys(("override_crs", "one_collection", "keep_lossy"), False),
    "id_regex": None,
    "assets": [],
    "missing_assets": "allow",
    **dict.fromkeys(
        ("datetime", "datetime_regex", "encoding", "geometry_column", "x", "y", "wkt", "delimiter", "decimal")
    ),
    **dict.fromkeys(("title", "description", "license", "export_tables")),
    "providers": [],
    "keywords": [],
    "indexed": [],
}

#: Parameters that say how thoroughly to look, not what is wanted: with or without them a request is the same job.
NOT_IDENTITY = frozenset({"verify_sources"})


#: The context of validating what was accepted once.
_STORED = object()


def without_later_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name, as JSON, without those that were added later and have their default."""
    return {
        name: value
        for name, value in values.items()
        if name not in ADDED_LATER or value not in (None, ADDED_LATER[name])
    }


class Parameters(BaseModel):
    """The base of every job type's parameters: unknown fields are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_type: ClassVar[str]
    #: One line for `--help` and the Dagster UI.
    summary: ClassVar[str]
    #: Whether the same request may have more to do later, because its container may have changed.
    reads_container: ClassVar[bool] = False

    def slug(self) -> str:
        """The readable half of the partition key."""
        return self.job_type

    def stored(self) -> dict[str, Any]:
        """As JSON, for the ledger: the values that identify the job."""
        return self.model_dump(mode="json", exclude=set(NOT_IDENTITY))


class HelloWorld(Parameters):
    """The two-stage fan-out and fan-in, without any file: n greetings, then n replies, each built from its greeting."""

    job_type: ClassVar[str] = "hello_world"
    summary: ClassVar[str] = "n greetings, then n replies: tests the installation without any file"

    n: int = Field(3, ge=1, le=1000, description="how many greetings")
    message: Text = Field("hello", max_length=10_000, description="comes back unchanged in every greeting and reply")


class StacSetup(Parameters):
    """Checks that the catalogue is there and current, that the pipeline may write to it and readers may search it, and
    installs what they may filter by.
    """

    job_type: ClassVar[str] = "stac_setup"
    summary: ClassVar[str] = "checks pgstac: version, roles, a write that is undone; installs its queryables"

    indexed: tuple[Searched, ...] = Field(
        (), max_length=20, description="properties that are searched so often that they get an index"
    )


class ListContainer(Parameters):
    """Lists a container and says what each file is, without opening any."""

    job_type: ClassVar[str] = "list_container"
    summary: ClassVar[str] = "lists and classifies what a container holds"
    reads_container: ClassVar[bool] = True

    account: Alias = Field("default", description="storage account alias")
    container: ContainerName
    prefix: BlobPath = Field("", description="only blobs whose path starts with this")
    include: Globs = Field((), max_length=50, description="globs; a path must match one (none: all match)")
    exclude: Globs = Field((), max_length=50, description="globs; a path that matches one is left out")
    limit: int | None = Field(
        None, ge=1, le=10_000_000, description="at most this many sources, in path order, after the globs"
    )
    allow_empty: bool = Field(default=False, description="accept a prefix or patterns that match nothing")

    def slug(self) -> str:
        """The container's name."""
        return self.container.replace("-", "_")


class PublishContainer(ListContainer):
    """The base of every job type that makes something of each source of a container, and publishes it as STAC items.

    What a derived one adds shapes the outputs of the stages that other distributions add: with another value they are
    made again.
    """

    #: Those of `FILE_STAGES` that it has, in the order of the flow.
    stages: ClassVar[tuple[str, ...]] = ()

    collection: CollectionId = Field(
        "", validate_default=True, description="STAC collection (default: the container's name)"
    )
    title: Text | None = Field(None, min_length=1, max_length=300, description="the collection's title")
    description: Text | None = Field(
        None, min_length=1, max_length=10_000, description="the collection's description, as Markdown"
    )
    license: License | None = Field(
        None, description="the collection's license: an SPDX identifier such as CC-BY-4.0, or other"
    )
    providers: tuple[Provider, ...] = Field(
        (), max_length=50, description="the collection's providers, each as NAME (ROLE, …) URL"
    )
    keywords: tuple[Text, ...] = Field((), max_length=100, description="the collection's keywords")
    deleted: Literal["keep", "retire"] = Field(
        "keep", description="keep or retire the outputs of files that were deleted"
    )
    max_retire_percent: Percent = Field(
        20,
        description="deleted=retire: share of the published outputs that may be withdrawn without allow_mass_retire",
    )
    verify_sources: bool = Field(
        default=False, description="hash files that seem unchanged, if the store has no real etags (directories)"
    )
    on_error: Literal["continue", "fail"] = Field(
        "continue", description="continue with the other files, or publish nothing, if a file is bad"
    )

    @field_validator("collection", mode="wrap")
    @classmethod
    def _default_collection(cls, value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """The default is filled in before the identity is computed: an explicit default is the same job.

        By field: a validator of the whole model would turn JSON into Python, where strict validation takes no list.
        """
        asked = value or info.data.get("container")
        return validate(asked) if asked else ""  # without a valid container there is one error, of the container


class IngestContainer(PublishContainer):
    """Rasters become COGs, vectors become PostGIS tables, both become STAC items."""

    job_type: ClassVar[str] = "ingest_container"
    summary: ClassVar[str] = "rasters to COGs, vectors to PostGIS tables, both to STAC"
    stages: ClassVar[tuple[str, ...]] = (COGS, TABLES)
    #: The engine whose files alone it takes, if it is one.
    alone: ClassVar[Engine | None] = None

    one_collection: bool = Field(
        default=False,
        description="rasters that differ in bands go to one collection too; no mosaic can be drawn of it",
    )
    source_crs: Annotated[Crs | None, _BOTH] = Field(
        None, description="CRS of files that do not name one, as EPSG:code"
    )
    override_crs: Annotated[bool, _BOTH] = Field(
        default=False, description="use source_crs even if a file names another CRS"
    )
    target_crs: Annotated[Crs | None, _BOTH] = Field(
        None, description="reproject to this CRS, as EPSG:code (default: keep the source's)"
    )
    profile: Annotated[ProfileName | None, _RASTER] = Field(
        None, description=f"how COGs are written (default: {DEFAULT}; docs/formats.md)"
    )
    keep_lossy: Annotated[bool, _RASTER] = Field(
        default=False,
        description="keep the JPEG blocks of tiled TIFFs bit by bit: small COGs without another loss (docs/formats.md)",
    )
    resolution: Annotated[Positive | None, _RASTER] = Field(
        None, description="size of a raster's pixel in units of target_crs"
    )
    resampling: Annotated[ResamplingName | None, _RASTER] = Field(
        None, description="method for reprojected rasters; nearest and mode also for overviews (default: by their kind)"
    )
    web_tiles: Annotated[bool, _RASTER] = Field(
        False, description="align rasters to the grid of web map tiles, EPSG:3857"
    )
    datetime: Annotated[Time | None, _RASTER] = Field(
        None,
        description="time of capture of all files: ISO 8601, a date, a month, a year, or START/END",
    )
    datetime_regex: Annotated[TimePattern | None, _RASTER] = Field(
        None,
        max_length=300,
        description="finds the time of capture in a file's path: named groups (?P<year>…), …, or %Y%m%d instead",
    )
    id_regex: Annotated[ScenePattern | None, _GROUPING] = Field(
        None,
        description="rasters in whose paths it finds the same id are one item: a group (?P<id>…), or all that it finds",
    )
    assets: Annotated[AssetGlobs, _GROUPING] = Field(
        {}, description="id_regex: the asset of each file as KEY=GLOB, the first is shown; or the group (?P<asset>…)"
    )
    missing_assets: Annotated[Literal["allow", "refuse"], _GROUPING] = Field(
        "allow", description="id_regex: take or refuse a scene without a good file for each of assets"
    )

    where: Annotated[Where | None, _VECTOR] = Field(
        None, description='vectors: only features that meet this condition, e.g. "population > 1000"'
    )
    columns: Annotated[tuple[Text, ...], _VECTOR] = Field(
        (), max_length=1600, description="vectors: only these columns (none: all)"
    )
    bbox: Annotated[Box | None, _VECTOR] = Field(
        None, description="vectors: only features that touch this box: west,south,east,north"
    )
    bbox_crs: Annotated[Crs, _VECTOR] = Field("EPSG:4326", description="vectors: the CRS of bbox")
    mixed_geometry: Annotated[Literal["split", "generic", "reject"], Shapes(Engine.VECTOR, asked_as="mixed")] = Field(
        "split", description="vectors: how to load a layer that mixes points, lines and polygons"
    )
    null_geometry: Annotated[Literal["keep", "reject"], _VECTOR] = Field(
        "keep", description="vectors: what to do with features without geometry"
    )
    attribute_tables: Annotated[bool, _VECTOR] = Field(
        default=False, description="vectors: load layers without geometry too, as tables of attributes"
    )
    max_transform_accuracy_m: Annotated[Positive | None, _VECTOR] = Field(
        None, description="vectors: refuse a transformation that is less accurate"
    )
    mode: Annotated[Literal["replace", "append", "upsert"], Shapes(Engine.VECTOR, asked=False)] = Field(
        "replace", description="vectors: what happens to an existing table"
    )
    key: Annotated[tuple[Text, ...], Shapes(Engine.VECTOR, asked=False)] = Field(
        (), max_length=32, description="vectors: the columns that identify a row, for mode=upsert"
    )
    encoding: Annotated[Encoding | None, _VECTOR] = Field(
        None, max_length=40, description="vectors: encoding of text, if the file names none or the wrong one"
    )
    geometry_column: Annotated[Text | None, _VECTOR] = Field(
        None, max_length=200, description="vectors: the column of WKB or WKT in plain Parquet"
    )
    x: Annotated[Text | None, _VECTOR] = Field(
        None, max_length=200, description="vectors: column of longitude or easting, in tables without geometry"
    )
    y: Annotated[Text | None, _VECTOR] = Field(
        None, max_length=200, description="vectors: column of latitude or northing"
    )
    wkt: Annotated[Text | None, _VECTOR] = Field(
        None, max_length=200, description="vectors: column of WKT, EWKT, hexadecimal WKB or GeoJSON"
    )
    delimiter: Annotated[Text | None, _VECTOR] = Field(
        None, min_length=1, max_length=1, description="vectors: field delimiter of CSV files"
    )
    decimal: Annotated[Literal[".", ","] | None, _VECTOR] = Field(
        None, description="vectors: decimal separator of coordinates in text"
    )
    schema_drift: Literal["allow", "refuse"] = Field(
        "allow", description="vectors: allow or refuse a load that changes a table's columns"
    )
    keep_versions: int = Field(0, ge=0, le=100, description="vectors: how many replaced tables are kept")
    export_tables: Annotated[Literal["geoparquet"] | None, Shapes(Engine.VECTOR, asked=False)] = Field(
        None, description="vectors: also put each table into the output account, as a GeoParquet file"
    )

    @model_validator(mode="after")
    def _makes_sense(self, info: ValidationInfo) -> Self:
        if msg := contradiction(self) or (in_vain(self) if info.context is not _STORED else None):
            raise ValueError(msg)
        return self


class StageRaster(IngestContainer):
    """`ingest_container` for the rasters of a container alone."""

    job_type: ClassVar[str] = "stage_raster"
    summary: ClassVar[str] = "ingest_container for rasters only"
    stages: ClassVar[tuple[str, ...]] = (COGS,)
    alone: ClassVar[Engine | None] = Engine.RASTER


class StageVector(IngestContainer):
    """`ingest_container` for the vectors of a container alone."""

    job_type: ClassVar[str] = "stage_vector"
    summary: ClassVar[str] = "ingest_container for vectors only"
    stages: ClassVar[tuple[str, ...]] = (TABLES,)
    alone: ClassVar[Engine | None] = Engine.VECTOR


def _accepted(name: str, found: object) -> type[Parameters]:
    """A job type that another distribution adds."""
    if not isinstance(found, type) or not issubclass(found, PublishContainer):
        msg = "it is no class derived from geo_assets.parameters.PublishContainer"
        raise TypeError(msg)
    if found.job_type != name or not NAME.fullmatch(name):
        msg = f"its job_type is {found.job_type!r}, as a name of 3 to 40 of a-z, 0-9 and _"
        raise ValueError(msg)
    if {COGS, TABLES} & {*found.stages} and not issubclass(found, IngestContainer):
        msg = f"the stages {COGS} and {TABLES} are for what is derived from IngestContainer"
        raise TypeError(msg)
    if fault := fault_of(found.stages):
        raise ValueError(fault)
    told = {name: field.description for name, field in found.model_fields.items()} | {"summary": found.summary}
    if silent := [name for name, words in told.items() if not words]:
        msg = f"nothing says what {', '.join(silent)} is"
        raise ValueError(msg)
    found.model_json_schema()  # which command line and HTTP show
    return found


_OURS = (IngestContainer, StageRaster, StageVector, ListContainer, HelloWorld, StacSetup)

#: Job type -> its parameters.
JOB_TYPES: plugins.Registry[type[Parameters]] = plugins.Registry(
    {t.job_type: t for t in _OURS}, plugins.JOB_TYPES, _accepted
)


def shaping_values(parameters: Parameters, stage: str) -> dict[str, Any]:
    """The parameters of a job that count for the fingerprint of what a stage makes, as JSON; for a stage that another
    distribution adds, all but those of every job type.
    """
    stored, row = parameters.stored(), FILE_STAGES[stage]
    if row.work:
        return {"stage": [stage, row.recipe]} | without_later_defaults(
            {name: value for name, value in stored.items() if name not in PublishContainer.model_fields}
        )
    return without_later_defaults(
        {name: stored[name] for name, shapes in shaping(type(parameters)) if row.engine in shapes.engines}
    )


def asked_of(parameters: Parameters, engine: Engine) -> dict[str, Any]:
    """The parameters of a job that go into an engine's request, by their names there; empty ones are left to the
    request's defaults.
    """
    asked = {
        shapes.asked_as or name: getattr(parameters, name)
        for name, shapes in shaping(type(parameters))
        if engine in shapes.engines and shapes.asked
    }
    return {name: value for name, value in asked.items() if value is not None and value != ()}


P = TypeVar("P", bound=Parameters)


class OfJobType(BaseModel):
    """Something of one job type, with its parameters: the model of that type in Python, its JSON outside."""

    job_type: str
    parameters: Annotated[Parameters, PlainSerializer(lambda p: p.stored(), return_type=dict[str, Any])]

    @field_validator("parameters", mode="before")
    @classmethod
    def _of_the_job_type(cls, value: Any, info: ValidationInfo) -> Any:
        """Validate the parameters; those of an older release get the defaults of what was added since."""
        if not isinstance(value, Mapping) or "job_type" not in info.data:
            return value
        try:
            return stored_parameters(info.data["job_type"], value)
        except GeoAssetsError as error:
            raise ValueError(error.message) from None

    def parameters_as(self, model: type[P]) -> P:
        """The parameters as this type or one that is derived from it.

        Raises:
            GeoAssetsError: CONTRACT_VIOLATION, they are of another.
        """
        if isinstance(self.parameters, model):
            return self.parameters
        raise GeoAssetsError(
            "CONTRACT_VIOLATION", f"{self.job_type} has no parameters of {model.job_type}: it does not get here"
        )


class Job(OfJobType):
    """A valid submission: the same job type and parameters are the same job."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    partition_key: str

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """The job of these parameters."""
        canonical = json.dumps(
            {"job_type": parameters.job_type, "parameters": without_later_defaults(parameters.stored())},
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
            parameters=parameters,
        )


def parameters_type(job_type: str) -> type[Parameters]:
    """The model of a job type.

    Raises:
        GeoAssetsError: UNKNOWN_JOB_TYPE; PLUGIN_BROKEN, of a job type that another distribution adds.
    """
    try:
        return JOB_TYPES[job_type]
    except KeyError:
        if broken := JOB_TYPES.broken.get(job_type):
            raise GeoAssetsError("PLUGIN_BROKEN", str(broken)) from None
        there = f"there are: {', '.join(sorted(JOB_TYPES))}{did_you_mean(job_type, JOB_TYPES)}"
        raise GeoAssetsError("UNKNOWN_JOB_TYPE", f"there is no job type {job_type!r}; {there}") from None


def validate_parameters(job_type: str, data: Mapping[str, Any]) -> Parameters:
    """Parameters as a model, defaults filled in.

    Raises:
        GeoAssetsError: UNKNOWN_JOB_TYPE; INVALID_PARAMETERS, one sentence that names every field at fault.
    """
    return _validated(job_type, data, None)


def stored_parameters(job_type: str, data: Mapping[str, Any]) -> Parameters:
    """As `validate_parameters`, for those of a job that was accepted, perhaps by a release that refused less."""
    return _validated(job_type, data, _STORED)


def _validated(job_type: str, data: Mapping[str, Any], context: object) -> Parameters:
    model = parameters_type(job_type)
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        raise wrong_parameters(job_type, error, model.model_fields) from error
