"""The statuses of a task, as they are stored and as users see them.

Here: their names, and which of them mean what. Columns of tables, JSON fields, options of commands and remedies are
made from these. Not here: counts by status, the statuses of a job (`ledger/models.py`).

SQL has the same names in the type `geo.task_status`, and as columns of the view `geo.stage_counts`: to rename a status,
change its value here, and rename both in a new file of `sql/`.
"""

from __future__ import annotations

from enum import StrEnum


class TaskStatus(StrEnum):
    """The states of a task; `geo.task_status` in SQL."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"  # already done for the same input and parameters; carries the earlier outputs
    QUARANTINED = "quarantined"  # the input is bad: reason and remedy recorded, never retried by itself
    FAILED = "failed"
    CANCELLED = "cancelled"


#: How a task ends whose input is at fault.
BAD_INPUT = TaskStatus.QUARANTINED

#: How a task of a good file ends.
DONE = (TaskStatus.SUCCEEDED, TaskStatus.SKIPPED)

#: The tasks that have outputs; one that is converted and waits for the catalogue still counts as running.
MADE = (*DONE, TaskStatus.RUNNING)

#: How a task of a bad file ends.
BAD = (TaskStatus.FAILED, BAD_INPUT)

#: How a task ends that was worked on, in the order of the columns of tables.
ENDED = (*DONE, BAD_INPUT, TaskStatus.FAILED)

#: Options of `geo-assets tasks` that list the bad files.
LIST_BAD = f"--status {BAD_INPUT} --status {TaskStatus.FAILED}"

#: The options of `geo-assets retry` that take tasks with a status.
RETRY_OPTIONS = {TaskStatus.FAILED: f"--only-{TaskStatus.FAILED}", BAD_INPUT: f"--{BAD_INPUT}"}
