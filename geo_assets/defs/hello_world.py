"""The asset of `hello_world`: greetings, then replies; plan, map, collect, twice."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from geo_assets.defs.assets import pipeline_asset
from geo_assets.defs.claim import Force, claim
from geo_assets.defs.metadata import log_line
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.outcomes import GREETINGS, REPLIES
from geo_assets.stages import hello_world as stage
from geo_assets.stages.chunks import close_stage
from geo_assets.stages.contracts import Chunk, ChunkReport, JobRef, StagePlan, StageReport
from geo_assets.task_status import BAD

#: A greeting cannot be bad.
_NONE_BAD = dict.fromkeys(BAD, 0)

_PLAN_AND_CHUNKS = {"plan": dg.Out(StagePlan), "chunks": dg.DynamicOut(Chunk)}


def _planned(context: dg.OpExecutionContext, stages: Stages, job: JobRef, name: str) -> Iterator[Any]:
    with plain_failures(stages), stages.get().lease_or_nothing(job, f"plan {name}"):
        plan, chunks = stage.plan(stages.get(), job, name)
    log_line(context, f"{plan.tasks} {name} planned, in {plan.chunks} chunks")
    metadata: dict[str, Any] = {
        "tasks": plan.tasks,
        "chunks": plan.chunks,
        "parameters": dg.MetadataValue.json(job.parameters.stored()),
    }
    yield dg.Output(plan, "plan", metadata=metadata)
    for chunk in chunks:
        yield dg.DynamicOutput(chunk, chunk.mapping_key, "chunks")


@dg.op(out=_PLAN_AND_CHUNKS)
def plan_greetings(context: dg.OpExecutionContext, stages: Stages, config: Force) -> Iterator[Any]:
    """Claim the job and plan n greetings."""
    yield from _planned(context, stages, claim(context, stages, "hello_world", config), GREETINGS)


@dg.op(out=dg.Out(ChunkReport))
def greet(stages: Stages, chunk: Chunk) -> ChunkReport:
    """Write a chunk's greetings."""
    with plain_failures(stages), stages.get().lease_or_nothing(chunk.job, chunk.title):
        return ChunkReport(
            stage=chunk.stage,
            index=chunk.index,
            done=stage.greet(stages.get(), chunk),
            seconds=0,
            **_NONE_BAD,
        )


@dg.op(out=_PLAN_AND_CHUNKS)
def plan_replies(
    context: dg.OpExecutionContext, stages: Stages, plan: StagePlan, reports: list[ChunkReport]
) -> Iterator[Any]:
    """The fan-in of the greetings, then the plan of as many replies."""
    with plain_failures(stages), stages.get().lease_or_nothing(plan.job, f"account for {plan.stage}"):
        report = close_stage(stages.get(), plan, reports)
    yield from _planned(context, stages, report.job, REPLIES)


@dg.op(out=dg.Out(ChunkReport))
def reply(stages: Stages, chunk: Chunk) -> ChunkReport:
    """Write a chunk's replies, each from its greeting."""
    with plain_failures(stages), stages.get().lease_or_nothing(chunk.job, chunk.title):
        return ChunkReport(
            stage=chunk.stage,
            index=chunk.index,
            done=stage.reply(stages.get(), chunk),
            seconds=0,
            **_NONE_BAD,
        )


@dg.op(out=dg.Out(StageReport))
def close_replies(
    context: dg.OpExecutionContext, stages: Stages, plan: StagePlan, reports: list[ChunkReport]
) -> StageReport:
    """The fan-in of the replies, and the end of the job."""
    with plain_failures(stages):
        report = close_stage(stages.get(), plan, reports)
        stages.get().complete(report.job)
    context.add_output_metadata({"job": report.job.job_id, **report.counts.model_dump()})
    return report


@pipeline_asset("hello_world", kinds={"python"})
def replies() -> Any:
    """Two stages of fan-out and fan-in: n greetings, then a reply to each."""
    greetings, greeting_chunks = plan_greetings()
    plan, reply_chunks = plan_replies(greetings, greeting_chunks.map(greet).collect())
    return close_replies(plan, reply_chunks.map(reply).collect())
