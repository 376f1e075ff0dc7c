"""The `cogs` stage: each raster source becomes a COG in the output container, or is quarantined.

Here: fetch, convert in the sandbox, put under its final name. Not here: the conversion (`raster/`), the catalogue.
"""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from geo_assets.ledger.models import Work
from geo_assets.raster.models import ConvertReport, ConvertRequest
from geo_assets.stages.chunks import work_through
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, JobRef, StagePlan
from geo_assets.stages.files import RASTER_OPTIONS, fetch, plan_files, refuse_source
from geo_assets.storage.containers import BlobRef
from geo_assets.storage.sources import Kind
from geo_assets.submissions.parameters import IngestContainer, parameters_type

STAGE = "cogs"

#: Bytes; with the fingerprint and the ending a file name stays below what file systems allow (255).
_LONGEST_STEM = 200


def plan(context: StageContext, inventory: InventoryRef) -> tuple[StagePlan, list[Chunk]]:
    """The rasters of the inventory, as tasks and chunks."""
    model = parameters_type(inventory.job.job_type)
    wanted = issubclass(model, IngestContainer) and "raster" in model.kinds
    return plan_files(context, inventory, STAGE, lambda s: wanted and s.kind is Kind.RASTER, lambda s: refuse_source(context, s))


def convert_chunk(context: StageContext, chunk: Chunk) -> ChunkReport:
    """Convert the rasters of a chunk, as many at once as there are children."""
    return work_through(context, chunk, lambda work: _convert(context, chunk.job, work), threads=context.settings.workers)


def cog_ref(context: StageContext, job: JobRef, work: Work) -> BlobRef:
    """Where the COG of a source lies. Its name carries the fingerprint: a published COG is never overwritten."""
    path = PurePosixPath(work.task_key)
    stem = path.stem.encode()[:_LONGEST_STEM].decode("utf-8", "ignore")
    name = f"{stem}_{work.fingerprint[:8]}.tif"
    return BlobRef(
        context.settings.output_account,
        context.settings.cog_container,
        str(PurePosixPath(job.parameters["collection"]) / path.parent / name),
    )


def _convert(context: StageContext, job: JobRef, work: Work) -> None:
    ref = cog_ref(context, job, work)
    thumbnail = BlobRef(ref.alias, context.settings.thumbnail_container, str(PurePosixPath(ref.path).with_suffix(".png")))
    with context.sandbox.workspace() as folder:
        source, members = fetch(context, job, work, Path(tempfile.mkdtemp(dir=folder)))
        request = ConvertRequest(
            source=str(source),
            destination=str(folder / "out.tif"),
            thumbnail=str(folder / "out.png"),
            **{name: job.parameters[name] for name in RASTER_OPTIONS if job.parameters.get(name) is not None},
        )
        report = context.sandbox.call("geo_assets.raster.cog:convert", request, ConvertReport)
        context.output_container(thumbnail.container).upload(folder / "out.png", thumbnail.path)
        context.output_container(ref.container).upload(folder / "out.tif", ref.path)
    outputs: dict[str, Any] = {"cog": str(ref), "sha256": report.sha256, "thumbnail": str(thumbnail)}
    if report.warnings:
        outputs["warnings"] = list(report.warnings)
    receipt = {"input": members, "report": report.model_dump(mode="json")}
    context.tasks.converted(job.job_id, job.run_id, STAGE, work.task_key, outputs=outputs, receipt=receipt)
