"""`hello_world`: n greetings, then n replies, each built from its greeting. Tests the installation without a file.

Here: the two stages. Not here: anything that a file needs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import GREETINGS, GreetingOutputs, Outputs, ReplyOutputs, TaskInput
from geo_assets.parameters import HelloWorld
from geo_assets.stages.chunks import cut_stage, plan_of, tasks_of
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, JobRef, StagePlan
from geo_assets.stages.cutting import Bounds

#: A greeting costs a millisecond, a mapped step between fifty and two hundred: few chunks, however large n is.
_BOUNDS = Bounds(files=16, chunks=8, children=1, least_seconds=math.inf)


def _key(index: int) -> str:
    return f"{index:04d}"


def plan(context: StageContext, job: JobRef, stage: str) -> tuple[StagePlan, list[Chunk]]:
    """Enter n tasks of a stage and cut what is not done yet into chunks."""
    if job.stood_aside:
        return plan_of(job, stage, 0, []), []
    asked = job.parameters_as(HelloWorld)
    fingerprint = hashlib.sha256(asked.message.encode()).hexdigest()
    tasks = [
        PlannedTask(task_key=_key(i), kind=stage.rstrip("s"), fingerprint=fingerprint, input=TaskInput(index=i))
        for i in range(asked.n)
    ]
    count = context.tasks.plan(job.job_id, job.run_id, stage, tasks, force=job.force)
    return cut_stage(context, job, stage, count, _BOUNDS)


def greet(context: StageContext, chunk: Chunk) -> int:
    """Write the greetings of a chunk; returns how many."""
    message = chunk.job.parameters_as(HelloWorld).message
    return _finish(
        context,
        chunk,
        {
            w.task_key: GreetingOutputs(greeting=f"{message} (greeting {w.input.index})")
            for w in tasks_of(context, chunk)
        },
    )


def reply(context: StageContext, chunk: Chunk) -> int:
    """Write the replies of a chunk, each from its greeting; returns how many."""
    outputs = context.tasks.outputs(chunk.job.job_id, GREETINGS, chunk.first, chunk.last)
    greetings = {key: made.greeting for key, made in outputs.items() if isinstance(made, GreetingOutputs)}
    return _finish(
        context,
        chunk,
        {w.task_key: ReplyOutputs(reply=f"You said: {greetings[w.task_key]}") for w in tasks_of(context, chunk)},
    )


def _finish(context: StageContext, chunk: Chunk, outputs: Mapping[str, Outputs]) -> int:
    """End a chunk's tasks together in one statement; a run that lost its job changes nothing."""
    if outputs:
        context.tasks.succeed_many(
            chunk.job.job_id, chunk.job.run_id, [(chunk.stage, key, value) for key, value in outputs.items()]
        )
    return len(outputs)
