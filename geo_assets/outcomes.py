"""The inputs, outputs and receipts of tasks: the JSON of `geo.tasks`, typed.

Here: one model for each, by stage, and how what another release wrote is read. Nothing else reads their keys. Not here:
statements (`ledger/`), doing the work (`stages/`), how it is shown to people (`ledger/outputs.py`).

Outputs are shown to people and programs as they are stored, and carry no version: a key may be added, none may be
renamed or taken away. A receipt is for the stages alone and carries one: raise it when earlier receipts cannot be used
any more. What cannot be read is redone: `is_readable` is asked when a stage is planned
(docs/decisions/0027-typed-outcomes.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from geo_assets.file_stages import FILE_STAGES, Makes
from geo_assets.raster.models import ConvertReport
from geo_assets.vector.models import BoundingBox, LayerPlan

#: The stages as the ledger calls them, beside those that process files (`file_stages.py`).
INVENTORY, GREETINGS, REPLIES, CATALOGUE = "container_inventory", "greetings", "replies", "catalogue"


def _is_nothing(value: object) -> bool:
    """Whether a key is left out because it is empty."""
    return not value


class _Model(BaseModel):
    """Immutable, complete, nothing extra; built when it is first used, so that a command need not wait for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def stored(self) -> dict[str, Any]:
        """As JSON, for the ledger."""
        return self.model_dump(mode="json")


class InputFile(_Model):
    """A blob that a task reads."""

    path: str
    size: int  # bytes
    etag: str


class TaskInput(_Model):
    """The input of a worker: the blobs of a source, the owner first, or which greeting; nothing if the task is the
    whole job.
    """

    members: tuple[InputFile, ...] = Field((), exclude_if=_is_nothing)
    index: int | None = Field(None, exclude_if=lambda value: value is None)


class Outputs(BaseModel):
    """What a task put out, as others may see it. Keys that this release does not know stay as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    warnings: tuple[str, ...] = Field((), exclude_if=_is_nothing)
    stac_item: str | None = Field(None, exclude_if=_is_nothing, description="collection/id, once it is registered")
    checksums: dict[str, str] = Field(
        default_factory=dict, exclude_if=_is_nothing, description="blob -> SHA-256, of blobs other than COGs"
    )

    @property
    def all_cogs(self) -> tuple[Cog, ...]:
        """Every COG that was made."""
        return ()

    @property
    def all_tables(self) -> tuple[TableEntry, ...]:
        """Every table that was published."""
        return ()

    @property
    def all_files(self) -> tuple[str, ...]:
        """Every blob that was made and is neither a COG nor a thumbnail, as account/container/path."""
        return ()

    @property
    def thumbnails(self) -> tuple[str, ...]:
        """The thumbnails of its COGs, as account/container/path."""
        return tuple(cog.thumbnail for cog in self.all_cogs if cog.thumbnail)

    @property
    def all_blobs(self) -> frozenset[str]:
        """Every blob that was put out, as account/container/path; `geo.blobs_of` says the same in SQL."""
        return frozenset((*self.all_files, *(cog.cog for cog in self.all_cogs), *self.thumbnails))

    @property
    def all_checksums(self) -> dict[str, str]:
        """Blob -> SHA-256 of its bytes, of all blobs for which it is known."""
        return {**self.checksums, **{cog.cog: cog.sha256 for cog in self.all_cogs}}

    def stored(self) -> dict[str, Any]:
        """As JSON, for the ledger."""
        return self.model_dump(mode="json")


class FileOutputs(Outputs):
    """Outputs that are files of whatever kind in an output container; each is an asset of the source's item."""

    blobs: tuple[str, ...] = Field(min_length=1, description="account/container/path of each")

    @property
    def all_files(self) -> tuple[str, ...]:
        """Every blob that was made."""
        return self.blobs


