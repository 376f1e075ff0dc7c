"""What was published, as STAC, tile and feature clients see it."""

import io
import json
import time

import httpx
import numpy as np
import pytest
import rasterio

pytest.importorskip("tipg")
pytest.importorskip("pystac_client")

import pystac_client

from geo_assets_tests.serving.ingested import COLLECTION

DEM = "dem_west.tif"
ODD = "Blatt 3/Höhe über NN (Süd) 100%#1.tif"


@pytest.fixture(scope="module")
def stac(ingested):
    return pystac_client.Client.open(ingested.urls["stac"])


@pytest.fixture(scope="module")
def dem(ingested, stac):
    collection, identity = ingested.item_of(DEM)
    return stac.get_collection(collection).get_item(identity)


def ids(search):
    return {item.id for item in search.items()}


def asset_of(item):
    ((key, asset),) = [(k, a) for k, a in item.assets.items() if "data" in a.roles]
    return key, asset


def levels(url, **parameters):
    answer = httpx.get(url, params=parameters, timeout=60)
    assert answer.status_code == 200, answer.text
    with rasterio.open(io.BytesIO(answer.content)) as picture:
        grey = picture.read(1)
        return len(np.unique(grey[picture.dataset_mask() > 0]))


def test_a_stac_client_finds_items_by_id_place_time_and_filter(ingested, stac, dem):
    every = {ingested.item_of(name)[1] for name in (DEM, "dem_ost.tif", ODD, "places.geojson")}
    assert ids(stac.search(limit=2)) >= every
    assert ids(stac.search(ids=[dem.id])) == {dem.id}
    west, south, _, north = dem.bbox
    inside = [west + 1e-4, south + 1e-4, west + 2e-4, north - 1e-4]
    assert ids(stac.search(bbox=inside, collections=[COLLECTION])) == {dem.id}
    assert dem.id in ids(stac.search(datetime="2024-05-06/2024-05-07", collections=[COLLECTION]))
    assert ids(stac.search(datetime="2023-01-01/2023-12-31", collections=[COLLECTION])) == set()
    same = {"op": "=", "args": [{"property": "id"}, dem.id]}
    assert ids(stac.search(filter_lang="cql2-json", filter=same)) == {dem.id}
    assert ids(stac.search(filter_lang="cql2-text", filter=f"id = '{dem.id}'", method="GET")) == {dem.id}


def test_what_is_null_is_answered_as_null(ingested, stac):
    collection, identity = ingested.item_of("places.geojson")
    item = httpx.get(f"{ingested.urls['stac']}/collections/{collection}/items/{identity}").json()
    assert "datetime" in item["properties"]
    found = stac.search(ids=[identity], collections=[collection]).item_collection_as_dict()["features"]
    assert found[0]["properties"] == item["properties"]


def test_every_link_of_an_answer_leads_to_this_server(ingested):
    origin = ingested.urls["page"].rstrip("/")
    seen, left = set(), [ingested.urls["stac"]]
    while left and len(seen) < 60:
        url = left.pop()
        if url in seen:
            continue
        seen.add(url)
        answer = httpx.get(url, timeout=60)
        assert answer.status_code == 200, (url, answer.text)
        for href in hrefs(answer.json() if "json" in answer.headers["content-type"] else {}):
            assert not href.startswith("file:"), (url, href)
            if href.startswith("http") and "{" not in href and not href.endswith(("api.html", "/search")):
                assert href.startswith(origin), (url, href)
                if "/stac/" in href:
                    left.append(href)
    assert len(seen) > 10


def hrefs(value):
    if isinstance(value, dict):
        if isinstance(value.get("href"), str) and value.get("method", "GET") == "GET":
            yield value["href"]
        for inner in value.values():
            yield from hrefs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from hrefs(inner)


@pytest.mark.parametrize("name", [DEM, ODD])
def test_a_served_href_is_opened_with_its_pixels_whatever_the_file_is_called(ingested, stac, name):
    collection, identity = ingested.item_of(name)
    _, asset = asset_of(stac.get_collection(collection).get_item(identity))
    assert asset.href.startswith(ingested.urls["files"] + "/default/cogs/")
    with (
        rasterio.open(asset.href) as cog,
        rasterio.open(ingested.cli.home / "containers/to-be-served" / name) as source,
    ):
        np.testing.assert_array_equal(cog.read(), source.read())
    part = httpx.get(asset.href, headers={"Range": "bytes=0-1"})
    assert (part.status_code, part.content) == (206, b"II")


def test_the_thumbnail_is_served(ingested, dem):
    thumbnail = next(a for a in dem.assets.values() if "thumbnail" in a.roles)
    answer = httpx.get(thumbnail.href)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")


