"""A collection says what people said of it and what its items say, also after deletions and across 180°."""

import threading
from copy import deepcopy

import psycopg
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.stac.collection import Described
from geo_assets.stac.locks import queue_up
from geo_assets.stac.pgstac import (
    count_found,
    create_collection,
    delete_items,
    list_collections,
    load_items,
    read_collection,
    read_items,
    refresh_collection,
)
from geo_assets_tests.stac.test_retries import item


def ring(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def box_item(identity, collection, west, south, east, north, when="2026-01-02T03:04:05Z", **properties):
    """An item with a footprint; west > east crosses the antimeridian, in two halves as RFC 7946 has it."""
    halves = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    made = item(identity, collection)
    made["geometry"] = {"type": "MultiPolygon", "coordinates": [[ring(w, south, e, north)] for w, e in halves]}
    made["bbox"] = [west, south, east, north]
    made["properties"] = {"datetime": when, **properties}
    return made


def raster_item(identity, collection, bands, *, roles=("data",), shape=(10, 10)):
    made = box_item(identity, collection, 5.0, 50.0, 6.0, 51.0, **{"proj:shape": list(shape)})
    names = ["elevation", "red", "green", "blue"][-len(bands) :] if len(bands) > 1 else ["elevation"]
    made["assets"]["data"] = {
        "href": f"https://x.example/{identity}.tif",
        "type": "image/tiff; application=geotiff; profile=cloud-optimized",
        "roles": list(roles),
        "bands": [
            {"name": name, "data_type": "float32", "statistics": statistics}
            for name, statistics in zip(names, bands, strict=True)
        ],
    }
    return made


def statistics(mean, stddev, minimum, maximum):
    return {"mean": mean, "stddev": stddev, "minimum": minimum, "maximum": maximum, "valid_percent": 100.0}


def load(settings, *items):
    load_items(settings, items[0]["collection"], items, guard=lambda conn: None, record=lambda conn: None)


def delete(settings, collection, *ids):
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        queue_up(conn, collection)
        assert sorted(delete_items(conn, collection, ids)) == sorted(ids)


def extent(settings, collection):
    whole = refresh_collection(settings, collection)["extent"]
    return whole["spatial"]["bbox"], whole["temporal"]["interval"]


def test_the_extents_of_a_collection_are_exact_also_after_items_are_deleted(settings):
    load(
        settings,
        box_item("near", "shrinks", 5.0, 50.0, 6.0, 51.0, "2026-01-02T03:04:05Z"),
        box_item("far", "shrinks", -70.5, -33.25, -70.0, -33.0, "1999-12-31T23:59:59Z"),
    )
    assert extent(settings, "shrinks") == (
        [[-70.5, -33.25, 6.0, 51.0]],
        [["1999-12-31T23:59:59Z", "2026-01-02T03:04:05Z"]],
    )
    delete(settings, "shrinks", "far")
    assert extent(settings, "shrinks") == ([[5.0, 50.0, 6.0, 51.0]], [["2026-01-02T03:04:05Z"] * 2])
    delete(settings, "shrinks", "near")
    assert extent(settings, "shrinks") == ([[-180.0, -90.0, 180.0, 90.0]], [[None, None]])


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(170, -10, -170, 10)], [170, -10, -170, 10]),
        ([(175, -10, 179, 10), (-179, 0, -175, 20)], [175, -10, -175, 20]),
        ([(170, -10, -170, 10), (0, 0, 10, 10)], [0, -10, -170, 10]),
        ([(-180, -10, -90, 10), (90, -10, 180, 10)], [90, -10, -90, 10]),
        ([(-180, -90, 180, 90), (170, -10, -170, 10)], [-180, -90, 180, 90]),
        ([(177, -20, 178, -16), (-179, -20, -178, -16)], [177, -20, -178, -16]),  # Fiji
        ([(172, -44, 174, -41), (-88, 39, -87, 40)], [-88, -44, 174, 40]),  # New Zealand and Indiana
    ],
)
def test_the_extent_across_180_degrees_is_the_shortest_box_west_of_its_east(settings, boxes, expected):
    name = f"dateline-{abs(hash(str(boxes)))}"
    load(settings, *(box_item(f"i{n}", name, *map(float, box)) for n, box in enumerate(boxes)))
    assert extent(settings, name)[0] == [expected]


