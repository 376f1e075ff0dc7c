"""Live progress for a person: a job that is followed to its end, and what a command has counted.

Here: polling the ledger and drawing bars on a console. Not here: anything that changes a job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

from geo_assets.commands.console import err, human_bytes
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.models import JobRecord, JobStatus
from geo_assets.text import how_many

#: Often enough to feel live.
_POLL_SECONDS = 0.25

#: A look counts all tasks of the job: of many, it is taken less often, so that whoever watches takes no processor from
#: whoever works. So many times as long as it took, and at most so many seconds, nothing but the job's status is asked.
_REST, _LONGEST_REST = 100, 5.0

#: Characters; below it there is no room for bars.
_WIDE = 80


def follow(jobs: Jobs, job_id: str, console: Console) -> JobRecord:
    """Wait for the end of a job; returns it as it ended."""
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description:<20}", table_column=_whole(20)),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", table_column=_whole()),
        TimeElapsedColumn(table_column=_whole(7)),
    )
    if console.width >= _WIDE:  # a narrow terminal shows whole names and no bar
        columns = (SpinnerColumn(), columns[0], BarColumn(), *columns[1:])
    with Progress(*columns, console=console, transient=False) as progress:
        overall = progress.add_task(job_id[:12], total=None, note=JobStatus.QUEUED)
        bars: dict[str, TaskID] = {}
        while True:
            began = time.monotonic()
            record = jobs.find(job_id)
            took = time.monotonic() - began
            progress.update(overall, note=record.status)
            for stage in record.stages:
                if stage.stage not in bars:
                    bars[stage.stage] = progress.add_task(stage.stage, total=stage.total, note="")
                note = f"{stage.bad} bad" if stage.bad else ""
                progress.update(bars[stage.stage], total=stage.total, completed=stage.done, note=note)
            if record.status.is_final:
                progress.update(overall, total=1, completed=1)
                return record
            _rest(jobs, job_id, min(_REST * took, _LONGEST_REST))


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
