"""How long requests take, by method, route and status: numbers of this process, which no other could tell.

Here: ASGI middleware that measures, and its metric. Not here: metrics of the whole service (`metrics.py`).
"""

from __future__ import annotations

import time
from typing import Any

from prometheus_client import Histogram, disable_created_metrics
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: From a probe to a request that waits for a database that is slow.
_BOUNDS = (0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)

#: Others are told as one: whoever asks may invent any.
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


def durations() -> Histogram:
    """The metric of one application."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # or each series has another one beside it
    return Histogram(
        "http_request_duration_seconds",
        "From a request to the end of its answer, of the process that is scraped. No route: there is none, or refused.",
        ["method", "route", "status"],
        buckets=_BOUNDS,
        registry=None,
    )


class Timed:
    """Measures each request to `app`."""

    def __init__(self, app: ASGIApp, *, into: Histogram) -> None:
        self._app, self._into = app, into

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; a request that ends without an answer counts as 500."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            taken = time.perf_counter() - started
            self._into.labels(_method(scope), _route(scope), str(status)).observe(taken)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _route(scope: Scope) -> str:
    """The route's path with the names of its parameters: a path would be a series for each job."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", ""))
