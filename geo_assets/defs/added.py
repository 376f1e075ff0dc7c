"""The assets of job types that other distributions add: the inventory, one for each stage, the catalogue.

Here: the asset of an added stage, by one rule. Not here: its work (`stages/added.py`), the assets that all job types
have (`container_inventory.py`, `catalogue.py`).
"""

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import dagster as dg

from geo_assets.defs.assets import NO_BAD_FILES, OTHERWISE, check_results, outputs, pipeline_asset
from geo_assets.defs.catalogue import stac_collection, stac_items, submission_report
from geo_assets.defs.cogs import cogs
from geo_assets.defs.container_inventory import container_inventory
from geo_assets.defs.metadata import progress_metadata, stage_metadata, step_logger
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.defs.vector_tables import vector_tables
from geo_assets.file_stages import COGS, FILE_STAGES, TABLES
from geo_assets.parameters import JOB_TYPES, PublishContainer
from geo_assets.stages import added, checks
from geo_assets.stages.chunks import close_stage, log_known
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, StagePlan, StageReport

#: The checks of the asset of an added stage, each with the question that it answers.
_CHECKS = {
    "every_source_accounted_for": f"Does every listed source have a final status: made, {OTHERWISE}?",
    "outputs_in_place": "Is every file that was made at the place recorded in the ledger?",
    **NO_BAD_FILES,
}
_ACCOUNTED, _IN_PLACE, _GOOD = _CHECKS


@cache
def _plan_op(stage: str) -> dg.OpDefinition:
    @dg.op(
        name=f"plan_{stage}",
        ins={"before": dg.In(list[StageReport], default_value=[])},
        out={"plan": dg.Out(StagePlan), "chunks": dg.DynamicOut(Chunk)},
    )
    def plan(
        context: dg.OpExecutionContext, stages: Stages, inventory: InventoryRef, before: list[StageReport]
    ) -> Iterator[Any]:
        """Plan a stage, once those that it needs are done, cut into chunks."""
        del before
        with plain_failures(stages), stages.get().lease_or_nothing(inventory.job, f"plan {stage}"):
            plan, chunks = added.plan(stages.get(), inventory, stage)
            log_known(stages.get(), plan.job, plan.stage, step_logger(context, stages.get()))
        yield dg.Output(plan, "plan")
        for chunk in chunks:
            yield dg.DynamicOutput(chunk, chunk.mapping_key, "chunks")

    return plan


@cache
def _work_op(stage: str) -> dg.OpDefinition:
    @dg.op(name=f"make_{stage}", out=dg.Out(ChunkReport))
    def make(context: dg.OpExecutionContext, stages: Stages, chunk: Chunk) -> ChunkReport:
        """Work through a chunk; a bad file ends its own task, the rest goes on."""
        with plain_failures(stages):
            report = added.work_chunk(stages.get(), chunk, step_logger(context, stages.get()))
            context.add_output_metadata(progress_metadata(stages.get(), chunk.job))
        return report

    return make


@cache
def _report_op(stage: str) -> dg.OpDefinition:
    @dg.op(name=f"report_{stage}", out=outputs(StageReport, _CHECKS))
    def report(stages: Stages, plan: StagePlan, reports: list[ChunkReport]) -> Iterator[Any]:
        """The fan-in: every chunk reported, every source accounted for, every file in its place."""
        with plain_failures(stages), stages.get().lease_or_nothing(plan.job, f"account for {stage}"):
            account = close_stage(stages.get(), plan, reports)
            verdicts = {
                _ACCOUNTED: checks.accounted_for(account.counts),
                _IN_PLACE: checks.outputs_in_place(stages.get(), account.job, stage),
                _GOOD: checks.no_bad_files(stages.get(), account.job, stage),
            }
            results = check_results(stages.get(), account.job, stage, verdicts)
            metadata = stage_metadata(stages.get(), account)
        yield dg.Output(account, "result", metadata=metadata)
        yield from results

    return report


def _asset(job_type: str, stage: str) -> dg.AssetsDefinition:
    """The asset of a stage in a job type."""
    if stage in FILE_STAGES.own:
        return {COGS: cogs, TABLES: vector_tables}[stage](job_type)
    row, plan_op, work_op, report_op = FILE_STAGES[stage], _plan_op(stage), _work_op(stage), _report_op(stage)

    def compose(container_inventory: Any, **before: Any) -> Any:
        others = {"before": list(before.values())} if before else {}
        plan, chunks = plan_op(inventory=container_inventory, **others)
        return report_op(plan, chunks.map(work_op).collect())

    compose.__name__, compose.__doc__ = stage, row.how or f"The {row.made} of each source."
    takes = ("container_inventory", *row.after)
    return pipeline_asset(job_type, kinds={*row.kinds} or {"python"}, checks=_CHECKS, takes=takes)(compose)


def _assets(job_type: str, model: type[PublishContainer]) -> list[dg.AssetsDefinition]:
    """The assets of a job type; none, and no such job type, where Dagster does not take them."""
    try:
        return _made(job_type, model)
    except Exception as error:  # noqa: BLE001 - of what others say of their stage; the other job types go on
        JOB_TYPES.leave_out(job_type, error)
        return []


def _made(job_type: str, model: type[PublishContainer]) -> list[dg.AssetsDefinition]:
    return [
        container_inventory(job_type),
        *(_asset(job_type, stage) for stage in model.stages),
        stac_items(job_type, model.stages),
        stac_collection(job_type),
        submission_report(job_type),
    ]


ASSETS = [
    asset
    for job_type, model in JOB_TYPES.added.items()
    if issubclass(model, PublishContainer)
    for asset in _assets(job_type, model)
]

for _broken in (*JOB_TYPES.broken.values(), *FILE_STAGES.broken.values()):
    logging.getLogger(__name__).warning("%s; the other job types are there", _broken)
