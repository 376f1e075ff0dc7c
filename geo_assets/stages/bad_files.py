"""A bad file: its task ends as quarantined or failed, with a reason and a remedy.

Here: which errors are a file's, and the two functions through which every such task ends, in whichever stage: as it is
planned, or as it is worked on. What else is to happen when a file is bad (a message to somebody, a metric) belongs
here. Not here: the statements (`ledger/tasks.py`), which status an error means (`ledger/models.py`), the lines in a
step's log (`progress_log.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.ledger.models import PlannedTask
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef

_log = logging.getLogger(__name__)


def is_of_the_file(error: GeoAssetsError) -> bool:
    """Whether another file may do better: not where a store or the database does not answer, or the run is stopped."""
    if error.code in {"CANCELLED", "LEASE_LOST"}:
        return False
    return error.error_class is not ErrorClass.TRANSIENT or error.code == "OUTPUT_GONE"


def plan_tasks(
    context: StageContext, job: JobRef, stage: str, tasks: Iterable[PlannedTask], *, force: bool = False
) -> int:
    """Enter a stage's tasks; returns how many. Those of files that are refused (`PlannedTask.error`) end at once; each
    attempt of a job refuses them again.
    """
    return context.tasks.plan(job.job_id, job.run_id, stage, tasks, force=force)


def end_badly(context: StageContext, job: JobRef, stage: str, task_key: str, error: GeoAssetsError) -> None:
    """End a task with the error that it met.

    Raises:
        GeoAssetsError: LEASE_LOST.
    """
    context.tasks.fail(job.job_id, job.run_id, stage, task_key, error)
    task = {"stage": stage, "task_key": task_key}
    _log.warning("file is bad", extra={**task, "code": error.code, "reason": error.message, "remedy": error.remedy})
