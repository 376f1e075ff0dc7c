"""`geo-assets jobs`, `job`, `watch`, `tasks`, `files`, `delta`, `cancel` and `retry`: a job's state, another attempt.

Here: arguments, what is printed. Not here: how a job is shown (`shared.py`), the ledger, which tasks a retry takes
(`submissions/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json, print_json_line, print_json_list, print_table
from geo_assets.commands.shared import (
    JobId,
    delivery,
    follow_job,
    next_step,
    open_submitter,
    show_job,
    tell_pause,
    why,
)
from geo_assets.commands.times import moment
from geo_assets.errors import GeoAssetsError
from geo_assets.hints import program, runnable
from geo_assets.task_status import BAD_INPUT, RETRY_OPTIONS, TaskStatus
from geo_assets.text import one_line

if TYPE_CHECKING:
    from geo_assets.ledger.deltas import FileDelta
    from geo_assets.ledger.models import JobStatus, TaskRecord
    from geo_assets.settings import Settings

DELTA_EXAMPLE = "Example: `geo-assets delta 3fa9c1d2 --only changed --only gone`"

WATCH_EXAMPLE = "Example: `geo-assets watch 3fa9c1d2`"

#: Seconds between two documents of a job that is watched.
_JSON_SECONDS = 1.0

FILES_EXAMPLE = "Example: `geo-assets files 3fa9c1d2 --role ignored`"


def jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, of the newest.")] = 50,
    status: Annotated[str | None, typer.Option(help="Only jobs in this status.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the newest jobs."""
    with open_submitter() as submitter:
        records = submitter.jobs.newest(limit=limit, status=_job_status(status))
    if as_json:
        print_json([r.model_dump(mode="json") for r in records])
        return
    rows = []
    for r in records:
        good, total = sum(s.good for s in r.stages), sum(s.total for s in r.stages)
        bad = sum(s.bad for s in r.stages)
        rows.append(
            (
                r.job_id[:12],
                r.job_type,
                r.status,
                r.partition_key,
                f"{good}/{total}",
                str(bad),
                moment(r.created_at),
            )
        )
    print_table(("job", "type", "status", "partition", "good", "bad", "submitted"), rows)


def _job_status(text: str | None) -> JobStatus | None:
    from geo_assets.ledger.models import JobStatus

    if text is None:
        return None
    try:
        return JobStatus(text)
    except ValueError:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"there is no status {text!r}", remedy=f"one of: {', '.join(JobStatus)}"
        ) from None


def job(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Show one job: its status and the counts of each stage."""
    with open_submitter() as submitter:
        record = submitter.jobs.find(job_id)
        show_job(record, as_json=as_json)
        tell_pause(submitter, record)


def watch(
    job_id: JobId,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, a second apart.")] = False,
) -> None:
    """Follow a job to its end: how far it is, how fast, and when it will have ended. Exit code 0 only if every file is
    good.
    """
    from geo_assets.commands.progress import looks, spaced
    from geo_assets.ledger.models import JobStatus

    with open_submitter() as submitter:
        found = submitter.jobs.find(job_id)
        if as_json:
            for record in spaced(looks(submitter.jobs, found.job_id), _JSON_SECONDS):
                print_json_line(record.model_dump(mode="json"))
        else:
            record = follow_job(submitter, found.job_id, out)
            for line in why(record):
                log(line)
            if said := next_step(record):
                log(said)
    if record.status is not JobStatus.COMPLETED:
        raise typer.Exit(1)


def tasks(
    job_id: JobId,
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help=f"Only tasks in this status: {', '.join(TaskStatus)}; may be repeated.")
    ] = None,
    warned: Annotated[bool, typer.Option("--warned", help="Only tasks with warnings.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the tasks of a job: one line per file, then its outputs and warnings, or its error and the remedy."""
    from geo_assets.ledger.outputs import warnings
    from geo_assets.settings import load_settings

    if unknown := set(status or ()) - set(TaskStatus):
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"there is no status {unknown.pop()!r}", remedy=f"one of: {', '.join(TaskStatus)}"
        )
    with open_submitter() as submitter:
        record = submitter.jobs.find(job_id)
        stages = [s.stage for s in record.stages]
        if stage and stage not in stages:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"this job has no stage {stage!r}", remedy=f"one of: {', '.join(stages)}"
            )
        records = (
            r
            for r in submitter.tasks.iterate(record.job_id, stage)
            if (not status or r.status in status) and (not warned or warnings(r.outputs))
        )
        if as_json:
            print_json_list(r.model_dump(mode="json") for r in records)
            return
        settings, listed = load_settings(), False
        for r in records:
            _print_task(settings, r)
            listed = True
    if not listed:
        log(f"no tasks of job {record.job_id[:12]}{_asked(stage, status or (), warned=warned)}")


def _asked(stage: str | None, status: Sequence[str], *, warned: bool) -> str:
    """Which tasks are listed, in words; nothing if all are."""
    wanted = [f"are {' or '.join(status)}"] * bool(status) + ["have warnings"] * warned
    return (f" of stage {stage}" if stage else "") + (f" that {' and '.join(wanted)}" if wanted else "")


