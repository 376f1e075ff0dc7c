"""Shared by several commands: open the ledger, show a job, follow it to its end.

Here: that, and the argument that names a job. Not here: the commands; tables, JSON and the two consoles (`console.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from geo_assets.commands.console import err, log, out, print_json, print_table
from geo_assets.commands.failures import INTERRUPTED, die
from geo_assets.commands.times import moment
from geo_assets.errors import GeoAssetsError
from geo_assets.hints import program, runnable
from geo_assets.task_status import LIST_BAD, TaskStatus
from geo_assets.text import how_many, one_line

if TYPE_CHECKING:
    from rich.console import Console

    from geo_assets.ledger.models import JobRecord
    from geo_assets.settings import Settings
    from geo_assets.submissions.submit import Submitter

JobId = Annotated[str, typer.Argument(help="A job's id, or its first characters (6 at least).")]


def open_submitter() -> Submitter:
    """Open the ledger of the stack; a context manager.

    Raises:
        GeoAssetsError: STACK_NOT_RUNNING.
    """
    from geo_assets.submissions.submit import Submitter

    return Submitter(settings_of_running())


def settings_of_running() -> Settings:
    """The settings, if something listens where the database is to be: a person does not wait for what is stopped, as
    runs and servers do.

    Raises:
        GeoAssetsError: STACK_NOT_RUNNING.
    """
    from geo_assets.database.connections import away, refuses
    from geo_assets.settings import load_settings

    settings = load_settings()
    if refuses(settings):
        raise GeoAssetsError("STACK_NOT_RUNNING", away(settings).message)
    return settings


def follow_job(submitter: Submitter, job_id: str, console: Console = err) -> JobRecord:
    """Wait for the end of a job, with live progress; Ctrl-C ends the program and leaves the job running."""
    from geo_assets.commands.progress import follow

    tell_pause(submitter, submitter.jobs.find(job_id))
    try:
        return follow(submitter.jobs, job_id, console)
    except KeyboardInterrupt:
        record = submitter.jobs.find(job_id)
        goes_on = "has ended" if record.status.is_final else "continues without this terminal"
        if not record.status.is_final:
            log(f"to end it: geo-assets cancel {job_id[:12]}")
        error = GeoAssetsError(
            "INTERRUPTED",
            f"job {job_id[:12]} is {record.status} and {goes_on}",
            remedy=f"see how it is: geo-assets job {job_id[:12]}",
        )
        die(error, code=INTERRUPTED, severity="interrupted")


def tell_pause(submitter: Submitter, record: JobRecord) -> None:
    """Say why a job waits that is not launched yet, if it is for a pause."""
    from geo_assets.ledger.models import JobStatus

    if record.status is JobStatus.QUEUED and (now := submitter.ledger.pause()):
        log(f"paused until {moment(now.until)} ({one_line(now.reason)}); to have it launched before: geo-assets resume")


def a_number(value: float | None) -> float | None:
    """Refuse `nan`, which the bounds of an option let pass: no comparison with it is true.

    Raises:
        typer.BadParameter: it is none.
    """
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number.")
    return value


def show_job(record: JobRecord, *, as_json: bool) -> None:
    """Show a job: its status, the counts of each stage, what to look at next."""
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    for line in _facts(record):
        out.print(line, markup=False, soft_wrap=True)
    if record.stages:
        from geo_assets.ledger.models import columns_of

        columns = columns_of(record.stages)
        rows = [(s.stage, str(s.total), *(str(s[status]) for status in columns)) for s in record.stages]
        print_table(("stage", "total", *columns), rows)
    for line in _efficiency(record):
        out.print(line, markup=False, soft_wrap=True)
    if told := delivery(record):
        out.print(f"delivery   {told}", markup=False, soft_wrap=True)
        out.print(f"           each file: {program()} delta {record.job_id[:12]}", markup=False, soft_wrap=True)
    for by, items in (record.superseded_by or {}).items():
        said = f"superseded {how_many(items, 'item is', 'items are')} job {by[:12]}'s now: {program()} tasks {by[:12]}"
        out.print(said, markup=False, soft_wrap=True)
    if record.warnings:
        print_table(("warning", "files"), [(kind, f"{count:,}") for kind, count in record.warnings.items()])
        out.print(
            f"the warnings of each file: {program()} tasks {record.job_id[:12]} --warned", markup=False, soft_wrap=True
        )
    for remark in record.remarks or ():
        out.print(f"remark     {one_line(remark)}", markup=False, soft_wrap=True)
    if said := next_step(record):
        out.print(said, markup=False, soft_wrap=True)


def _facts(record: JobRecord) -> list[str]:
    """What it is, when it was submitted, begun and ended, and why it failed if it did."""
    told = [
        f"job        {record.job_id}",
        f"type       {record.job_type}",
        f"status     {record.status}",
        f"partition  {record.partition_key}",
        f"submitted  {moment(record.created_at)} by {record.submitted_by}",
    ]
    if record.started_at:
        told.append(f"begun      {moment(record.started_at)}")
    if record.ended_at and record.status.is_final:
        told.append(f"ended      {moment(record.ended_at)}")
    if record.progress:
        told.append(f"progress   {record.progress}")
    told += why(record)
    if record.run_id:
        from geo_assets.settings import load_settings

        told.append(f"run        {load_settings().dagster_url}/runs/{record.run_id}")
    return told


def why(record: JobRecord) -> list[str]:
    """Why a job failed and what can be done, in lines; nothing if it did not."""
    if not record.error_message:
        return []
    remedy = [f"           → {runnable(record.remedy)}"] if record.remedy else []
    return [f"reason     {record.error_code}: {one_line(record.error_message)}", *remedy]


def delivery(record: JobRecord) -> str:
    """What the newest delivery changed, and how many files are bad; nothing of a job that has found no file, or has not
    worked on all of them: what is changed is told when it is published.
    """
    bad = sum(stage.bad for stage in record.stages)
    if record.delta is None or not record.status.is_completed:
        return ""
    if not (bad or any(count for _, count in record.delta)):
        return ""
    return f"{record.delta}, {bad:,} bad" if bad else str(record.delta)


def _efficiency(record: JobRecord) -> list[str]:
    """How busy the children of each stage were; of one whose files were all skipped, an earlier run's would be told."""
    return [
        f"efficiency {stage.efficiency:.0%} of {stage.stage}: children were busy for {stage.busy_seconds:,.1f} s,"
        f" {stage.workers:,} at a time for {stage.wall_seconds:,.1f} s"
        for stage in record.stages
        if stage.efficiency is not None and not (stage[TaskStatus.SKIPPED] and not stage[TaskStatus.SUCCEEDED])
    ]


def next_step(record: JobRecord) -> str:
    """What to look at next, in one line."""
    from geo_assets.ledger.models import JobStatus

    if any(s.bad for s in record.stages):
        return f"why: {program()} tasks {record.job_id[:12]} {LIST_BAD}"
    if record.status is not JobStatus.COMPLETED:
        return ""
    if not sum(s.total for s in record.stages):
        return f"nothing was found to work on; what was listed: {_files(record)}"
    return f"what was made: {program()} tasks {record.job_id[:12]}"


def _files(record: JobRecord) -> str:
    return f"{program()} files {record.job_id[:12]}"