class Cog(_Model):
    """A COG and its thumbnail, as account/container/path."""

    name: str = Field("", exclude_if=_is_nothing, description="of the raster, where its source holds several")
    cog: str
    sha256: str = Field(description="of the COG's bytes")
    thumbnail: str | None = Field(None, exclude_if=_is_nothing)


class CogOutputs(Outputs):
    """Outputs of a raster source: its COG; for a source that holds several, the first one and the list of all."""

    cog: str
    sha256: str
    thumbnail: str | None = Field(None, exclude_if=_is_nothing)
    cogs: tuple[Cog, ...] = Field((), exclude_if=_is_nothing)

    @property
    def all_cogs(self) -> tuple[Cog, ...]:
        """Every COG that was made."""
        return self.cogs or (Cog(cog=self.cog, sha256=self.sha256, thumbnail=self.thumbnail),)


class TableEntry(_Model):
    """The account of a table. Counts are features; `rows` is what the table held after the load."""

    model_config = ConfigDict(extra="allow")

    table: str = Field(description="schema.name")
    rows: int
    features: int = Field(description="of the source: loaded + rejected + filtered")
    loaded: int
    filtered: int
    rejected: dict[str, int] = Field(description="reason -> features")
    repaired: dict[str, int] = Field(description="reason -> features")
    layer: str | None = Field(None, exclude_if=_is_nothing)
    geometry_type: str | None = Field(None, exclude_if=_is_nothing, description="as the table declares it")
    updated: int = Field(0, exclude_if=_is_nothing, description="rows, of an upsert")
    drift: tuple[str, ...] = Field((), exclude_if=_is_nothing, description="how it differs from the one before it")
    version: str | None = Field(None, exclude_if=_is_nothing, description="what that one is called now")


class TableFile(_Model):
    """A table as a GeoParquet file."""

    table: str = Field(description="schema.name")
    blob: str = Field(description="account/container/path")
    sha256: str = Field(description="of its bytes")
    bytes: int


class TableOutputs(Outputs):
    """Outputs of a vector source: its tables; none while they wait for their job's gate."""

    tables: tuple[TableEntry, ...] = Field((), exclude_if=_is_nothing)
    geoparquet: tuple[TableFile, ...] = Field((), exclude_if=_is_nothing, description="where export_tables asks for it")

    @property
    def all_tables(self) -> tuple[TableEntry, ...]:
        """Every table that was published."""
        return self.tables

    @property
    def all_files(self) -> tuple[str, ...]:
        """The files of its tables."""
        return tuple(file.blob for file in self.geoparquet)

    @property
    def all_checksums(self) -> dict[str, str]:
        """Blob -> SHA-256 of the files of its tables."""
        return {**super().all_checksums, **{file.blob: file.sha256 for file in self.geoparquet}}


class ListingOutputs(Outputs):
    """Outputs of `list_container`: what the container holds."""

    files: int
    bytes: int
    sources: dict[str, int] = Field(description="kind -> sources")
    ignored: int


class CatalogueOutputs(Outputs):
    """Outputs of `stac_setup`."""

    pgstac_version: str
    collections: int
    queryables: tuple[str, ...] = Field((), exclude_if=_is_nothing, description="what clients may filter by")
    indexed: tuple[str, ...] = Field((), exclude_if=_is_nothing, description="those of them that have an index")


class GreetingOutputs(Outputs):
    """Outputs of a greeting of `hello_world`."""

    greeting: str


class ReplyOutputs(Outputs):
    """Outputs of a reply of `hello_world`."""

    reply: str


class FetchedFile(InputFile):
    """A blob as it was read."""

    sha256: str


class Receipt(_Model):
    """The result of a finished conversion for the catalogue, and the record of its input."""

    version: Literal[1] = 1  # one that has none was written before there were versions, and is like the first
    input: tuple[FetchedFile, ...]


