"""Features and vector tiles of the published tables: tipg as the reader, with tables of our own (`rows.py`).

Here: the application, and what it refuses. Not here: which tables there are (`tables.py`), what a request means for one
(`rows.py`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
from fastapi import FastAPI, Query
from fastapi.openapi.utils import get_openapi
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tipg import dependencies, errors, model
from tipg.factory import COMMON_CONFORMS, Endpoints
from tipg.resources.enums import MediaType

from geo_assets import __version__
from geo_assets.serving.answers import BUSY, problem
from geo_assets.serving.filters import fault_of_filter, parsed
from geo_assets.serving.questions import (
    COORDINATES,
    YES_OR_NO,
    ZOOM,
    checked,
    fault_of_path,
    numbers,
    one_of,
    query_of,
    real,
    text,
    whole,
    with_query,
)
from geo_assets.serving.reader import open_reader
from geo_assets.serving.rows import Table, TooLargeError, answered_as, fault_of_time
from geo_assets.serving.schemes import SCHEMES
from geo_assets.serving.tables import Tables
from geo_assets.settings import Settings

_OF_TABLE = re.compile(r"/collections/(?P<table>[^/]+)(?:/items(?P<item>/[^/]+)?)?")

_TITLE = "geo_assets features and vector tiles"

#: Coordinate systems that a client may name; tipg answers in one only.
_CRS = frozenset({"crs", "bbox-crs", "filter-crs"})

#: Formats of answers. tipg has pages too, which load programs from elsewhere: what answers here runs none.
_FORMATS = ("json", "geojson", "csv", "geojsonseq", "ndjson", "schemajson")

#: All that is asked of tables; beside them the columns of each.
_PARAMETERS = {
    "bbox": numbers(6, -1e9, 1e9),
    "bbox-crs": COORDINATES,
    "bbox-only": YES_OR_NO,
    "crs": COORDINATES,
    "datetime": text(100),
    "datetime-column": text(100),
    "f": one_of(*_FORMATS),
    "filter": text(16_000),
    "filter-crs": COORDINATES,
    "filter-lang": one_of("cql2-text", "cql2-json"),
    "geom-column": text(100),
    "ids": text(4000),
    "limit": whole(1, 10_000),
    "maxzoom": ZOOM,
    "minzoom": ZOOM,
    "offset": whole(0, 10**12),
    "properties": text(4000),
    "simplify": real(0, 1e7),
    "sortby": text(1000),
    "type": one_of("Function", "Table"),
}

#: What PostgreSQL says of a filter that does not suit the columns, or of a value.
_OF_FILTERS = (
    asyncpg.AmbiguousFunctionError,
    asyncpg.CannotCoerceError,
    asyncpg.DataError,
    asyncpg.DatatypeMismatchError,
    asyncpg.IndeterminateDatatypeError,
    asyncpg.UndefinedFunctionError,
)

#: What it says where a table is no longer as the catalogue has it.
_OUTDATED = (asyncpg.InvalidCachedStatementError, asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError)

#: Once with the catalogue as it is, and once with what it is now.
_ATTEMPTS = 2

#: Bytes of an answer that are sent, or packed, before others have their turn.
_TURN = 256 * 1024


class _WithFreshTables:
    """Asks for the catalogue before each answer, and refuses what tipg has no answer for."""

    def __init__(self, app: ASGIApp, state: Any) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def in_turns(message: Message) -> None:
            nonlocal started
            started = True
            await _send_in_turns(message, send)

        for attempt in range(_ATTEMPTS):
            try:
                await self._answer(scope, receive, in_turns, now=attempt > 0)
            except (*BUSY, asyncpg.PostgresError) as error:
                if isinstance(error, _OUTDATED) and not started and attempt + 1 < _ATTEMPTS:
                    continue
                told = None if started else _told(error, {name for name, _ in query_of(scope)})
                if told is None:
                    raise
                await told(scope, receive, send)
            return

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, now: bool = False) -> None:
        catalogue = self._state.collection_catalog = await self._state.tables.refresh(now=now)
        path = scope["path"].removeprefix(scope["root_path"])
        found = _OF_TABLE.match(path)
        table = catalogue["collections"].get(found["table"]) if found else None
        given = query_of(scope)
        query, fault = checked(given, _PARAMETERS, {c.name for c in table.properties} if table else ())
        if fault := fault_of_path(path) or fault or _fault(dict(query), table):
            await problem(400, fault)(scope, receive, send)
        elif table and found and found["item"] and table.id_column is None:
            await problem(404, f"the rows of {table.id} have no key")(scope, receive, send)
        else:
            # no table tells an interval of time, so whichever is asked for, all are meant
            left_out = _CRS if table else {*_CRS, "datetime"}
            asked = with_query(_legible(scope), [q for q in query if q[0] not in left_out])
            await _with_empty_csv(self._app, asked, receive, send)


def _legible(scope: Scope) -> Scope:
    """A request without those wishes for formats that tipg fails to read."""

    def kept(wishes: bytes) -> bytes:
        every = [wish.split(b";") for wish in wishes.split(b",")]
        return b",".join(b";".join(w) for w in every if all(part.count(b"=") == 1 for part in w[1:]))

    headers = [(name, kept(value) if name == b"accept" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}


async def _send_in_turns(message: Message, send: Send) -> None:
    """Send a large answer in parts, between which others are answered: packing it takes a second for 50 MB."""
    body = message.get("body", b"")
    if message["type"] != "http.response.body" or len(body) <= _TURN:
        await send(message)
        return
    for start in range(0, len(body), _TURN):
        more = start + _TURN < len(body) or message.get("more_body", False)
        await send({**message, "body": body[start : start + _TURN], "more_body": more})
        await asyncio.sleep(0)


def _told(error: Exception, asked: set[str]) -> Response | None:
    """How a fault of the database is answered; None for one of the server's own."""
    if isinstance(error, BUSY):
        return problem(503, "the database has too much to do")
    if isinstance(error, _OUTDATED):
        return problem(503, "the table is being replaced")
    by_client = isinstance(error, _OF_FILTERS) or (
        isinstance(error, asyncpg.InternalServerError) and bool({"filter", "bbox"} & asked)
    )
    if not by_client:
        return None
    said = str(error.args[0]) if error.args else "it has no meaning"
    return problem(400, f"what is asked does not suit the columns: {said}; their types are told by queryables")


