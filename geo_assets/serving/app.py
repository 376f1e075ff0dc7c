"""The server: STAC API, tiles, features, files, the page and the HTTP API's reads, below one address.

Here: which application answers, and what is decided for all of them: hosts and origins, tokens, other origins, what
errors tell. Not here: the applications (a module for each).
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from fastapi import FastAPI
from starlette.requests import Request
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette_cramjam.middleware import CompressionMiddleware

from geo_assets.api.app import create_app
from geo_assets.api.problems import headers_of, status_of
from geo_assets.errors import GeoAssetsError
from geo_assets.serving.answers import Discreet, Unfailing, WithHead, problem
from geo_assets.serving.boxes import OrderedBoxes
from geo_assets.serving.features import features_app
from geo_assets.serving.files import Files
from geo_assets.serving.origin import AtOrigin
from geo_assets.serving.published import Published
from geo_assets.serving.stac import stac_app
from geo_assets.serving.static import Page
from geo_assets.serving.tiles import tiles_app
from geo_assets.settings import Settings
from geo_assets.web.guard import Guard

_log = logging.getLogger(__name__)

#: Paths of the HTTP API besides /api/…. Its page /docs loads programs from elsewhere; `geo-assets api` has it.
_OF_API = frozenset({"/openapi.json", "/livez", "/readyz"})

#: Callers are identified while pictures and files take all the others.
_THREADS = ThreadPoolExecutor(4, thread_name_prefix="callers")

#: Behind a semicolon, and not `name=value`.
_NO_PARAMETER = re.compile(rb";(?!\s*[^=;,]+=[^=;,]*(?:[;,]|$))[^;,]*")

#: How hard answers are packed. At their libraries' own level brotli takes two seconds for a megabyte.
_PACKED = 4

_IMAGES = {"image/png", "image/jpeg", "image/jpg", "image/webp", "image/tiff", "image/jp2"}


def serving_app(settings: Settings, *, require_auth: bool = False) -> ASGIApp:
    """The whole server as one ASGI application.

    Args:
        settings: of the stack.
        require_auth: whether callers must show a token with the scope `read`. The page itself, which holds no data, is
            everybody's.
    """
    published = Published(settings)
    api = create_app(settings, require_auth=require_auth, guarded=False)
    libraries = {
        "/stac": stac_app(settings, published),
        "/tiles": tiles_app(settings, published),
        "/features": features_app(settings),
    }
    services: dict[str, ASGIApp] = {path: _embedded(app) for path, app in libraries.items()}
    services["/tiles"] = OrderedBoxes(services["/tiles"])
    services["/files"] = Files(published)
    guarded = {path: _Authenticated(app, api) for path, app in services.items()}
    house = _House(guarded, api, [api, *libraries.values()])
    hosts = [*settings.allowed_hosts]
    if settings.public_url and (name := urlsplit(settings.public_url).hostname):
        hosts.append(name)
    inside = Guard(AtOrigin(house, settings.public_url), hosts=hosts, probes=("/livez", "/readyz"))
    return CrossOrigin(Unfailing(inside), settings.read_origins)


def _embedded(app: FastAPI) -> ASGIApp:
    packed = CompressionMiddleware(_AsData(Discreet(app)), exclude_mediatype=_IMAGES, compression_level=_PACKED)
    return WithHead(packed)


class _House:
    """Passes each request to the application whose prefix it has."""

    def __init__(self, services: dict[str, Any], api: FastAPI, with_lifespan: Iterable[FastAPI]) -> None:
        self._services = services
        self._api = api
        self._page = Page()
        self._lifespan = Router(lifespan=_together(with_lifespan)).lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "there are no WebSockets here"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        root: str = scope["root_path"]
        path = scope["path"].removeprefix(root)
        prefix = f"/{path[1:].partition('/')[0]}"
        if prefix == "/api" or path in _OF_API:
            await self._ask_api(scope, receive, send)
        elif service := self._services.get(prefix):
            if path == prefix:  # without its slash it has no path of its own
                scope = {**scope, "path": scope["path"] + "/", "raw_path": scope["raw_path"] + b"/"}
            await service({**scope, "root_path": root + prefix}, receive, send)
        else:
            await self._page(scope, receive, send)

    async def _ask_api(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in {"GET", "HEAD"}:
            await WithHead(self._api)(scope, receive, send)
        else:
            remedy = "ask the HTTP API itself: geo-assets api"
            answer = problem(405, "this server changes nothing", remedy=remedy, headers={"Allow": "GET, HEAD"})
            await answer(scope, receive, send)


def _together(apps: Iterable[FastAPI]) -> Any:
    """A lifespan that is that of several applications."""
    every = list(apps)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in every:
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return lifespan


class _Authenticated:
    """Asks for what the HTTP API asks for: a caller who may read."""

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._identify(Request(scope))
        except GeoAssetsError as error:
            status = status_of(error)
            headers = headers_of(status)
            answer = problem(status, error.message, title=error.code, remedy=error.remedy or "", headers=headers)
            await answer(scope, receive, send)
            return
        except psycopg.Error:  # its text may tell statements and names
            _log.exception("the caller of %s could not be identified", scope["path"])
            await problem(503, "the database does not answer", headers={"Retry-After": "5"})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _identify(self, request: Request) -> None:
        authenticate = self._api.state.authenticate
        if "authorization" not in request.headers:  # nothing to look up, so nothing to wait for in a thread
            authenticate(request, "read")
        else:
            await asyncio.get_running_loop().run_in_executor(_THREADS, authenticate, request, "read")


class _AsData:
    """Lets a library answer with data, never with pages of its own: these load programs from elsewhere. What is a page
    nevertheless runs nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"content-security-policy", b"default-src 'none'; sandbox")]
                message = {**message, "headers": [*headers, (b"x-content-type-options", b"nosniff")]}
            await send(message)

        headers = [(k, _accepted(v) if k == b"accept" else v) for k, v in scope["headers"]]
        await self._app({**scope, "headers": headers}, receive, with_policy)


