"""A proxy before a store: while a storm lasts, it answers what an overloaded service does; what it has let through is
the store's own.

Here: letting through, refusing, and counting. Not here: what is tested with it.
"""

import http.client
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_PIECE = 1024 * 1024

#: What is of one connection, and not of what goes through it.
_OWN = {"connection", "keep-alive", "transfer-encoding"}


class _Through(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Storms"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.said.append({name.lower(): value for name, value in self.headers.items()})
        storm = self.server.storm
        if storm is not None and storm.hits(self.command, self.path):
            self._answer(storm.status, storm.headers, storm.body)
            return
        host, port = self.server.upstream
        there = http.client.HTTPConnection(host, port, timeout=60)
        try:
            there.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = there.getresponse()
            self._pass_on(answer)
        finally:
            there.close()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - as the library calls them

    def _pass_on(self, answer):
        length = answer.getheader("Content-Length")
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OWN]
        if length is None:
            self._answer(answer.status, dict(headers), answer.read())
            return
        self.send_response_only(answer.status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        while piece := answer.read(_PIECE):
            self.wfile.write(piece)
            self.server.sent(self.path, len(piece))

    def _answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Storm:
    """What is refused, and how; when each refusal was asked for."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str], methods: tuple[str, ...]) -> None:
        self.status, self.body, self.headers, self._methods = status, body, headers, methods
        self.refused: list[float] = []

    def hits(self, method: str, path: str) -> bool:
        if method not in self._methods:
            return False
        self.refused.append(time.monotonic())
        return True


class Storms(ThreadingHTTPServer):
    """A proxy on a free port of loopback."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Through)
        parts = urlsplit(upstream)
        self.upstream = parts.hostname, parts.port
        self.endpoint = f"http://127.0.0.1:{self.server_port}{parts.path}"
        self.storm: Storm | None = None
        #: Called with the path of an answer and the bytes of it that have just been sent; an error cuts the connection.
        self.sent = lambda _path, _bytes: None
        #: The headers of each request.
        self.said: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def begin(
        self,
        status: int = 503,
        code: str = "ServerBusy",
        *,
        methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "HEAD"),
        **headers: str,
    ) -> Storm:
        """Refuse from now on."""
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>Later.</Message></Error>'.encode()
        told = {"Content-Type": "application/xml", **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.storm = Storm(status, body, told, methods)
        return self.storm

    def end(self) -> None:
        """Let everything through again."""
        self.storm = None

    def handle_error(self, *_) -> None:
        """Say nothing: that a client or we have cut a connection is what is tested."""

    def stop(self) -> None:
        """Close it."""
        self.shutdown()
        self.server_close()


@contextmanager
def before(upstream: str):
    """A proxy before a store, for a while."""
    storms = Storms(upstream)
    yield storms
    storms.stop()


def later(seconds: float, do) -> None:
    """Do something in a while."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
