"""Dependencies of routes: the submitter, the settings, the caller's scope; and the types of parameters that several
routes have.

Here: dependencies and parameters. Not here: routes, how a token becomes scopes (`auth.py`).
"""

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from pydantic import BeforeValidator

from geo_assets.api.auth import Caller
from geo_assets.errors import GeoAssetsError, known_code
from geo_assets.faults import did_you_mean
from geo_assets.settings import Settings
from geo_assets.submissions.submit import Submitter

#: What the paths of the routes begin with that programs call; probes and metrics lie outside.
API = "/api/"

Limit = Annotated[int, Query(ge=1, le=1000, description="rows of one page")]
JobIdPath = Annotated[
    str, Path(min_length=6, max_length=64, pattern=r"^[0-9a-f]+$", description="a job's id, or its first characters")
]
#: A filter by error code. A retry accepts only the codes with which tasks of that job ended (`retries.py`).
AnyCode = Annotated[str | None, Query(max_length=64, pattern=r"^[A-Z_]+$")]
Code = Annotated[AnyCode, BeforeValidator(known_code)]


def _submitter(request: Request) -> Submitter:
    submitter: Submitter = request.app.state.submitter
    return submitter


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


TheSubmitter = Annotated[Submitter, Depends(_submitter)]
TheSettings = Annotated[Settings, Depends(_settings)]


def scope(name: str) -> Any:
    """The dependency of a route that only callers with this scope may use."""

    def check(request: Request) -> Caller:
        caller: Caller = request.app.state.authenticate(request, name)
        return caller

    return Depends(check)


def refuse_nul(request: Request) -> None:
    """Refuse NUL, which PostgreSQL's text cannot hold and no name of ours has, and name the parameter."""
    given = [*request.path_params.items(), *request.query_params.multi_items()]
    for name, value in given:
        if "\0" in f"{name}{value}":
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{ascii(name)[1:-1]}: must not contain NUL", remedy="leave the NUL out"
            )


def refuse_unknown(request: Request) -> None:
    """Refuse a query parameter that a route of the API does not have: misspelt, it would be no parameter at all."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute) or not route.path.startswith(API):
        return
    fields = get_flat_params(route.dependant)
    known = [field.alias for field in fields if isinstance(field.field_info, params.Query)]
    for name in request.query_params:
        if name not in known:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"there is no query parameter {name[:60]!a} here{did_you_mean(name, known)}",
                remedy=f"there are: {', '.join(known)}" if known else "leave it out",
            )


def next_page(request: Request, **changes: str) -> str:
    """The URL of the same request with these query parameters changed."""
    return str(request.url.include_query_params(**changes))
