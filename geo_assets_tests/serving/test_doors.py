"""Who may ask the server, under which address, and what an answer never tells."""

import json
from contextlib import contextmanager

import httpx
import psycopg
import pytest

pytest.importorskip("tipg")

from fastapi.testclient import TestClient

from geo_assets.accounts import AzureAccount
from geo_assets.serving.app import serving_app
from geo_assets.serving.published import Published
from geo_assets.settings import STACK_ENV_FILE, Settings
from geo_assets_tests.conftest import Cli
from geo_assets_tests.serving.ingested import COLLECTION

CANARY = "Q0FOQVJZazN5TXVzdE5ldmVyTGVhaw=="
PATHS = (
    "/stac/",
    "/stac/collections",
    "/stac/search?limit=5",
    f"/stac/collections/{COLLECTION}/items",
    "/stac/queryables",
    "/stac/api",
    "/tiles/",
    "/tiles/api",
    f"/tiles/collections/{COLLECTION}/WebMercatorQuad/tilejson.json?assets=data",
    "/features/",
    "/features/collections",
    "/features/api",
    "/files/default/cogs/",
)
WRONG = (
    "/stac/search?bbox=a,b,c,d",
    "/stac/search?datetime=yesterday",
    "/stac/search?filter-lang=cql2-text&filter=%27;drop",
    '/stac/search?intersects={"type":"Nothing"}',
    "/stac/search?token=next:none:none",
    "/stac/search?limit=-1",
    "/stac/collections/none/items/none",
    "/stac/collections?limit=a",
    "/tiles/collections/none/items/none/preview.png",
    f"/tiles/collections/{COLLECTION}/items/none/preview.png",
    f"/tiles/collections/{COLLECTION}/tiles/WebMercatorQuad/0/0/0.png?assets=none",
    "/tiles/external/preview.png?url=file:///etc/passwd",
    "/tiles/cog/preview.png?url=http://127.0.0.1:1/x.tif",
    "/tiles/searches/abc/tiles/WebMercatorQuad/0/0/0.png?assets=data",
    "/features/collections/vector.none/items",
    "/features/collections/geo.jobs/items",
    "/features/collections/vector.places/items?filter=1;drop&filter-lang=cql2-text",
    "/features/collections/vector.places/items?bbox=1",
    "/features/collections/vector.places/items?datetime=x",
    "/features/collections/vector.places/tiles/WebMercatorQuad/99/0/0",
    "/features/refresh",
    "/features/rawcatalog",
)


@contextmanager
def at(settings: Settings, *, base="http://127.0.0.1:8080", **options):
    with TestClient(serving_app(settings, **options), base_url=base, raise_server_exceptions=False) as client:
        yield client


def with_account(ingested, name: str, **more) -> Settings:
    """The settings of the stack and an account in Azure with a key."""
    account = AzureAccount(kind="azure", account_name=name, account_key=CANARY)
    with ingested.env:
        return Settings(_env_file=ingested.cli.home / STACK_ENV_FILE, accounts={name: account}, **more)


@pytest.fixture(scope="module")
def settings(ingested):
    return ingested.settings


@pytest.fixture(scope="module")
def client(settings):
    with at(settings) as client:
        yield client


def test_no_secret_of_the_configuration_is_in_any_answer(ingested, settings, caplog):
    with_secret = with_account(ingested, "canary")
    passwords = [settings.credentials(role)[1] for role in ("migrator", "pipeline", "reader")]
    with at(with_secret) as client:
        for path in (*PATHS, *WRONG):
            text = client.get(path).text
            assert not any(secret in text for secret in (CANARY, *passwords)), path
    assert not any(secret in caplog.text for secret in (CANARY, *passwords))


@pytest.mark.parametrize("path", WRONG)
def test_an_error_tells_no_statement_no_trace_and_no_path_of_this_machine(client, settings, path):
    answer = client.get(path)
    assert 400 <= answer.status_code < 600, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    for private in ("Traceback", "site-packages", "SELECT", "select ", str(settings.home), "asyncpg", "psycopg"):
        assert private not in answer.text


