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
from geo_assets.ledger.models import Work
from geo_assets.outcomes import Outputs
from geo_assets.stages.bad_files import end_badly
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, JobRef, StagePlan, StageReport
from geo_assets.stages.progress_log import MAX_LINES, LogLine, ProgressLog, max_lines, no_log
from geo_assets.task_status import BAD, BAD_INPUT, TaskStatus

#: Executes one task: returns its outputs, or raises its error.
DoTask = Callable[[Work], Outputs]

#: The result of a task: its outputs, or its error.
Result = tuple[Work, Outputs | GeoAssetsError]

#: Faults of the infrastructure, not of a file: they end the chunk, and its step is retried.
INFRASTRUCTURE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
)

#: Threads whose child is dead and whose statement is cancelled end at once; one that does not is abandoned.
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
    """The counts that the fan-in checks against."""
    return StagePlan(job=job, stage=stage, tasks=tasks, chunks=len(chunks))


def work_through(
    context: StageContext, chunk: Chunk, do: DoTask, *, threads: int, log: LogLine = no_log
) -> ChunkReport:
    """Execute the unfinished tasks of a chunk; the result of each, good or bad, goes to the ledger and to `log`.

    Raises:
        GeoAssetsError: LEASE_LOST; STORAGE_UNAVAILABLE, a store did not answer for longer than we wait.
        psycopg.Error: the database did not answer: the step is retried and continues with the unfinished tasks.
    """
    started = time.monotonic()
    job, stage = chunk.job, chunk.stage

    def one(work: Work) -> Result:
        context.tasks.start(job.job_id, job.run_id, stage, work.task_key)
        try:
            return work, do(work)
        except INFRASTRUCTURE:
            raise
        except GeoAssetsError as error:
            if context.stopped or error.code in {"LEASE_LOST", "STORAGE_UNAVAILABLE"}:
                raise
            failure = error
        except Exception as error:
            if context.stopped:
                raise
            failure = unforeseen(error)
        end_badly(context, job, stage, work.task_key, failure)
        return work, failure

    with ProgressLog(job, log, limit=max_lines(chunk)) as progress, context.lease(job):

        def report(result: Result) -> str:
            work, outcome = result
            if isinstance(outcome, GeoAssetsError):
                return progress.bad(work.task_key, outcome)
            return progress.good(work.task_key, outcome)

        outcomes = _in_threads(
            context, one, report, context.tasks.work(job.job_id, job.run_id, stage, chunk.first, chunk.last), threads
        )
    counts = {str(name): outcomes[name] for name in ("done", *BAD)}
    return ChunkReport(stage=stage, index=chunk.index, seconds=round(time.monotonic() - started, 3), **counts)


def _in_threads(
    context: StageContext,
    one: Callable[[Work], Result],
    report: Callable[[Result], str],
    works: Sequence[Work],
    threads: int,
) -> Counter[str]:
    """Execute the tasks in threads, and report each as it ends. An interrupt, which reaches only this thread, ends
    them: tasks that wait are dropped; those under way lose their child process and their statements.
    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="work")
    futures: list[Future[Result]] = []
    try:
        futures += [pool.submit(one, work) for work in works]
        return Counter(report(future.result()) for future in as_completed(futures))
    except Exception:
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        context.stop()
        wait(futures, timeout=_STOP_SECONDS)
        raise
    finally:
        pool.shutdown(wait=not context.stopped, cancel_futures=True)


def log_known(context: StageContext, job: JobRef, stage: str, log: LogLine) -> None:
    """Log the tasks of a planned stage that need no work: done before, or refused."""
    if not job.stood_aside:
        counts = context.tasks.counts(job.job_id, stage)
        with ProgressLog(job, log) as progress:
            for status in (TaskStatus.SKIPPED, BAD_INPUT):
                if counts[status]:
                    some = context.tasks.records(job.job_id, stage=stage, statuses=(status,), limit=MAX_LINES)
                    progress.known(some, status, counts[status])


def close_stage(context: StageContext, plan: StagePlan, reports: Sequence[ChunkReport]) -> StageReport:
    """The fan-in: every chunk reported, every task accounted for.

    Raises:
        GeoAssetsError: INTERNAL, a chunk is missing (Dagster can drop mapped steps on a retry) or a task was never
            worked on.
    """
    if len(reports) != plan.chunks:
        raise GeoAssetsError("INTERNAL", f"{plan.stage}: {len(reports)} of {plan.chunks} chunks reported")
    counts = context.tasks.counts(plan.job.job_id, plan.stage)
    pending = counts[TaskStatus.PENDING]
    if not plan.job.stood_aside and (pending or counts.total != plan.tasks):
        raise GeoAssetsError(
            "INTERNAL",
            f"{plan.stage}: of {plan.tasks} planned tasks {counts.total} are listed and {pending} were never worked on",
        )
    return StageReport(job=plan.job, stage=plan.stage, counts=counts, awaiting=counts[TaskStatus.RUNNING])
