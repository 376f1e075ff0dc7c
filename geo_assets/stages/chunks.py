"""Plan, map, collect: the same three moves of every stage with a fan-out.

Here: cutting a stage's pending tasks into chunks, working through a chunk in parallel, closing a stage's account.
Not here: what one task is (`cogs.py`, `vector_tables.py`, `hello_world.py`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait

import psycopg
from psycopg_pool import PoolTimeout

from geo_assets.errors import GeoAssetsError, unforeseen
from geo_assets.ledger.models import BAD, TaskStatus, Work
from geo_assets.outcomes import Outputs
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, JobRef, StagePlan, StageReport
from geo_assets.stages.telling import MOST, Say, Telling, most_of, silent

#: What one task does: returns its outputs when it is done, raises what befell it.
DoTask = Callable[[Work], Outputs]

#: What became of a task: its outputs, or what befell it.
Became = tuple[Work, Outputs | GeoAssetsError]

#: Faults of the machinery, not of a file: they end the chunk, and its step is tried again.
INFRASTRUCTURE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
)

#: Threads whose child is dead and whose statement is cancelled end at once; one that does not is left to the end of the
#: process.
_STOP_SECONDS = 5.0


def cut_chunks(job: JobRef, stage: str, keys: Sequence[str], *, chunk_size: int, max_chunks: int) -> list[Chunk]:
    """Cut the pending keys, in order, into at most `max_chunks` chunks of about `chunk_size`."""
    size = max(chunk_size, math.ceil(len(keys) / max_chunks)) if keys else 1
    parts = [keys[i : i + size] for i in range(0, len(keys), size)]
    return [
        Chunk(job=job, stage=stage, index=i, first=part[0], last=part[-1], size=len(part))
        for i, part in enumerate(parts)
    ]


def plan_of(job: JobRef, stage: str, tasks: int, chunks: Sequence[Chunk]) -> StagePlan:
    """What the fan-in is told to expect."""
    return StagePlan(job=job, stage=stage, tasks=tasks, chunks=len(chunks))


def work_through(context: StageContext, chunk: Chunk, do: DoTask, *, threads: int, say: Say = silent) -> ChunkReport:
    """Do the unfinished tasks of a chunk; each ends in the ledger, whatever befalls it, and `say` is told.

    Raises:
        GeoAssetsError: LEASE_LOST; STORAGE_UNAVAILABLE, a store stayed away for longer than it is waited for.
        psycopg.Error: the database stayed away: the step is tried again and finds what is left.
    """
    started = time.monotonic()
    job, stage = chunk.job, chunk.stage

    def one(work: Work) -> Became:
        context.tasks.start(job.job_id, job.run_id, stage, work.task_key)
        try:
            return work, do(work)
        except INFRASTRUCTURE:
            raise
        except GeoAssetsError as error:
            if context.stopped or error.code in {"LEASE_LOST", "STORAGE_UNAVAILABLE"}:
                raise
            befell = error
        except Exception as error:
            if context.stopped:
                raise
            befell = unforeseen(error)
        context.tasks.fail(job.job_id, job.run_id, stage, work.task_key, befell)
        return work, befell

    with Telling(job, say, most=most_of(chunk)) as telling, context.lease(job):

        def tell(became: Became) -> str:
            work, outcome = became
            if isinstance(outcome, GeoAssetsError):
                return telling.bad(work.task_key, outcome)
            return telling.good(work.task_key, outcome)

        outcomes = _in_threads(
            context, one, tell, context.tasks.work(job.job_id, job.run_id, stage, chunk.first, chunk.last), threads
        )
    counts = {str(name): outcomes[name] for name in ("done", *BAD)}
    return ChunkReport(stage=stage, index=chunk.index, seconds=round(time.monotonic() - started, 3), **counts)


def _in_threads(
    context: StageContext,
    one: Callable[[Work], Became],
    tell: Callable[[Became], str],
    works: Sequence[Work],
    threads: int,
) -> Counter[str]:
    """Do the works, some at a time, and tell of each as it ends. An interrupt, which reaches this thread alone, ends
    them: what waits is dropped, what is under way loses its child and its statements.
    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="work")
    futures: list[Future[Became]] = []
    try:
        futures += [pool.submit(one, work) for work in works]
        return Counter(tell(future.result()) for future in as_completed(futures))
    except Exception:
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        context.stop()
        wait(futures, timeout=_STOP_SECONDS)
        raise
    finally:
        pool.shutdown(wait=not context.stopped, cancel_futures=True)


def tell_known(context: StageContext, job: JobRef, stage: str, say: Say) -> None:
    """Tell of the tasks of a planned stage that nobody will work on: done before, or refused."""
    if not job.stood_aside:
        counts = context.tasks.counts(job.job_id, stage)
        with Telling(job, say) as telling:
            for status, count in (
                (TaskStatus.SKIPPED, counts.skipped),
                (TaskStatus.QUARANTINED, counts.quarantined),
            ):
                if count:
                    telling.known(
                        context.tasks.records(job.job_id, stage=stage, statuses=(status,), limit=MOST), status, count
                    )


def close_stage(context: StageContext, plan: StagePlan, reports: Sequence[ChunkReport]) -> StageReport:
    """The fan-in: every chunk reported, every task accounted for.

    Raises:
        GeoAssetsError: INTERNAL, a chunk is missing (Dagster can drop mapped steps on a retry) or a task was never
            worked on.
    """
    if len(reports) != plan.chunks:
        raise GeoAssetsError("INTERNAL", f"{plan.stage}: {len(reports)} of {plan.chunks} chunks reported")
    counts = context.tasks.counts(plan.job.job_id, plan.stage)
    if not plan.job.stood_aside and (counts.pending or counts.total != plan.tasks):
        raise GeoAssetsError(
            "INTERNAL",
            f"{plan.stage}: of {plan.tasks} planned tasks {counts.total} are listed and {counts.pending} were never"
            " worked on",
        )
    return StageReport(job=plan.job, stage=plan.stage, counts=counts, awaiting=counts.running)
