"""The files of the page, and what a browser may do with them.

Here: the policy. Not here: the page itself (`page/`, docs/decisions/0030-a-page-without-a-build.md), who may ask what
(`app.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from geo_assets.serving.answers import problem

PAGE = Path(__file__).with_name("page")

#: Nothing but this server: no script, style, picture or connection of another origin, nothing inline, in no frame.
#: MapLibre shows what it fetched as blob: and its icons as data:.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}

_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{rule} {sources}" for rule, sources in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for again, and answered by the ETag: modules of two releases do not fit
}


class Page(StaticFiles):
    """The page as an ASGI application."""

    def __init__(self) -> None:
        super().__init__(directory=PAGE, html=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. What is no file of the page, or may not be done with one, is told as elsewhere."""
        try:
            await super().__call__(scope, receive, send)
        except HTTPException as error:
            told = "there is nothing at this address" if error.status_code == 404 else error.detail
            await problem(error.status_code, told, headers=error.headers)(scope, receive, send)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """One file, or that it is still the same."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response
