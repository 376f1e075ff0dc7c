"""What a single request must not do: write, read what is not published, open addresses, take the memory or the time."""

import json
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest

pytest.importorskip("tipg")

from geo_assets.serving.features import _PARAMETERS as OF_FEATURES
from geo_assets.serving.pictures import PARAMETERS as OF_PICTURES
from geo_assets.serving.pictures import bands_of, fault_of_expression, sized
from geo_assets.serving.questions import crs_for_libraries
from geo_assets.serving.searches import _PARAMETERS as OF_SEARCHES
from geo_assets_tests.serving.ingested import COLLECTION
from geo_assets_tests.serving.test_doors import at

#: Stands for the address of a table; its name has to be asked for.
TABLE = "/TABLE"
PLACES = f"{TABLE}/items"

FUNCTIONS = (
    "query_to_xml('select usename from pg_user',true,true,'') is not null",
    "set_config('statement_timeout','0',false)='0'",
    "pg_sleep(3) is null",
    "pg_terminate_backend(1)",
    "setval('pgstac.collections_key_seq',1,false)=1",
    "name=current_setting('data_directory')",
    "people^9=1",
)

#: Each of these ended the process, or kept it for more than 20 s.
DEEP = (
    "(" * 2200,
    "(" * 30 + "people=1",
    "NOT " * 490 + "people=1",
    "NOT (" * 30 + "people=",
    "f(" * 500,
    "-" * 1900 + "people=1",
    "+".join(["people"] * 300) + "=1",
    "[" * 15_000,
    '{"op":"not","args":[' * 700,
)

#: Coordinate systems that a library would open, look up in the network, or calculate with a file.
NO_CRS = (
    "http://127.0.0.1:1/crs",
    "https://www.opengis.net.evil.example/def/crs/EPSG/0/4326",
    "/etc/passwd",
    "file:///etc/passwd",
    "+proj=longlat +nadgrids=/etc/passwd",
    "+init=epsg:4326",
    "PROJCS[]",
    '{"type":"GeographicCRS"}',
    "ESRI:102001",
    "EPSG:4326+5773",
    "EPSG:4326\n",
    "IAU:49910",
)


@pytest.fixture(scope="module")
def client(ingested):
    with at(ingested.settings) as client:
        tables = [t["table"] for task in ingested.tasks for t in task["outputs"].get("tables", ())]
        (places,) = [name for name in tables if "places" in name]
        ask = client.request
        client.request = lambda how, url, **more: ask(
            how, str(url).replace(TABLE, f"/features/collections/{places}"), **more
        )
        yield client


@pytest.fixture(scope="module")
def item(ingested):
    collection, identity = ingested.item_of("dem_west.tif")
    return f"/tiles/collections/{collection}/items/{identity}"


def nested(levels: int) -> dict:
    tree = {"op": "=", "args": [{"property": "people"}, 1]}
    for _ in range(levels):
        tree = {"op": "not", "args": [tree]}
    return tree


@pytest.mark.parametrize("asked", FUNCTIONS)
def test_a_filter_calls_no_function_of_the_database(client, asked):
    for path in (PLACES, f"{TABLE}/tiles/WebMercatorQuad/0/0/0", "/stac/search"):
        refused = client.get(path, params={"filter": asked, "filter-lang": "cql2-text"})
        assert refused.status_code == 400, (path, refused.text)
        assert "no operator" in refused.json()["detail"]


def test_a_filter_in_json_calls_no_function_either(client):
    for tree in (
        {"op": "pg_sleep", "args": [3]},
        {"op": "and", "args": [nested(0), {"op": "=", "args": [{"op": "version", "args": []}, "x"]}]},
        {"op": "=", "args": [{"function": {"name": "version", "args": []}}, "x"]},
    ):
        asked = {"filter": json.dumps(tree), "filter-lang": "cql2-json"}
        assert client.get(PLACES, params=asked).status_code == 400
        assert client.get("/stac/search", params=asked).status_code == 400
        assert client.post("/stac/search", json={"filter": tree, "filter-lang": "cql2-json"}).status_code == 400


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ("people > 8", 3),
        ("people BETWEEN 2 AND 4 AND NOT people = 3", 2),
        ("CASEI(name) = CASEI('PLACE 7')", 1),
        ("name LIKE 'place 1%'", 3),
        ("people IN (1, 2) OR people * 2 + 1 = 9", 3),
        ("S_INTERSECTS(geom, POLYGON((8.05 49, 8.25 49, 8.25 51, 8.05 51, 8.05 49)))", 2),
        ("people IS NULL", 0),
        ("(" * 10 + "people = 1" + ")" * 10, 1),
    ],
)
def test_filters_of_cql2_find_what_they_say(client, asked, count):
    (geometry,) = {
        name
        for name, told in client.get(f"{TABLE}/queryables").json()["properties"].items()
        if "geojson.org" in told.get("$ref", "") or told.get("format", "").startswith("geometry")
    }
    found = client.get(PLACES, params={"filter": asked.replace("geom", geometry), "limit": 100})
    assert (found.status_code, found.json().get("numberMatched")) == (200, count), found.text


