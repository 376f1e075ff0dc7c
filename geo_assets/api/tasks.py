"""The routes of the tasks of a job: what it did to each file.

Here: HTTP and pages. Not here: the columns of a task (`geo_assets/ledger/models.py`), statements
(`geo_assets/ledger/tasks.py`), jobs (`jobs.py`).
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from geo_assets.api.dependencies import JobIdPath, Limit, TheSubmitter, next_page, scope
from geo_assets.ledger.models import TaskRecord, WarnedTask
from geo_assets.task_status import TaskStatus

router = APIRouter(tags=["ledger"], dependencies=[scope("read")])


class TaskPage(BaseModel):
    """A page of tasks."""

    tasks: list[TaskRecord]
    next: str | None


class WarnedPage(BaseModel):
    """A page of tasks with their warnings of one kind."""

    tasks: list[WarnedTask]
    next: str | None


@router.get("/api/db/tasks/{job_id}")
def tasks(
    request: Request,
    submitter: TheSubmitter,
    job_id: JobIdPath,
    limit: Limit = 100,
    stage: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[list[TaskStatus] | None, Query()] = None,
    after_stage: str = "",
    after: str = "",
) -> TaskPage:
    """Tasks of a job, in (stage, key) order."""
    job = submitter.jobs.find(job_id)
    found = submitter.tasks.records(
        job.job_id, stage=stage, statuses=status or (), after=(after_stage, after), limit=limit
    )
    more = next_page(request, after_stage=found[-1].stage, after=found[-1].task_key) if len(found) == limit else None
    return TaskPage(tasks=found, next=more)


@router.get("/api/db/tasks/{job_id}/warned")
def warned(
    request: Request,
    submitter: TheSubmitter,
    job_id: JobIdPath,
    kind: Annotated[str, Query(max_length=64, description="one of those that the job counts in `warnings`")],
    limit: Limit = 100,
    after_stage: Annotated[str, Query(max_length=64)] = "",
    after: str = "",
) -> WarnedPage:
    """Tasks of a job that have a warning of a kind, in (stage, key) order, each with its warnings of that kind."""
    job = submitter.jobs.find(job_id)
    found = submitter.tasks.warned_of_kind(job.job_id, kind, after=(after_stage, after), limit=limit)
    more = next_page(request, after_stage=found[-1].stage, after=found[-1].task_key) if len(found) == limit else None
    return WarnedPage(tasks=found, next=more)
