"""What the STAC API finds, and that no answer of it tells where this machine has its files."""

import pytest

pytest.importorskip("tipg")

from geo_assets.stac.pgstac import load_items
from geo_assets_tests.serving.ingested import COLLECTION
from geo_assets_tests.serving.test_doors import at
from geo_assets_tests.stac.test_collections import box_item

#: From 170° east over 180° to 170° west.
ACROSS = "170,-20,-170,-10"


@pytest.fixture(scope="module")
def client(ingested):
    with at(ingested.settings) as client:
        yield client


@pytest.fixture(scope="module")
def ocean(ingested):
    """A collection with items on both sides of 180° and elsewhere."""
    boxes = {"west-of-it": (175, 176), "east-of-it": (-175, -174), "far": (5, 6), "near": (168, 169)}
    items = [box_item(name, "ocean", west, -16, east, -15) for name, (west, east) in boxes.items()]
    load_items(ingested.settings, "ocean", items, guard=lambda conn: None, record=lambda conn: None)
    return "ocean"


def ids(answer):
    assert answer.status_code == 200, answer.text
    return {feature["id"] for feature in answer.json()["features"]}


@pytest.mark.parametrize("bbox", [ACROSS, "170,-20,0,-170,-10,9"])
def test_a_box_across_180_degrees_finds_what_lies_in_it(client, ocean, bbox):
    expected = {"west-of-it", "east-of-it"}
    assert ids(client.get("/stac/search", params={"collections": ocean, "bbox": bbox})) == expected
    assert ids(client.get(f"/stac/collections/{ocean}/items", params={"bbox": bbox})) == expected
    numbers = [float(x) for x in bbox.split(",")]
    assert ids(client.post("/stac/search", json={"collections": [ocean], "bbox": numbers})) == expected
    assert ids(client.get("/stac/search", params={"collections": ocean, "bbox": "4,-20,7,-10"})) == {"far"}


def test_a_box_across_180_degrees_is_read_page_by_page(client, ocean):
    found, address = [], f"/stac/search?collections={ocean}&bbox={ACROSS}&limit=1"
    while address and len(found) < 5:
        page = client.get(address).json()
        found += [feature["id"] for feature in page["features"]]
        address = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    assert sorted(found) == ["east-of-it", "west-of-it"]


def test_a_box_across_180_degrees_finds_no_collection_elsewhere(client, ocean):
    found = client.get("/stac/collections", params={"bbox": ACROSS}).json()["collections"]
    assert COLLECTION not in {collection["id"] for collection in found}
    assert ocean in {collection["id"] for collection in found}


def test_features_and_pictures_refuse_a_box_whose_west_is_east_of_its_east(client, ingested):
    collection, identity = ingested.item_of("dem_west.tif")
    tables = [table["id"] for table in client.get("/features/collections").json()["collections"]]
    items = next(f"/features/collections/{table}/items" for table in tables if "places" in table)
    for path in (
        f"{items}?bbox={ACROSS}",
        f"{items}?bbox=170,-20,0,-170,-10,9",
        f"{items}?bbox=5,51,6,50",
        f"/tiles/collections/{collection}/items/{identity}/bbox/{ACROSS}.png",
        f"/tiles/collections/{COLLECTION}/bbox/{ACROSS}/64x64.png?assets=data",
    ):
        answer = client.get(path)
        assert answer.status_code == 400, path
        assert "west" in answer.json()["detail"]
    assert client.get(f"{items}?bbox=5,50,10,51").status_code == 200


@pytest.mark.parametrize("fields", ["", "id,assets", "-links", "+assets", "id,links,assets"])
def test_whichever_fields_are_asked_for_no_answer_names_a_file_of_this_machine(client, ingested, fields):
    wanted = {"fields": fields} if fields else {}
    for path in ("/stac/collections", "/stac/search", f"/stac/collections/{COLLECTION}/items"):
        answer = client.get(path, params=wanted)
        assert answer.status_code == 200
        assert "file:/" not in answer.text
        assert str(ingested.settings.home) not in answer.text
    found = client.get("/stac/collections", params=wanted).json()["collections"]
    (served,) = [c for c in found if c["id"] == COLLECTION]
    assert served["assets"]["geoparquet-items"]["href"].startswith("http://127.0.0.1:8080/files/")
