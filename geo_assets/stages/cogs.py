"""The `cogs` stage: each raster source becomes a COG in the output container, or one per variable, or is quarantined.

Here: fetch, convert in the sandbox, put under its final name. Not here: taking sources apart and converting
(`raster/`), the catalogue.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import COGS, Engine
from geo_assets.ledger.models import Work
from geo_assets.outcomes import Cog, CogOutputs, CogPart, CogReceipt, FetchedFile
from geo_assets.parameters import asked_of
from geo_assets.stages.chunks import work_through
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, JobRef, StagePlan
from geo_assets.stages.files import Output, fetch, output_ref, plan_files, refuse_source, upload_output
from geo_assets.stages.progress_log import LogLine, no_log
from geo_assets.stages.raster_conversion import PRODUCT, ConvertedSource, Converter
from geo_assets.stages.scenes import refuse_incomplete, scene_fault, scene_members
from geo_assets.storage.kinds import Kind, is_packed
from geo_assets.storage.local import sha256_of
from geo_assets.storage.zips import contents

STAGE = COGS

#: Media types, as a COG's registered profile has it and as STAC assets say it.
COG, PNG = "image/tiff; application=geotiff; profile=cloud-optimized", "image/png"

#: Names in a warning.
_SHOWN = 5


def plan(context: StageContext, inventory: InventoryRef) -> tuple[StagePlan, list[Chunk]]:
    """The rasters of the inventory and the zips that hold some, as tasks and chunks."""
    asked = inventory.job.parameters
    return plan_files(context, inventory, STAGE, lambda s: refuse_source(context, s) or scene_fault(asked, s))


def convert_chunk(context: StageContext, chunk: Chunk, log: LogLine = no_log) -> ChunkReport:
    """Convert the rasters of a chunk, as many at once as there are children."""
    return work_through(
        context, chunk, lambda work: _convert(context, chunk.job, work), threads=context.settings.workers, log=log
    )


def _convert(context: StageContext, job: JobRef, work: Work) -> CogOutputs:
    with context.workspace() as folder:
        source, members = fetch(context, job, work, Path(tempfile.mkdtemp(dir=folder)))
        converter = Converter(
            context.sandbox,
            folder,
            {**asked_of(job.parameters, Engine.RASTER), "chunk_pixels": context.settings.chunk_pixels},
            thumbnails=True,
            known_as=work.task_key,
            kept=_name_of(job, work),
            product=source.parent / PRODUCT,
            tells_in=context.at_work.tells_in,
        )
        converted, remarks = _converted(job, work, converter, source)
        # all are converted before the first is seen
        outputs = put_cogs(context, job, work, converted, warnings=(*unread(converted), *remarks))
    receipt = cog_receipt(converted, members, named=work.kind == Kind.SCENE)
    context.tasks.converted(job.job_id, job.run_id, STAGE, work.task_key, outputs=outputs, receipt=receipt)
    return outputs


def put_cogs(
    context: StageContext, job: JobRef, work: Work, converted: ConvertedSource, *, warnings: Sequence[str] = ()
) -> CogOutputs:
    """Put what was converted of a source into the output containers, and say what that is.

    Args:
        context: of the stage.
        job: whose output it is.
        work: the task.
        converted: its COGs.
        warnings: beside those of the conversion.
    """
    cogs, checksums = _put(context, job, work, converted)
    return CogOutputs(
        cog=cogs[0].cog,
        sha256=cogs[0].sha256,
        thumbnail=cogs[0].thumbnail,
        cogs=() if converted.is_single else tuple(cogs),
        checksums=checksums,
        warnings=(*converted.warnings(), *warnings),
    )


def _converted(job: JobRef, work: Work, converter: Converter, source: Path) -> tuple[ConvertedSource, tuple[str, ...]]:
    """Convert what was fetched; returns also what is to be said of the whole."""
    if work.kind != Kind.SCENE:
        return converter.archive(source) if work.kind == Kind.ZIP else converter.source(source), ()
    rasters, aside, missing = scene_members(job.parameters, work, source)
    converted = replace(converter, product=source / PRODUCT).scene(work.task_key, rasters, aside)
    refuse_incomplete(job.parameters, work, [(part.name, part.error) for part in converted.parts if part.error])
    return converted, (f"the scene has no file for {', '.join(missing)}",) if missing else ()


def _name_of(job: JobRef, work: Work) -> str:
    """The same for the same source, converted in the same way for the same job."""
    return hashlib.sha256(f"{job.job_id} {work.task_key} {work.fingerprint}".encode()).hexdigest()[:32]


def _put(
    context: StageContext, job: JobRef, work: Work, converted: ConvertedSource
) -> tuple[list[Cog], dict[str, str]]:
    """Put the COGs of a source and their thumbnails under their final names; returns what is shown to people, and the
    hashes of the thumbnails.
    """
    made: list[tuple[Path, str]] = []
    pictures: list[tuple[Path, str]] = []
    for part in converted.made:
        if part.report is None or part.cog is None or part.thumbnail is None:
            raise GeoAssetsError("CONTRACT_VIOLATION", f"{part.name} was not converted")
        made.append((part.cog, part.report.sha256))
        pictures.append((part.thumbnail, sha256_of(part.thumbnail)))
    names = ["" if converted.is_single else part.stem for part in converted.made]
    placed = partial(_placed, context, job, work, names)
    cogs = placed(made, container=context.settings.cog_container, ending=".tif")
    thumbnails = placed(pictures, container=context.settings.thumbnail_container, ending=".png")
    context.tasks.uploading(job.run_id, [str(output.ref) for output in (*cogs, *thumbnails)])
    for cog, thumbnail in zip(cogs, thumbnails, strict=True):
        upload_output(context, thumbnail, PNG)
        upload_output(context, cog, COG)
    shown = [
        Cog(name=part.name, cog=str(cog.ref), sha256=cog.sha256, thumbnail=str(thumbnail.ref))
        for part, cog, thumbnail in zip(converted.made, cogs, thumbnails, strict=True)
    ]
    return shown, {str(thumbnail.ref): thumbnail.sha256 for thumbnail in thumbnails}


def _placed(
    context: StageContext,
    job: JobRef,
    work: Work,
    names: Sequence[str],
    files: Sequence[tuple[Path, str]],
    *,
    container: str,
    ending: str,
) -> list[Output]:
    """The files of one kind, each with its hash, and where they go: named after the bytes of all, and after which of
    them has which.
    """
    content = " ".join(f"{name} {sha256}".strip() for name, (_, sha256) in zip(names, files, strict=True))
    place = partial(output_ref, context, job, work, container, content=content, ending=ending)
    return [Output(file, sha256, place(part=name)) for name, (file, sha256) in zip(names, files, strict=True)]


def unread(converted: ConvertedSource) -> list[str]:
    """The contents of a zip that no stage reads, but what is packed in it, which its warnings name."""
    tried = {part.member for part in converted.parts if part.member}
    found = contents([*tried, *converted.others]).others
    others = [name for name in found if name not in tried and not is_packed(name)]
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return [f"it also holds what is neither raster nor vector: {', '.join(others[:_SHOWN])}{more}"] if others else []


def cog_receipt(converted: ConvertedSource, members: tuple[FetchedFile, ...], *, named: bool) -> CogReceipt:
    """The receipt of a conversion; if the source holds several rasters, with a report for each part in the order of the
    outputs.
    """
    reports = [part.report for part in converted.made if part.report]
    if converted.is_single:
        return CogReceipt(input=members, report=reports[0])
    parts = zip(converted.made, reports, strict=True)
    return CogReceipt(
        input=members,
        parts=tuple(CogPart(title=p.title or p.name, stem=p.stem, named=named, report=r) for p, r in parts),
    )
