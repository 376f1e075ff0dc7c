"""What the server answers under a public address, to HEAD, and when the database is away."""

import httpx
import psycopg
import pytest

pytest.importorskip("tipg")

from geo_assets_tests.serving.ingested import COLLECTION
from geo_assets_tests.serving.test_doors import PATHS, at

PUBLIC = "https://maps.example.org/geo"


@pytest.fixture(scope="module")
def settings(ingested):
    return ingested.settings


@pytest.fixture(scope="module")
def client(settings):
    with at(settings) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", "/geo"])
def test_the_http_api_and_the_probes_answer_under_the_public_address(settings, prefix):
    proxied = settings.model_copy(update={"public_url": PUBLIC})
    with at(proxied, base="https://maps.example.org") as client:
        for path in ("/api/jobs", "/api/health", "/openapi.json", "/livez", "/readyz"):
            assert client.get(prefix + path).status_code == 200, path
        assert client.get(f"{prefix}/api/jobs", headers={"Origin": "https://maps.example.org"}).status_code == 200
        assert client.get(f"{prefix}/api/jobs", headers={"Host": "evil.example"}).status_code == 421
        assert client.get("/livez", headers={"Host": "10.0.0.7"}).status_code == 200, "probes ask by number"


def test_the_public_address_without_its_slash_leads_to_the_page(settings):
    with at(settings.model_copy(update={"public_url": PUBLIC}), base="https://maps.example.org") as client:
        answer = client.get("/geo", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (308, f"{PUBLIC}/")
        assert "<html" in client.get("/geo").text


def test_what_loopback_claims_of_a_proxy_is_not_believed(ingested):
    answer = httpx.get(f"{ingested.urls['stac']}/collections", headers={"X-Forwarded-Proto": "https"})
    assert answer.status_code == 200
    assert "https://127.0.0.1" not in answer.text


def test_no_page_of_the_http_api_loads_programs_from_elsewhere(client):
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert client.get(path, headers={"Accept": "text/html"}).status_code == 404, path


def test_head_tells_what_get_would_without_the_body(client, ingested):
    collection, identity = ingested.item_of("dem_west.tif")
    picture = f"/tiles/collections/{collection}/items/{identity}/preview.png?max_size=64"
    for path in (*PATHS, picture, "/", "/api/jobs", "/livez", "/openapi.json", "/stac/collections/none"):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"], path


def test_a_fault_of_the_database_while_a_token_is_checked_is_told_as_one(settings):
    with psycopg.connect(settings.dsn("migrator"), autocommit=True) as db, at(settings, require_auth=True) as client:
        db.execute("revoke select on geo.api_tokens from geo_pipeline")
        try:
            for path in (f"/stac/collections/{COLLECTION}", "/files/default/cogs/x.tif", "/api/jobs"):
                answer = client.get(path, headers={"Authorization": "Bearer ga_none"})
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
                assert answer.headers["content-type"] == "application/problem+json"
                assert "api_tokens" not in answer.text
        finally:
            db.execute("grant select on geo.api_tokens to geo_pipeline")