def _fault(query: dict[str, str], table: Table | None) -> str | None:
    columns = {c.name for c in table.properties} if table else None
    if "filter" in query and (fault := fault_of_filter(query["filter"], query.get("filter-lang"), columns)):
        return fault
    if "ids" in query and table is not None and table.id_column is None:
        return f"the rows of {table.id} have no key, so there are no ids"
    if any(query.get(name, "OGC:CRS84") not in {"OGC:CRS84", "EPSG:4326"} for name in _CRS):
        return "features are asked for and answered in OGC:CRS84"
    if fault := query.get("datetime") and fault_of_time(query["datetime"]):
        return fault
    return _fault_of_box(query["bbox"], table) if query.get("bbox") else None


def _fault_of_box(given: str, table: Table | None) -> str | None:
    try:
        sides = [float(side) for side in given.split(",")]
    except ValueError:  # in brackets
        sides = []
    half = len(sides) // 2
    if len(sides) not in {4, 6} or sides[1] > sides[half + 1]:
        return "bbox is west,south,east,north, or with heights west,south,low,east,north,high, with south <= north"
    if any(abs(side) > 180 for side in (sides[0], sides[half])) or any(
        abs(s) > 90 for s in (sides[1], sides[half + 1])
    ):
        return "bbox is in degrees: -180 to 180 for west and east, -90 to 90 for south and north"
    if table is None and sides[0] > sides[half]:
        return "collections are found by a bbox with west <= east; ask for each side of 180 degrees"
    return None


