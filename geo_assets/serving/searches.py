"""Searches of the STAC API: which are passed on to the library.

Here: the parameters of a search in the address or in the body, its size, its filter. Not here: what is found
(`stac.py`).
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geo_assets.serving.answers import problem
from geo_assets.serving.filters import fault_of_filter, is_deeper
from geo_assets.serving.questions import (
    COORDINATES,
    DEEPEST_JSON,
    checked,
    fault_of_path,
    numbers,
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

_PARAMETERS = {
    "bbox": numbers(6),
    "collections": text(_LONGEST),
    "datetime": text(100),
    "fields": text(4000),
    "filter": text(_LONGEST),
    "filter-crs": COORDINATES,
    "filter-lang": one_of("cql2-text", "cql2-json"),
    "ids": text(_LONGEST),
    "intersects": structure(_LONGEST),
    "limit": whole(1, 10**9),
    "offset": whole(0, 10**9),
    "q": text(500),
    "query": structure(_LONGEST),
    "sortby": text(1000),
    "token": text(1000),
}


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
        query, fault = checked(given, _PARAMETERS)
        asked = dict(query)
        fault = fault_of_path(scope["path"].removeprefix(scope["root_path"])) or fault
        if fault is None and "filter" in asked:
            fault = fault_of_filter(asked["filter"], asked.get("filter-lang"))
        if fault:
            await problem(400, fault, remedy="see the API's description: api")(scope, receive, send)
            return
        query = [(n, str(min(_MOST_ITEMS, int(v))) if n == "limit" else v) for n, v in query]
        scope = with_query(scope, query) if query != given else scope
        if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            await problem(413, f"a search has at most {_MOST_BYTES} bytes")(scope, receive, send)
            return
        body, fault = _checked_body(body)
        if fault:
            await problem(400, fault)(scope, receive, send)
            return
        headers = [(k, str(len(body)).encode() if k == b"content-length" else v) for k, v in scope["headers"]]
        await self._app({**scope, "headers": headers}, _once(body, receive), send)


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
        asked: Any = json.loads(body) if body else {}
        if not isinstance(asked, dict):
            return body, "a search is a JSON object"
        if is_deeper(asked, DEEPEST_JSON):
            return body, f"a search has at most {DEEPEST_JSON} levels"
    except RecursionError:
        return body, f"a search has at most {DEEPEST_JSON} levels"
    except ValueError as error:
        return body, f"the body is not JSON: {error}"[:200]
    if asked.get("filter") and (fault := fault_of_filter(asked["filter"], asked.get("filter-lang"))):
        return body, fault
    if not isinstance(asked.get("limit"), int) or asked["limit"] <= _MOST_ITEMS:
        return body, None
    return json.dumps({**asked, "limit": _MOST_ITEMS}).encode(), None


def _once(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
