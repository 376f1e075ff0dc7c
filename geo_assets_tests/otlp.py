"""A collector of OpenTelemetry on loopback: a real HTTP server that keeps the spans that are sent to it, and a
context of W3C's Trace Context that a caller of ours may bring along.
"""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: A `traceparent`: version, trace id, span id, sampled. The specification's own example.
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector:
    """A context manager; `spans` are what has arrived."""

    def __init__(self) -> None:
        self.spans: list = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                asked = ExportTraceServiceRequest.FromString(body)
                outer.spans += [s for r in asked.resource_spans for scope in r.scope_spans for s in scope.spans]
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trace(self, trace_id: str, *names: str, seconds: float = 60.0) -> list:
        """The spans of a trace, once those with these names are there."""
        until = time.monotonic() + seconds
        while True:
            found = [span for span in self.spans if span.trace_id.hex() == trace_id]
            if set(names) <= {span.name for span in found} or time.monotonic() > until:
                return found
            time.sleep(0.1)


def attribute(span, name: str) -> str | None:
    return next((a.value.string_value for a in span.attributes if a.key == name), None)
