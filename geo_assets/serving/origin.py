"""The address under which a client reaches the server.

Here: taking it from the settings or the request, and telling it to the applications below. Not here: whether the Host
may be believed (`web/guard.py`, which looks first).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_KEY = "geo_assets.origin"


def origin_of(scope: Scope) -> str:
    """`https://host/prefix` of the server that answers a request, without a slash at the end."""
    origin: str = scope[_KEY]
    return origin


class AtOrigin:
    """Makes a request look as if it was sent to the public address: every application below then makes its links so.

    What proxies and clients claim in headers (`Forwarded`, `X-Forwarded-…`) is not believed.

    Args:
        app: any ASGI application.
        public_url: the address, if it is not that of the request.
    """

    def __init__(self, app: ASGIApp, public_url: str | None) -> None:
        self._app = app
        self._public = urlsplit(public_url.rstrip("/")) if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            if (
                self._public and scope["path"] == self._public.path != ""
            ):  # from here relative links would lead beside it
                await RedirectResponse(f"{self._public.geturl()}/", 308)(scope, receive, send)
                return
            scope = self._placed(scope)
        await self._app(scope, receive, send)

    def _placed(self, scope: Scope) -> Scope:
        headers = [(k, v) for k, v in scope["headers"] if k != b"forwarded" and not k.startswith(b"x-forwarded")]
        host = next((v for k, v in headers if k == b"host"), b"localhost")
        if self._public is None:
            return {**scope, "headers": headers, "root_path": "", _KEY: f"{scope['scheme']}://{host.decode('latin-1')}"}
        headers = [(k, v) for k, v in headers if k != b"host"] + [(b"host", self._public.netloc.encode())]
        prefix = self._public.path
        path, raw = scope["path"], scope["raw_path"]
        if prefix and not path.startswith(f"{prefix}/"):  # the proxy took it off
            path, raw = prefix + path, prefix.encode() + raw
        return {
            **scope,
            "headers": headers,
            "scheme": self._public.scheme,
            "root_path": prefix,
            "path": path,
            "raw_path": raw,
            _KEY: self._public.geturl(),
        }
