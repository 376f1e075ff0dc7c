"""What a web page of somebody else can send to a server on loopback, and what becomes of it."""

import json

import pytest
from fastapi.testclient import TestClient

from geo_assets.api.app import create_app
from geo_assets.settings import Settings
from geo_assets.web.guard import Guard


@pytest.fixture(scope="module")
def api(settings):
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def submit(api, message, **headers):
    body = json.dumps({"n": 1, "message": message})
    return api.post(
        "/api/jobs/submit/hello_world", content=body, headers={"content-type": "application/json", **headers}
    )


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["title"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"]


def messages(api):
    return api.get("/api/db/messages", params={"limit": 1000}).json()["messages"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:9",
        "http://localhost:8000",
        "http://[",
        "",
        "http://127.0.0.1:8000@evil",
    ],
)
def test_a_page_of_another_origin_submits_nothing(api, origin):
    before = len(messages(api))
    refused(submit(api, "origin", origin=origin), 403, "FOREIGN_ORIGIN")
    assert len(messages(api)) == before


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
    ],
)
@pytest.mark.parametrize("origin", [{}, {"origin": "https://evil.example"}])
def test_what_a_form_can_send_submits_nothing(api, kind, origin):
    before = len(messages(api))
    answer = submit(api, "form", **{"content-type": kind}, **origin)
    refused(answer, *((403, "FOREIGN_ORIGIN") if origin else (415, "NOT_JSON")))
    assert len(messages(api)) == before


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "localhost/x",
        "a@localhost",
        "localhost:x",
    ],
)
def test_a_host_that_is_not_ours_gets_nothing_and_is_not_reflected(api, host):
    refused(api.get("/api/jobs", headers={"host": host}), 421, "FOREIGN_HOST")
    assert "evil" not in api.get("/livez", headers={"host": host}).text


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "127.1.2.3", "testserver"]
)
def test_loopback_and_configured_names_are_ours(api, host):
    assert api.get("/api/jobs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_may_come_under_any_address(api, path):
    assert api.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200


def test_our_own_page_and_a_program_submit(api):
    assert submit(api, "program").status_code == 202
    assert submit(api, "page", origin="http://127.0.0.1:8000").status_code == 202
    assert submit(api, "proxy", host="testserver", origin="https://testserver").status_code == 202
    assert submit(api, "charset", **{"content-type": "application/json; charset=utf-8"}).status_code == 202


def test_a_job_is_cancelled_without_a_body_but_not_by_another_page(api):
    job = submit(api, "to cancel").json()["job_id"]
    refused(api.post(f"/api/jobs/{job}/cancel", headers={"origin": "https://evil.example"}), 403, "FOREIGN_ORIGIN")
    assert api.get(f"/api/jobs/status/{job}").json()["status"] == "queued"
    assert api.post(f"/api/jobs/{job}/cancel").json()["status"] == "cancelled"


async def _echo(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def graphql():
    return TestClient(Guard(_echo, hosts=["dagster.example"], graphql="/graphql"), base_url="http://localhost:3000")


def test_graphql_is_taken_by_post_as_json_alone(graphql):
    refused(graphql.get("/graphql", params={"query": "mutation { x }"}), 405, "METHOD_NOT_ALLOWED")
    refused(
        graphql.get("/graphql", params={"query": "{ x }"}, headers={"accept": "text/html"}), 405, "METHOD_NOT_ALLOWED"
    )
    refused(graphql.post("/graphql", params={"query": "mutation { x }"}), 415, "NOT_JSON")
    refused(
        graphql.post("/graphql", content="mutation { x }", headers={"content-type": "application/graphql"}),
        415,
        "NOT_JSON",
    )
    assert graphql.post("/graphql", json={"query": "{ x }"}).status_code == 200
    assert graphql.get("/graphql", headers={"accept": "text/html"}).status_code == 200  # GraphiQL's page


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
def test_a_websocket_of_another_page_is_not_opened(graphql, headers):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect) as closed, graphql.websocket_connect("/graphql", headers=headers):
        pass
    assert closed.value.code == 1008


def test_a_websocket_of_our_own_page_is_opened(graphql):
    for headers in (
        {},
        {"origin": "http://localhost:3000"},
        {"host": "dagster.example", "origin": "https://dagster.example"},
    ):
        with graphql.websocket_connect("/graphql", headers={"host": "localhost:3000", **headers}):
            pass


def test_names_of_hosts_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("GEO_ASSETS_ALLOWED_HOSTS", '["geo.example"]')
    assert Settings().allowed_hosts == ("geo.example",)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_origin_gets_no_picture_script_or_frame(api, site):
    for mode, kind in (("no-cors", "image"), ("no-cors", "script"), ("navigate", "iframe"), ("no-cors", "empty")):
        told = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
        refused(api.get("/api/jobs", headers=told), 403, "FOREIGN_ORIGIN")
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert api.get("/api/jobs", headers=link).status_code == 200
    for own in ("same-origin", "none"):
        assert api.get("/api/jobs", headers={"Sec-Fetch-Site": own, "Sec-Fetch-Mode": "cors"}).status_code == 200
