"""A webhook on loopback: a real HTTP server that keeps what is posted and answers as it is told."""

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Posted:
    path: str
    headers: dict[str, str]
    body: dict


class Webhook:
    """A context manager; `answers` are the statuses of the next requests, then 200."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length))
                status = outer.answers.pop(0) if outer.answers else 200
                if status < 300:
                    outer.posted.append(Posted(self.path, dict(self.headers), body))
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "120")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/B0/whoever-knows-this-may-post"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, number: int, seconds: float = 60.0) -> list[Posted]:
        """What was posted, once there are so many."""
        until = time.monotonic() + seconds
        while len(self.posted) < number and time.monotonic() < until:
            time.sleep(0.1)
        return self.posted
