"""Plan, map, collect: the same three moves of every stage with a fan-out.

Here: cutting a stage's pending tasks into chunks, working through a chunk in parallel, closing a stage's account.
Not here: what one task is (`rasters.py`, `vectors.py`, `hello.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg_pool import PoolTimeout

from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.ledger.models import Work
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, JobRef, StagePlan, StageReport

#: What one task does: returns when it is done, raises what befell it.
DoTask = Callable[[Work], None]

#: Faults of the machinery, not of a file: they end the chunk, and its step is tried again.
INFRASTRUCTURE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


def cut_chunks(job: JobRef, stage: str, keys: Sequence[str], *, chunk_size: int, max_chunks: int) -> list[Chunk]:
    """Cut the pending keys, in order, into at most `max_chunks` chunks of about `chunk_size`."""
    size = max(chunk_size, math.ceil(len(keys) / max_chunks)) if keys else 1
    parts = [keys[i : i + size] for i in range(0, len(keys), size)]
    return [Chunk(job=job, stage=stage, index=i, first=part[0], last=part[-1], size=len(part)) for i, part in enumerate(parts)]


def plan_of(job: JobRef, stage: str, tasks: int, chunks: Sequence[Chunk]) -> StagePlan:
    """What the fan-in is told to expect."""
    return StagePlan(job=job, stage=stage, tasks=tasks, chunks=len(chunks))


def work_through(context: StageContext, chunk: Chunk, do: DoTask, *, threads: int) -> ChunkReport:
    """Do the unfinished tasks of a chunk; each ends in the ledger, whatever befalls it.

    Raises:
        GeoAssetsError: LEASE_LOST.
        psycopg.Error: the database stayed away: the step is tried again and finds what is left.
    """
    started = time.monotonic()
    job, stage = chunk.job, chunk.stage
    outcomes = {"done": 0, "quarantined": 0, "failed": 0}

    def one(work: Work) -> str:
        context.tasks.start(job.job_id, job.run_id, stage, work.task_key)
        try:
            do(work)
        except INFRASTRUCTURE:
            raise
        except GeoAssetsError as error:
            if error.code == "LEASE_LOST":
                raise
            context.tasks.fail(job.job_id, job.run_id, stage, work.task_key, error)
            return "quarantined" if error.error_class is ErrorClass.INVALID else "failed"
        except Exception as error:  # noqa: BLE001 - one file must not stop the others; the account keeps what happened
            context.tasks.fail(job.job_id, job.run_id, stage, work.task_key, GeoAssetsError("INTERNAL", f"{type(error).__name__}: {error}"))
            return "failed"
        return "done"

    with context.lease(job), ThreadPoolExecutor(max_workers=threads, thread_name_prefix=stage) as pool:
        for outcome in pool.map(one, context.tasks.work(job.job_id, job.run_id, stage, chunk.first, chunk.last)):
            outcomes[outcome] += 1
    return ChunkReport(stage=stage, index=chunk.index, seconds=round(time.monotonic() - started, 3), **outcomes)


def close_stage(context: StageContext, plan: StagePlan, reports: Sequence[ChunkReport]) -> StageReport:
    """The fan-in: every chunk reported, every task accounted for.

    Raises:
        GeoAssetsError: INTERNAL, a chunk is missing (Dagster can drop mapped steps on a retry) or a task was never worked on.
    """
    if len(reports) != plan.chunks:
        raise GeoAssetsError("INTERNAL", f"{plan.stage}: {len(reports)} of {plan.chunks} chunks reported")
    counts = context.tasks.counts(plan.job.job_id, plan.stage)
    if not plan.job.stood_aside and (counts.pending or counts.total != plan.tasks):
        raise GeoAssetsError(
            "INTERNAL", f"{plan.stage}: of {plan.tasks} planned tasks {counts.total} are listed and {counts.pending} were never worked on"
        )
    return StageReport(job=plan.job, stage=plan.stage, counts=counts, awaiting=counts.running)
