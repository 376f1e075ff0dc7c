"""What is wrong with an item or collection is found before it is loaded, without a network, and said with its place."""

import copy
import json
import socket
from pathlib import Path

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.stac.collection import new_collection
from geo_assets.stac.validation import validated

ITEMS = {file.stem: json.loads(file.read_text("utf-8")) for file in (Path(__file__).parent / "items").glob("*.json")}
EXTENSIONS = "https://stac-extensions.github.io"

#: An item and a place in it, what is put there, and where the fault is said to be.
FAULTS = [
    ("cog", "/stac_version", "1.0.0", "/stac_version"),
    ("cog", "/bbox", [1, 2, 3], "/bbox"),
    ("cog", "/bbox/0", float("inf"), "/bbox/0"),
    ("cog", "/geometry/coordinates/0/0/0", "east", "/geometry/coordinates/0/0/0"),
    ("cog", "/properties/created", "yesterday", "/properties/created"),
    ("cog", "/properties/end_datetime", None, "/properties/end_datetime"),
    ("cog", "/properties/proj:shape/1", "wide", "/properties/proj:shape/1"),
    ("cog", "/assets/data/href", 3, "/assets/data/href"),
    ("cog", "/assets/data/file:size", -1, "/assets/data/file:size"),
    ("cog", "/assets/data/raster:spatial_resolution", 0, "/assets/data/raster:spatial_resolution"),
    ("cog", "/assets/data/raster:resolution", 1, "/assets/data/raster:resolution"),
    ("cog", "/assets/data/bands/0/raster:scale", "two", "/assets/data/bands/0/raster:scale"),
    ("cog", "/assets/data/bands/0/statistics/mean", float("nan"), "/assets/data/bands/0/statistics/mean"),
    ("cog", "/assets/data/bands/0/statistics/valid_percent", 250, "/assets/data/bands/0/statistics/valid_percent"),
    ("tables", "/assets/places_point/table:row_count", "many", "/assets/places_point/table:row_count"),
    ("tables", "/assets/places_point/table:columns/0", {"type": "text"}, "/assets/places_point/table:columns/0"),
]


def put(document: dict, pointer: str, value) -> dict:
    changed = copy.deepcopy(document)
    *steps, last = [int(step) if step.isdigit() else step for step in pointer.split("/")[1:]]
    place = changed
    for step in steps:
        place = place[step]
    place[last] = value
    return changed


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", ITEMS)
def test_our_items_are_valid(name):
    assert validated(ITEMS[name]) == ITEMS[name]


@pytest.mark.parametrize(("name", "pointer", "value", "place"), FAULTS)
def test_a_fault_is_named_with_its_json_pointer(name, pointer, value, place):
    with pytest.raises(GeoAssetsError) as refused:
        validated(put(ITEMS[name], pointer, value))
    assert refused.value.code == "STAC_INVALID"
    assert refused.value.message.startswith(f"{ITEMS[name]['id']} is not valid at {place}: ")


def test_a_field_with_a_slash_in_its_name_is_escaped_in_the_pointer():
    assets = {"a/b~c": {**ITEMS["cog"]["assets"]["data"], "file:size": -1}}
    with pytest.raises(GeoAssetsError, match="at /assets/a~1b~0c/file:size: "):
        validated({**ITEMS["cog"], "assets": assets})


@pytest.mark.parametrize(
    ("extension", "fields", "place"),
    [
        ("processing/v1.2.0", {"processing:software": {"GDAL": 3}}, "/properties/processing:software/GDAL"),
        ("processing/v1.2.0", {"processing:lineages": "ours"}, "/properties/processing:lineages"),
        (
            "storage/v2.0.0",
            {"storage:schemes": {"az": {"type": "ms-azure", "platform": "https://example.org"}}},
            "/properties/storage:schemes/az/platform",
        ),
    ],
)
def test_an_extension_that_an_item_names_is_checked_and_one_that_it_does_not_name_is_not(extension, fields, place):
    item = {**copy.deepcopy(ITEMS["files"]), "stac_extensions": []}
    item["properties"] |= fields
    validated(item)
    with pytest.raises(GeoAssetsError, match=f"at {place}: "):
        validated({**item, "stac_extensions": [f"{EXTENSIONS}/{extension}/schema.json"]})


def test_an_extension_without_a_schema_here_is_refused():
    more = [f"{EXTENSIONS}/file/v2.1.0/schema.json", f"{EXTENSIONS}/eo/v9.0.0/schema.json"]
    with pytest.raises(GeoAssetsError, match=r"at /stac_extensions/1: the schema of .*eo/v9\.0\.0"):
        validated({**ITEMS["cog"], "stac_extensions": more})


@pytest.mark.parametrize("missing", ["stac_version", "description", "license", "links", "extent"])
def test_a_collection_is_complete(missing):
    collection = new_collection("landing")
    assert validated(collection) == collection
    with pytest.raises(GeoAssetsError, match=f'landing is not valid at /: "{missing}" is a required property'):
        validated({key: value for key, value in collection.items() if key != missing})


def test_a_number_of_more_than_64_bits_is_stored_as_a_float():
    item = put(ITEMS["cog"], "/assets/data/bands/0/nodata", 10**37)
    assert isinstance(validated(item)["assets"]["data"]["bands"][0]["nodata"], float)


@pytest.mark.parametrize("href", ["file:///My Stuff/Höhe (Süd)/100%/a#b?c.tif", "https://example.org/a%20b.tif"])
def test_an_href_is_as_clients_open_it(href):
    assert validated(put(ITEMS["cog"], "/assets/data/href", href))


@pytest.mark.parametrize(
    "href",
    [
        "https://example.org/a.tif?sv=2024&sig=canary",
        "https://me:canary@example.org/a.tif",
        "postgresql://geo:canary@host/db?table=vector.a",
        "postgresql://host/db?table=vector.a&password=canary",
    ],
)
def test_an_href_that_may_carry_a_secret_is_refused_and_not_repeated(href):
    for pointer in ("/assets/data/href", "/assets/data/alternate"):
        value = href if pointer.endswith("href") else {"az": {"href": href}}
        with pytest.raises(GeoAssetsError, match=f"at {pointer}(/az/href)?: ") as refused:
            validated(put(ITEMS["cog"], pointer, value))
        assert "canary" not in refused.value.message