def _print_task(settings: Settings, task: TaskRecord) -> None:
    styles = {
        TaskStatus.SUCCEEDED: "green",
        TaskStatus.SKIPPED: "dim",
        BAD_INPUT: "yellow",
        TaskStatus.FAILED: "red",
    }
    line = f"{task.status:<12}{task.stage:<21}{one_line(task.task_key)}"
    out.print(line, style=styles.get(task.status, ""), markup=False, soft_wrap=True)
    for line in _what_became(settings, task):
        out.print(f"{'':<12}{line}", markup=False, soft_wrap=True)


def _what_became(settings: Settings, task: TaskRecord) -> list[str]:
    from geo_assets.ledger.outputs import results, warnings
    from geo_assets.storage.containers import place

    if task.error_message:
        return [f"{task.error_code}: {one_line(task.error_message)}", f"→ {runnable(one_line(task.remedy or ''))}"]
    if task.superseded_by:
        by = task.superseded_by[:12]
        made = [f"superseded: its item is job {by}'s now: {program()} tasks {by}"]
    else:
        made = [
            f"{what}: {place(settings, where) if what == 'COG' else one_line(where)}"
            for what, where in results(task.outputs)
        ]
    return made + [f"warning: {one_line(warning)}" for warning in warnings(task.outputs)]


def files(
    job_id: JobId,
    role: Annotated[
        str | None, typer.Option(help="Only files of this role: source, part, companion, ignored, beyond_limit.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List every file that the job found in its container, and its role: source, part, companion, or ignored."""
    from geo_assets.stages.accounting import Role, listed_files

    if role is not None and role not in set(Role):
        raise GeoAssetsError("INVALID_PARAMETERS", f"there is no role {role!r}", remedy=f"one of: {', '.join(Role)}")
    with open_submitter() as submitter:
        record = submitter.jobs.find(job_id)
        found = [file for file in listed_files(submitter.inventory, record) if role is None or file.role == role]
    if as_json:
        print_json([file.model_dump(mode="json", exclude_none=True) for file in found])
        return
    for file in found:
        more = f"  {one_line(f'of {file.of}' if file.of else file.reason or '')}".rstrip()
        out.print(f"{file.role:<13}{one_line(file.path)}{more}", markup=False, soft_wrap=True)


def delta(
    job_id: JobId,
    only: Annotated[list[str] | None, typer.Option(help="new, changed, gone or unchanged; may be repeated.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List what the newest delivery of a job changed, file by file: new, changed, gone or unchanged, compared with what
    was published before. Files that could not be processed are in `geo-assets tasks`.
    """
    from geo_assets.ledger.deltas import Delta

    if unknown := set(only or ()) - set(Delta):
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"there is no {min(unknown)!r}", remedy=f"one of: {', '.join(Delta)}"
        )
    with open_submitter() as submitter:
        record = submitter.jobs.find(job_id)
        found = submitter.ledger.deltas.iterate(record.job_id, only=only or ())
        if as_json:
            print_json_list(file.model_dump(mode="json", exclude_none=True) for file in found)
            return
        for file in found:
            print_delta(file)
    log(
        delivery(record) or f"{record.delta} (the job is {record.status})"
        if record.delta
        else f"a job of this type or release has no such account: {record.job_type}"
    )


def print_delta(file: FileDelta) -> None:
    """Print what a delivery changed of one file."""
    kept = {True: " (withdrawn)", False: " (kept)", None: ""}[file.withdrawn]
    styles = {"new": "green", "changed": "cyan", "gone": "yellow", "unchanged": "dim"}
    line = f"{file.delta + kept:<18}{file.stage:<15}{one_line(file.file)}"
    out.print(line, style=styles[file.delta], markup=False, soft_wrap=True)


def cancel(job_id: JobId, as_json: JsonFlag = False) -> None:
    """Cancel a job that is queued or processing. No output is left half published; submitting the job again resumes
    it.
    """
    with open_submitter() as submitter:
        job_id = submitter.jobs.find(job_id).job_id
        cancelled = submitter.cancel(job_id)
        record = submitter.jobs.find(job_id)
        if not cancelled and record.status.is_final:
            log(f"nothing to cancel: the job is {record.status}")
        elif not cancelled:
            log(
                f"nothing to cancel: attempt {record.attempt} has ended; Dagster has not closed run {record.run_id} yet"
            )
        if submitter.warning:
            log(submitter.warning)
        show_job(record, as_json=as_json)


def _redo(status: TaskStatus) -> Any:
    return typer.Option(RETRY_OPTIONS[status], help=f"Redo the {status} tasks.")


def retry(
    job_id: JobId,
    only_failed: Annotated[bool, _redo(TaskStatus.FAILED)] = False,
    bad_input: Annotated[bool, _redo(BAD_INPUT)] = False,
    error_code: Annotated[
        str | None, typer.Option("--error-code", help="Redo the tasks that ended with this error code.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Redo finished work too.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow to the end.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start a new attempt of a job that has ended. Redoes failed tasks by default; finished tasks stay as they are."""
    from geo_assets.ledger.models import JobStatus

    wanted = ((TaskStatus.FAILED, only_failed), (BAD_INPUT, bad_input))
    only = [status for status, chosen in wanted if chosen]
    with open_submitter() as submitter:
        record = submitter.jobs.find(job_id)
        submitter.retry(record.job_id, requested_by="cli", only=only, error_code=error_code, force=force)
        record = follow_job(submitter, record.job_id) if wait else submitter.jobs.find(record.job_id)
        show_job(record, as_json=as_json)
    if wait and record.status is not JobStatus.COMPLETED:
        raise typer.Exit(1)