def _accepted(given: bytes) -> bytes:
    """What a client takes, without pages, and without what is no parameter of a type: the libraries fail with it."""
    return b"*/*" if b"text/html" in given else _NO_PARAMETER.sub(b"", given)


class CrossOrigin:
    """Lets pages of other origins read, if they are named in the settings: no cookies, no changes.

    Args:
        app: the guarded server, which refuses pages of any other origin.
        origins: as a browser says them, `https://example.org`; `*` is any.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            send = _for_own_pages(send)
        origin = _origin(scope) if scope["type"] == "http" else None
        if origin is None or not {origin.decode("latin-1"), "*"} & self._origins:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await _allowed(origin)(scope, receive, send)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return

        async def with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_cors(origin)]}
            await send(message)

        told = {b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"}
        headers = [(name, value) for name, value in scope["headers"] if name not in told]
        await self._app({**scope, "headers": headers}, receive, with_origin)


def _for_own_pages(send: Send) -> Send:
    """Tells browsers to give no answer to another page as a picture or a program of it."""

    async def with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            policy = (b"cross-origin-resource-policy", b"same-origin")
            message = {**message, "headers": [*message.get("headers", ()), policy]}
        await send(message)

    return with_policy


def _origin(scope: Scope) -> bytes | None:
    given = [value for name, value in scope["headers"] if name == b"origin"]
    return given[0] if len(given) == 1 else None


def _cors(origin: bytes) -> list[tuple[bytes, bytes]]:
    exposed = b"Accept-Ranges, Content-Length, Content-Range, ETag"
    return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", exposed), (b"vary", b"Origin")]


def _allowed(origin: bytes) -> Any:
    from starlette.responses import Response

    headers = {
        "Access-Control-Allow-Origin": origin.decode("latin-1"),
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Allow-Headers": "Authorization, If-None-Match, Range",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }
    return Response(status_code=204, headers=headers)