def test_a_fault_of_the_database_is_an_error_without_its_words(client, settings):
    with psycopg.connect(settings.dsn("migrator"), autocommit=True) as db:
        db.execute("revoke usage on schema pgstac from pgstac_read")
        try:
            for path in ("/stac/collections", f"/tiles/collections/{COLLECTION}/items/x/preview.png"):
                answer = client.get(path)
                assert answer.status_code >= 400
                assert "permission denied" not in answer.text
                assert "pgstac" not in answer.text
        finally:
            db.execute("grant usage on schema pgstac to pgstac_read")


def test_nothing_is_opened_that_an_item_says_lies_elsewhere(ingested, settings):
    published = Published(with_account(ingested, "survey"))
    inside = f"file://{settings.home}/containers/cogs/a b.tif"
    assert published.opened(inside, None) == (inside.removeprefix("file://"), {})
    there = Published(with_account(ingested, "survey", output_account="survey"))
    azure = "https://survey.blob.core.windows.net/cogs/a%20b.tif"
    assert published.opened(azure, None) is None
    url, options = there.opened(azure, "/vsiaz/cogs/a b.tif")
    assert url == "/vsiaz/cogs/a b.tif"
    assert options["AZURE_STORAGE_ACCESS_KEY"] == CANARY
    for outside in (
        "file:///etc/passwd",
        f"file://{settings.home}/stack.env",
        f"file://{settings.home}/containers/cogs/../../stack.env",
        f"file://{settings.home}/containers/landing/a.tif",
        "/etc/passwd",
        "/vsicurl/http://127.0.0.1/x.tif",
        "http://169.254.169.254/latest",
        "https://survey.blob.core.windows.net.evil.example/cogs/a.tif",
        "https://survey.blob.core.windows.net/cogs/../x.tif",
        "https://survey.blob.core.windows.net/private/a.tif",
        "https://survey.blob.core.windows.net/cogs/a.tif?sig=1",
    ):
        assert published.opened(outside, "/vsiaz/cogs/a.tif") is None, outside
        assert there.opened(outside, "/vsiaz/cogs/a.tif") is None, outside
    assert there.opened(azure, "/vsiaz/private/secrets.tif") is None


def test_beyond_loopback_every_service_asks_for_a_token_that_may_read(ingested, settings):
    reading = ingested.cli.json("token", "create", "serving-reader", "--scope", "read")["token"]
    submitting = ingested.cli.json("token", "create", "serving-submitter", "--scope", "submit")["token"]
    with at(settings, require_auth=True) as client:
        for path in (*PATHS[:-1], "/api/jobs"):
            refused = client.get(path)
            assert refused.status_code == 401, path
            assert refused.headers["www-authenticate"] == "Bearer"
            assert client.get(path, headers={"Authorization": f"Bearer {submitting}"}).status_code == 403
            assert client.get(path, headers={"Authorization": f"Bearer {reading}"}).status_code == 200, path
        assert client.get("/").status_code == 200


@pytest.mark.faults
def test_it_does_not_listen_beyond_loopback_without_a_way_to_authenticate(ingested):
    for name in ("serving-reader", "serving-submitter"):
        ingested.cli.run("token", "revoke", name)
    done = ingested.cli.run("serve", "--host", "0.0.0.0", "--port", "0", timeout=60)
    assert done.returncode != 0
    assert "without authentication" in done.stderr
    assert ingested.cli.run("serve", "--detach", "--host", "0.0.0.0").returncode != 0


def test_nothing_is_changed_through_this_server(client):
    for path, method in (
        ("/stac/collections", "POST"),
        (f"/stac/collections/{COLLECTION}", "DELETE"),
        (f"/api/stac/collections/{COLLECTION}", "DELETE"),
        ("/api/jobs/submit/hello_world", "POST"),
        ("/api/db/schema/redeploy", "POST"),
        ("/tiles/searches/register", "POST"),
    ):
        assert client.request(method, path, json={}).status_code in {404, 405}, path


@pytest.mark.parametrize("path", ["/stac/", "/tiles/", "/features/", "/files/default/cogs/x.tif", "/", "/api/jobs"])
def test_a_foreign_host_or_page_is_refused_by_every_service(client, path):
    assert client.get(path, headers={"Host": "evil.example"}).status_code == 421
    assert client.get(path, headers={"Origin": "https://evil.example"}).status_code == 403