def test_an_elevation_model_is_drawn_with_its_contrast_without_limits_from_the_client(ingested, dem):
    key, _ = asset_of(dem)
    item = f"{ingested.urls['tiles']}/collections/{dem.collection_id}/items/{dem.id}"
    assert levels(f"{item}/preview.png", assets=key) > 100
    assert levels(f"{item}/preview.png") > 100  # and without the asset
    assert levels(f"{item}/preview.png", assets=key, rescale="0,100000") < 16  # as the client says


def test_a_mosaic_of_a_collection_is_drawn_with_the_contrast_of_all(ingested, dem):
    collection = f"{ingested.urls['tiles']}/collections/{COLLECTION}"
    west, south, east, north = dem.bbox
    wider = f"{west},{south},{east + (east - west)},{north}"
    assert levels(f"{collection}/bbox/{wider}/512x256.png") > 100
    tilejson = httpx.get(f"{collection}/WebMercatorQuad/tilejson.json", params={"assets": "data"}).json()
    assert tilejson["tiles"][0].startswith(ingested.urls["tiles"])
    box = tilejson["bounds"]
    assert box[0] <= west
    assert box[2] >= east


@pytest.mark.parametrize("description", ["WMTSCapabilities.xml", "WebMercatorQuad/tilejson.json"])
def test_a_description_of_tiles_names_the_raster_that_the_client_leaves_out(ingested, dem, description):
    key, _ = asset_of(dem)
    collection = f"{ingested.urls['tiles']}/collections/{COLLECTION}"
    for base in (collection, f"{collection}/items/{dem.id}"):
        left_out = httpx.get(f"{base}/{description}", timeout=60)
        named = httpx.get(f"{base}/{description}", params={"assets": key}, timeout=60)
        assert left_out.status_code == 200, left_out.text
        assert f"assets={key}" in left_out.text
        assert left_out.text == named.text
    assert httpx.get(f"{collection}/items/none/{description}").status_code == 404


def test_a_tile_of_an_item_is_drawn(ingested, dem):
    tile = next(link.href for link in dem.links if link.rel == "tilejson")
    told = httpx.get(tile).json()
    from morecantile import tms

    west, south, east, north = dem.bbox
    at = tms.get("WebMercatorQuad").tile((west + east) / 2, (south + north) / 2, 13)
    url = told["tiles"][0].format(z=at.z, x=at.x, y=at.y)
    assert url.startswith(ingested.urls["tiles"])
    assert levels(url) > 30


def test_a_table_is_listed_with_its_place_and_its_features_and_tiles_are_answered(ingested, stac):
    collection, identity = ingested.item_of("places.geojson")
    item = stac.get_collection(collection).get_item(identity)
    links = {link.rel: link for link in item.links}
    features = httpx.get(links["items"].href, params={"limit": 100}).json()
    assert len(features["features"]) == 12
    assert links["items"].media_type == "application/geo+json"
    told = httpx.get(links["tilejson"].href).json()
    tile = httpx.get(told["tiles"][0].format(z=0, x=0, y=0))
    assert tile.status_code == 200
    assert len(tile.content) > 100
    listed = httpx.get(f"{ingested.urls['features']}/collections", params={"limit": 1000}).json()["collections"]
    (table,) = [c for c in listed if links["items"].href.endswith(f"{c['id']}/items")]
    np.testing.assert_allclose(table["extent"]["spatial"]["bbox"][0], [8, 50, 9.1, 50], atol=1e-4)


def test_a_table_that_is_published_later_is_listed_within_five_seconds(ingested):
    (ingested.cli.home / "later.geojson").write_bytes(
        (ingested.cli.home / "containers/to-be-served/places.geojson").read_bytes()
    )
    names = lambda: {  # noqa: E731
        c["id"]
        for c in httpx.get(f"{ingested.urls['features']}/collections", params={"limit": 1000}).json()["collections"]
    }
    assert "vector.published_later" not in names()
    done = ingested.cli.run("load", str(ingested.cli.home / "later.geojson"), "--table", "vector.published_later")
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 5
    while "vector.published_later" not in names():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_serve_detached_prints_the_addresses_of_what_the_stack_already_serves(ingested):
    pid = json.loads((ingested.cli.home / "stack.json").read_text())["processes"]["serve"]["pid"]
    assert ingested.cli.json("serve", "--detach") == ingested.urls
    assert ingested.urls.keys() == {"stac", "tiles", "features", "files", "page"}
    assert json.loads((ingested.cli.home / "stack.json").read_text())["processes"]["serve"]["pid"] == pid
    assert ingested.cli.json("up")["page"] == ingested.urls["page"]
    assert httpx.get(ingested.urls["page"]).headers["content-type"].startswith("text/html")
    assert httpx.get(f"{ingested.urls['page']}api/jobs").status_code == 200