async def _with_empty_csv(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let tipg answer; where it finds no row for a CSV, it fails after the beginning of its answer."""
    held: list[Message] = []

    async def after_start(message: Message) -> None:
        headers = dict(message.get("headers", ()))
        if message["type"] == "http.response.start" and headers.get(b"content-type", b"").startswith(b"text/csv"):
            held.append(message)
            return
        while held:
            await send(held.pop())
        await send(message)

    try:
        await app(scope, receive, after_start)
    except (RuntimeError, ExceptionGroup):
        if not held:
            raise
        await send(held.pop())
        await send({"type": "http.response.body", "body": b""})


class _Endpoints(Endpoints):  # type: ignore[misc]
    """Those of tipg, without the pages."""

    def _conformance_route(self) -> None:
        @self.router.get(  # type: ignore[untyped-decorator]
            "/conformance", response_model=model.Conformance, tags=["OGC Common"]
        )
        def conformance() -> Any:
            """What of the OGC's standards is kept."""
            classes = [*COMMON_CONFORMS, *self.conforms_to]
            return {"conformsTo": [each for each in classes if not each.endswith("/conf/html")]}

    def _landing_route(self) -> None:
        @self.router.get(  # type: ignore[untyped-decorator]
            "/", response_model=model.Landing, response_model_exclude_none=True, tags=["OGC Common"]
        )
        def landing(request: Request) -> Any:
            """Where everything is."""
            here = [
                ("self", MediaType.json, self.url_for(request, "landing")),
                ("service-desc", MediaType.openapi30_json, str(request.url_for("openapi"))),
                ("conformance", MediaType.json, self.url_for(request, "conformance")),
            ]
            links = [model.Link(href=href, rel=rel, type=kind) for rel, kind, href in here]
            return model.Landing(title=self.title, links=[*links, *self.links(request)])


def _filter(
    query: Annotated[str | None, Query(alias="filter")] = None,
    language: Annotated[str | None, Query(alias="filter-lang")] = None,
) -> Any:
    return None if query is None else parsed(query, language)


def _noting(output_type: Callable[[Request, str | None], MediaType | None]) -> Callable[..., Awaitable[Any]]:
    """Note in which format a request is answered."""

    async def noting(request: Request, f: str | None = None) -> MediaType | None:
        found = output_type(request, f)
        answered_as.set(found or MediaType.geojson)
        return found

    return noting


def _refusing(status: int) -> Callable[[Request, Exception], Response]:
    def answer(_: Request, error: Exception) -> Response:
        if isinstance(error, ValidationError):
            return problem(status, "; ".join(fault["msg"] for fault in error.errors()))
        return problem(status, str(error) or "the table has no geometry, so there are no tiles of it")

    return answer


def _described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The description of the API without the pages."""

    def describe() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].get("200", {}).get("content", {}).pop("text/html", None)
                    for parameter in operation.get("parameters", ()):
                        for kind in parameter["schema"].get("anyOf", ()):
                            kind.get("enum", []).count("html") and kind["enum"].remove("html")
            app.openapi_schema = schema
        return app.openapi_schema

    return describe


def features_app(settings: Settings) -> FastAPI:
    """The application, to be served below /features."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = await open_reader(settings)
        app.state.tables = Tables(app.state.pool)
        yield
        await app.state.tables.close()
        await app.state.pool.close()

    app = FastAPI(
        title=_TITLE,
        version=__version__,
        openapi_url="/api",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(_Endpoints(title=_TITLE, with_tiles_viewer=False, supported_tms=SCHEMES).router)
    app.openapi = _described(app)  # type: ignore[method-assign]
    app.dependency_overrides[dependencies.filter_query] = _filter
    app.dependency_overrides[dependencies.ItemsOutputType] = _noting(dependencies.ItemsOutputType)
    for kind, status in errors.DEFAULT_STATUS_CODES.items():
        if issubclass(kind, errors.TiPgError):
            app.add_exception_handler(kind, _refusing(404 if kind is errors.MissingGeometryColumn else status))
    app.add_exception_handler(TooLargeError, _refusing(413))
    app.add_exception_handler(ValueError, _refusing(400))
    app.add_middleware(_WithFreshTables, state=app.state)
    return app