@pytest.mark.parametrize("asked", DEEP, ids=[text[:8] for text in DEEP])
def test_a_nested_filter_is_refused_at_once_without_memory(asked):
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (20, 20))\n"
        "from geo_assets.serving.filters import fault_of_filter\n"
        "before = resource.getrusage(resource.RUSAGE_SELF)\n"
        "assert fault_of_filter(sys.stdin.read()), 'it was let through'\n"
        "after = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(after.ru_utime - before.ru_utime, (after.ru_maxrss - before.ru_maxrss) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seconds, megabytes = done.stdout.split()
    assert float(seconds) < 0.5
    assert int(megabytes) < 50


def test_the_deepest_filter_that_is_let_through_is_answered_soon(client):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    for asked in ("NOT " * 10 + "people = 1", "((((((((((people = ?", " AND ".join(["(people = 1)"] * 30) + " ?"):
        assert client.get(PLACES, params={"filter": asked}).status_code in {200, 400}
        assert client.get("/stac/search", params={"filter": asked}).status_code in {200, 400}
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


def test_the_reader_moves_no_sequence(ingested):
    with psycopg.connect(ingested.settings.dsn("reader"), autocommit=True) as db:
        sequences = [
            name for (name,) in db.execute("select sequencename from pg_sequences where schemaname = 'pgstac'")
        ]
        for name in sequences:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute("select setval(%s, 1, false)", (f"pgstac.{name}",))
    assert sequences


def test_the_body_of_a_search_has_limits(client):
    assert (
        client.post("/stac/search", content=b'{"ids":["' + b"x" * 1_100_000 + b'"]}', headers=JSON).status_code == 413
    )
    for body in (b"[" * 500_000, b'{"intersects":' * 5000, b"[]", b"{", json.dumps({"filter": nested(13)}).encode()):
        assert client.post("/stac/search", content=body, headers=JSON).status_code == 400, body[:40]
    found = client.post(
        "/stac/search", json={"limit": 10_000, "filter": {"op": "=", "args": [{"property": "id"}, "x"]}}
    )
    assert found.status_code == 200
    found = client.get("/stac/search?limit=10000")
    assert found.status_code == 200
    assert "limit=1000" in found.json()["links"][-1]["href"] or len(found.json()["features"]) <= 1000


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("given", NO_CRS)
def test_a_coordinate_system_is_a_number_not_an_address_or_a_file(client, item, given):
    began = time.monotonic()
    paths = [
        f"{item}/preview.png?dst_crs=",
        f"{item}/bbox/8,49,10,51.png?coord_crs=",
        f"{item}/point/9,50?coord_crs=",
        f"{item}/info.geojson?crs=",
        f"{item}/statistics?assets=data&dst_crs=",
        f"/tiles/collections/{COLLECTION}/bbox/8,49,10,51.png?dst_crs=",
        f"{PLACES}?bbox=8,49,10,51&bbox-crs=",
        f"{PLACES}?crs=",
        "/stac/search?filter-crs=",
    ]
    for path in paths:
        refused = client.get(path + quote(given, safe=""))
        assert refused.status_code == 400, path
        assert "OGC:CRS84" in refused.json()["detail"]
    assert time.monotonic() - began < 2


def test_the_usual_names_of_a_coordinate_system_are_taken(client, item):
    for given, read in (
        ("EPSG:3857", "EPSG:3857"),
        ("epsg:3857", "EPSG:3857"),
        ("[EPSG:3857]", "EPSG:3857"),
        ("urn:ogc:def:crs:EPSG::3857", "EPSG:3857"),
        ("http://www.opengis.net/def/crs/EPSG/0/3857", "EPSG:3857"),
        ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "OGC:CRS84"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "OGC:CRS84"),
    ):
        assert crs_for_libraries(given) == read
        assert client.get(f"{item}/preview.png", params={"dst_crs": given}).status_code == 200
    assert client.get(PLACES, params={"crs": "http://www.opengis.net/def/crs/OGC/1.3/CRS84"}).status_code == 200
    assert 400 <= client.get(f"{item}/preview.png?dst_crs=EPSG:999999").status_code < 500


