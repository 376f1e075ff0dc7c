"""The `cogs` assets: every raster source of a submission becomes a validated COG, or is quarantined."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from geo_assets.defs.assets import NO_BAD_FILES, OTHERWISE, check_results, outputs, pipeline_asset
from geo_assets.defs.metadata import progress_metadata, stage_metadata, step_logger
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.stages import checks
from geo_assets.stages import cogs as stage
from geo_assets.stages.chunks import close_stage, log_known
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, StagePlan, StageReport

#: The checks of the asset, each with the question that it answers.
_CHECKS = {
    "every_raster_accounted_for": (f"Does every listed raster have a final status: converted, {OTHERWISE}?"),
    "cogs_readable": "Is every COG at the place recorded in the ledger, with a TIFF header?",
    **NO_BAD_FILES,
}
_ACCOUNTED, _VALID, _GOOD = _CHECKS


@dg.op(out={"plan": dg.Out(StagePlan), "chunks": dg.DynamicOut(Chunk)})
def plan_rasters(context: dg.OpExecutionContext, stages: Stages, inventory: InventoryRef) -> Iterator[Any]:
    """Plan the conversions, cut into chunks."""
    with plain_failures(stages), stages.get().lease_or_nothing(inventory.job, "plan cogs"):
        plan, chunks = stage.plan(stages.get(), inventory)
        log_known(stages.get(), plan.job, plan.stage, step_logger(context, stages.get()))
    yield dg.Output(plan, "plan")
    for chunk in chunks:
        yield dg.DynamicOutput(chunk, chunk.mapping_key, "chunks")


@dg.op(out=dg.Out(ChunkReport))
def convert_rasters(context: dg.OpExecutionContext, stages: Stages, chunk: Chunk) -> ChunkReport:
    """Convert a chunk; a bad file ends its own task, the rest goes on."""
    with plain_failures(stages):
        report = stage.convert_chunk(stages.get(), chunk, step_logger(context, stages.get()))
        context.add_output_metadata(progress_metadata(stages.get(), chunk.job))
    return report


@dg.op(out=outputs(StageReport, _CHECKS))
def report_rasters(stages: Stages, plan: StagePlan, reports: list[ChunkReport]) -> Iterator[Any]:
    """The fan-in: every chunk reported, every raster accounted for, every COG in its place."""
    with plain_failures(stages), stages.get().lease_or_nothing(plan.job, "account for cogs"):
        report = close_stage(stages.get(), plan, reports)
        verdicts = {
            _ACCOUNTED: checks.accounted_for(report.counts),
            _VALID: checks.cogs_readable(stages.get(), report.job, report.stage),
            _GOOD: checks.no_bad_files(stages.get(), report.job, report.stage),
        }
        results = check_results(stages.get(), report.job, "cogs", verdicts)
        metadata = stage_metadata(stages.get(), report)
    yield dg.Output(report, "result", metadata=metadata)
    yield from results


def cogs(job_type: str) -> dg.AssetsDefinition:
    """The asset of a job type."""

    @pipeline_asset(job_type, kinds={"cog", "gdal"}, checks=_CHECKS)
    def cogs(container_inventory: InventoryRef) -> Any:
        """One COG per raster source, at its place in the output container."""
        plan, chunks = plan_rasters(container_inventory)
        return report_rasters(plan, chunks.map(convert_rasters).collect())

    return cogs
