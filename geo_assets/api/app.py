"""The application: routes, and what each takes and gives.

Here: HTTP. Not here: what a submission means (`submissions/`), statements (`ledger/`), errors as responses
(`problems.py`).
"""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, Field

from geo_assets import __version__
from geo_assets.api import health
from geo_assets.api.auth import Caller, authenticator
from geo_assets.api.problems import MEDIA_TYPE, Problem, descriptions, install, problem
from geo_assets.errors import GeoAssetsError, known_code
from geo_assets.ledger.messages import MAX_MESSAGE_BYTES, ErrorRecord, MessageRecord, RawMessage
from geo_assets.ledger.models import JobRecord, JobStatus, TaskRecord
from geo_assets.parameters import JOB_TYPES
from geo_assets.settings import Settings
from geo_assets.stages.accounting import ListedFile, Role, listed_files
from geo_assets.stages.planning import Plan, insist_on_plan, make_plan
from geo_assets.submissions.boundary import handle
from geo_assets.submissions.messages import Message, read_parameters_of
from geo_assets.submissions.submit import Submitter
from geo_assets.web.guard import Guard

Limit = Annotated[int, Query(ge=1, le=1000, description="rows of one page")]
JobIdPath = Annotated[
    str, Path(min_length=6, max_length=64, pattern=r"^[0-9a-f]+$", description="a job's id, or its first characters")
]
#: A filter by error code. Of a retry it is only one of the codes with which tasks of that job ended (`retries.py`).
AnyCode = Annotated[str | None, Query(max_length=64, pattern=r"^[A-Z_]+$")]
Code = Annotated[AnyCode, BeforeValidator(known_code)]

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}} for status in (400, 401, 403, 404, 405, 409, 413, 422, 503)
}

_BODY_EXAMPLES = {
    "hello_world": {"value": {"n": 3, "message": "hello"}},
    "ingest_container": {
        "value": {"container": "landing", "prefix": "2026/", "include": ["*.tif"], "target_crs": "EPSG:3857"}
    },
    "list_container": {"value": {"container": "landing"}},
    "stac_setup": {"value": {}},
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}, "examples": _BODY_EXAMPLES}},
    }
}


class Accepted(BaseModel):
    """The answer to a submission."""

    job_id: str = Field(examples=["3fc93e279c53…"])
    status: JobStatus
    status_url: str
    correlation_id: str
    duplicate: bool = Field(description="the same request was known already")


class JobPage(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobRecord]
    next: str | None = Field(description="URL of the next page")


class FilePage(BaseModel):
    """A page of files."""

    files: list[ListedFile]
    next: str | None = None


class TaskPage(BaseModel):
    """A page of tasks."""

    tasks: list[TaskRecord]
    next: str | None


class MessagePage(BaseModel):
    """A page of messages, newest first."""

    messages: list[MessageRecord]
    next: str | None


class ErrorPage(BaseModel):
    """A page of error records, newest first."""

    errors: list[ErrorRecord]
    next: str | None


class Redeploy(BaseModel):
    """The confirmation that a schema may be dropped and made anew."""

    confirm: str = Field(description="the name of the database", examples=["geo_assets"])


