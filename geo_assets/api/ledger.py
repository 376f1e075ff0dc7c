"""Routes of the account: files of a job, whose a table is, messages, errors, counts. All of them only read.

Here: HTTP and pages. Not here: statements (`geo_assets/ledger/`), jobs (`jobs.py`), their
tasks (`tasks.py`).
"""

from datetime import datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from geo_assets.api.dependencies import Code, JobIdPath, Limit, TheSubmitter, next_page, scope
from geo_assets.ledger.messages import ErrorRecord, MessageRecord, Severity
from geo_assets.ledger.models import MessageState, TableItem
from geo_assets.stages.accounting import ListedFile, Role, listed_files

#: Characters of a job's id. What went wrong may name one that there is no job of.
_WHOLE_ID = 64

router = APIRouter(tags=["ledger"], dependencies=[scope("read")])


class FilePage(BaseModel):
    """A page of files."""

    files: list[ListedFile]
    next: str | None = None


class MessagePage(BaseModel):
    """A page of messages, newest first."""

    messages: list[MessageRecord]
    next: str | None


class ErrorPage(BaseModel):
    """A page of error records, newest first."""

    errors: list[ErrorRecord]
    next: str | None


@router.get("/api/db/files/{job_id}")
def files(
    request: Request,
    submitter: TheSubmitter,
    job_id: JobIdPath,
    limit: Limit = 100,
    role: Annotated[Role | None, Query()] = None,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> FilePage:
    """List every blob that the job's newest listing found: source, part of one, companion, or ignored, and why."""
    job = submitter.jobs.find(job_id)
    wanted = (file for file in listed_files(submitter.inventory, job) if role is None or file.role is role)
    found = list(islice(wanted, offset, offset + limit))
    return FilePage(files=found, next=next_page(request, offset=str(offset + limit)) if len(found) == limit else None)


@router.get("/api/db/tables/{table}")
def table_item(submitter: TheSubmitter, table: Annotated[str, Path(max_length=100)]) -> TableItem:
    """Whose a published table is: its item and its source; both null where no job published it."""
    return submitter.ledger.table_names.published_as(table.removeprefix("vector."))


@router.get("/api/db/messages")
def messages(
    request: Request,
    submitter: TheSubmitter,
    limit: Limit = 100,
    state: MessageState | None = None,
    source: Annotated[str | None, Query(max_length=200)] = None,
    error_code: Code = None,
    before: datetime | None = None,
) -> MessagePage:
    """Messages as they arrived, without their bodies."""
    found = submitter.messages.list(state=state, source=source, error_code=error_code, before=before, limit=limit)
    return MessagePage(
        messages=found,
        next=next_page(request, before=found[-1].received_at.isoformat()) if len(found) == limit else None,
    )


@router.get("/api/db/errors")
def errors(
    request: Request,
    submitter: TheSubmitter,
    limit: Limit = 100,
    job_id: JobIdPath | None = None,
    code: Code = None,
    severity: Severity | None = None,
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> ErrorPage:
    """Everything that went wrong, with reason and remedy."""
    if job_id is not None and len(job_id) < _WHOLE_ID:
        job_id = submitter.jobs.find(job_id).job_id
    found = list(submitter.messages.errors(job_id=job_id, code=code, severity=severity, before=before, limit=limit))
    return ErrorPage(
        errors=found, next=next_page(request, before=str(found[-1].error_id)) if len(found) == limit else None
    )


@router.get("/api/db/stats")
def stats(submitter: TheSubmitter) -> dict[str, dict[str, int]]:
    """Counts: jobs by status, tasks by status, messages by state, errors by code, of the last 24 hours; and poison
    without a record.
    """
    return submitter.statistics()
