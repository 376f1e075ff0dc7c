"""Routes of jobs: one, all, and the requests about a known job.

Here: HTTP. Not here: how a job comes to be (`submissions.py`), what it did to each file (`tasks.py`).
"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from geo_assets.api.dependencies import AnyCode, JobIdPath, Limit, TheSettings, TheSubmitter, next_page, scope
from geo_assets.ledger.deltas import Delta, FileDelta
from geo_assets.ledger.models import DeltaCounts, JobRecord, JobStatus
from geo_assets.receipts.write import print_receipt
from geo_assets.task_status import BAD

router = APIRouter()


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobRecord]
    next: str | None = Field(description="URL of the next page")


class DeltaPage(BaseModel):
    """A page of what a delivery changed."""

    delta: DeltaCounts | None = Field(description="of all files; null for a job that has no such account")
    files: list[FileDelta]
    next: str | None = Field(description="URL of the next page")


@router.get("/api/jobs/{job_id}", tags=["jobs"], dependencies=[scope("read")])
@router.get("/api/jobs/status/{job_id}", tags=["jobs"], dependencies=[scope("read")], name="job_status")
def job_status(submitter: TheSubmitter, job_id: JobIdPath) -> JobRecord:
    """One job: its status, the account of each stage, and how many files its newest delivery changed."""
    return submitter.jobs.find(job_id)


@router.get("/api/jobs/{job_id}/delta", tags=["jobs"], dependencies=[scope("read")])
def delta(
    request: Request,
    submitter: TheSubmitter,
    job_id: JobIdPath,
    limit: Limit = 100,
    only: Annotated[list[Delta] | None, Query()] = None,
    after_stage: Annotated[str, Query(max_length=64)] = "",
    after: str = "",
) -> DeltaPage:
    """What the newest delivery of a job changed, file by file, in (stage, file) order."""
    job = submitter.jobs.find(job_id)
    found = submitter.ledger.deltas.files(job.job_id, only=only or (), after=(after_stage, after), limit=limit)
    more = next_page(request, after_stage=found[-1].stage, after=found[-1].file) if len(found) == limit else None
    return DeltaPage(delta=job.delta, files=found, next=more)


@router.get("/api/jobs/{job_id}/receipt", tags=["jobs"], dependencies=[scope("read")], response_class=StreamingResponse)
def receipt(settings: TheSettings, submitter: TheSubmitter, job_id: JobIdPath) -> StreamingResponse:
    """What a job did, as it is now: its parameters, attempts and tasks, and the items that it has in the catalogue."""
    found = submitter.jobs.find(job_id)
    return StreamingResponse(print_receipt(settings, found.job_id), media_type="application/json")


@router.post("/api/jobs/{job_id}/cancel", status_code=202, tags=["jobs"], dependencies=[scope("submit")])
def cancel(submitter: TheSubmitter, job_id: JobIdPath) -> JobRecord:
    """Cancel a job; no output is left half published."""
    found = submitter.jobs.find(job_id)
    submitter.cancel(found.job_id)
    return submitter.jobs.find(found.job_id)


@router.post("/api/jobs/{job_id}/retry", status_code=202, tags=["jobs"], dependencies=[scope("submit")])
def retry(
    submitter: TheSubmitter,
    job_id: JobIdPath,
    only: Annotated[list[str] | None, Query(description=", ".join(BAD))] = None,
    error_code: AnyCode = None,
    force: Annotated[bool, Query(description="redo finished work too")] = False,
) -> JobRecord:
    """Start a new attempt of a job that has ended; finished tasks stay as they are, unless `force`."""
    found = submitter.jobs.find(job_id)
    submitter.retry(found.job_id, requested_by="api", only=only or (), error_code=error_code, force=force)
    return submitter.jobs.find(found.job_id)


@router.get("/api/jobs", tags=["jobs"], dependencies=[scope("read")])
@router.get("/api/db/jobs", tags=["ledger"], dependencies=[scope("read")])
def jobs(
    request: Request,
    submitter: TheSubmitter,
    limit: Limit = 50,
    status: JobStatus | None = None,
    job_type: Annotated[str | None, Query(max_length=64)] = None,
    before: datetime | None = None,
) -> JobPage:
    """Jobs, newest first."""
    found = submitter.jobs.newest(limit=limit, status=status, job_type=job_type, before=before)
    return JobPage(
        jobs=found, next=next_page(request, before=found[-1].created_at.isoformat()) if len(found) == limit else None
    )
