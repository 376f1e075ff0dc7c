"""Clients that never end, or of which there are too many, against the real server in a process of its own."""

import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from geo_assets.local.postgresql import free_port
from geo_assets.local.stack import listens
from geo_assets.web.serve import MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_WEBSOCKETS

pytestmark = pytest.mark.faults

SERVER = """
import sys
from geo_assets.web import serve
from geo_assets.web.guard import Guard

serve.REQUEST_SECONDS = float(sys.argv[2])
serve._WRITE_SECONDS = 1

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    from starlette.requests import Request
    body = await Request(scope, receive).body()
    size = int(scope["query_string"] or 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(size).encode())]})
    for _ in range(0, size, 2**20):
        await send({"type": "http.response.body", "body": bytes(min(size, 2**20)), "more_body": size > 2**20})

serve.serve(Guard(app), "127.0.0.1", int(sys.argv[1]))
"""

WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture
def start():
    with ExitStack() as stack:

        def start(request_seconds):
            port = free_port()
            server = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SERVER, str(port), str(request_seconds)], stderr=subprocess.PIPE
                )
            )
            stack.callback(server.kill)
            deadline = time.monotonic() + 60
            while not listens(port):
                assert server.poll() is None, server.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            return port, server

        yield start


def clients(stack, port, sent, count):
    found = []
    for _ in range(count):
        found.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)))
        found[-1].sendall(sent)
    return found


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: local", HEAD, HEAD + b"{"])
def test_while_220_clients_never_end_what_they_began_a_probe_is_answered(start, sent):
    port, _ = start(60)
    with ExitStack() as stack:
        clients(stack, port, sent, MAX_CONNECTIONS + 20)
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5, trust_env=False).status_code == 200


def test_idle_clients_that_were_answered_once_leave_room_for_others(start):
    port, _ = start(60)
    with ExitStack() as stack:
        for client in clients(stack, port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", MAX_CONNECTIONS + 20):
            client.recv(10)
        assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5, trust_env=False).status_code == 200


def test_a_request_that_drips_in_is_ended_after_its_time_with_408_and_without_a_traceback(start):
    port, server = start(2)
    with ExitStack() as stack:
        (slow,) = clients(stack, port, HEAD, 1)
        slow.settimeout(0.2)
        began, answer = time.monotonic(), b""
        while time.monotonic() - began < 15:
            try:
                slow.sendall(b"{")
                answer = slow.recv(1000)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert 1.5 < time.monotonic() - began < 8
    server.terminate()
    assert b"Traceback" not in server.stderr.read()


def test_a_client_that_is_answered_goes_on_and_one_that_says_nothing_more_is_let_go(start):
    port, _ = start(2)
    with ExitStack() as stack:
        (client,) = clients(stack, port, b"", 1)
        for _ in range(4):
            time.sleep(0.7)
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\n\0\0"):  # head and body may come in two parts
                answer += client.recv(1000)
            assert answer.startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        while client.recv(1000):
            pass
        assert time.monotonic() - began < 8


def test_a_client_that_does_not_take_its_answer_is_let_go(start):
    port, _ = start(60)
    with ExitStack() as stack:
        (client,) = clients(stack, port, b"GET /?1000000000 HTTP/1.1\r\nHost: localhost\r\n\r\n", 1)
        time.sleep(4)
        taken = 0
        with suppress(ConnectionError):
            while part := client.recv(2**20):
                taken += len(part)
        assert taken < 200_000_000


def memory(server):
    status = Path(f"/proc/{server.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


BEGUN = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding:"
    b" chunked\r\n\r\n2\r\n{}\r\n0\r\n"
)


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (BEGUN, b"x: " + b"a" * 1000 + b"\r\n"),
        (BEGUN, b"x:\r\n"),
        (BEGUN + b"x: ", b"a" * 1000),
        (b"GET /", b"a" * 1000),
        (CHUNKED, b"x: " + b"a" * 1000 + b"\r\n"),
        (CHUNKED + b"x: ", b"a" * 1000),
    ],
    ids=["headers", "empty headers", "one header", "a path", "trailers", "one trailer"],
)
def test_a_request_with_a_megabyte_of_headers_is_refused_before_it_is_kept(start, begun, more):
    port, server = start(60)
    with ExitStack() as stack:
        (client,) = clients(stack, port, begun, 1)
        before = memory(server)
        with pytest.raises(ConnectionError):
            client.sendall(more * (60 * 2**20 // len(more)))
        assert memory(server) - before < 10 * 2**20
    assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5, trust_env=False).status_code == 200


def test_headers_of_60_kib_are_taken_and_larger_ones_are_told_so_with_431(start):
    port, _ = start(60)
    url = f"http://127.0.0.1:{port}/"
    for _ in range(2):
        assert httpx.get(url, headers={"host": "localhost", "x": "a" * 60 * 1024}, trust_env=False).status_code == 200
    with ExitStack() as stack:
        once, twice = clients(stack, port, b"", 2)
        twice.sendall(BEGUN + b"\r\n")
        assert twice.recv(1000).startswith(b"HTTP/1.1 200 ")
        for client in (once, twice):
            client.sendall(BEGUN + b"x: " + b"a" * (MAX_HEAD_BYTES - 2000))
            client.sendall(b"a" * 2000)  # read whole: what is left unread at the end would be answered by a reset
            answer = b""
            while part := client.recv(1000):
                answer += part
            assert b"HTTP/1.1 431 " in answer


def test_a_body_of_any_length_in_small_chunks_is_no_head(start):
    port, _ = start(60)
    body = (b"x" * 100 for _ in range(500))
    headers = {"host": "localhost", "content-type": "application/json"}
    assert httpx.post(f"http://127.0.0.1:{port}/", headers=headers, content=body, trust_env=False).status_code == 200


def test_two_hundred_open_websockets_leave_the_probes_answered_at_once(start):
    port, _ = start(60)
    with ExitStack() as stack:
        answers = [client.recv(16) for client in clients(stack, port, WEBSOCKET, MAX_CONNECTIONS)]
        assert answers.count(b"HTTP/1.1 101 Swi") == MAX_WEBSOCKETS
        assert answers.count(b"HTTP/1.1 503 Ser") == MAX_CONNECTIONS - MAX_WEBSOCKETS
        clients(stack, port, b"GET / HTT", MAX_CONNECTIONS - 10)
        for _ in range(5):
            began = time.monotonic()
            assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5, trust_env=False).status_code == 200
            assert time.monotonic() - began < 2
