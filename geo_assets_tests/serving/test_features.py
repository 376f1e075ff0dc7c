"""What the features of published tables are, page by page, by place, by time and by value."""

import json
import re
import threading
import time

import numpy as np
import psycopg
import pytest

pytest.importorskip("tipg")

from pyproj import Transformer
from shapely.geometry import box as frame_of
from shapely.geometry import shape

from geo_assets.serving import rows
from geo_assets.serving.places import Placed, _part, in_box
from geo_assets_tests.serving.test_doors import at

TABLES = """
create table vector.ties (gid bigint primary key, s text, n int, geom geometry(Point, 25832));
insert into vector.ties select i, 's' || i % 7, i,
    st_setsrid(st_point(4e5 + (i * 7919 % 5000) * 40, 5.4e6 + (i * 104729 % 5000) * 40), 25832)
  from generate_series(1, 5000) i;
create index on vector.ties using gist (geom);
analyze vector.ties;
create table vector.keyless (s text, n int, geom geometry(Point, 4326));
insert into vector.keyless select 's', i, st_setsrid(st_point(i / 10.0, 50), 4326) from generate_series(1, 300) i;
create view vector.seen as select s, n, geom from vector.keyless;
create table vector.polar (gid int primary key, geom geometry(Point, 3413));
insert into vector.polar select i, st_setsrid(st_point(-2e6 + i * 7919 % 4001 * 1e3, -2e6 + i * 104729 % 4001 * 1e3), 3413)
  from generate_series(1, 500) i;
create index on vector.polar using gist (geom);
create table vector.albers (gid int primary key, geom geometry(Point, 5070));
insert into vector.albers select i, st_setsrid(st_point(-2e6 + i * 7919 % 4001 * 1e3, -1e6 + i * 104729 % 2001 * 1e3), 5070)
  from generate_series(1, 3000) i;
insert into vector.albers select 3000 + i, st_setsrid(st_point(-2e6 + i * 4e4, 1e6), 5070) from generate_series(1, 99) i;
create index on vector.albers using gist (geom);
create table vector.pacific (gid int primary key, geom geometry(Point, 3832));
insert into vector.pacific select i, st_setsrid(st_point(i * 1e5 - 2e6, -2e6), 3832) from generate_series(1, 60) i;
create index on vector.pacific using gist (geom);
create table vector.globe (gid int primary key, geom geometry(Point, 4326));
insert into vector.globe select i, st_setsrid(st_point(i * 10 - 180, i % 18 * 10 - 90), 4326) from generate_series(0, 36) i;
create table vector.areas (gid int primary key, geom geometry(Polygon, 25832));
insert into vector.areas select i, st_buffer(st_setsrid(st_point(4e5 + i * 5e3, 5.4e6 + i * 4e3), 25832), 3e3)
  from generate_series(1, 40) i;
create table vector.kinds (gid bigint primary key, big bigint, dec numeric, f float8, bin bytea, lst int[], doc jsonb,
    span interval, d date, ts timestamptz, geom geometry(PointZ, 4326));
insert into vector.kinds values
  (1, 9007199254740993, 12345678901234567890.12, 'Infinity', '\\x00ff', '{1,2}', '{"a": [1]}', '1 day 02:00',
   '2024-01-01', '2024-01-01T00:00:00Z', st_setsrid(st_makepoint(1, 2, 3), 4326)),
  (9007199254740993, 9007199254740992, 'NaN', 0.1, null, null, null, null, '2024-02-01', '2024-02-01T00:00:00Z', null),
  (9223372036854775807, 9223372036854775807, 1.10, 'NaN', '', '{}', '[]', '0', null, null,
   st_setsrid(st_makepoint(1, 2, 3), 4326));
create table vector.plain (k int primary key, t text);
insert into vector.plain values (1, 'a');
create table vector.heavy (gid int primary key, geom geometry(Polygon, 4326));
insert into vector.heavy select i, st_buffer(st_setsrid(st_point(i, 0), 4326), 1, 500) from generate_series(1, 40) i;
"""


