"""Serving an application with uvicorn, to clients that may be slow, silent or many.

uvicorn ends idle connections between two requests, but waits indefinitely for the rest of a request, and answers
everybody 503 once there are `limit_concurrency` connections. Here each request has to arrive within a time limit. If
too many clients have not sent their whole request, the connection of the one that has kept us waiting longest is
closed, so that there is always room for a client with a complete request. uvicorn also accepts headers of any length;
here they have a limit, and so have WebSockets, which are counted separately.
Here: uvicorn's protocol with a clock. Not here: who may come in (`guard.py`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from geo_assets.errors import GeoAssetsError

#: From a connection, or the end of the last answer, to the last byte of a request. Requests are small: a submission has
#: 64 KiB at most.
REQUEST_SECONDS = 20.0

#: For a client that stops reading its answer.
_WRITE_SECONDS = 30.0

#: For answers and WebSockets that are open when we are told to stop; uvicorn would wait indefinitely.
_STOP_SECONDS = 3

#: A browser keeps six; these are for a proxy and many people. Each costs a file handle and some kilobytes.
MAX_CONNECTIONS = 200

#: Pages of Dagster that follow something, each one. They stay open for as long as the page, so they must not take the
#: others' room.
MAX_WEBSOCKETS = 50

#: Of request line and headers, or trailers; what h11 allows, uvicorn's other parser. A browser sends one or two KiB.
MAX_HEAD_BYTES = 64 * 1024

#: What a header counts besides its text, as in HTTP/2 (RFC 9113, 6.5.2): empty ones cost memory as well.
_HEADER_BYTES = 32

#: The head is measured after each so many bytes.
_FEED_BYTES = 16 * 1024


def _only(status: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


_TOO_SLOW = _only(b"408 Request Timeout")
_TOO_LARGE = _only(b"431 Request Header Fields Too Large")
_TOO_MANY = _only(b"503 Service Unavailable")


def refuse_taken(host: str, port: int) -> None:
    """Raise unless a server can listen at this address: uvicorn would say so late, and only in its log.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does
                probe.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"port {port} of {host} is taken" if taken else f"nothing can listen at {host}:{port}: {error.strerror}",
            remedy="name another port: --port 0 takes a free one" if taken else "name an address of this machine",
        ) from error


def serve(app: ASGIApp, host: str, port: int, **options: Any) -> None:
    """Serve until told to stop; `options` are uvicorn's."""
    # what uvicorn says is written as the process writes everything
    options = {"timeout_graceful_shutdown": _STOP_SECONDS, "log_config": None, **options}
    uvicorn.run(app, host=host, port=port, log_level="warning", http=ImpatientProtocol, **options)


class ImpatientProtocol(HttpToolsProtocol):
    """One connection; the clock runs whenever it is the client's turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting_since: float | None = None
        self._head_bytes = 0
        self._clock: asyncio.TimerHandle | None = None
        self._write_clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected; if there are too many, another is disconnected."""
        super().connection_made(transport)
        self._wait_for_client()
        clients = [c for c in self.connections if isinstance(c, ImpatientProtocol)]  # the others are WebSockets
        if len(clients) > MAX_CONNECTIONS:
            waiting = [c for c in clients if c.waiting_since is not None]
            min(waiting, key=lambda c: c.waiting_since or 0).send_away()  # at least ourselves

    def connection_lost(self, exc: Exception | None) -> None:
        """The client disconnected."""
        self._stop_clocks()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request: whatever is no body and ends no head is kept, and counted."""
        for start in range(0, len(data), _FEED_BYTES):
            part = data[start : start + _FEED_BYTES]
            self._head_bytes += len(part)
            super().data_received(part)
            if self.transport.is_closing() or self.transport.get_protocol() is not self:
                break
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_TOO_LARGE)
                break

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or trailer is complete."""
        self._head_bytes += _HEADER_BYTES
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The guard counts these bytes."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete: now it is our turn, unless it was answered before its end."""
        self._head_bytes = 0
        self._stop_clocks()
        super().on_message_complete()
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_client()

    def on_response_complete(self) -> None:
        """The answer is on its way; `cycle` is the newest request, and another may be at work."""
        super().on_response_complete()
        if self.cycle.response_complete and self.waiting_since is None and not self.transport.is_closing():
            self._wait_for_client()

    def handle_websocket_upgrade(self) -> None:
        """From here on uvicorn's pings detect clients that have gone."""
        self._stop_clocks()
        if sum(not isinstance(c, ImpatientProtocol) for c in self.connections) >= MAX_WEBSOCKETS:
            self._refuse(_TOO_MANY)
        else:
            super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """The client does not read what we send."""
        super().pause_writing()
        self._write_clock = self.loop.call_later(_WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._write_clock:
            self._write_clock.cancel()

    def send_away(self) -> None:
        """Close the connection; send the reason if nothing else was sent."""
        self._stop_clocks()
        if self.transport.is_closing():
            return
        if self.cycle is None or not (self.cycle.response_started or self.cycle.response_complete):
            self.transport.write(_TOO_SLOW)
        self.transport.close()

    def _refuse(self, answer: bytes) -> None:
        """End the connection with an answer, unless that of an earlier request is still to come."""
        self._stop_clocks()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(answer)
        self.transport.close()

    def _wait_for_client(self) -> None:
        self._stop_clocks()
        self.waiting_since = self.loop.time()
        self._clock = self.loop.call_later(REQUEST_SECONDS, self.send_away)

    def _stop_clocks(self) -> None:
        self.waiting_since = None
        for clock in (self._clock, self._write_clock):
            if clock:
                clock.cancel()
