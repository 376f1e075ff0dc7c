"""The `vector_tables` assets: every vector source of a submission becomes PostGIS tables, one per layer, or is
quarantined.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from geo_assets.defs.assets import NO_BAD_FILES, OTHERWISE, check_results, outputs, pipeline_asset
from geo_assets.defs.metadata import progress_metadata, stage_metadata, step_logger
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.stages import checks
from geo_assets.stages import vector_tables as stage
from geo_assets.stages.chunks import close_stage, log_known
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, StagePlan, StageReport

#: The checks of the asset, each with the question that it answers.
_CHECKS = {
    "every_vector_accounted_for": (f"Does every listed vector have a final status: loaded, {OTHERWISE}?"),
    "tables_sound": (
        "Does every table have the number of rows recorded in the ledger, a primary key, a declared type, an SRID and a"
        " GiST index?"
    ),
    "every_feature_accounted_for": (
        "Is every feature of every file either loaded, rejected with a reason, or filtered?"
    ),
    **NO_BAD_FILES,
}
_ACCOUNTED, _VALID, _FEATURES, _GOOD = _CHECKS


@dg.op(out={"plan": dg.Out(StagePlan), "chunks": dg.DynamicOut(Chunk)})
def plan_vectors(context: dg.OpExecutionContext, stages: Stages, inventory: InventoryRef) -> Iterator[Any]:
    """Plan the loads, cut into chunks."""
    with plain_failures(stages), stages.get().lease_or_nothing(inventory.job, "plan vector_tables"):
        plan, chunks = stage.plan(stages.get(), inventory)
        log_known(stages.get(), plan.job, plan.stage, step_logger(context, stages.get()))
    yield dg.Output(plan, "plan")
    for chunk in chunks:
        yield dg.DynamicOutput(chunk, chunk.mapping_key, "chunks")


@dg.op(out=dg.Out(ChunkReport))
def load_vectors(context: dg.OpExecutionContext, stages: Stages, chunk: Chunk) -> ChunkReport:
    """Load a chunk; a bad file ends its own task, the rest goes on."""
    with plain_failures(stages):
        report = stage.load_chunk(stages.get(), chunk, step_logger(context, stages.get()))
        context.add_output_metadata(progress_metadata(stages.get(), chunk.job))
    return report


@dg.op(out=outputs(StageReport, _CHECKS))
def report_vectors(stages: Stages, plan: StagePlan, reports: list[ChunkReport]) -> Iterator[Any]:
    """The fan-in: every chunk reported, every vector accounted for, every feature too, every table as it should be."""
    with plain_failures(stages), stages.get().lease_or_nothing(plan.job, "account for vector_tables"):
        report = close_stage(stages.get(), plan, reports)
        verdicts = {
            _ACCOUNTED: checks.accounted_for(report.counts),
            _VALID: checks.tables_sound(stages.get(), report.job, report.stage),
            _FEATURES: checks.features_accounted_for(stages.get(), report.job, report.stage),
            _GOOD: checks.no_bad_files(stages.get(), report.job, report.stage),
        }
        results = check_results(stages.get(), report.job, "vector_tables", verdicts)
        metadata = stage_metadata(stages.get(), report)
    yield dg.Output(report, "result", metadata=metadata)
    yield from results


def vector_tables(job_type: str) -> dg.AssetsDefinition:
    """The asset of a job type."""

    @pipeline_asset(job_type, kinds={"postgis"}, checks=_CHECKS)
    def vector_tables(container_inventory: InventoryRef) -> Any:
        """One typed, indexed PostGIS table per layer."""
        plan, chunks = plan_vectors(container_inventory)
        return report_vectors(plan, chunks.map(load_vectors).collect())

    return vector_tables
