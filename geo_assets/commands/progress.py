"""Live progress for a person: a job that is followed to its end, and what a command has counted.

Here: polling the ledger and drawing bars on a console. Not here: anything that changes a job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from geo_assets.commands.console import err
from geo_assets.commands.times import clock, moment
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.models import JobRecord, JobStatus
from geo_assets.text import how_many, human_bytes, human_seconds

#: Often enough to feel live.
_POLL_SECONDS = 0.25

#: A look counts all tasks of the job: of many, it is taken less often, so that whoever watches takes no processor from
#: whoever works. So many times as long as it took, and at most so many seconds, nothing but the job's status is asked.
_REST, _LONGEST_REST = 100, 5.0

#: Seconds between two lines where there is no terminal.
_LINE_SECONDS = 5.0

#: Characters; below it there is no room for bars.
_WIDE = 80


def looks(jobs: Jobs, job_id: str) -> Iterator[JobRecord]:
    """A job as it is, again and again; the last time as it ended."""
    while True:
        began = time.monotonic()
        record = jobs.find(job_id)
        took = time.monotonic() - began
        yield record
        if record.status.is_final:
            return
        _rest(jobs, job_id, min(_REST * took, _LONGEST_REST))


def follow(jobs: Jobs, job_id: str, console: Console) -> JobRecord:
    """Wait for the end of a job; returns it as it ended. On a terminal bars are drawn, elsewhere lines are printed."""
    return (_bars if console.is_terminal else _lines)(looks(jobs, job_id), console)


def spaced(records: Iterable[JobRecord], seconds: float) -> Iterator[JobRecord]:
    """Those of these looks at a job that are so many seconds apart, those at which its status is another, the last."""
    before: tuple[JobStatus, float] | None = None
    for record in records:
        now = time.monotonic()
        if before is None or record.status is not before[0] or now - before[1] >= seconds:
            before = record.status, now
            yield record


def _lines(records: Iterable[JobRecord], console: Console) -> JobRecord:
    """A line for each look that tells something new."""
    told, record = "", None
    for record in spaced(records, _LINE_SECONDS):
        line = _line(record)
        if line != told:
            console.print(f"{moment(datetime.now(UTC))}  {line}", markup=False, soft_wrap=True)
            told = line
    return _last(record)


def _line(record: JobRecord) -> str:
    bad = sum(stage.bad for stage in record.stages)
    return "; ".join(
        part
        for part in (f"{record.job_id[:12]} {record.status}", str(record.progress or ""), f"{bad:,} bad" * bool(bad))
        if part
    )


def _bars(records: Iterable[JobRecord], console: Console) -> JobRecord:
    """A bar for each stage, and above them how fast it is and when it will have ended."""
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description:<20}", table_column=_whole(20)),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", table_column=_whole()),
        TimeElapsedColumn(table_column=_whole(7)),
    )
    if console.width >= _WIDE:  # a narrow terminal shows whole names and no bar
        columns = (SpinnerColumn(), columns[0], BarColumn(), *columns[1:])
    record = None
    with Progress(*columns, console=console, transient=False) as progress:
        overall: TaskID | None = None
        bars: dict[str, TaskID] = {}
        for record in records:
            if overall is None:
                overall = progress.add_task(record.job_id[:12], total=None, note="")
            progress.update(overall, note=_note(record))
            for stage in record.stages:
                if stage.stage not in bars:
                    bars[stage.stage] = progress.add_task(stage.stage, total=stage.total, note="")
                note = f"{stage.bad} bad" if stage.bad else ""
                progress.update(bars[stage.stage], total=stage.total, completed=stage.done, note=note)
            if record.status.is_final:
                progress.update(overall, total=1, completed=1)
    return _last(record)


def _note(record: JobRecord) -> str:
    """Its status, how fast it is, and when it will have ended, as far as that is known."""
    now = record.progress
    told = [str(record.status)]
    if now and now.pace:
        told.append(now.pace)
    if now and now.remaining_seconds is not None and now.ends_at is not None:
        told.append(f"{human_seconds(now.remaining_seconds)} left, until {clock(now.ends_at)}")
    return "; ".join(told)


def _last(record: JobRecord | None) -> JobRecord:
    if record is None:
        msg = "nobody looked at the job"
        raise ValueError(msg)
    return record


def _rest(jobs: Jobs, job_id: str, seconds: float) -> None:
    """Wait for so long, or until the job ends; at least for a moment."""
    until = time.monotonic() + seconds
    time.sleep(_POLL_SECONDS)
    while time.monotonic() < until:
        life = jobs.life(job_id)
        if life is None or life.status.is_final:
            return
        time.sleep(_POLL_SECONDS)


def _whole(width: int | None = None) -> Column:
    return Column(min_width=width, no_wrap=True, overflow="ignore")


@contextmanager
def counting(done: str, total: int | None, *, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar of items on standard error, with what else is counted: bytes, or items of jobs."""
    note = TextColumn("{task.fields[note]}")
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), note, TimeElapsedColumn(), console=err
    ) as bar:
        task, counted = bar.add_task(done, total=total, note=""), [0]

        def tell(items: int, more: int) -> None:
            counted[0] += more
            note = human_bytes(counted[0]) if in_bytes or total is not None else f"jobs, {how_many(counted[0], 'item')}"
            bar.update(task, advance=items, note=note)

        yield tell
