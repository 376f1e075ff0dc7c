"""Rasters that differ in bands go to collections of their own, once and for all; by the stages themselves."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

from geo_assets.database.connections import connect
from geo_assets.ledger import tombstones
from geo_assets.parameters import validate_parameters
from geo_assets.stac.locks import queue_up
from geo_assets.stac.pgstac import delete_items, read_collection
from geo_assets.stages.raster_collections import holding_elsewhere, withdraw_elsewhere
from geo_assets.stages.reconcile import reconcile
from geo_assets.stages.unpublish import unpublish_collection, unpublish_job
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stages.test_catalogue import world  # noqa: F401 - the fixture


def picture(world, name, **profile):  # noqa: F811
    return write(world.folder / name, numbers(3, "uint8"), photometric="rgb", **profile)


def height(world, name):  # noqa: F811
    return write(world.folder / name, numbers(1, "float32"))


def numbers(bands, dtype):
    return np.random.default_rng(bands).integers(0, 255, (bands, 40, 50)).astype(dtype)


def places(world):  # noqa: F811
    """Title -> collection, without the name that all share, and the keys of its data."""
    query = "select collection, get_item(id, collection) from items where collection ^@ %s"
    return {
        item["properties"]["title"]: (
            name.removeprefix(world.name),
            *sorted(key for key, asset in item["assets"].items() if "data" in asset["roles"]),
        )
        for name, item in world.rows(query, world.name)
    }


def differences(world):  # noqa: F811
    return reconcile(world.context.settings, collections=[world.name], grace=timedelta(0)).differences


def test_heights_and_pictures_share_neither_collection_nor_key_and_the_more_frequent_have_the_name(world):  # noqa: F811
    height(world, "a.tif")
    for name in ("b.tif", "c.tif"):
        picture(world, name)
    write(world.folder / "four.tif", numbers(4, "uint16"))
    _, registered = world.ingest(title="Survey")
    assert places(world) == {
        "a.tif": ("-float32", "data"),
        "b.tif": ("", "visual"),
        "c.tif": ("", "visual"),
        "four.tif": ("-4xuint16", "bands4"),
    }
    assert set(registered.collections) == {world.name, f"{world.name}-float32", f"{world.name}-4xuint16"}
    titles = {name: read_collection(world.context.settings, name)["title"] for name in registered.collections}
    assert titles == {
        world.name: "Survey",
        f"{world.name}-float32": "Survey: rasters of one band, float32",
        f"{world.name}-4xuint16": "Survey: rasters of 4 bands, uint16",
    }
    assert differences(world) == ()


def test_a_picture_with_transparency_is_a_picture(world):  # noqa: F811
    picture(world, "rgb.tif")
    write(world.folder / "rgba.tif", numbers(4, "uint8"), photometric="rgb", alpha="yes")
    world.ingest()
    assert places(world) == {"rgb.tif": ("", "visual"), "rgba.tif": ("", "visual")}


def test_heights_alone_are_in_the_collection_that_was_asked_for_and_stay_there_when_pictures_come(world):  # noqa: F811
    height(world, "a.tif")
    world.ingest(collection=f"{world.name}s")
    for name in ("b.tif", "c.tif", "d.tif"):
        picture(world, name)
    world.ingest(collection=f"{world.name}s")
    assert places(world) == {
        "a.tif": ("s", "data"),
        **dict.fromkeys(("b.tif", "c.tif", "d.tif"), ("s-visual", "visual")),
    }


def test_a_collection_that_was_deleted_takes_whatever_comes_next(world):  # noqa: F811
    height(world, "a.tif")
    for name in ("b.tif", "c.tif"):
        picture(world, name)
    world.ingest()
    assert places(world)["a.tif"] == ("-float32", "data")
    for name in (world.name, f"{world.name}-float32"):
        unpublish_collection(world.context.settings, name, by="cli")
    for name in ("b.tif", "c.tif"):
        (world.folder / name).unlink()
    world.ingest(title="heights alone")
    assert places(world) == {"a.tif": ("", "data")}


def test_who_asks_for_one_collection_gets_one(world):  # noqa: F811
    height(world, "a.tif")
    picture(world, "b.tif")
    world.ingest(one_collection=True)
    assert places(world) == {"a.tif": ("", "data"), "b.tif": ("", "visual")}


def test_a_source_whose_bands_change_moves_and_leaves_nothing_behind(world):  # noqa: F811
    for name in ("a.tif", "b.tif"):
        height(world, name)
    world.ingest()
    picture(world, "b.tif")
    world.ingest()
    assert places(world) == {"a.tif": ("", "data"), "b.tif": ("-visual", "visual")}
    assert differences(world) == ()
    assert (
        len([p for p in (world.context.settings.home / "containers/cogs").rglob("*.tif") if world.name in p.parts]) == 2
    )


def moving(world):  # noqa: F811
    """Two heights are published, then one of them is a picture; returns the item of that one as it was, and a
    connection.
    """
    for name in ("a.tif", "b.tif"):
        height(world, name)
    world.ingest()
    ((identity,),) = world.rows(
        "select id from items where collection = %s and content->'properties'->>'title' = 'b.tif'", world.name
    )
    picture(world, "b.tif")
    return identity, connect(world.context.settings)


def test_who_withdraws_an_item_that_moves_is_not_stopped_by_its_move_nor_stops_it(world):  # noqa: F811
    identity, conn = moving(world)
    with conn, ThreadPoolExecutor() as pool:
        conn.execute("set local lock_timeout = '500ms'")  # sooner than a deadlock is found
        queue_up(conn, world.name)  # as whoever retires or unpublishes begins
        moved = pool.submit(world.ingest)
        waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted"
        while not world.rows(waiting):
            assert not moved.done(), moved.result()
            time.sleep(0.02)
        tombstones.bury_items(conn, [f"{world.name}/{identity}"], "cli")
        delete_items(conn, world.name, [identity])
        conn.commit()
        moved.result()
    assert places(world) == {"a.tif": ("", "data"), "b.tif": ("-visual", "visual")}


def test_the_lock_of_a_collection_that_nobody_expected_is_not_waited_for(world):  # noqa: F811
    identity, conn = moving(world)
    parameters = validate_parameters("ingest_container", {"container": world.name})
    world.context.ledger.raster_collections.decided(world.name, ["float32", "visual"])
    with conn, connect(world.context.settings) as other:
        assert holding_elsewhere(conn, parameters, f"{world.name}-visual", [identity]) == [world.name]
        queue_up(other, world.name)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            withdraw_elsewhere(conn, parameters, f"{world.name}-visual", [identity])
        conn.rollback()
        other.rollback()
        assert [old.stac_item for old in withdraw_elsewhere(conn, parameters, f"{world.name}-visual", [identity])] == [
            f"{world.name}/{identity}"
        ]
        conn.rollback()


def test_what_an_older_release_put_into_one_collection_stays_until_it_is_made_again_and_is_never_there_twice(world):  # noqa: F811
    for name in ("a.tif", "b.tif"):
        picture(world, name)
    height(world, "c.tif")
    world.ingest(one_collection=True)
    asked = {"title": "now as the older release would have it"}
    world.rows(
        "update geo.jobs set parameters = parameters - 'one_collection' where parameters->>'container' = %s", world.name
    )
    height(world, "d.tif")
    world.ingest(**asked)
    assert places(world) == {
        "a.tif": ("", "visual"),
        "b.tif": ("", "visual"),
        "c.tif": ("-float32", "data"),
        "d.tif": ("-float32", "data"),
    }, "two of three that were there are pictures: the collection is theirs"
    assert differences(world) == ()
    job, registered = world.ingest(**asked)
    assert registered.items == 0
    unpublish_job(world.context.settings, world.submitter.jobs, job.job_id, by="cli")
    assert places(world) == {}


def test_two_jobs_that_are_first_at_the_same_time_agree(world):  # noqa: F811
    places_of = world.context.ledger.raster_collections
    first = places_of.decided(world.name, ["visual", "float32"])
    assert places_of.decided(world.name, ["float32", "visual"]) == first
    assert first == {"visual": world.name, "float32": f"{world.name}-float32"}


def test_the_colours_of_classes_are_in_the_item_and_draw_the_collection(world):  # noqa: F811
    path = write(world.folder / "classes.tif", np.tile(np.array([[1, 2, 5]], "uint8"), (40, 10))[None], nodata=0)
    import rasterio

    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0), 1: (255, 0, 0), 2: (0, 128, 0), 5: (0, 0, 255), 9: (9, 9, 9)})
    world.ingest()
    assert places(world) == {"classes.tif": ("", "palette")}
    ((item,),) = world.rows("select get_item(id, collection) from items where collection = %s", world.name)
    classes = {c["value"]: c["color_hint"] for c in item["assets"]["palette"]["bands"][0]["classification:classes"]}
    assert {value: classes[value] for value in (1, 2, 5)} == {1: "FF0000", 2: "008000", 5: "0000FF"}
    assert 0 not in classes
    assert 9 not in classes
    drawn = read_collection(world.context.settings, world.name)["renders"]["palette"]
    assert {value: drawn["colormap"][value] for value in ("1", "2", "5")} == {
        "1": [255, 0, 0, 255],
        "2": [0, 128, 0, 255],
        "5": [0, 0, 255, 255],
    }


def test_the_setup_of_the_catalogue_installs_queryables_and_indexes_only_where_it_is_asked_to(world):  # noqa: F811
    from geo_assets.stac.queryables import QUERYABLES, install

    height(world, "a.tif")
    world.ingest()

    def indexes():
        rows = world.rows("select indexdef from pg_indexes where schemaname = 'pgstac' and tablename like '_items_%%'")
        return sum("gsd" in row[0] for row in rows)

    with connect(world.context.settings) as conn:
        assert set(install(conn, ())) <= set(QUERYABLES)
        conn.commit()
        assert install(conn, ()) == [], "the second time there is nothing to do"
        conn.commit()
        assert indexes() == 0
        assert install(conn, ("gsd",)) == ["gsd"]
        conn.commit()
        assert indexes() > 0
        ((told,),) = world.rows("select get_queryables(%s::text)", world.name)
        assert set(QUERYABLES) <= told["properties"].keys()
        ((page,),) = world.rows(
            "select search(%s)",
            Jsonb(
                {
                    "collections": [world.name],
                    "filter-lang": "cql2-json",
                    "filter": {"op": ">", "args": [{"property": "gsd"}, 1]},
                }
            ),
        )
        assert [item["properties"]["title"] for item in page["features"]] == ["a.tif"]
        assert install(conn, ()) == ["gsd"]
        conn.commit()
        assert indexes() == 0


def test_tables_of_a_file_that_holds_a_raster_too_leave_the_rasters_item_where_it_is(world):  # noqa: F811
    import geopandas as gpd
    from shapely.geometry import Point

    grid = {"driver": "GPKG", "crs": "EPSG:25833", "TILE_FORMAT": "PNG"}
    write(world.folder / "both.gpkg", np.full((3, 60, 80), 7, "uint8"), **grid)
    table = gpd.GeoDataFrame({"n": [1]}, geometry=[Point(3e5, 5.9e6)], crs=25833)
    table.to_file(world.folder / "both.gpkg", layer="points", mode="a")
    _, registered = world.ingest()
    assert registered.items == 2
    rows = dict(world.rows("select collection, count(*) from items where collection ^@ %s group by 1", world.name))
    assert rows == {world.name: 1, f"{world.name}-vector": 1}
    assert differences(world) == ()