@pytest.mark.parametrize(
    ("service", "known"), [("stac", OF_SEARCHES), ("tiles", OF_PICTURES), ("features", OF_FEATURES)]
)
def test_every_parameter_of_the_libraries_is_known_and_no_other_is_taken(client, service, known):
    described = client.get(f"/{service}/api").json()["paths"]
    parameters = {
        parameter["name"]
        for operations in described.values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    }
    assert parameters
    assert parameters <= known.keys()
    for path in described:
        path = re.sub(r"\{(max)?[^}]*\}", lambda name: "2" if name[1] else "1", path)  # noqa: PLW2901
        refused = client.get(f"/{service}{path}", params={"url": "http://127.0.0.1:1/x.tif"})
        assert refused.status_code == 400, path
        assert "'url'" in refused.json()["detail"], path


@pytest.mark.parametrize(
    "asked",
    [
        "preview.png?max_size=0",
        "preview.png?max_size=-1",
        "preview.png?width=0",
        "preview.png?width=4097",
        "preview/0x10.png",
        "bbox/8,49,10,51.png?max_size=0",
        "bbox/10,49,8,51.png",
        "bbox/nan,49,8,51.png",
        "bbox/1,inf,8,51.png",
        "statistics?assets=data&max_size=0",
        "statistics?assets=data&histogram_bins=2000000000",
        "statistics?assets=data&histogram_bins=" + ",".join(map(str, range(1100))),
        "statistics?assets=data&" + "&".join(["p=1"] * 201),
        "preview.png?assets=data|bidx=" + ",".join(["1"] * 17),
        "preview.png?" + "&".join(["assets=data"] * 17),
        "preview.png?assets=data&expression=" + ";".join(["b1"] * 16),
        "preview.png?assets=data|expression=" + ";".join(["b1"] * 17),
        "preview.png?assets=data&expression=9**9**9**9*b1",
        "preview.png?assets=data&expression=b1<<99999999",
        "preview.png?assets=data&asset_bidx=1",
        "preview.png?width=4096&height=4096&assets=data|bidx=1,1,1,1,1",
        "tiles/WebMercatorQuad/0/0/0.png?buffer=4096",
        "tiles/WebMercatorQuad/0/0/0.png?padding=4096",
        "tiles/WebMercatorQuad/0/0/0.png?tilesize=4096&assets=data|bidx=1,1,1,1,1",
        "tiles/WebMercatorQuad/-1/0/0.png",
        "tiles/WebMercatorQuad/5000/0/0.png",
        "tiles/WebMercatorQuad/5/99999999999999999999/0.png",
        "WebMercatorQuad/tilejson.json?assets=data&maxzoom=999999999",
        "WMTSCapabilities.xml?assets=data&zooms=WebMercatorQuad::0,999999999",
        "preview.png?width=10&width=4000",
        "preview.png?algorithm=hillshade&algorithm_params=[1]",
        "preview.png?colormap=" + "[" * 9000,
    ],
)
def test_a_picture_has_at_least_one_pixel_and_costs_no_more_than_it_may(client, item, asked):
    began = time.monotonic()
    assert client.get(f"{item}/{asked}").status_code == 400
    assert time.monotonic() - began < 2


def test_a_mosaic_is_put_together_without_keeping_every_picture(client):
    mosaic = f"/tiles/collections/{COLLECTION}/bbox/8,49,10,51.png?pixel_selection="
    for way in ("median", "stdev", "lastbandlow"):
        assert client.get(mosaic + way).status_code == 400
    for way in ("first", "highest", "lowest", "mean", "count"):
        assert client.get(mosaic + way).status_code == 200, way
    assert (
        client.get(f"/tiles/collections/{COLLECTION}/bbox/8,49,10,51/4096x4096.png?assets=data|bidx=1,1").status_code
        == 400
    )


def test_one_side_alone_does_not_leave_the_other_to_the_shape_of_the_raster():
    assert sized([("width", "4096")], "/preview.png", 1, mosaic=False)[0] == [("max_size", "4096")]
    assert sized([("height", "9"), ("max_size", "4")], "/preview.png", 1, mosaic=False)[0] == [("max_size", "4")]
    both = [("width", "9"), ("height", "9")]
    assert sized([*both, ("max_size", "4")], "/preview.png", 1, mosaic=False)[0] == both
    assert sized([], "/statistics", 1, mosaic=False)[0] == [("max_size", "1024")]
    assert sized([], "/statistics", 1000, mosaic=False) == ([("max_size", "259")], 259**2 * 1000, None)


def test_bands_are_counted_as_they_are_read():
    spectrum = {"data": {"bands": [{}] * 200}}
    assert bands_of([("assets", "data")], [spectrum])[0] == 200
    assert bands_of([("assets", "data|bidx=1,2,3")], [spectrum]) == (3, None)
    assert bands_of([("assets", "data"), ("expression", "b1/b2;b3")], [spectrum])[0] == 202
    assert bands_of([("assets", "data|bidx=1,2")] * 9, [spectrum])[1]


