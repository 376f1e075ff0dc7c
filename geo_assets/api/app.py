"""The application: its routes, their protection, and its resources.

Here: assembly, in the order in which routes are looked through and documented. Not here: routes (a module for each
subject), what they ask of a request (`dependencies.py`), errors as responses (`problems.py`).
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI

from geo_assets import __version__
from geo_assets.api import (
    database,
    docs,
    jobs,
    ledger,
    metrics,
    probes,
    reconcile,
    reference,
    stac,
    submissions,
    tasks,
    traffic,
)
from geo_assets.api.auth import authenticator
from geo_assets.api.dependencies import refuse_nul, refuse_unknown
from geo_assets.api.problems import MEDIA_TYPE, Problem, install
from geo_assets.settings import Settings
from geo_assets.submissions.submit import Submitter
from geo_assets.web.guard import Guard

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {MEDIA_TYPE: {}}} for status in (400, 401, 403, 404, 405, 409, 413, 422, 503)
}


class _Application(FastAPI):
    """FastAPI, with the parameters of each job type in its OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        """The document, made at its first use."""
        if not self.openapi_schema:
            super().openapi()["components"]["schemas"].update(submissions.parameter_schemas())
        return self.openapi_schema or {}


def create_app(settings: Settings, *, require_auth: bool = False, guarded: bool = True) -> FastAPI:
    """The application.

    Args:
        settings: of the stack.
        require_auth: whether callers must show a token.
        guarded: whether it looks itself at hosts and origins; false where a server around it has done so.
    """
    durations = traffic.durations()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with (
            Submitter(settings, in_background=True, connections=8) as submitter,
            metrics.registry_of(settings, submitter.ledger.connections, durations) as registry,
        ):
            app.state.submitter, app.state.metrics = submitter, registry
            app.state.authenticate = authenticator(settings, submitter.tokens, required=require_auth)
            yield

    app = _Application(
        title="geo_assets",
        version=__version__,
        lifespan=lifespan,
        responses=_PROBLEMS,
        description="A container of geospatial files becomes COGs, STAC items and PostGIS tables.",
        dependencies=[Depends(refuse_nul), Depends(refuse_unknown)],
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    install(app, routes=f"{docs.PATH}, or /openapi.json" if guarded else "/openapi.json")
    if guarded:
        app.add_middleware(Guard, hosts=settings.allowed_hosts, probes=("/livez", "/readyz"))
    app.add_middleware(traffic.Timed, into=durations)  # around all others
    for subject in (submissions, jobs, tasks, stac, ledger, reconcile, reference, database, probes, metrics):
        app.include_router(subject.router)
    if guarded:  # a server around it has a page of its own
        docs.add_page(app)
    return app


def openapi(settings: Settings) -> str:
    """The OpenAPI document, without a server."""
    return json.dumps(create_app(settings).openapi(), indent=2)
