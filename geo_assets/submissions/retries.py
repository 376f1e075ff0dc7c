"""The tasks of a job that a retry does again: one rule for the command line, HTTP and Python.

Here: from the filters of a request to states and a code. Not here: the statement that marks the tasks
(`ledger/jobs.py`), the new attempt (`submit.py`).

Filters narrow each other: of two that are given, a task must meet both. Without any, failed tasks are done again, which
may end well without a change of their files. An error code alone means every task that ended with it. Tasks that are
named, as a repair does, are done again whatever they came to, and no others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from geo_assets.errors import ERRORS, GeoAssetsError, closest_first
from geo_assets.task_status import BAD, TaskStatus


@dataclass(frozen=True, slots=True)
class Choice:
    """The tasks in one of these states, and only those that ended with the code where there is one; or named tasks."""

    statuses: tuple[TaskStatus, ...]
    error_code: str | None = None
    tasks: tuple[tuple[str, str], ...] = ()  # (stage, key) of those that are named


def choose(
    only: Collection[str] = (), error_code: str | None = None, tasks: Collection[tuple[str, str]] = ()
) -> Choice:
    """Turn the filters, or the names of tasks, into a choice of tasks.

    Args:
        only: names of states.
        error_code: of `ERRORS`.
        tasks: (stage, key) of each; instead of filters.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, tasks in such a state are not done again.
    """
    if tasks:
        return Choice((), tasks=tuple(sorted(tasks)))
    if unknown := sorted(set(only) - set(BAD)):
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"tasks with status {unknown[0]!r} cannot be redone",
            remedy=f"one of: {', '.join(BAD)}",
        )
    chosen = set(only) or (set(BAD) if error_code else {TaskStatus.FAILED})
    return Choice(tuple(status for status in BAD if status in chosen), error_code)


def insist_on_some(choice: Choice, job_id: str, codes: Mapping[str, int]) -> None:
    """Refuse a code with which no task of the job ended.

    Args:
        choice: what is asked for.
        job_id: of the job, for the message.
        codes: with which tasks in the chosen states ended, and how many.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    code = choice.error_code
    if code is None or code in codes:
        return
    named = "with that code" if code in ERRORS else f"with {code[:64]!r}, which is no error code"
    which, its = ("", "its") if choice.statuses == BAD else (f" that is {choice.statuses[0]}", "such")
    ended = ", ".join(closest_first(code, codes)) or "no error"
    raise GeoAssetsError(
        "INVALID_PARAMETERS",
        f"no task of job {job_id[:12]}{which} ended {named}",
        remedy=f"{its} tasks ended with: {ended}",
    )
