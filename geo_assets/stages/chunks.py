"""Plan, map, collect: the same three moves of every stage with a fan-out.

Here: working through a chunk, what its work cost, closing a stage's account. Not here: where a stage is cut into chunks
(`cutting.py`), the threads (`crew.py`), what one task is (`cogs.py`, `vector_tables.py`, `hello_world.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg
from psycopg_pool import PoolTimeout

from geo_assets.background import every
from geo_assets.correlation import about
from geo_assets.errors import GeoAssetsError, unforeseen
from geo_assets.ledger.fatal import MOST_DEATHS, SILENT_SECONDS
from geo_assets.ledger.models import Work
from geo_assets.ledger.pending import Place
from geo_assets.ledger.work import ChunkWork
from geo_assets.outcomes import Outputs
from geo_assets.spans import span
from geo_assets.stages.bad_files import end_badly
from geo_assets.stages.context import STOP_SECONDS, StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, JobRef, StagePlan, StageReport
from geo_assets.stages.crew import Crew, Result, Share, Stage, has_steps_here
from geo_assets.stages.cutting import Bounds, cut_chunks
from geo_assets.stages.progress_log import MAX_LINES, LogLine, ProgressLog, no_log
from geo_assets.task_status import BAD, BAD_INPUT, TaskStatus

#: Executes one task: returns its outputs, or raises its error.
DoTask = Callable[[Work], Outputs]

#: Faults of the infrastructure, not of a file: they end the chunk, and its step is retried.
INFRASTRUCTURE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
)

#: Seconds between two looks whether a step waits for others on this host, and after which that is said.
_LOOK_SECONDS, _TELL_SECONDS = 0.5, 3.0


def cut_stage(
    context: StageContext, job: JobRef, stage: str, tasks: int, bounds: Bounds
) -> tuple[StagePlan, list[Chunk]]:
    """Cut what is pending of a planned stage into chunks; returns what the fan-in checks against, too.

    Args:
        context: of the stage.
        job: whose stage it is.
        stage: that is planned.
        tasks: how many it has.
        bounds: of its chunks.
    """
    chunks = context.tasks.cut(
        job.job_id, job.run_id, stage, lambda total, rows: list(cut_chunks(job, stage, total, rows, bounds))
    )
    if has_steps_here(job.run_id):
        context.ahead[stage] = Stage({chunk.index: Share(chunk) for chunk in chunks})
    return plan_of(job, stage, tasks, chunks), chunks


def plan_of(job: JobRef, stage: str, tasks: int, chunks: Sequence[Chunk]) -> StagePlan:
    """The counts that the fan-in checks against."""
    return StagePlan(job=job, stage=stage, tasks=tasks, chunks=len(chunks))


def tasks_of(context: StageContext, chunk: Chunk) -> Iterator[Work]:
    """The unfinished tasks of a chunk, the longest first."""
    first, last = Place(chunk.first_cost_ms, chunk.first), Place(chunk.last_cost_ms, chunk.last)
    return context.tasks.work(chunk.job.job_id, chunk.job.run_id, chunk.stage, first, last)


def work_through(
    context: StageContext, chunk: Chunk, do: DoTask, *, threads: int, log: LogLine = no_log
) -> ChunkReport:
    """Execute the unfinished tasks of a chunk; the result of each, good or bad, goes to the ledger and to `log`.

    If all steps of the run are executed by this process, tasks of later chunks begin meanwhile where a child is idle.

    Raises:
        GeoAssetsError: LEASE_LOST; STORAGE_UNAVAILABLE, a store did not answer for longer than we wait.
        psycopg.Error: the database did not answer: the step is retried and continues with the unfinished tasks.
    """
    started, busy = time.monotonic(), context.busy_seconds
    share = _share(context, chunk)
    with context.lease(chunk.job, chunk.title, workers=threads), _telling(context, log):
        _bury(context, chunk.job)
        crew = _crew(context, share, partial(_one, context, chunk.job, chunk.stage, do), threads)
        try:
            for line in crew.lines(share):
                log(line)
        except Exception:
            crew.end()
            raise
        except BaseException:  # an interrupt, which reaches only this thread
            context.stop()
            crew.end(STOP_SECONDS)
            raise
        for line in share.summary():
            log(line)
        seconds = time.monotonic() - started
        _note_work(context, share, seconds, context.busy_seconds - busy)
    counts = {str(name): share.counts[name] for name in ("done", *BAD)}
    return ChunkReport(stage=chunk.stage, index=chunk.index, seconds=round(seconds, 3), **counts)


def _bury(context: StageContext, job: JobRef) -> None:
    """Wait until it is known which processes of earlier runs of the job died, and with which files in work."""
    until = time.monotonic() + 2 * SILENT_SECONDS
    while not context.jobs.bury(job.job_id) and time.monotonic() < until and not context.stopped:
        time.sleep(_LOOK_SECONDS)


@contextmanager
def _telling(context: StageContext, log: LogLine) -> Iterator[None]:
    """Log once that the step waits for others on this host, if it does so for long."""
    waited = 0.0

    def look() -> bool:
        nonlocal waited
        waited = waited + _LOOK_SECONDS if context.waits_for_host else 0.0
        if waited < _TELL_SECONDS:
            return True
        log(
            "waiting for a slot on this host: other runs have its child processes"
            f" (GEO_ASSETS_HOST_CHILDREN={context.settings.host_children},"
            f" GEO_ASSETS_HOST_MEMORY_MB={context.settings.host_memory_mb})"
        )
        return False

    with every(_LOOK_SECONDS, look, "waiting-for-host"):
        yield


def _one(context: StageContext, job: JobRef, stage: str, do: DoTask, work: Work) -> Result:
    """Execute a task; a failure of its own ends it, any other is raised.

    A file that a process did not survive is worked on alone, so that nobody else is suspected if that happens again:
    then it is not tried a third time, by nobody.
    """
    if work.deaths >= MOST_DEATHS:
        fatal = GeoAssetsError(
            "FATAL_FILE",
            f"{work.deaths} processes died while they worked on it, the last one ({work.died}) on it alone",
        )
        end_badly(context, job, stage, work.task_key, fatal)
        return work, fatal
    with (
        about(stage=stage, task_key=work.task_key),
        span("file", stage=stage, task_key=work.task_key),
        context.turns.taken(alone=work.deaths > 0, stopped=lambda: context.stopped),
    ):
        context.tasks.start(job.job_id, job.run_id, stage, work.task_key, context.process)
        with context.at_work.on(stage, work.task_key):
            result = _tried(context, job, stage, do, work)
    if work.deaths:
        context.tasks.survived(job.job_id, stage, work.task_key)
    return result


def _tried(context: StageContext, job: JobRef, stage: str, do: DoTask, work: Work) -> Result:
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


def _share(context: StageContext, chunk: Chunk) -> Share:
    """What has become of a chunk so far: of one of a stage whose steps are all executed here, others may have begun."""
    ahead = context.ahead.get(chunk.stage)
    known = ahead.shares.get(chunk.index) if ahead else None
    return known if known and known.chunk == chunk else Share(chunk)


def _crew(context: StageContext, share: Share, do: Callable[[Work], Result], threads: int) -> Crew:
    """Those who work on a chunk: those of its stage, or some of its own."""
    chunk = share.chunk

    def begun(shares: Sequence[Share]) -> Crew:
        return Crew(
            shares,
            partial(tasks_of, context),
            do,
            threads=threads,
            stopped=lambda: context.stopped,
            at_first=context.give_way if chunk.is_of_large_stage else None,
        )

    ahead = context.ahead.get(chunk.stage)
    if ahead is None or ahead.shares.get(chunk.index) is not share:
        return begun([share])
    if ahead.crew is None or ahead.crew.is_broken:
        if ahead.crew:
            ahead.crew.end()
        ahead.crew = begun(ahead.after(chunk))
    return ahead.crew if chunk.index in ahead.crew.shares else begun([share])


def _note_work(context: StageContext, share: Share, seconds: float, busy_seconds: float) -> None:
    """Record what a step did, for the account of the job and for the plans of later ones."""
    chunk = share.chunk
    done = ChunkWork(
        job_id=chunk.job.job_id,
        run_id=chunk.job.run_id,
        stage=chunk.stage,
        chunk=chunk.index,
        files=chunk.size,
        bytes=chunk.bytes,
        cost_ms=round(1000 * chunk.cost_seconds),
        busy_ms=round(1000 * busy_seconds),
        files_ms=round(1000 * share.samples.seconds),
        longest_ms=round(1000 * share.samples.longest),
        wall_ms=round(1000 * seconds),
        workers=context.settings.workers,
    )
    context.ledger.work.note(done, share.samples.costs())


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
