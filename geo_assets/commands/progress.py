"""Following a job to its end, with live progress for a person.

Here: polling the ledger and drawing bars on a console. Not here: anything that changes a job.
"""

from __future__ import annotations

import time

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

from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.models import JobRecord, JobStatus

#: Often enough to feel live; each look is two small queries.
_POLL_SECONDS = 0.25

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
            record = jobs.find(job_id)
            progress.update(overall, note=record.status)
            for stage in record.stages:
                if stage.stage not in bars:
                    bars[stage.stage] = progress.add_task(stage.stage, total=stage.total, note="")
                note = f"{stage.bad} bad" if stage.bad else ""
                progress.update(bars[stage.stage], total=stage.total, completed=stage.done, note=note)
            if record.status.is_final:
                progress.update(overall, total=1, completed=1)
                return record
            time.sleep(_POLL_SECONDS)


def _whole(width: int | None = None) -> Column:
    return Column(min_width=width, no_wrap=True, overflow="ignore")