class FileReceipt(Receipt):
    """The record of how files of any kind were made of a source, for their item."""

    bbox_4326: BoundingBox | None = Field(None, description="west, south, east, north of what the files tell of")
    datetime: str | None = Field(None, description="the time, or START/END, of what they tell of")
    media_types: tuple[str, ...] = Field(description="of the files, in the order of `blobs`")
    software: dict[str, str]


class CogPart(_Model):
    """One raster of a source that holds several."""

    title: str
    stem: str = Field(description="of the names of its files, and the key of its asset")
    named: bool = Field(False, exclude_if=_is_nothing, description="the key was asked for: a scene's")
    report: ConvertReport


class CogReceipt(Receipt):
    """The result of converting a raster source: a report, or one for each of its parts, in the order of `cogs`."""

    report: ConvertReport | None = Field(None, exclude_if=_is_nothing)
    parts: tuple[CogPart, ...] = Field((), exclude_if=_is_nothing)

    @model_validator(mode="after")
    def _has_one_or_parts(self) -> Self:
        if (self.report is None) != bool(self.parts):
            msg = "either a report or parts"
            raise ValueError(msg)
        return self


class TableReceipt(Receipt):
    """The record of how the layers of a vector source were read."""

    layers: tuple[LayerPlan, ...]
    software: dict[str, str]

    def stored(self) -> dict[str, Any]:
        """As JSON, for the ledger; without the features that needed work: there may be many, and only the load asks."""
        return self.model_dump(mode="json", exclude={"layers": {"__all__": {"changed"}}})


#: What tasks leave that make something of a file: outputs and receipt.
_MADE: dict[Makes, tuple[type[Outputs], type[Receipt]]] = {
    Makes.COGS: (CogOutputs, CogReceipt),
    Makes.TABLES: (TableOutputs, TableReceipt),
    Makes.FILES: (FileOutputs, FileReceipt),
}

#: Stage -> the outputs of its tasks, of those that leave no receipt: their tasks are done at once.
_OUTPUTS: dict[str, type[Outputs]] = {
    INVENTORY: ListingOutputs,
    GREETINGS: GreetingOutputs,
    REPLIES: ReplyOutputs,
    CATALOGUE: CatalogueOutputs,
}


def _outputs_of(stage: str, stored: Mapping[str, Any]) -> type[Outputs]:
    """The model of a stage's outputs; by its keys, where whoever added the stage is not installed any more: the janitor
    has to know of its blobs.
    """
    if stage in _OUTPUTS:
        return _OUTPUTS[stage]
    if stage in FILE_STAGES:
        return _MADE[FILE_STAGES[stage].makes][0]
    return CogOutputs if "cog" in stored else FileOutputs if "blobs" in stored else Outputs


#: Outputs of any stage, written with all their fields.
AnyOutputs = Annotated[SerializeAsAny[Outputs], Field(description="what was made, by stage")]


def read_outputs(stage: str, stored: Mapping[str, Any]) -> Outputs:
    """Read the outputs of a task of a stage; what cannot be read as that stage's is shown as it is stored."""
    try:
        return _outputs_of(stage, stored).model_validate(stored) if stored else Outputs()
    except ValidationError:
        known = Outputs.model_fields.keys()
        return Outputs.model_validate({key: value for key, value in stored.items() if key not in known})


def read_receipt(stage: str, stored: Mapping[str, Any]) -> Receipt:
    """Read the receipt of a task of a stage.

    Raises:
        pydantic.ValidationError: another release wrote it, and this one cannot use it.
        KeyError: the stage leaves none.
    """
    return _MADE[FILE_STAGES[stage].makes][1].model_validate(stored)


def is_readable(stage: str, outputs: Mapping[str, Any], receipt: Mapping[str, Any] | None) -> bool:
    """Whether a done or converted task can be continued from: its outputs and receipt can be read."""
    try:
        _outputs_of(stage, outputs).model_validate(outputs)
        if receipt is not None:
            read_receipt(stage, receipt)
    except (ValidationError, KeyError):
        return False
    return True
