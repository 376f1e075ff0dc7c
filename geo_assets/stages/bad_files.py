"""A bad file: its task ends as quarantined or failed, with a reason and a remedy.

Here: the two functions through which every such task ends, in whichever stage: as it is planned, or as it is worked on.
What else is to happen when a file is bad (a message to somebody, a metric) belongs here. Not here: the statements
(`ledger/tasks.py`), which status an error means (`ledger/models.py`), the lines in a step's log (`progress_log.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import PlannedTask
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef


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
