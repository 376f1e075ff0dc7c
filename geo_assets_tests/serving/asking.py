"""Asks an ASGI application with a path as it is on the wire, which HTTP clients would tidy up first."""

import asyncio
import json
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        return json.loads(self.body)


def ask(app, raw_path: str, *, method: str = "GET", root_path: str = "", **headers: str) -> Answer:
    """`headers` with underscores for hyphens."""
    answer = Answer()
    path, _, query = raw_path.partition("?")
    given = {"host": "127.0.0.1:8080", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 4711),
        "method": method,
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
    }

    sent = False

    async def receive():
        nonlocal sent
        if sent:  # the client stays
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode("latin-1") for k, v in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    asyncio.run(app(scope, receive, send))
    return answer
