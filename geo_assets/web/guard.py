"""Protection of our servers against other web pages: Host, Origin and content type are checked first.

Every page that is open in the user's browser can reach a server on loopback: by a form or an image (the page cannot
read the answer, but the harm is done), or by a host name of its own that points at 127.0.0.1. Such a page cannot choose
the Host, the Origin or what its browser says in Sec-Fetch-Site, and cannot send JSON without a CORS preflight. Programs
send none of the latter two and are not affected.
Here: ASGI middleware. Not here: tokens (`api/auth.py`), connections that never end (`serve.py`).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geo_assets.errors import GeoAssetsError

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: Most bytes of a request's body; an application that wants less of it stops reading earlier. A place to search by may
#: be some hundred kilobytes of coordinates.
MAX_BODY_BYTES = 1024**2
_TOO_LARGE = f"the body has more than {MAX_BODY_BYTES:,} bytes"

#: What browsers say of requests from pages of other origins (Sec-Fetch-Site); links that are followed are welcome.
_ELSEWHERE = frozenset({"cross-site", "same-site"})

_STATUS = {
    "FOREIGN_HOST": 421, "FOREIGN_ORIGIN": 403, "NOT_JSON": 415, "METHOD_NOT_ALLOWED": 405, "MESSAGE_TOO_LARGE": 413
}  # fmt: skip

#: Close code of a WebSocket that breaks the rules (RFC 6455); before it is accepted, the client sees HTTP 403.
_POLICY_VIOLATION = 1008


class Guard:
    """Lets requests through that may be meant for `app`.

    Args:
        app: any ASGI application.
        hosts: names, beside those of loopback, under which the server is reached. Pages of such a name are trusted
            too.
        probes: paths of health probes, allowed under any address; they accept and reveal nothing.
        graphql: the path of a GraphQL endpoint that would also take operations from a URL; this lets it take them as
            JSON only.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str] = (), probes: Iterable[str] = (), graphql: str | None = None
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._probes = frozenset(probes)
        self._graphql = graphql

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] in {"http", "websocket"}:
            try:
                self._check(scope)
            except GeoAssetsError as error:
                await _refuse(scope, send, error)
                return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        try:
            await self._app(scope, body.receive, send)
        except ClientDisconnect:  # the client left, or was too slow: there is nobody to answer and nothing to report
            return
        except HTTPException:
            if not body.is_too_large:
                raise
            await _refuse(scope, send, GeoAssetsError("MESSAGE_TOO_LARGE", _TOO_LARGE))

    def _check(self, scope: Scope) -> None:
        if scope["type"] == "http" and scope["path"] in self._probes:
            return
        request = HTTPConnection(scope)
        self._check_host(request.headers.getlist("host"))
        self._check_origin(request.headers.getlist("origin"), request.headers["host"])
        self._check_site(request)
        if scope["type"] == "http":
            self._check_form(request, scope["method"])

    def _check_host(self, given: list[str]) -> None:
        if len(given) != 1 or not self._is_ours(given[0]):
            raise GeoAssetsError("FOREIGN_HOST", f"this server is not {', '.join(given)[:200]!r}")

    def _is_ours(self, netloc: str) -> bool:
        name = _name(netloc)
        return name is not None and (is_loopback(name) or name in self._hosts)

    def _check_origin(self, given: list[str], host: str) -> None:
        ours = {_address(host, "http"), _address(host, "https")}
        for origin in given:
            scheme, _, netloc = origin.partition("://")
            if _address(netloc, scheme) not in ours and _name(netloc) not in self._hosts:
                raise GeoAssetsError("FOREIGN_ORIGIN", f"a page of {origin[:200]!r} may not talk to this server")

    def _check_site(self, request: HTTPConnection) -> None:
        """A page's pictures, scripts and frames ask without an Origin, but a browser says that they are of another."""
        if "origin" in request.headers or not _ELSEWHERE & set(request.headers.getlist("sec-fetch-site")):
            return
        how = (request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest", "document"))
        if how != ("navigate", "document"):
            raise GeoAssetsError("FOREIGN_ORIGIN", "another page may not take anything of this server into itself")

    def _check_form(self, request: HTTPConnection, method: str) -> None:
        is_graphql = self._graphql is not None and request.scope["path"] == self._graphql
        if method in _SAFE:
            if is_graphql and "query" in request.query_params:
                raise GeoAssetsError("METHOD_NOT_ALLOWED", "GraphQL is taken by POST as JSON, not from a URL")
            return
        kinds = request.headers.getlist("content-type")
        if not kinds and not is_graphql:  # a page can leave it out, but then it says its Origin
            return
        if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
            raise GeoAssetsError("NOT_JSON", f"the body is {', '.join(kinds)[:200] or 'of no named type'!r}")


class _Body:
    """A body of which no more is received than is allowed: who reads it may do so before it asks who sent it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received = 0

    @property
    def is_too_large(self) -> bool:
        """Whether more came."""
        return self._received > MAX_BODY_BYTES

    async def receive(self) -> Message:
        """Receive the next part.

        Raises:
            HTTPException: 413, which most applications answer themselves.
        """
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self.is_too_large:
            raise HTTPException(413, _TOO_LARGE)
        return message


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address, by its name or number."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(netloc: str) -> str | None:
    """The host of `host:port`, without brackets; None if there is none."""
    try:
        parts = urlsplit(f"//{netloc}")
        plain = "@" not in netloc and parts.netloc == netloc and parts.port != 0
    except ValueError:
        return None
    return parts.hostname if plain else None


def _address(netloc: str, scheme: str) -> tuple[str, int] | None:
    """(host, port) of a netloc; the port of the scheme if it names none."""
    name = _name(netloc)
    return (name, urlsplit(f"//{netloc}").port or (443 if scheme == "https" else 80)) if name else None


async def _refuse(scope: Scope, send: Send, error: GeoAssetsError) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": error.message})
        return
    status = _STATUS[error.code]
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": error.code,
        "status": status,
        "detail": error.message,
        "remedy": error.remedy,
    }
    content = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    headers += [(b"allow", b"POST")] if status == 405 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