def test_items_of_unknown_time_leave_the_time_of_a_collection_to_the_others(settings):
    unknown = {"start_datetime": "0001-01-01T00:00:00Z", "end_datetime": "0001-01-01T00:00:00Z"}
    load(settings, box_item("u", "when", 0.0, 0.0, 1.0, 1.0, None, **unknown))
    assert extent(settings, "when")[1] == [[None, None]]
    load(settings, box_item("k", "when", 0.0, 0.0, 1.0, 1.0, "2020-02-03T04:05:06Z"))
    assert extent(settings, "when")[1] == [["2020-02-03T04:05:06Z"] * 2]


def test_what_was_said_of_a_collection_stays_until_something_else_is_said(settings):
    load(settings, item("i", "said"))
    said = Described(
        title="Elevation",
        description="Heights.",
        license="cc-by-4.0",
        providers=("Example Agency (producer, licensor) https://agency.example", "Somebody"),
        keywords=("dem",),
    )
    refresh_collection(settings, "said", said, title="default/landing: rasters")
    stored = refresh_collection(settings, "said", Described(title="Heights"), title="default/landing: rasters")
    assert (stored["title"], stored["description"], stored["license"]) == ("Heights", "Heights.", "CC-BY-4.0")
    agency = {"name": "Example Agency", "roles": ["producer", "licensor"], "url": "https://agency.example"}
    assert (stored["providers"], stored["keywords"]) == ([agency, {"name": "Somebody"}], ["dem"])
    assert read_collection(settings, "said") == stored


def test_a_collection_of_which_nothing_was_said_is_named_after_where_its_files_are_from(settings):
    load(settings, item("i", "unsaid"))
    stored = refresh_collection(settings, "unsaid", title="default/landing: rasters")
    assert (stored["title"], stored["license"]) == ("default/landing: rasters", "other")


def test_summaries_are_of_all_items_and_what_others_wrote_stays(settings):
    load(
        settings,
        box_item("a", "summed", 0.0, 0.0, 1.0, 1.0, gsd=10.0, **{"proj:code": "EPSG:32633"}),
        box_item("b", "summed", 0.0, 0.0, 1.0, 1.0, gsd=0.25, **{"proj:code": "EPSG:3857"}),
    )
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute(
            """update pgstac.collections set content = content || '{"summaries": {"eo:bands": [1]}, "x": 1}'
                where id = 'summed'"""
        )
    stored = refresh_collection(settings, "summed")
    assert stored["summaries"] == {
        "eo:bands": [1],
        "proj:code": ["EPSG:32633", "EPSG:3857"],
        "gsd": {"minimum": 0.25, "maximum": 10.0},
    }
    assert stored["x"] == 1
    assert stored["stac_extensions"] == ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    delete(settings, "summed", "a")
    assert refresh_collection(settings, "summed")["summaries"]["proj:code"] == ["EPSG:3857"]


def test_a_raster_is_drawn_between_2_and_98_percent_of_all_its_items_values(settings):
    load(
        settings,
        raster_item("low", "drawn", [statistics(0.0, 1.0, -10.0, 10.0)], shape=(10, 30)),
        raster_item("high", "drawn", [statistics(4.0, 1.0, -10.0, 10.0)], shape=(10, 10)),
    )
    stored = refresh_collection(settings, "drawn")
    low, high = stored["renders"]["data"]["rescale"][0]
    mean, spread = 1.0, 2.0  # of 300 pixels around 0 and 100 around 4: the variance is 1 + 0.75 * 1 + 0.25 * 9
    assert (low, high) == pytest.approx((mean - 2.0537 * spread, mean + 2.0537 * spread))
    assert stored["item_assets"]["data"]["bands"] == [{"name": "elevation", "data_type": "float32"}]
    assert "https://stac-extensions.github.io/render/v2.0.0/schema.json" in stored["stac_extensions"]


