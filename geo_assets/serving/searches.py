"""Searches of the STAC API: which are passed on to the library.

Here: the parameters of a search in the address or in the body, its size, its filter. Not here: what is found
(`stac.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
from geojson_pydantic.geometries import Geometry
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geo_assets.serving.answers import problem
from geo_assets.serving.boxes import BOX, flat
from geo_assets.serving.filters import fault_of_filter, is_deeper
from geo_assets.serving.questions import (
    COORDINATES,
    DEEPEST_JSON,
    Parameter,
    checked,
    fault_of_path,
    has_nul,
    matching,
    one_of,
    query_of,
    structure,
    text,
    whole,
    with_query,
)

#: Items of one page: each is completed with what its collection says of all, while others wait. More are not refused,
#: as the STAC API has it.
_MOST_ITEMS = 1000

#: Bytes of a body; a search with the outline of a country has some thousands.
_MOST_BYTES = 1_000_000

_LONGEST = 16_000

#: One form after the other would say why it is not this one.
_GEOMETRY: TypeAdapter[Geometry] = TypeAdapter(Geometry)


def _geometry(content: Any) -> bool:
    try:
        _GEOMETRY.validate_python(content)
    except ValidationError:
        return False
    return True


def _geometry_text(given: str) -> str | None:
    read = structure(_LONGEST).read(given)
    return read if read and _geometry(orjson.loads(read)) else None


_PARAMETERS = {
    "bbox": BOX,
    "collections": text(_LONGEST),
    "datetime": text(100),
    "fields": matching(r"(?:[^,]+(?:,[^,]+)*)?", "names with commas between them", 4000),
    "filter": text(_LONGEST),
    "filter-crs": COORDINATES,
    "filter-lang": one_of("cql2-text", "cql2-json"),
    "ids": text(_LONGEST),
    "intersects": Parameter(_geometry_text, "a geometry in GeoJSON"),
    "limit": whole(1, 10**9),
    "offset": whole(0, 10**9),
    "q": text(500),
    "query": structure(_LONGEST),
    "sortby": text(1000),
    "token": text(1000),
}

#: What each route takes; the library leaves out without a word what is for another one.
_OF_ITEMS = _PARAMETERS.keys() - {"collections", "ids", "intersects", "offset", "q"}
_SEARCH = re.compile(r"/search/?")
_ROUTES = (
    (_SEARCH, _PARAMETERS.keys() - {"offset", "q"}),
    (re.compile(r"/collections/?"), _PARAMETERS.keys() - {"collections", "ids", "intersects", "token"}),
    (re.compile(r"/collections/[^/]+/items/?"), _OF_ITEMS),
)

#: Of the body of a search: its keys, and what is looked at before the library does.
_KEYS = (_PARAMETERS.keys() - {"offset", "q"}) | {"conf"}
_FITS: dict[str, Callable[[Any], bool]] = {
    "bbox": lambda given: flat(given) is not None,
    "intersects": _geometry,
    "limit": lambda given: _PARAMETERS["limit"].read(str(given)) is not None,
}

_REMEDY = "see the API's description: api"


class Searches:
    """Refuses searches that would keep all others waiting, and passes on the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = query_of(scope)
        path = scope["path"].removeprefix(scope["root_path"])
        if _SEARCH.fullmatch(path) and scope["method"] not in {"GET", "POST"}:  # of two routes the library names one
            refusal = problem(405, "a search is asked for by GET or POST", headers={"Allow": "GET, HEAD, POST"})
            await refusal(scope, receive, send)
            return
        with_body = scope["method"] == "POST" and _SEARCH.fullmatch(path) is not None
        query, fault = checked(given, {} if with_body else _parameters_of(path))
        asked = dict(query)
        fault = fault_of_path(path) or fault
        if fault is None and "filter" in asked:
            fault = fault_of_filter(asked["filter"], asked.get("filter-lang"))
        if fault:
            await problem(400, fault, remedy=_REMEDY)(scope, receive, send)
            return
        query = [(n, str(min(_MOST_ITEMS, int(v))) if n == "limit" else v) for n, v in query]
        scope = with_query(scope, query) if query != given else scope
        if not with_body:
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            await problem(413, f"a search has at most {_MOST_BYTES} bytes")(scope, receive, send)
            return
        body, fault = _checked_body(body)
        if fault:
            await problem(400, fault, remedy=_REMEDY)(scope, receive, send)
            return
        kept = [(k, v) for k, v in scope["headers"] if k not in {b"content-length", b"content-type"}]
        told = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        await self._app({**scope, "headers": kept + told}, _once(body, receive), send)


def _parameters_of(path: str) -> dict[str, Parameter]:
    """The parameters of a route; what is no search has none, and of what is no route the application says so."""
    names = next((names for route, names in _ROUTES if route.fullmatch(path)), set())
    return {name: _PARAMETERS[name] for name in names}


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if it is too long."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > _MOST_BYTES:
            return None
        parts.append(part)
        if message["type"] != "http.request" or not message.get("more_body"):
            return b"".join(parts)


def _checked_body(body: bytes) -> tuple[bytes, str | None]:
    """Return the body of a search as the library gets it, and why it is refused, or None."""
    try:
        asked: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return body, f"the body is not JSON: {error}"[:200]
    if fault := _fault_of_search(asked):
        return body, fault
    limit, box = asked.get("limit"), asked.get("bbox")
    if limit is not None:
        asked["limit"] = min(_MOST_ITEMS, int(limit))
    if box is not None:
        asked["bbox"] = flat(box)
    return orjson.dumps(asked), None


def _fault_of_search(asked: Any) -> str | None:
    if not isinstance(asked, dict):
        return "a search is a JSON object"
    if is_deeper(asked, DEEPEST_JSON):
        return f"a search has at most {DEEPEST_JSON} levels"
    if has_nul(asked):
        return "a search has no character 0"
    if others := asked.keys() - _KEYS:
        return f"there is no parameter {min(others)[:60]!r} here"
    for name, fits in _FITS.items():
        if asked.get(name) is not None and not fits(asked[name]):
            return f"{name} is not {_PARAMETERS[name].says}: {str(asked[name])[:60]!r}"
    if asked.get("filter") and (fault := fault_of_filter(asked["filter"], asked.get("filter-lang"))):
        return fault
    return None


def _once(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