def create_app(settings: Settings, *, require_auth: bool = False) -> FastAPI:  # noqa: C901, PLR0915 - one function a route, nothing else
    """The application.

    Args:
        settings: of the stack.
        require_auth: whether callers must show a token.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with Submitter(settings, connections=8) as submitter:
            app.state.submitter = submitter
            app.state.authenticate = authenticator(settings, submitter.tokens, required=require_auth)
            yield

    app = FastAPI(
        title="geo_assets",
        version=__version__,
        lifespan=lifespan,
        responses=_PROBLEMS,
        description="A container of geospatial files becomes COGs, STAC items and PostGIS tables.",
        dependencies=[Depends(_no_nul)],
    )
    install(app)
    app.add_middleware(Guard, hosts=settings.allowed_hosts, probes=("/livez", "/readyz"))

    def the_submitter(request: Request) -> Submitter:
        submitter: Submitter = request.app.state.submitter
        return submitter

    def scope(name: str) -> Any:
        def check(request: Request) -> Caller:
            caller: Caller = request.app.state.authenticate(request, name)
            return caller

        return Depends(check)

    S = Annotated[Submitter, Depends(the_submitter)]  # noqa: N806 - a type

    @app.post(
        "/api/jobs/submit/{job_type}",
        status_code=202,
        tags=["jobs"],
        dependencies=[scope("submit")],
        openapi_extra=_BODY,
    )
    async def submit(
        request: Request,
        submitter: S,
        job_type: str,
        force: Annotated[bool, Query(description="redo what is done already")] = False,
        allow_mass_retire: Annotated[
            bool, Query(description="with deleted=retire: take back also more than max_retire_percent")
        ] = False,
        plan_hash: Annotated[
            str | None, Query(max_length=64, description="refuse unless the plan is still the one of this hash")
        ] = None,
    ) -> Accepted:
        """Submit a job; the body is its parameters. The same request is the same job."""
        raw = await _raw_message(request, job_type)

        def read(body: bytes) -> Message:
            parameters = read_parameters_of(job_type, body)
            if plan_hash:
                insist_on_plan(settings, submitter.tasks, parameters, plan_hash)
            return Message.model_construct(
                job_type=job_type,
                parameters=parameters,
                job_id=None,
                correlation_id=None,
                force=force,
                allow_mass_retire=allow_mass_retire,
            )

        outcome = await run_in_threadpool(handle, submitter, raw, read)
        if outcome.error or outcome.submitted is None:
            error = outcome.error or GeoAssetsError("INTERNAL", "the submission was not recorded")
            return problem(request, error, correlation_id=raw.correlation_id)  # type: ignore[return-value]
        s = outcome.submitted
        url = str(request.url_for("job_status", job_id=s.job_id))
        return Accepted(
            job_id=s.job_id, status=s.status, status_url=url, correlation_id=raw.correlation_id, duplicate=s.duplicate
        )

    @app.post("/api/jobs/plan/{job_type}", tags=["jobs"], dependencies=[scope("read")], openapi_extra=_BODY)
    async def plan(request: Request, submitter: S, job_type: str) -> Plan:
        """What a submission would do now, without doing it."""
        raw = await _raw_message(request)
        return await run_in_threadpool(
            lambda: make_plan(settings, submitter.tasks, read_parameters_of(job_type, raw.body))
        )

    @app.get("/api/jobs/status/{job_id}", tags=["jobs"], dependencies=[scope("read")], name="job_status")
    def job_status(submitter: S, job_id: JobIdPath) -> JobRecord:
        """One job: its status and the account of each stage."""
        return submitter.jobs.find(job_id)

    @app.post("/api/jobs/{job_id}/cancel", status_code=202, tags=["jobs"], dependencies=[scope("submit")])
    def cancel(submitter: S, job_id: JobIdPath) -> JobRecord:
        """End a job; nothing of it is half published."""
        found = submitter.jobs.find(job_id)
        submitter.cancel(found.job_id)
        return submitter.jobs.find(found.job_id)

    @app.post("/api/jobs/{job_id}/retry", status_code=202, tags=["jobs"], dependencies=[scope("submit")])
    def retry(
        submitter: S,
        job_id: JobIdPath,
        only: Annotated[list[str] | None, Query(description="failed, quarantined")] = None,
        error_code: AnyCode = None,
    ) -> JobRecord:
        """Run a job again that has ended; what is done stays."""
        found = submitter.jobs.find(job_id)
        submitter.retry(found.job_id, requested_by="api", only=only or (), error_code=error_code)
        return submitter.jobs.find(found.job_id)

    @app.get("/api/jobs", tags=["jobs"], dependencies=[scope("read")])
    @app.get("/api/db/jobs", tags=["ledger"], dependencies=[scope("read")])
    def jobs(
        request: Request,
        submitter: S,
        limit: Limit = 50,
        status: JobStatus | None = None,
        job_type: Annotated[str | None, Query(max_length=64)] = None,
        before: datetime | None = None,
    ) -> JobPage:
        """Jobs, newest first."""
        found = submitter.jobs.newest(limit=limit, status=status, job_type=job_type, before=before)
        return JobPage(
            jobs=found, next=_next(request, before=found[-1].created_at.isoformat()) if len(found) == limit else None
        )

    @app.get("/api/db/tasks/{job_id}", tags=["ledger"], dependencies=[scope("read")])
    def tasks(
        request: Request,
        submitter: S,
        job_id: JobIdPath,
        limit: Limit = 100,
        stage: Annotated[str | None, Query(max_length=64)] = None,
        status: Annotated[list[str] | None, Query()] = None,
        after_stage: str = "",
        after: str = "",
    ) -> TaskPage:
        """Tasks of a job, in (stage, key) order."""
        job = submitter.jobs.find(job_id)
        found = submitter.tasks.records(
            job.job_id, stage=stage, statuses=status or (), after=(after_stage, after), limit=limit
        )
        more = _next(request, after_stage=found[-1].stage, after=found[-1].task_key) if len(found) == limit else None
        return TaskPage(tasks=found, next=more)

    @app.get("/api/db/files/{job_id}", tags=["ledger"], dependencies=[scope("read")])
    def files(
        request: Request,
        submitter: S,
        job_id: JobIdPath,
        limit: Limit = 100,
        role: Annotated[Role | None, Query()] = None,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> FilePage:
        """Every blob that the job's newest listing found: a source, a part of one, a companion, or left
        alone, and why.
        """
        job = submitter.jobs.find(job_id)
        wanted = (file for file in listed_files(submitter.inventory, job) if role is None or file.role is role)
        found = list(islice(wanted, offset, offset + limit))
        return FilePage(files=found, next=_next(request, offset=str(offset + limit)) if len(found) == limit else None)

    @app.get("/api/db/messages", tags=["ledger"], dependencies=[scope("read")])
    def messages(
        request: Request,
        submitter: S,
        limit: Limit = 100,
        state: Annotated[str | None, Query(max_length=16)] = None,
        source: Annotated[str | None, Query(max_length=200)] = None,
        error_code: Code = None,
        before: datetime | None = None,
    ) -> MessagePage:
        """Messages as they arrived, without their bodies."""
        found = submitter.messages.list(state=state, source=source, error_code=error_code, before=before, limit=limit)
        return MessagePage(
            messages=found,
            next=_next(request, before=found[-1].received_at.isoformat()) if len(found) == limit else None,
        )

    @app.get("/api/db/errors", tags=["ledger"], dependencies=[scope("read")])
    def errors(
        request: Request,
        submitter: S,
        limit: Limit = 100,
        job_id: JobIdPath | None = None,
        code: Code = None,
        severity: Annotated[str | None, Query(max_length=16)] = None,
        before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    ) -> ErrorPage:
        """Everything that went wrong, with reason and remedy."""
        found = list(submitter.messages.errors(job_id=job_id, code=code, severity=severity, before=before, limit=limit))
        return ErrorPage(
            errors=found, next=_next(request, before=str(found[-1].error_id)) if len(found) == limit else None
        )

    @app.get("/api/db/stats", tags=["ledger"], dependencies=[scope("read")])
    def stats(submitter: S) -> dict[str, dict[str, int]]:
        """Counts: jobs by status, tasks by status, messages by state, errors by code, of the last 24 hours; and poison
        without a record.
        """
        return submitter.statistics()

    @app.get("/api/job-types", tags=["jobs"])
    def job_types() -> dict[str, Any]:
        """The job types and the JSON schema of their parameters."""
        return {name: model.model_json_schema() for name, model in JOB_TYPES.items()}

    @app.get("/api/errors/{code}", tags=["errors"], name="error_description")
    def error_description(request: Request, code: str) -> dict[str, str]:
        """What an error code means and what to do."""
        try:
            known_code(code)
        except GeoAssetsError as error:
            return problem(request, error, status=404)  # type: ignore[return-value]
        return descriptions()[code]

    @app.get("/api/errors", tags=["errors"])
    def error_descriptions() -> list[dict[str, str]]:
        """All error codes."""
        return list(descriptions().values())

    @app.post("/api/db/schema/redeploy", tags=["admin"], dependencies=[scope("admin")])
    def redeploy(body: Redeploy) -> dict[str, list[str]]:
        """Drop the ledger and the published tables, and make the schema anew. Refused unless it is enabled."""
        from geo_assets.database.migrate import redeploy as run

        if not settings.allow_schema_redeploy:
            raise GeoAssetsError(
                "FORBIDDEN",
                "redeploying the schema is not enabled",
                remedy="set GEO_ASSETS_ALLOW_SCHEMA_REDEPLOY=true where that is meant",
            )
        if body.confirm != settings.pg_database:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                "confirm must be the name of the database",
                remedy="read it again: every job and table is lost",
            )
        return {"applied": run(settings)}

    @app.get("/livez", tags=["health"])
    async def livez() -> dict[str, str]:
        """Whether this process answers; it looks at nothing else."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    def readyz(submitter: S) -> JSONResponse:
        """Whether submissions can be taken: the database answers and is migrated."""
        report = health.readiness(settings, submitter)
        return JSONResponse(report, status_code=200 if report["status"] == "ready" else 503)

    @app.get("/api/health", tags=["health"])
    def api_health(submitter: S) -> JSONResponse:
        """Each component and its latency; 503 when a critical one is away."""
        report = health.report(settings, submitter)
        return JSONResponse(report, status_code=200 if report["status"] != "critical" else 503)

    return app


