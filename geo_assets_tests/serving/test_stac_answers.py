"""What the STAC API finds, what it refuses, and that no answer of it tells where this machine has its files."""

import json
import re

import psycopg
import pytest

pytest.importorskip("tipg")

from geo_assets.serving.searches import _PARAMETERS
from geo_assets.stac.item import unknown_time
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


@pytest.mark.parametrize("bbox", ["4,-20,0,7,-10,9", "4,-20,-1000,7,-10,1000", "4,-20,5,7,-10,5"])
def test_the_heights_of_a_box_are_left_out_as_items_have_none(client, ocean, bbox):
    assert ids(client.get("/stac/search", params={"collections": ocean, "bbox": bbox})) == {"far"}
    assert ids(client.get(f"/stac/collections/{ocean}/items", params={"bbox": bbox})) == {"far"}
    numbers = [float(x) for x in bbox.split(",")]
    assert ids(client.post("/stac/search", json={"collections": [ocean], "bbox": numbers})) == {"far"}
    found = client.get("/stac/collections", params={"bbox": bbox})
    assert found.status_code == 200, found.text
    assert ocean in {collection["id"] for collection in found.json()["collections"]}


@pytest.mark.parametrize("bbox", ["1,1,0,0", "1,1,9,0,0,9", "1,2,3", "170,-90,190,90", "0,-91,1,1", "0,0,1,nan"])
def test_a_box_that_is_none_is_refused_in_one_sentence_however_it_is_asked(client, bbox):
    sides = [float(x) if x != "nan" else None for x in bbox.split(",")]
    for answer in (
        client.get("/stac/search", params={"bbox": bbox}),
        client.get("/stac/collections", params={"bbox": bbox}),
        client.get(f"/stac/collections/{COLLECTION}/items", params={"bbox": bbox}),
        client.post("/stac/search", json={"bbox": sides}),
    ):
        assert answer.status_code == 400, answer.text
        assert "west,south,east,north" in answer.json()["detail"]


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


def test_pictures_refuse_a_box_whose_west_is_east_of_its_east_and_features_one_that_is_upside_down(client, ingested):
    collection, identity = ingested.item_of("dem_west.tif")
    tables = [table["id"] for table in client.get("/features/collections").json()["collections"]]
    items = next(f"/features/collections/{table}/items" for table in tables if "places" in table)
    for path in (
        f"{items}?bbox=5,51,6,50",
        f"/features/collections?bbox={ACROSS}",
        f"/tiles/collections/{collection}/items/{identity}/bbox/{ACROSS}.png",
        f"/tiles/collections/{COLLECTION}/bbox/{ACROSS}/64x64.png?assets=data",
    ):
        answer = client.get(path)
        assert answer.status_code == 400, path
        assert "west" in answer.json()["detail"]
    for box in ("5,50,10,51", ACROSS, "170,-20,0,-170,-10,9"):
        assert client.get(f"{items}?bbox={box}").status_code == 200


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


