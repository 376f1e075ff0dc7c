"""Dagster's webserver behind the guard, on the real stack."""

import asyncio
import json
import socket
import time

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from geo_assets.web.serve import MAX_CONNECTIONS
from geo_assets_tests.faults.test_killed_run import connect as connect_database
from geo_assets_tests.waiting import until

SHUTDOWN = 'mutation { shutdownRepositoryLocation(repositoryLocationName: "geo_assets") { __typename } }'
LOGS = """subscription ($id: ID!) { pipelineRunLogs(runId: $id) {
    __typename ... on PipelineRunLogsSubscriptionSuccess { messages { __typename } } } }"""


@pytest.fixture(scope="module")
def exports(cli):
    return cli.exports


@pytest.fixture(scope="module")
def url(exports):
    return exports["GEO_ASSETS_WEBSERVER_URL"]


def ask(url, method="POST", **request):
    return httpx.request(method, f"{url}/graphql", timeout=30, trust_env=False, **request)


def code_server_answers(url):
    return (
        "hello_world"
        in ask(
            url,
            json={"query": "{ repositoriesOrError { ... on RepositoryConnection { nodes { pipelines { name } } } } }"},
        ).text
    )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET", "params": {"query": SHUTDOWN}}, 405),
        ({"method": "GET", "params": {"query": SHUTDOWN}, "headers": {"origin": "https://evil.example"}}, 403),
        (
            {
                "method": "GET",
                "params": {"query": SHUTDOWN},
                "headers": {"host": "evil.example", "origin": "https://evil.example"},
            },
            421,
        ),
        ({"params": {"query": SHUTDOWN}}, 415),
        ({"content": SHUTDOWN, "headers": {"content-type": "application/graphql"}}, 415),
        (
            {"content": json.dumps({"query": SHUTDOWN}), "headers": {"content-type": "text/plain; application/json"}},
            415,
        ),
        ({"data": {"query": SHUTDOWN}}, 415),
        ({"json": {"query": SHUTDOWN}, "headers": {"origin": "https://evil.example"}}, 403),
        ({"json": {"query": SHUTDOWN}, "headers": {"host": "evil.example"}}, 421),
    ],
)
def test_no_page_of_another_site_shuts_the_code_location_down(url, request_, status):
    assert ask(url, **request_).status_code == status
    assert code_server_answers(url)


def test_the_ui_and_its_mutations_work_from_its_own_origin(url):
    page = httpx.get(f"{url}/runs", headers={"accept": "text/html", "origin": url}, trust_env=False)
    assert 'id="__next"' in page.text
    answer = ask(url, json={"query": "mutation { reloadWorkspace { __typename } }"}, headers={"origin": url})
    assert answer.json()["data"]["reloadWorkspace"]["__typename"] == "Workspace"


def test_a_page_is_answered_after_postgresql_has_ended_the_sessions_of_the_webserver(cli, url):
    def page():
        return httpx.get(f"{url}/runs", headers={"accept": "text/html"}, trust_env=False)

    for _ in range(3):
        until(lambda: page().status_code == 200)
        with connect_database(cli) as db:
            idle = """select count(pg_terminate_backend(pid)) from pg_stat_activity
                       where usename = current_user and application_name = '' and state = 'idle'"""
            assert db.execute(idle).fetchone()[0] > 0
        assert page().status_code == 200


def test_a_subscription_gives_the_events_of_a_run_to_our_own_page_alone(cli, url):
    run = cli.json("submit", "hello_world", "--param", "message=subscribed", "--wait")["run_id"]
    answer = asyncio.run(first_answer(url, run, origin=url))
    assert answer["payload"]["data"]["pipelineRunLogs"]["messages"]
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(first_answer(url, run, origin="https://evil.example"))
    assert refused.value.response.status_code == 403


async def first_answer(url, run, origin):
    async with connect(
        f"{url.replace('http', 'ws')}/graphql", origin=origin, subprotocols=["graphql-ws"], max_size=None
    ) as socket_:
        await socket_.send(json.dumps({"type": "connection_init"}))
        await socket_.send(
            json.dumps({"type": "start", "id": "1", "payload": {"query": LOGS, "variables": {"id": run}}})
        )
        while True:
            message = json.loads(await asyncio.wait_for(socket_.recv(), 30))
            if message["type"] in {"data", "error"}:
                return message


@pytest.mark.faults
@pytest.mark.parametrize(
    ("server", "probe"), [("GEO_ASSETS_API_URL", "/livez"), ("GEO_ASSETS_WEBSERVER_URL", "/server_info")]
)
def test_220_slow_bodies_and_idle_connections_do_not_stop_the_stacks_servers(exports, server, probe):
    """As many as uvicorn's limit of connections used to be, and more."""
    port = int(exports[server].rpartition(":")[2])
    head = (
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    held = []
    try:
        for number in range(MAX_CONNECTIONS + 20):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=30))
            held[-1].sendall(head if number % 2 else b"")
        began = time.monotonic()
        assert httpx.get(exports[server] + probe, timeout=10, trust_env=False).status_code == 200
        assert time.monotonic() - began < 5
    finally:
        for client in held:
            client.close()