def _no_nul(request: Request) -> None:
    """PostgreSQL has no NUL in its text, and no name of ours has one: whoever sends it is told which
    parameter it is.
    """
    given = [*request.path_params.items(), *request.query_params.multi_items()]
    for name, value in given:
        if "\0" in f"{name}{value}":
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{ascii(name)[1:-1]}: must not contain NUL", remedy="leave the NUL out"
            )


async def _raw_message(request: Request, job_type: str | None = None) -> RawMessage:
    """The body, read no further than one byte beyond the limit; a longer one is recorded as such."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_MESSAGE_BYTES:
            break
    declared = request.headers.get("content-length", "")
    size = max(len(body), int(declared) if declared.isdigit() and len(declared) < 15 else 0)
    given = request.headers.get("x-correlation-id", "")
    correlation = given if 0 < len(given) <= 128 and given.isascii() and given.isprintable() else str(uuid.uuid4())
    return RawMessage(
        source="http",
        source_id=str(uuid.uuid4()),
        body=bytes(body),
        size_bytes=size,
        correlation_id=correlation,
        job_type=job_type,
    )


def _next(request: Request, **changes: str) -> str:
    return str(request.url.include_query_params(**changes))


def openapi(settings: Settings) -> str:
    """The OpenAPI document, without a server."""
    return json.dumps(create_app(settings).openapi(), indent=2)
