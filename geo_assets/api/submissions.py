"""Routes that take the parameters of a job: to submit it, or to see what it would do.

Here: a body and its headers as a message. Not here: what a submission means (`geo_assets/submissions/`), jobs that are
known (`jobs.py`).
"""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from geo_assets.api.dependencies import TheSettings, TheSubmitter, scope
from geo_assets.api.problems import problem
from geo_assets.correlation import CORRELATION_HEADER, Trace
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.messages import HTTP, MAX_MESSAGE_BYTES, RawMessage
from geo_assets.ledger.models import JobStatus
from geo_assets.parameters import JOB_TYPES
from geo_assets.stages.planning import Plan, insist_on_plan, make_plan
from geo_assets.submissions.boundary import handle
from geo_assets.submissions.messages import Message, read_parameters_of

router = APIRouter(tags=["jobs"])

_EXAMPLES: dict[str, dict[str, Any]] = {
    "hello_world": {"n": 3, "message": "hello"},
    "ingest_container": {
        "container": "landing",
        "prefix": "2026/",
        "include": ["*.tif"],
        "target_crs": "EPSG:3857",
    },
    "stage_raster": {"container": "landing", "profile": "web"},
    "stage_vector": {"container": "landing", "where": "population > 1000"},
    "list_container": {"container": "landing"},
    "stac_setup": {},
}


def _schema_name(job_type: str) -> str:
    """The name of the schema of a job type's parameters, which no other has."""
    return "".join(word.capitalize() for word in job_type.split("_"))


#: For the OpenAPI document alone: a body is read by `read_parameters_of`, which has errors of its own.
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [{"$ref": f"#/components/schemas/{_schema_name(t)}"} for t in JOB_TYPES]},
                "examples": {job_type: {"value": body} for job_type, body in _EXAMPLES.items()},
            }
        },
    }
}

JobType = Annotated[
    str,
    Path(
        description="decides which parameters the body takes: the schema with this title",
        json_schema_extra={"enum": list(JOB_TYPES)},
    ),
]


def parameter_schemas() -> dict[str, dict[str, Any]]:
    """The schemas that the bodies refer to, by name, as components of the OpenAPI document."""
    return {
        _schema_name(job_type): {
            **model.model_json_schema(),
            "title": job_type,
            "description": f"{model.summary}. Parameters of {job_type}.",
        }
        for job_type, model in JOB_TYPES.items()
    }


class Accepted(BaseModel):
    """The answer to a submission."""

    job_id: str = Field(examples=["3fc93e279c53…"])
    status: JobStatus
    status_url: str
    correlation_id: str
    duplicate: bool = Field(description="the same request was submitted before")


@router.post("/api/jobs/submit/{job_type}", status_code=202, dependencies=[scope("submit")], openapi_extra=_BODY)
async def submit(
    request: Request,
    submitter: TheSubmitter,
    settings: TheSettings,
    job_type: JobType,
    force: Annotated[bool, Query(description="redo finished work too")] = False,
    allow_mass_retire: Annotated[
        bool, Query(description="with deleted=retire: withdraw even more than max_retire_percent")
    ] = False,
    plan_hash: Annotated[
        str | None, Query(max_length=64, description="submit only if the plan still has this hash")
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
            traceparent=None,
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


@router.post("/api/jobs/plan/{job_type}", response_model=Plan, dependencies=[scope("read")], openapi_extra=_BODY)
async def plan(
    request: Request, submitter: TheSubmitter, settings: TheSettings, job_type: JobType
) -> StreamingResponse:
    """Show what a submission would do now, without doing it. The answer is whole before it begins, and is streamed."""
    raw = await _raw_message(request)
    made = await run_in_threadpool(lambda: make_plan(settings, submitter.tasks, read_parameters_of(job_type, raw.body)))
    return StreamingResponse(made.document(), media_type="application/json")


async def _raw_message(request: Request, job_type: str | None = None) -> RawMessage:
    """The body, read no further than one byte beyond the limit; a longer one is recorded as such."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_MESSAGE_BYTES:
            break
    declared = request.headers.get("content-length", "")
    size = max(len(body), int(declared) if declared.isdigit() and len(declared) < 15 else 0)
    trace = Trace.of(request.headers.get(CORRELATION_HEADER), request.headers.get("traceparent"))
    return RawMessage(
        source=HTTP,
        source_id=str(uuid.uuid4()),
        body=bytes(body),
        size_bytes=size,
        correlation_id=trace.correlation_id,
        traceparent=trace.traceparent,
        job_type=job_type,
    )
