"""One shape for every error: RFC 9457 problem details.

Here: the mapping of codes to HTTP statuses and the exception handlers. Not here: the codes (`errors.py`).
"""

from __future__ import annotations

import re
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from geo_assets.errors import ERRORS, ErrorClass, GeoAssetsError
from geo_assets.faults import in_words

MEDIA_TYPE = "application/problem+json"

_STATUS = {
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "JOB_NOT_FOUND": 404,
    "MESSAGE_NOT_FOUND": 404,
    "UNKNOWN_JOB_TYPE": 404,
    "COLLECTION_NOT_FOUND": 404,
    "ITEM_NOT_FOUND": 404,
    "COLLECTION_EXISTS": 409,
    "COLLECTION_NOT_EMPTY": 409,
    "CURSOR_TOO_OLD": 410,
    "STILL_AT_WORK": 409,
    "PLAN_CHANGED": 409,
    "MESSAGE_TOO_LARGE": 413,
    "INVALID_JSON": 400,
    "INVALID_ENCODING": 400,
}
_STATUS_OF_CLASS = {
    ErrorClass.INVALID: 422,
    ErrorClass.TRANSIENT: 503,
    ErrorClass.RESOURCE: 503,
    ErrorClass.INTERNAL: 500,
}

#: Seconds after which a client may try again.
_RETRY_AFTER = "5"


#: Commands that list something -> the routes that do.
_ROUTES = {"job-types": "/api/job-types", "jobs": "/api/jobs"}
_COMMAND = re.compile(r"geo-assets (job-types|jobs)(?![\w-])")


class Problem(BaseModel):
    """What went wrong, which of the known ways it is, and what to do."""

    type: str = Field(
        description="URL of the error's description", examples=["http://127.0.0.1:8000/api/errors/INVALID_PARAMETERS"]
    )
    title: str = Field(examples=["INVALID_PARAMETERS"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["hello_world: n: must be at most 1000 (got 5000)"])
    remedy: str = Field(examples=["correct the named parameter"])
    correlation_id: str | None = Field(None, examples=["0b5e7c1e-6f5c-4a43-9d55-1f0d6d3c6f1a"])


def status_of(error: GeoAssetsError) -> int:
    """The HTTP status of an error."""
    return _STATUS.get(error.code, _STATUS_OF_CLASS[error.error_class])


def headers_of(status: int) -> dict[str, str]:
    """What the headers of an error with this status say beside it."""
    return {"Retry-After": _RETRY_AFTER} if status == 503 else {"WWW-Authenticate": "Bearer"} if status == 401 else {}


def problem(
    request: Request, error: GeoAssetsError, *, correlation_id: str | None = None, status: int | None = None
) -> JSONResponse:
    """The response for an error."""
    code = status or status_of(error)
    body = Problem(
        type=str(request.url_for("error_description", code=error.code)),
        title=error.code,
        status=code,
        detail=error.message,
        remedy=_COMMAND.sub(lambda found: f"GET {_ROUTES[found[1]]}", error.remedy),
        correlation_id=correlation_id,
    )
    return JSONResponse(body.model_dump(), status_code=code, media_type=MEDIA_TYPE, headers=headers_of(code))


def install(app: FastAPI, *, routes: str) -> None:
    """Register the handlers: every way in which a request can fail ends in one of them.

    Args:
        app: the application.
        routes: where they are listed.
    """

    @app.exception_handler(GeoAssetsError)
    def _ours(request: Request, error: GeoAssetsError) -> JSONResponse:
        return problem(request, error)

    @app.exception_handler(RequestValidationError)
    def _request(request: Request, error: RequestValidationError) -> JSONResponse:
        # the first part is where it was: in the path, the query, the body
        sentences = [f"{'.'.join(map(str, e['loc'][1:] or e['loc']))}: {in_words(e)}" for e in error.errors()]
        return problem(
            request,
            GeoAssetsError(
                "INVALID_PARAMETERS", "; ".join(sentences)[:1000], remedy="see /openapi.json for what each route takes"
            ),
        )

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = Problem(
            type="about:blank",
            title=str(error.detail),
            status=error.status_code,
            detail=f"{request.method} {request.url.path}: {error.detail}",
            remedy=f"the routes: {routes}",
        )
        return JSONResponse(
            body.model_dump(), status_code=error.status_code, media_type=MEDIA_TYPE, headers=dict(error.headers or {})
        )

    @app.exception_handler(psycopg.DataError)
    def _data(request: Request, error: psycopg.DataError) -> JSONResponse:
        """A value that the database cannot hold comes from a parameter: what is in the database fits in it."""
        sentence = error.diag.message_primary or str(error)
        return problem(
            request,
            GeoAssetsError("INVALID_PARAMETERS", sentence[:300], remedy="see /openapi.json for what each route takes"),
        )

    @app.exception_handler(psycopg.Error)
    @app.exception_handler(PoolTimeout)
    def _database(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - its text may name hosts
        return problem(request, GeoAssetsError("DATABASE_UNAVAILABLE", "the database does not answer"))

    @app.exception_handler(Exception)
    def _unforeseen(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the log has it
        return problem(
            request, GeoAssetsError("INTERNAL", "the request failed for a reason that the server's log tells")
        )


def descriptions() -> dict[str, dict[str, Any]]:
    """Every code with its class and remedy."""
    return {
        code: {"code": code, "error_class": kind.error_class, "remedy": kind.remedy} for code, kind in ERRORS.items()
    }