def test_pages_of_named_origins_may_read_and_no_more(settings):
    browser = "https://browser.example"
    with at(settings.model_copy(update={"read_origins": (browser,)})) as client:
        read = client.get("/stac/collections", headers={"Origin": browser})
        assert (read.status_code, read.headers["access-control-allow-origin"]) == (200, browser)
        assert "access-control-allow-credentials" not in read.headers
        asked = client.options("/files/x", headers={"Origin": browser, "Access-Control-Request-Method": "GET"})
        assert asked.status_code == 204
        assert "Range" in asked.headers["access-control-allow-headers"]
        assert client.post("/stac/search", json={}, headers={"Origin": browser}).status_code == 403
        assert client.get("/stac/collections", headers={"Origin": "https://other.example"}).status_code == 403


def test_another_public_address_is_in_every_answer_without_a_command(settings):
    public = "https://maps.example.org/geo"
    with at(settings.model_copy(update={"public_url": public}), base="https://maps.example.org") as client:
        for prefix in ("", "/geo"):  # whether the proxy takes it off or not
            found = client.get(f"{prefix}/stac/search", params={"collections": COLLECTION}).json()
            (asset, *_) = [a["href"] for i in found["features"] for a in i["assets"].values() if "bands" in a]
            assert asset.startswith(f"{public}/files/default/cogs/")
            assert {link["href"].startswith(f"{public}/stac") for link in found["links"]} == {True}
            assert client.get(f"{prefix}/tiles/").json()["preview"].startswith(f"{public}/tiles/")
            tables = client.get(f"{prefix}/features/collections").json()
            assert all(link["href"].startswith(f"{public}/features") for link in tables["links"])
            path = asset.removeprefix(public)
            assert client.get(prefix + path, headers={"Range": "bytes=0-1"}).content == b"II"
        assert client.get("/stac/", headers={"Host": "evil.example"}).status_code == 421


def test_what_a_client_claims_in_forwarding_headers_is_not_believed(client):
    claims = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "X-Forwarded-Proto": "https"}
    for path in PATHS:
        assert "evil.example" not in client.get(path, headers=claims).text


def test_the_services_send_no_page_that_loads_programs_from_elsewhere(client):
    for path in ("/features/", "/features/collections", "/tiles/", "/stac/"):
        answer = client.get(path, headers={"Accept": "text/html,application/xhtml+xml"})
        assert "json" in answer.headers["content-type"], path
    page = client.get("/features/collections?f=html")
    assert page.headers["content-security-policy"] == "default-src 'none'; sandbox"


def test_the_reader_is_all_that_the_services_are_in_the_database(ingested):
    httpx.get(f"{ingested.urls['stac']}/collections")
    with psycopg.connect(ingested.settings.dsn("migrator")) as db:
        rows = db.execute(
            "select distinct usename from pg_stat_activity where application_name = 'geo_assets serve'"
        ).fetchall()
    assert rows == [("geo_reader",)]


@pytest.mark.parametrize("address", ["https://user:secret@maps.example.org", "ftp://h", "https://h/?sig=1"])
def test_a_public_address_with_credentials_is_refused_in_one_line(cli, address):
    with_address = Cli(cli.home, GEO_ASSETS_PUBLIC_URL=address)
    done = with_address.run("serve", "--detach")
    assert done.returncode != 0
    assert "GEO_ASSETS_PUBLIC_URL" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_answers_are_json_documents_that_say_what_went_wrong(client):
    told = client.get("/files/default/cogs/none.tif")
    assert (told.status_code, json.loads(told.text)["title"]) == (404, "Not Found")


def test_a_picture_that_would_take_all_memory_is_refused(client, ingested):
    collection, identity = ingested.item_of("dem_west.tif")
    item = f"/tiles/collections/{collection}/items/{identity}"
    for path in (
        f"{item}/preview/100000x100000.png",
        f"{item}/preview.png?width=100000",
        f"{item}/preview.png?max_size=1e9",
        f"{item}/bbox/8,49,10,51/8192x8192.png",
        f"{item}/tiles/WebMercatorQuad/0/0/0.png?tilesize=9999999999999999999999",
        f"/tiles/collections/{COLLECTION}/bbox/8,49,10,51/5000x10.png",
    ):
        assert client.get(path).status_code == 400, path
    assert client.post(f"{item}/statistics", json={}).status_code == 405
