"""Errors of the server as problem details, and what no answer may tell.

Here: the shape of errors, and an ASGI wrapper that takes statements, traces and paths of this machine out of the errors
of the libraries that answer. Not here: errors of the HTTP API (`api/problems.py`).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

import asyncpg
import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

_MEDIA_TYPE = "application/problem+json"

_OWN_FAULT = "the server could not answer; its log says why"
_OTHERS = "the server has too much to do; ask again, for less if the question is large"

#: No connection was free in time, the role has as many as it may have, or a question took the database too long.
BUSY = (
    *(TimeoutError, PoolTimeout),
    *(asyncpg.TooManyConnectionsError, psycopg.errors.TooManyConnections),
    *(asyncpg.QueryCanceledError, psycopg.errors.QueryCanceled),
)

#: Longest text of an error that a library may tell.
_LONGEST = 600

#: A path of this machine, with or without its scheme; and what names the database.
_PRIVATE = re.compile(r"(?:file:/|/vsi)[^\s'\"]*|(?<![\w:/.])/(?:[\w.@%+-]+/)+[^\s'\"]*|postgres(?:ql)?://[^\s'\"]*")

#: What pydantic says of a fault to programmers.
_OF_PYDANTIC = re.compile(
    r"\s*(?:\[type=.*?\](?=\s|$)|For further information visit \S+)|Value error, |\d+ validation errors? for \w+\s*"
)

_TITLES = {
    400: "Bad Request",
    503: "Service Unavailable",
    404: "Not Found",
    410: "Gone",
    405: "Method Not Allowed",
    416: "Range Not Satisfiable",
}


def problem(
    status: int, detail: str, *, title: str | None = None, remedy: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """An error as RFC 9457 problem details."""
    body = {"type": "about:blank", "title": title or _TITLES.get(status, "Error"), "status": status, "detail": detail}
    if remedy:
        body["remedy"] = remedy
    return Response(json.dumps(body), status_code=status, media_type=_MEDIA_TYPE, headers=dict(headers or {}))


def _later() -> Response:
    return problem(503, _OTHERS, headers={"Retry-After": "5"})


class WithHead:
    """Answers HEAD as GET without the body, for applications that know GET alone (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


class Unfailing:
    """Answers what an application fails to answer: by 503 what it had no time for, else by 500, with the reason in the
    log.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            raise
        except BUSY as error:
            if started:
                raise
            _log.warning("%s %s was not answered in time: %r", scope["method"], scope["path"], error)
            await _later()(scope, receive, send)
        except Exception:
            if started:
                raise
            _log.exception("%s %s failed", scope["method"], scope["path"])
            await problem(500, _OWN_FAULT)(scope, receive, send)


class Discreet:
    """Lets the answers of an application through, but replaces its errors: of the server's own faults nothing is told,
    of the client's what is no path, address or statement. The log keeps all of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        held: list[Message] = []

        async def watch(message: Message) -> None:
            if (message["type"] == "http.response.start" and message["status"] >= 400) or held:
                held.append(message)
            else:
                await send(message)

        await self._app(scope, receive, watch)
        if held:
            await _told(held)(scope, receive, send)


def _told(held: list[Message]) -> Response:
    status: int = held[0]["status"]
    if status == 503:
        return _later()
    if status >= 500:
        return problem(status, _OWN_FAULT)
    kept = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in held[0]["headers"]
        if name.lower() in {b"allow", b"retry-after", b"www-authenticate"}
    }
    try:
        content: Any = json.loads(b"".join(message.get("body", b"") for message in held[1:]))
    except ValueError:
        return problem(status, "the request could not be answered", headers=kept)
    remedy = content.get("remedy") if isinstance(content, dict) else None
    return problem(status, _text(content), remedy=remedy or "", headers=kept)


def _text(content: Any) -> str:
    told = content.get("detail") or content.get("description") or content if isinstance(content, dict) else content
    if isinstance(told, list):  # of a request that a schema refuses
        told = "; ".join(
            f"{'.'.join(str(part) for part in fault.get('loc', ()))}: {fault.get('msg', '')}"
            for fault in told
            if isinstance(fault, dict)
        )
    text = told if isinstance(told, str) else json.dumps(told)
    return _PRIVATE.sub("…", _OF_PYDANTIC.sub("", text))[:_LONGEST]