def test_an_expression_is_of_bands_and_small_powers():
    for good in ("b1", "(b1-b2)/(b1+b2)", "where(b1>2,1.5,0);b2**2", "sqrt(b1)*1e3", "data_b1*0.1", "b1**0.5"):
        assert fault_of_expression(good) is None, good
    for bad in ("9**9**9", "b1**99", "b1**b2", "1<<9", "b1 if b2 else b3["):
        assert fault_of_expression(bad), bad
    began = time.monotonic()
    assert fault_of_expression("a" * 499 + "$")
    assert time.monotonic() - began < 0.1


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_origin_takes_nothing_into_itself(ingested, client, site):
    for path in ("/stac/search", "/tiles/", PLACES, "/files/default/cogs/x.tif", "/", "/api/jobs"):
        for mode, kind in (("no-cors", "image"), ("no-cors", "script"), ("navigate", "iframe"), ("cors", "empty")):
            told = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": kind}
            assert client.get(path, headers=told).status_code == 403, (path, mode, kind)
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    own = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert client.get("/stac/", headers=own).status_code == 200
    named = "https://browser.example"
    with at(ingested.settings.model_copy(update={"read_origins": (named,)})) as open_to_one:
        asks = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
        assert open_to_one.get("/stac/", headers={**asks, "Origin": named}).status_code == 200
        assert open_to_one.get("/stac/", headers=asks).status_code == 403


def test_browsers_give_no_answer_to_another_page(client):
    for path in ("/", "/stac/", "/tiles/", PLACES, "/files/default/cogs/none.tif", "/api/jobs"):
        assert client.get(path).headers["cross-origin-resource-policy"] == "same-origin", path
    assert client.get("/", headers={"Host": "evil.example"}).headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    "asked",
    [
        f"{PLACES}?bbox=170,20,-170,10",
        f"{PLACES}?bbox=1,2,3",
        f"{PLACES}?filter=nope=1",
        f"{PLACES}?filter=name=1",
        f"{PLACES}?filter=S_INTERSECTS(name,POINT(1 2))",
        f"{PLACES}?filter=5",
        f"{PLACES}?name=place%00",
        f"{PLACES}?limit=-1",
        f"{PLACES}?offset=99999999999999999999",
        f"{PLACES}?simplify=nan",
        f"{PLACES}?sortby=nope",
        f"{PLACES}?people=99999999999999999999",
        f"{PLACES}?geom-column=nope",
        f"{PLACES}?ids=x",
        f"{PLACES}/x",
        f"{PLACES}/99999999999999999999",
        f"{TABLE}/tiles/WebMercatorQuad/-1/0/0",
        f"{TABLE}/tiles/WebMercatorQuad/5000/0/0",
        f"{TABLE}/tiles/Nowhere/0/0/0",
        "/stac/search?intersects=5",
        "/stac/search?intersects=" + "[" * 12_000,
        "/stac/search?query=" + "[" * 12_000,
        "/stac/search?bbox=1,2,nan,4",
        "/stac/search?ids=%00",
        "/stac/search?datetime=0000-99",
        "/stac/collections/%00",
        "/tiles/colorMaps/viridis?width=999999&f=png",
        "/tiles/tileMatrixSets/none",
    ],
)
def test_a_wrong_question_is_the_clients_fault(client, asked):
    answer = client.get(asked)
    assert 400 <= answer.status_code < 500, (asked, answer.status_code, answer.text)


def test_a_table_of_no_rows_is_an_empty_csv(client):
    none = client.get(f"{PLACES}?f=csv&filter=people>1000")
    assert (none.status_code, none.text) == (200, "")
    some = client.get(f"{PLACES}?f=csv&filter=people>10")
    assert some.status_code == 200
    assert "place 11" in some.text


def test_a_busy_database_is_told_in_seconds_and_does_not_keep_files_and_callers_waiting(ingested):
    lock = "lock table pgstac.collections in access exclusive mode"
    with at(ingested.settings) as client, psycopg.connect(ingested.settings.dsn("migrator")) as db:
        assert client.get("/features/collections").status_code == 200
        db.execute(lock)
        with ThreadPoolExecutor(12) as threads:
            waiting = [threads.submit(client.get, "/stac/collections") for _ in range(12)]
            time.sleep(1)
            began = time.monotonic()
            assert client.get("/files/default/cogs/none.tif").status_code == 404
            assert client.get("/features/collections").status_code == 200
            assert time.monotonic() - began < 2
            answers = [each.result() for each in waiting]
        assert {answer.status_code for answer in answers} == {503}
        assert all(answer.headers["retry-after"] for answer in answers)
        assert time.monotonic() - began < 12