def test_each_route_takes_what_its_description_has_and_nothing_else(client):
    described = client.get("/stac/api").json()["paths"]
    for path, operations in described.items():
        asked = "/stac" + re.sub(r"\{[^}]*\}", COLLECTION, path)
        taken = {p["name"] for p in operations.get("get", {}).get("parameters", ()) if p["in"] == "query"}
        for name in _PARAMETERS.keys() | taken if "get" in operations else ():
            refused = "there is no parameter" in client.get(asked, params={name: "1"}).text
            assert refused == (name not in taken), (path, name)
    keys = client.get("/stac/api").json()["components"]["schemas"]["SearchPostRequest"]["properties"]
    for name in (*keys, "colections", "q", "offset"):
        refused = "there is no parameter" in client.post("/stac/search", json={name: 1}).text
        assert refused == (name not in keys), name
    assert client.post("/stac/search?limit=1", json={}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        '{"limit":1e400}',
        '{"limit":1e5}',
        '{"limit":true}',
        '{"bbox":[-Infinity,-90,180,90]}',
        '{"bbox":[NaN,0,1,1]}',
        '{"ids":["\\ud800"]}',
        '{"ids":["\\u0000"]}',
        '{"query":{"gsd":{"eq":NaN}}}',
        '{"filter":{"op":"=","args":[]}}',
        '{"filter":{"op":"=","args":[{"property":"datetime"},"x"]}}',
        '{"intersects":{"type":"Point"}}',
        '{"datetime":".."}',
        '{"token":"next:x"}',
        "",
    ],
)
def test_a_search_that_is_none_is_refused_in_a_sentence_of_its_own(client, body):
    is_plain(client.post("/stac/search", content=body, headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize(
    "asked",
    [
        {"query": '{"gsd":{"eq":NaN}}'},
        {"query": '{"gsd":{"eq":"\\ud800"}}'},
        {"query": '{"gsd":{"eq":"\\u0000"}}'},
        {"query": '{"gsd":{"nope":1}}'},
        {"filter": "datetime='x'"},
        {"intersects": '{"type":"Point"}'},
        {"intersects": '{"type":"Polygon","coordinates":[[[0,0],[1,1]]]}'},
        {"bbox": "0,0,1,1", "intersects": '{"type":"Point","coordinates":[0,0]}'},
        {"datetime": ".."},
        {"sortby": "+"},
        {"fields": ","},
    ],
)
def test_a_search_in_the_address_that_is_none_is_refused_in_a_sentence_of_its_own(client, asked):
    is_plain(client.get("/stac/search", params=asked))


@pytest.mark.parametrize("words", ["(", "a b &", "a'b & | !", "@QUOTE@"])
def test_words_for_which_nothing_can_be_looked_up_are_refused(client, words):
    is_plain(client.get("/stac/collections", params={"q": words}))


def is_plain(answer):
    assert answer.status_code == 400, answer.text
    told = answer.json()["detail"]
    for words in ("pydantic", "validation error", "format()", "DETAIL", "HINT", "Value error", "None"):
        assert words not in told
    assert 10 < len(told) < 300


def test_a_search_of_json_without_a_content_type_is_answered(client):
    assert client.request("POST", "/stac/search", content=b"{}").status_code == 200


def test_a_search_is_told_all_the_ways_in_which_it_may_be_asked(client):
    refused = client.put("/stac/search", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")


def test_a_page_after_an_item_that_was_withdrawn_says_how_to_go_on(client, ingested, ocean):
    items = [box_item(f"page-{n}", "pages", n, 0, n + 1, 1) for n in range(3)]
    load_items(ingested.settings, "pages", items, guard=lambda conn: None, record=lambda conn: None)
    page = client.get("/stac/search?collections=pages&limit=1&sortby=id").json()
    token = next(link["href"] for link in page["links"] if link["rel"] == "next")
    with psycopg.connect(ingested.settings.dsn("migrator"), autocommit=True) as db:
        db.execute("delete from pgstac.items where collection = 'pages' and id = 'page-0'")
    gone = client.get(token)
    assert gone.status_code == 410
    assert "withdrawn" in gone.json()["detail"]
    assert "sortby=id" in gone.json()["remedy"]
    # as the remedy says
    last, found = "page-0", []
    while last:
        asked = {"collections": "pages", "sortby": "id", "filter": f"id>'{last}'", "limit": 1}
        last = next((f["id"] for f in client.get("/stac/search", params=asked).json()["features"]), None)
        found.append(last)
    assert found == ["page-1", "page-2", None]


def test_an_item_of_unknown_time_is_found_by_searches_that_are_open_to_the_past_alone(client, ingested):
    item = {**box_item("undated", "undated", 0, 0, 1, 1)}
    item["properties"] = {**item["properties"], **unknown_time()}
    load_items(ingested.settings, "undated", [item], guard=lambda conn: None, record=lambda conn: None)
    for asked, found in (
        ({"datetime": "../2000-01-01T00:00:00Z"}, {"undated"}),
        ({"filter": "datetime < TIMESTAMP('2000-01-01T00:00:00Z')"}, {"undated"}),
        ({"datetime": "2000-01-01T00:00:00Z/.."}, set()),
        ({"datetime": "1000-01-01T00:00:00Z/2100-01-01T00:00:00Z"}, set()),
    ):
        assert ids(client.get("/stac/search", params={"collections": "undated", **asked})) == found
        if "datetime" in asked:
            assert ids(client.post("/stac/search", json={"collections": ["undated"], **asked})) == found


@pytest.mark.parametrize("place", ["tiles/WebMercatorQuad/0/0/0", "bbox/8,49,10,51", "point/9.01,49.99"])
def test_no_list_of_what_lies_in_a_mosaic_names_a_file_of_this_machine(client, ingested, place):
    answer = client.get(f"/tiles/collections/{COLLECTION}/{place}/assets")
    assert answer.status_code == 404
    assert "file:/" not in client.get(f"/tiles/collections/{COLLECTION}/{place}").text


@pytest.fixture(scope="module")
def titled(client, ingested):
    """A collection with titles, for what is asked of texts."""
    titles = {"one": "const.tif", "two": "a_b.tif", "three": "axb.gpkg", "four": "50%.tif"}
    items = [box_item(name, "titled", 5, 50, 6, 51, title=title, gsd=10) for name, title in titles.items()]
    load_items(ingested.settings, "titled", items, guard=lambda conn: None, record=lambda conn: None)
    return "titled"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"title": {"startsWith": "a"}}, {"two", "three"}),
        ({"title": {"endsWith": ".tif"}}, {"one", "two", "four"}),
        ({"title": {"contains": "_"}}, {"two"}),
        ({"title": {"contains": "%"}}, {"four"}),
        ({"title": {"startsWith": "a", "endsWith": "g"}, "gsd": {"lte": 10}}, {"three"}),
        ({"title": {"in": ["const.tif", "axb.gpkg"]}}, {"one", "three"}),
        ({"gsd": {"eq": 10}}, {"one", "two", "three", "four"}),
    ],
)
def test_every_operator_of_the_query_extension_that_is_claimed_is_answered(client, titled, query, found):
    assert "https://api.stacspec.org/v1.0.0/item-search#query" in client.get("/stac/conformance").json()["conformsTo"]
    text = json.dumps(query)
    assert ids(client.get("/stac/search", params={"collections": titled, "query": text})) == found
    assert ids(client.get(f"/stac/collections/{titled}/items", params={"query": text})) == found
    assert ids(client.post("/stac/search", json={"collections": [titled], "query": query})) == found


