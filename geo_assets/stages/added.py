"""Stages that other distributions add: each source is handed to a function of theirs, and what that makes is put out.

Here: what such a function gets and returns (docs/extend.md), and everything around it: fetching the source, names,
uploads, the account. Not here: their rows (`file_stages.py`), their assets (`defs/added.py`).

The function runs here, in the parent. It opens no source itself: it has an engine do that, a function that the
distribution lists under `geo_assets.engines` and that runs in a sandboxed child.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

import psycopg
from pydantic import BaseModel

from geo_assets import plugins
from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import FILE_STAGES, Makes
from geo_assets.ledger.models import Work
from geo_assets.ledger.receipts import receipt_of_task
from geo_assets.outcomes import FetchedFile, FileOutputs, FileReceipt, Outputs, Receipt, read_receipt
from geo_assets.parameters import PublishContainer
from geo_assets.settings import StageSettings, load_stage_settings
from geo_assets.stages.chunks import work_through
from geo_assets.stages.cogs import cog_receipt, put_cogs
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, JobRef, StagePlan
from geo_assets.stages.files import Output, fetch, output_ref, plan_files, refuse_source, upload_output
from geo_assets.stages.progress_log import LogLine, no_log
from geo_assets.stages.raster_conversion import Converter, SceneMember
from geo_assets.stages.scenes import scene_fault
from geo_assets.storage.kinds import Kind
from geo_assets.storage.local import sha256_of
from geo_assets.storage.sources import Source
from geo_assets.text import plain_name
from geo_assets.vector.models import BoundingBox

R = TypeVar("R", bound=BaseModel)
P = TypeVar("P", bound=PublishContainer)
S = TypeVar("S", bound=StageSettings)


@dataclass(frozen=True, slots=True)
class Files:
    """Files of any kind that were made of a source: path -> media type. The ending of each is kept, its name where
    there are several.
    """

    made: Mapping[Path, str]
    bbox_4326: BoundingBox | None = None  # west, south, east, north of what they tell of
    datetime: str | None = None  # the time, or START/END, of what they tell of, as ISO 8601
    software: Mapping[str, str] = field(default_factory=dict)  # what made them: name -> version
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Rasters:
    """GeoTIFFs that a child made of a source: the key of its asset -> its `Task.raster`. Each becomes a COG."""

    made: Mapping[str, Path]
    datetime: str | None = None  # when what they show was taken, or START/END, as ISO 8601
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Task(Generic[P]):
    """One source in work."""

    path: str  # of the source in its container
    folder: Path  # private: for what is made of it
    parameters: P
    _source: Path | None
    _context: StageContext
    _job: JobRef

    @property
    def source(self) -> Path:
        """The private copy of the source, with its sidecars beside it; a folder of rasters for a scene."""
        if self._source is None:
            raise GeoAssetsError(
                "CONTRACT_VIOLATION", f"{self.path} was not fetched: the stage says that it opens none"
            )
        return self._source

    def raster(self, key: str) -> Path:
        """Where a child is to write the raster that becomes the asset of this key."""
        place = self.folder / key
        place.mkdir()
        return place / f"{key}.tif"

    def call(self, engine: str, request: BaseModel, report: type[R]) -> R:
        """Run an engine, as `module:function`, in a sandboxed child, which may read and write what the request names
        below `source` and `folder`. What it reports was made by a process that had opened an untrusted file.

        Raises:
            GeoAssetsError: what the engine raised, or what became of the child.
        """
        return self._context.sandbox.call(engine, request, report)

    def settings(self, model: type[S]) -> S:
        """The settings of the stage."""
        return load_stage_settings(model)

    def outputs(self, stage: str) -> Outputs:
        """What a stage that came before has made of the same source; empty if it made nothing."""
        return self._context.tasks.made(self._job.job_id, stage, self.path)

    def database(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """A connection that reads what was published, as the role of readers."""
        return connect(self._context.settings, "reader", autocommit=True)


Made = Files | Rasters
DoTask = Callable[[Task[Any]], Made]


def plan(context: StageContext, inventory: InventoryRef, stage: str) -> tuple[StagePlan, list[Chunk]]:
    """The sources that a stage takes, as tasks and chunks.

    Raises:
        GeoAssetsError: PLUGIN_BROKEN, before any source is touched; INVALID_SETTINGS.
    """
    _work_of(stage)
    row, asked = FILE_STAGES[stage], inventory.job.parameters
    if row.settings:
        load_stage_settings(row.settings)

    def refuse(source: Source) -> GeoAssetsError | None:
        fault = refuse_source(context, source) or scene_fault(asked, source)
        return fault or (_refuse_archive(source) if row.opens else None)

    return plan_files(context, inventory, stage, refuse)


def work_chunk(context: StageContext, chunk: Chunk, log: LogLine = no_log) -> ChunkReport:
    """Hand the sources of a chunk to the function of their stage, as many at once as there are children."""
    do = partial(_make, context, chunk.job, chunk.stage)
    return work_through(context, chunk, do, threads=context.settings.workers, log=log)


def _refuse_archive(source: Source) -> GeoAssetsError | None:
    """An archive, which nobody takes apart for a stage of others."""
    if source.kind is not Kind.ZIP:
        return None
    return GeoAssetsError(
        "UNSUPPORTED_FORMAT", f"{source.path} is an archive, and this stage takes single files", remedy="unpack it"
    )


@cache
def _work_of(stage: str) -> DoTask:
    """The function of a stage.

    Raises:
        GeoAssetsError: PLUGIN_BROKEN.
    """
    row = FILE_STAGES[stage]
    module, _, name = row.work.partition(":")
    try:
        return getattr(import_module(module), name)  # type: ignore[no-any-return]
    except (Exception, SystemExit) as error:
        whose = plugins.distribution_of(plugins.STAGES, stage)
        why = f"{type(error).__name__}: {error}"[:300]
        raise GeoAssetsError("PLUGIN_BROKEN", f"{row.work} of {whose} cannot be loaded: {why}") from error


def _make(context: StageContext, job: JobRef, stage: str, work: Work) -> Outputs:
    row, parameters = FILE_STAGES[stage], job.parameters_as(PublishContainer)
    with context.workspace() as workspace:
        folder = Path(tempfile.mkdtemp(dir=workspace))
        source: Path | None = None
        members: tuple[FetchedFile, ...] = ()
        if row.opens:
            source, members = fetch(context, job, work, Path(tempfile.mkdtemp(dir=workspace)))
        made = _work_of(stage)(Task(work.task_key, folder, parameters, source, context, job))
        members = members or _read_before(context, job, row.after[0], work.task_key)
        outputs, receipt = _Bench(context, job, stage, work, workspace, folder, members).put_out(made)
    context.tasks.converted(job.job_id, job.run_id, stage, work.task_key, outputs=outputs, receipt=receipt)
    return outputs


def _read_before(context: StageContext, job: JobRef, stage: str, task_key: str) -> tuple[FetchedFile, ...]:
    """The files of a source as a stage has read them that came before.

    Raises:
        GeoAssetsError: CONTRACT_VIOLATION, it made nothing of the source.
    """
    with connect(context.settings) as conn:
        stored = receipt_of_task(conn, job.job_id, stage, task_key)
    if not stored:
        raise GeoAssetsError(
            "CONTRACT_VIOLATION", f"{stage} made nothing of {task_key} that anything could follow from"
        )
    return read_receipt(stage, stored).input


@dataclass(frozen=True, slots=True)
class _Bench:
    """Where what was made of a source lies, and whose it is."""

    context: StageContext
    job: JobRef
    stage: str
    work: Work
    workspace: Path
    folder: Path
    members: tuple[FetchedFile, ...]

    def put_out(self, made: Made) -> tuple[Outputs, Receipt]:
        """Put what was made under its final names.

        Raises:
            GeoAssetsError: CONTRACT_VIOLATION, it is not what the stage is to make; what a conversion raises.
        """
        makes = FILE_STAGES[self.stage].makes
        if isinstance(made, Files) and made.made and makes is Makes.FILES:
            return self._files(made)
        if isinstance(made, Rasters) and made.made and makes is Makes.COGS:
            return self._cogs(made)
        said = f"stage {self.stage} is to make {makes}; of {self.work.task_key} it made {str(made)[:80]}"
        raise GeoAssetsError("CONTRACT_VIOLATION", said)

    def _cogs(self, made: Rasters) -> tuple[Outputs, Receipt]:
        context, name = self.context, self.work.task_key
        options = {"chunk_pixels": context.settings.chunk_pixels, "datetime": made.datetime}
        converter = Converter(context.sandbox, self.workspace, options, thumbnails=True, known_as=name)
        members = [SceneMember(key=key, name=key, path=path) for key, path in made.made.items()]
        converted = converter.scene(name, members)
        for part in converted.parts:
            if part.error:
                raise part.error
        outputs = put_cogs(context, self.job, self.work, converted, warnings=made.warnings)
        return outputs, cog_receipt(converted, self.members, named=True)

    def _files(self, made: Files) -> tuple[Outputs, Receipt]:
        context, several = self.context, len(made.made) > 1
        taken = [context.sandbox.take(path, self.workspace, of=self.folder) for path in made.made]
        hashed = [(file, sha256_of(file)) for file in taken]
        content = " ".join([self.stage, *(f"{file.name} {sha256}" for file, sha256 in hashed)])
        place = partial(output_ref, context, self.job, self.work, context.settings.cog_container, content=content)
        outputs = []
        for file, sha256 in hashed:
            stem, dot, ending = file.name.partition(".")
            outputs.append(
                Output(file, sha256, place(ending=f"{dot}{ending}", part=plain_name(stem) if several else ""))
            )
        context.tasks.uploading(self.job.run_id, [str(output.ref) for output in outputs])
        for output, media_type in zip(outputs, made.made.values(), strict=True):
            upload_output(context, output, media_type)
        checksums = {str(output.ref): output.sha256 for output in outputs}
        receipt = FileReceipt(
            input=self.members,
            bbox_4326=made.bbox_4326,
            datetime=made.datetime,
            media_types=tuple(made.made.values()),
            software=dict(made.software),
        )
        return FileOutputs(blobs=tuple(checksums), checksums=checksums, warnings=tuple(made.warnings)), receipt