def test_a_picture_is_drawn_as_it_looks_and_one_of_a_single_value_not_at_all(settings):
    load(settings, raster_item("rgb", "picture", [statistics(100.0, 40.0, 0, 255)] * 3, roles=("data", "visual")))
    assert refresh_collection(settings, "picture")["renders"]["data"]["bidx"] == [1, 2, 3]
    load(settings, raster_item("flat", "flat", [statistics(7.0, 0.0, 7.0, 7.0)]))
    assert "renders" not in refresh_collection(settings, "flat")


def test_assets_that_differ_in_bands_are_described_by_what_they_share(settings):
    load(
        settings,
        raster_item("rgb", "mixed", [statistics(100.0, 40.0, 0, 255)] * 3, roles=("data", "visual")),
        raster_item("dem", "mixed", [statistics(0.0, 1.0, -10.0, 10.0)]),
    )
    stored = refresh_collection(settings, "mixed")
    shared = {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"]}
    assert stored["item_assets"] == {"data": shared}
    assert "renders" not in stored


def test_items_are_the_same_before_and_after_their_collection_is_described(settings):
    items = [raster_item(f"i{n}", "whole", [statistics(float(n), 1.0, -10.0, 10.0)]) for n in range(3)]
    load(settings, *deepcopy(items[:2]))
    refresh_collection(settings, "whole", Described(title="Whole"))
    load(settings, *deepcopy(items[2:]))
    bare = deepcopy(items[0])
    bare |= {"id": "j", "assets": {}}
    load(settings, deepcopy(bare))
    refresh_collection(settings, "whole")
    assert list(read_items(settings, "whole")) == [*items, bare]
    assert count_found(settings, "whole", ["i0", "i1", "i2", "j"]) == 4


def test_a_collection_that_would_be_the_same_is_not_written(settings):
    load(settings, raster_item("i", "idle", [statistics(0.0, 1.0, -10.0, 10.0)]))
    version = "select xmin::text from pgstac.collections where id = 'idle'"
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        refresh_collection(settings, "idle", Described(title="Idle"))
        before = conn.execute(version).fetchone()
        refresh_collection(settings, "idle", Described(title="Idle"))
        refresh_collection(settings, "idle")
        assert conn.execute(version).fetchone() == before
        refresh_collection(settings, "idle", Described(title="Not idle"))
        assert conn.execute(version).fetchone() != before


def test_a_collection_is_made_once(settings):
    create_collection(settings, "made", Described(title="Made", license="MIT"))
    with pytest.raises(GeoAssetsError, match="there is a collection made already"):
        create_collection(settings, "made", Described())
    assert read_collection(settings, "made")["license"] == "MIT"
    assert ("made", 0) in [(content["id"], items) for content, items in list_collections(settings)]
    for ask in (read_collection, refresh_collection):
        with pytest.raises(GeoAssetsError) as refused:
            ask(settings, "never-made")
        assert refused.value.code == "COLLECTION_NOT_FOUND"


def test_writers_of_one_collection_lose_nothing_while_it_is_renewed_and_searched(settings):
    faults = []

    def write(number):
        try:
            for n in range(0, 30, 10):
                west = float(number * 10 + n / 10)
                load(
                    settings,
                    *(box_item(f"w{number}-{n + m}", "busy", west, 0.0, west + 1, 1.0 + number) for m in range(10)),
                )
                refresh_collection(settings, "busy")
                count_found(settings, "busy", [f"w{number}-{n}"])
        except Exception as error:  # noqa: BLE001 - told below
            faults.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert faults == []
    ids = [f"w{number}-{n}" for number in range(3) for n in range(30)]
    assert count_found(settings, "busy", ids) == 90
    assert extent(settings, "busy")[0] == [[0.0, 0.0, 23.0, 3.0]]