def test_collections_are_asked_for_with_the_same_operators(client, titled):
    answer = client.get("/stac/collections", params={"query": '{"id":{"startsWith":"title"}}'})
    assert [collection["id"] for collection in answer.json()["collections"]] == [titled]


@pytest.mark.parametrize("query", [{"title": {"startsWith": 5}}, {"gsd": {"in": []}}, {"gsd": {"in": 5}}])
def test_a_value_that_an_operator_does_not_take_is_refused(client, query):
    is_plain(client.get("/stac/search", params={"query": json.dumps(query)}))
    is_plain(client.post("/stac/search", json={"query": query}))


@pytest.mark.parametrize(
    ("box", "found"), [("4,-20,7,-10", {"far"}), ("4,-20,0,7,-10,9", {"far"}), (ACROSS, {"west-of-it", "east-of-it"})]
)
def test_a_box_in_a_filter_finds_what_lies_in_it(client, ocean, box, found):
    asked = {"collections": ocean, "filter": f"S_INTERSECTS(geometry,BBOX({box}))"}
    assert ids(client.get("/stac/search", params=asked)) == found
    tree = {"op": "s_intersects", "args": [{"property": "geometry"}, {"bbox": [float(x) for x in box.split(",")]}]}
    assert ids(client.post("/stac/search", json={"collections": [ocean], "filter": tree})) == found


def test_a_box_in_a_filter_that_is_none_is_refused(client):
    is_plain(client.get("/stac/search", params={"filter": "S_INTERSECTS(geometry,BBOX(1,2,0,1))"}))


def test_the_page_of_the_api_that_is_linked_runs_no_program_and_tells_the_parameters(client):
    (page,) = [link["href"] for link in client.get("/stac/").json()["links"] if link["rel"] == "service-doc"]
    answer = client.get(page)
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert "<link" not in answer.text
    assert "filter-lang" in answer.text