@pytest.fixture(scope="module")
def client(settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        db.execute(TABLES)
    with at(settings) as client:
        yield client


def items(client, table, **asked):
    parameters = {name.replace("_", "-"): value for name, value in asked.items()}
    answer = client.get(f"/features/collections/vector.{table}/items", params={"limit": 10_000, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(client, table, **asked):
    found = items(client, table, **asked)
    assert found["numberMatched"] == len(found["features"])
    return {feature["id"] for feature in found["features"]}


def places(client, table):
    """Longitude and latitude of each feature, as it is answered."""
    return {f["id"]: f["geometry"]["coordinates"] for f in items(client, table)["features"]}


def pages(client, address):
    found = []
    while address:
        page = client.get(address).json()
        found += page["features"]
        address = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
    return found


@pytest.mark.parametrize("table", ["ties", "keyless", "seen"])
@pytest.mark.parametrize("order", ["s", "-s", None])
def test_pages_have_every_row_once_also_where_rows_are_equal_by_what_they_are_sorted_by(client, table, order):
    address = f"/features/collections/vector.{table}/items?limit=170" + (f"&sortby={order}" if order else "")
    numbers = [feature["properties"]["n"] for feature in pages(client, address)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert len(numbers) == {"ties": 5000}.get(table, 300)


BOXES = [
    (8, 49, 9, 50),
    (8.5, 49.5, 8.6, 49.6),
    (100, -90, 180, 90),
    (100, -80, 180, 80),
    (-180, -90, -90, 90),
    (8, 49, 180, 50),
    (-180, 49, 8, 50),
    (0, -90, 8.5, 90),
    (-180, -90, 180, 49.5),
    (-180, -90, 180, 90),
    (9, 0, 99.5, 90),
    (-10, 80, 10, 90),
    (-180, 85, 180, 90),
    (-180, 70, 180, 80),
    (90, 75, 179, 90),
    (-105, 35, -95, 40),
    (-100, 38, -99, 39),
    (170, -90, -170, 90),
    (175, -20, -140, -10),
]


def within(place, box):
    west, south, east, north = box
    is_between = west <= place[0] <= east if west <= east else not east < place[0] < west
    return is_between and south <= place[1] <= north


@pytest.mark.parametrize("table", ["ties", "polar", "albers", "pacific", "globe"])
def test_a_box_finds_the_features_that_are_answered_in_it_and_no_others(client, table):
    known = places(client, table)
    for box in BOXES:
        expected = {one for one, place in known.items() if within(place, box)}
        assert ids(client, table, bbox=",".join(map(str, box))) == expected, box
        west, south, east, north = box
        for bound in (f"BBOX({','.join(map(str, box))})", json.dumps({"bbox": box})):
            asked = f"S_INTERSECTS(geom,{bound})" if bound.startswith("B") else None
            tree = json.dumps({"op": "s_intersects", "args": [{"property": "geom"}, {"bbox": box}]})
            assert (
                ids(client, table, filter=asked or tree, filter_lang=f"cql2-{'text' if asked else 'json'}") == expected
            )
        if west < east:
            ring = f"{west} {south},{east} {south},{east} {north},{west} {north},{west} {south}"
            for asked in (f"S_INTERSECTS(geom,POLYGON(({ring})))", f"NOT S_DISJOINT(POLYGON(({ring})),geom)"):
                assert ids(client, table, filter=asked) == expected, asked


def test_every_spatial_operator_compares_in_degrees(client):
    known = {f["id"]: shape(f["geometry"]) for f in items(client, "areas")["features"]}
    one = known[20]
    frames = {"across": frame_of(7.9, 48.9, 8.4, 49.3), "around": one.buffer(0.001), "inside": one.buffer(-0.01)}
    for name in ("intersects", "within", "contains", "overlaps", "disjoint", "touches"):
        for frame in frames.values():
            expected = {key for key, area in known.items() if getattr(area, name)(frame)}
            tree = {"op": f"s_{name}", "args": [{"property": "geom"}, frame.__geo_interface__]}
            assert ids(client, "areas", filter=json.dumps(tree), filter_lang="cql2-json") == expected, name
    same = {"op": "s_equals", "args": [{"property": "geom"}, {"property": "geom"}]}
    assert len(ids(client, "areas", filter=json.dumps(same), filter_lang="cql2-json")) == 40


def test_rows_beyond_the_extent_that_is_told_are_found_at_once(client, settings):
    ids(client, "ties", bbox="8,49,9,50")
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        db.execute(
            "insert into vector.ties values (6001, 'far', 6001, st_transform(st_setsrid(st_point(12, 52), 4326), 25832))"
        )
        try:
            assert ids(client, "ties", bbox="11.9,51.9,12.1,52.1") == {6001}
            assert 6001 in ids(client, "ties", bbox="-180,-90,180,90")
        finally:
            db.execute("delete from vector.ties where gid = 6001")


def test_a_box_of_a_projected_table_is_asked_of_its_index(client, settings):
    assert ids(client, "ties", n="5")
    extent = (4e5, 5.4e6, 6e5, 5.6e6)
    column = Placed(name="geom", type="geometry", geometry_type="Point", srid=25832, extent=extent, crs="EPSG:25832")
    with psycopg.connect(settings.dsn("pipeline")) as db:
        db.execute("set enable_seqscan = off")
        for box in ((8.5, 49.5, 8.6, 49.6), (8.5, 49.5, 180, 50), (-180, 49.9, 180, 50)):
            plan = "\n".join(r[0] for r in db.execute(f"explain select * from vector.ties where {in_box(column, box)}"))
            assert "Index" in plan, plan
        assert "ST_Transform" not in in_box(column, (-180, -90, 180, 90)).partition(" OR ")[0]


def test_a_tile_with_a_box_has_what_lies_in_both(client):
    tile = "/features/collections/vector.ties/tiles/WebMercatorQuad/0/0/0"
    assert client.get(tile, params={"bbox": "100,-90,180,90"}).content == b""
    assert len(client.get(tile, params={"bbox": "8,49,9,50"}).content) > 1000
    assert len(client.get(tile).content) > len(client.get(tile, params={"bbox": "8,49,9,50"}).content)


@pytest.mark.parametrize("table", ["ties", "polar", "albers", "pacific", "globe"])
def test_the_extent_has_every_feature_in_it(client, table):
    told = client.get(f"/features/collections/vector.{table}").json()["extent"]["spatial"]["bbox"][0]
    assert all(within(place, told) for place in places(client, table).values())
    tiles = client.get(f"/features/collections/vector.{table}/tiles/WebMercatorQuad/tilejson.json").json()["bounds"]
    assert tiles[0] <= tiles[2]
    assert all(within(place, tiles) for place in places(client, table).values())
    if table == "polar":
        assert told[1] > 60
        assert told[3] == 90
    if table == "pacific":
        assert told[0] > told[2]


def test_a_table_of_no_rows_tells_no_extent(client, settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        db.execute("create table vector.nothing (gid int primary key, geom geometry(Point, 25832))")
    time.sleep(2.1)
    assert "extent" not in client.get("/features/collections/vector.nothing").json()
    for made in ("tilejson.json", "style.json"):
        assert client.get(f"/features/collections/vector.nothing/tiles/WebMercatorQuad/{made}").status_code == 200
    assert client.get("/features/collections/vector.plain/tiles/WebMercatorQuad/tilejson.json").status_code == 404


@pytest.mark.parametrize(
    ("asked", "column", "found"),
    [
        ("2024-01-01T00:00:00Z", "ts", {1}),
        ("2024-01-01T00:00:00Z/2024-02-01T00:00:00Z", "ts", {1, 2}),
        ("2024-01-15T00:00:00Z/2024-02-01T00:00:00Z", "ts", {2}),
        ("2024-01-01T00:00:00Z/2024-01-31T23:59:59.9Z", "ts", {1}),
        ("../2024-02-01T00:00:00Z", "ts", {1, 2}),
        ("2024-02-01T01:00:00+01:00/", "ts", {2}),
        ("2024-01-01T12:00:00Z", "d", {1}),
        ("2024-01-01T00:00:00Z/2024-02-01T00:00:00Z", "d", {1, 2}),
        ("2024-01-01T18:00:00Z/..", "d", {1, 2}),
        ("../2024-01-31T00:00:00Z", "d", {1}),
    ],
)
def test_an_interval_has_both_its_ends_and_a_day_all_its_hours(client, asked, column, found):
    keys = {1: 1, 2: 9007199254740993}
    assert ids(client, "kinds", datetime=asked, datetime_column=column) == {keys[one] for one in found}


def test_what_has_no_time_meets_every_time(client):
    assert len(ids(client, "globe", datetime="2024-01-01T00:00:00Z")) == 37
    listed = client.get("/features/collections", params={"datetime": "2024-01-01T00:00:00Z", "limit": 1000}).json()
    assert "vector.globe" in {one["id"] for one in listed["collections"]}
    for wrong in ("nonsense", "2024-01-01", "2024-02-01T00:00:00Z/2024-01-01T00:00:00Z", "../.."):
        refused = client.get("/features/collections/vector.globe/items", params={"datetime": wrong})
        assert refused.status_code == 400, wrong


FIRST, SECOND, LAST = 1, 9007199254740993, 9223372036854775807


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("big = 9007199254740993", {FIRST}),
        ("big=9007199254740992", {SECOND}),
        ("big > 9007199254740992", {FIRST, LAST}),
        ("big IN (9007199254740993, 5)", {FIRST}),
        ("big BETWEEN 9007199254740993 AND 9223372036854775806", {FIRST}),
        ("big >= 9223372036854775807", {LAST}),
        ("big = 9223372036854775808", set()),
        ("big > -9223372036854775809 AND big < 9007199254740993", {SECOND}),
        ("big - 9007199254740993 = 0", {FIRST}),
        ("dec = 12345678901234567890.12", {FIRST}),
        ("dec = 1.1", {LAST}),
        ("f = 0.1", {SECOND}),
        ("gid = 9007199254740993 OR S_INTERSECTS(geom, POINT(1.00000000000000000001 2))", {FIRST, SECOND, LAST}),
    ],
)
def test_a_number_of_a_filter_has_all_its_digits(client, asked, found):
    assert ids(client, "kinds", filter=asked) == found


def test_a_number_of_a_filter_in_json_has_all_its_digits(client):
    for name, number, found in (("big", "9007199254740993", FIRST), ("dec", "12345678901234567890.12", FIRST)):
        tree = f'{{"op":"=","args":[{{"property":"{name}"}},{number}]}}'
        assert ids(client, "kinds", filter=tree, filter_lang="cql2-json") == {found}


def test_ids_and_values_go_to_the_ends_of_whole_numbers(client):
    assert ids(client, "kinds", big="9223372036854775807") == {LAST}
    assert ids(client, "kinds", ids="9007199254740993,9223372036854775807") == {SECOND, LAST}
    item = "/features/collections/vector.kinds/items"
    assert client.get(f"{item}/9007199254740993").json()["id"] == SECOND
    for none in ("9007199254740992", "9223372036854775806", "99999999999999999999", "x", "1.0"):
        assert client.get(f"{item}/{none}").status_code == 404, none


def test_values_are_told_as_they_are(client):
    text = client.get("/features/collections/vector.kinds/items?sortby=gid").text
    first, second, last = (f["properties"] for f in json.loads(text)["features"])
    assert '"dec":12345678901234567890.12' in text
    assert '"dec":1.10' in text
    assert (second["dec"], first["f"], last["f"]) == (None, None, None)
    assert (first["bin"], second["bin"], last["bin"]) == ("AP8=", None, "")
    assert (first["lst"], first["doc"], first["span"]) == ([1, 2], {"a": [1]}, "1 day 02:00:00")
    assert (first["d"], first["ts"]) == ("2024-01-01", "2024-01-01T00:00:00+00:00")
    row = client.get("/features/collections/vector.kinds/items?f=json&sortby=gid").json()[0]
    assert {name: row[name] for name in first} == first
    lines = client.get("/features/collections/vector.kinds/items?f=csv&sortby=gid").text.splitlines()
    assert "9007199254740993,12345678901234567890.12,inf,AP8=" in lines[1]
    assert '"[1,2]","{""a"": [1]}"' in lines[1]
    assert "2024-01-01,2024-01-01T00:00:00+00:00" in lines[1]
    told = client.get("/features/collections/vector.kinds/queryables").json()["properties"]
    assert told["geom"] == {"$ref": "https://geojson.org/schema/Point.json"}
    assert told["dec"]["type"] == "number"
    assert told["bin"]["contentEncoding"] == "base64"


def test_a_large_page_ends_early_and_the_next_begins_there(client, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BYTES", 300_000)
    heavy = "/features/collections/vector.heavy/items"
    first = client.get(f"{heavy}?limit=40").json()
    assert 0 < first["numberReturned"] < 10
    assert first["numberMatched"] == 40
    assert [feature["id"] for feature in pages(client, f"{heavy}?limit=40")] == list(range(1, 41))
    for other in ("csv", "json", "ndjson", "geojsonseq"):
        refused = client.get(f"{heavy}?limit=40&f={other}")
        assert refused.status_code == 413
        assert "limit" in refused.json()["detail"]
    assert client.get(f"{heavy}?limit=2&f=csv").status_code == 200


def test_a_geometry_that_alone_is_too_large_is_refused_and_can_be_asked_for_smaller(client, monkeypatch):
    monkeypatch.setattr(rows, "MOST_BYTES", 10_000)
    item = "/features/collections/vector.heavy/items/1"
    assert client.get(item).status_code == 413
    for way in ("bbox-only=true", "simplify=0.1", "geom-column=none"):
        assert client.get(f"{item}?{way}").status_code == 200, way


def test_a_table_that_is_locked_is_answered_by_503_and_keeps_no_other_waiting(client, settings):
    with psycopg.connect(settings.dsn("pipeline")) as db:
        db.execute("lock table vector.globe in access exclusive mode")
        answers = []
        waits = threading.Thread(target=lambda: answers.append(client.get("/features/collections/vector.globe/items")))
        waits.start()
        began = time.monotonic()
        for _ in range(8):
            assert len(ids(client, "polar")) == 500
            assert "vector.globe" in client.get("/features/collections?limit=1000").text
            time.sleep(0.4)
        assert time.monotonic() - began < 7
        waits.join()
        db.rollback()
    (answer,) = answers
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_table_that_is_replaced_by_one_with_other_columns_is_answered(client, settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        db.execute("create table vector.swap (gid int primary key, extra int); insert into vector.swap values (1, 1)")
        time.sleep(2.1)
        for name in ("other", "third", "extra"):
            assert client.get("/features/collections/vector.swap/items").status_code == 200
            db.execute(
                "begin; drop table vector.swap; create table vector.swap (gid int primary key, "
                f"{name} bigint); insert into vector.swap values (1, 1); commit"
            )
            found = client.get("/features/collections/vector.swap/items")
            assert found.status_code == 200, found.text
            assert found.json()["features"][0]["properties"] == {"gid": 1, name: 1}
        db.execute("drop table vector.swap")
        assert client.get("/features/collections/vector.swap/items").status_code == 404


def test_no_pages_are_claimed_or_offered(client):
    claimed = client.get("/features/conformance").json()["conformsTo"]
    assert claimed
    assert not any("html" in each for each in claimed)
    links = client.get("/features/").json()["links"]
    assert {"self", "service-desc", "conformance", "data"} <= {link["rel"] for link in links}
    assert not any(link.get("type") == "text/html" for link in links)
    for path in client.get("/features/api").json()["paths"].values():
        (operation,) = path.values()
        assert "text/html" not in operation["responses"]["200"].get("content", {})
        assert '"html"' not in json.dumps(operation.get("parameters", {}))
    assert client.get("/features/collections?f=html").status_code == 400
    for link in links:
        if not link.get("templated"):
            assert client.get(link["href"]).status_code == 200, link


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("limit=0", "limit is not a whole number from 1"),
        ("filter=nope=1", "there is no column 'nope'"),
        ("filter=s=1", "do not suit|does not suit"),
        ("filter=n='x'", "does not suit"),
        ("filter=n/0=1", "division by zero"),
        ("n=x", "does not suit"),
        ("n=99999999999999999999", "does not suit"),
        ("sortby=nope", "nope"),
        ("filter-crs=EPSG:25832&filter=n=1", "OGC:CRS84"),
        ("bbox=1,2,3", "bbox is"),
        ("bbox=[8,49,9,50]", "bbox is"),
        ("bbox=1,2,300,4", "-180 to 180"),
        ('filter={"op":"=","args":[{"property":"s"},"a\\u0000"]}&filter-lang=cql2-json', "NUL"),
        ("filter=S_INTERSECTS(geom,5)", "geometr"),
    ],
)
def test_a_refusal_is_one_sentence(client, asked, says):
    refused = client.get(f"/features/collections/vector.ties/items?{asked}")
    assert 400 <= refused.status_code < 500, refused.text
    told = refused.json()["detail"]
    assert re.search(says, told), told
    for noise in ("HINT", "DETAIL", "errors.pydantic", "unsupported Unicode", "\n"):
        assert noise not in told


@pytest.mark.parametrize("accept", ["application/json;q", "text/csv;q=x=y", "application/json;q=x", ";;,"])
def test_a_header_that_names_no_format_is_answered_by_the_usual_one(client, accept):
    for path in ("", "/items?limit=1"):
        answer = client.get(f"/features/collections/vector.ties{path}", headers={"Accept": accept})
        assert answer.status_code == 200, answer.text


def test_zooms_in_the_wrong_order_are_told_without_a_dump(client):
    told = client.get("/features/collections/vector.ties/tiles/WebMercatorQuad/tilejson.json?minzoom=20&maxzoom=3")
    assert "pydantic" not in told.text


def test_places_of_any_projection_are_found_in_the_part_of_the_extent_that_is_asked():
    chance = np.random.default_rng(0)
    for crs, extent in (
        ("EPSG:3413", (-2e6, -2e6, 2e6, 2e6)),
        ("EPSG:3031", (-3e6, -3e6, 3e6, 1e6)),
        ("EPSG:25832", (-5e6, -1e6, 5e6, 9.9e6)),
        ("EPSG:3857", (-1e9, -2e7, 2.0037e7, 2e7)),
        ("EPSG:2193", (1e6, 4.7e6, 2.1e6, 6.2e6)),
        ("ESRI:54009", (-1.8e7, -9e6, 1.8e7, 9e6)),
    ):
        x, y = (chance.uniform(extent[side], extent[side + 2], 20_000) for side in (0, 1))
        lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
        for _ in range(60):
            (west, east), (south, north) = (sorted(chance.uniform(-side, side, 2)) for side in (180, 90))
            wanted = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
            everything, part = _part(extent, crs, [(west, south, east, north)])
            assert not everything or wanted.all()
            if part is None:
                assert not wanted.any()
            else:
                found = (x >= part[0]) & (x <= part[2]) & (y >= part[1]) & (y <= part[3])
                assert not (wanted & ~found).any()
