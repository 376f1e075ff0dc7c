"""The interactive page of the API: all that it loads is here."""

import re
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient

from geo_assets.api.app import create_app

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def api(settings):
    with TestClient(create_app(settings), base_url=HERE) as client:
        yield client


def test_the_page_of_the_api_loads_nothing_from_another_host(api):
    page = api.get("/docs")
    assert page.status_code == 200
    addresses = re.findall(r"""(?:src|href|url)\W+["']([^"']+)["']""", page.text)
    assert len(addresses) >= 4
    for address in addresses:
        full = urljoin(f"{HERE}/docs", address)
        assert full.startswith(f"{HERE}/"), full
        assert api.get(full).status_code == 200, full
    loaded = set(re.findall(r"https?://[^\s\"'<>]+", page.text))
    assert loaded == set()
    assert "SwaggerUIBundle" in api.get("/docs/files/swagger-ui-bundle.js").text
    assert "@import" not in (css := api.get("/docs/files/swagger-ui.css").text)
    assert not re.search(r"url\(\W?(?:https?:)?//", css)


def test_no_other_page_of_the_api_is_offered_that_would(api):
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert api.get(path).status_code == 404, path


def test_who_asks_for_what_is_not_there_is_led_to_the_page(api):
    assert "/docs" in api.get("/").json()["remedy"]
