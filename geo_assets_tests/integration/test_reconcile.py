"""The oracle itself: each thing that can come apart is told, by its class, and nothing else is."""

import shutil
from collections import Counter
from contextlib import contextmanager

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import box

from geo_assets.stages.reconcile import Class
from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.integration.test_publication import ingest, upload
from geo_assets_tests.oracle import assert_reconciled, differences
from geo_assets_tests.raster.test_cog import write

NAME = "reconciled"


@pytest.fixture(scope="module")
def tasks(cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp(NAME)
    write(folder / "a.tif", np.ones((1, 30, 30), "uint8"))
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(folder / "b.gpkg")
    upload(cli, folder, NAME)
    return ingest(cli, NAME)[1]


@contextmanager
def executed(cli, statement: str, undo: str):
    with connect(cli) as db:
        db.execute(statement)
    try:
        yield
    finally:
        with connect(cli) as db:
            db.execute(undo)


@contextmanager
def stored(cli, table: str, where: str, statement: str):
    """Rows are kept aside, changed, and put back."""
    aside = f"public.aside_{table.replace('.', '_')}"
    put_back = f"delete from {table} where {where}; insert into {table} select * from {aside}; drop table {aside}"
    with executed(cli, f"create table {aside} as select * from {table} where {where}; {statement}", put_back):
        yield


def test_a_healthy_collection_has_no_difference(cli, tasks):
    assert_reconciled(cli, NAME)
    assert differences(cli, NAME) == Counter()


def test_a_cog_that_is_gone_changed_or_unknown_is_told(cli, tasks):
    cog = cli.home / "containers" / tasks["a.tif"]["outputs"]["cog"].removeprefix("default/")
    good = cog.read_bytes()
    cog.unlink()
    assert differences(cli, NAME) == {Class.MISSING_COG: 1}
    cog.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert differences(cli, NAME) == {Class.CHECKSUM_MISMATCH: 1}
    cog.write_bytes(good)
    shutil.copy(cog, cog.with_name("stranger.tif"))
    assert differences(cli, NAME) == {Class.ORPHAN_COG: 1}
    cog.with_name("stranger.tif").unlink()


def test_an_item_that_is_gone_unknown_or_leads_elsewhere_is_told(cli, tasks):
    items, published = f"collection = '{NAME}'", f"stac_item ^@ '{NAME}/'"
    with stored(cli, "pgstac.items", items, f"delete from pgstac.items where {items}"):
        assert differences(cli, NAME) == {Class.MISSING_ITEM: 1}
    elsewhere = "jsonb_set(content, '{assets,data,href}', '\"file:///elsewhere.tif\"')"
    with stored(cli, "pgstac.items", items, f"update pgstac.items set content = {elsewhere} where {items}"):
        assert differences(cli, NAME) == {Class.DANGLING_HREF: 1}
    with stored(cli, "geo.published", published, f"delete from geo.published where {published}"):
        assert differences(cli, NAME) == {Class.ORPHAN_ITEM: 1, Class.UNPUBLISHED: 1, Class.ORPHAN_COG: 2}


def test_a_table_that_is_gone_unknown_or_of_other_rows_is_told(cli, tasks):
    (table,) = (t["table"] for t in tasks["b.gpkg"]["outputs"]["tables"])
    name = table.partition(".")[2]
    with executed(cli, f"alter table {table} rename to hidden", f"alter table vector.hidden rename to {name}"):
        assert differences(cli, NAME) == {Class.MISSING_TABLE: 1}
    with executed(cli, f"insert into {table} (geom) select geom from {table}", f"delete from {table} where gid > 1"):
        assert differences(cli, NAME) == {Class.ROWCOUNT_MISMATCH: 1}
    stranger = "insert into geo.table_names values ('stranger', 'default', 'x', 'x', '', 'reconciled'); create table vector.stranger ()"
    with executed(cli, stranger, "drop table vector.stranger; delete from geo.table_names where table_name = 'stranger'"):
        assert differences(cli, NAME) == {Class.ORPHAN_TABLE: 1}
    leftover = f"create table vector_staging.{name}__deadbeef ()"
    for _ in range(10):  # the janitor may sweep it before it is looked at
        with executed(cli, leftover, f"drop table if exists vector_staging.{name}__deadbeef"):
            found = differences(cli, NAME)
        if found:
            break
    assert found == {Class.STAGING_LEFTOVER: 1}


def test_a_source_that_has_no_task_or_is_gone_or_came_later_is_told(cli, tasks):
    source = cli.home / "containers" / NAME / "a.tif"
    aside = source.rename(source.parents[1] / "aside.tif")
    assert differences(cli, NAME) == {Class.MISSING_SOURCE: 1}
    aside.rename(source)
    shutil.copy(source, source.with_name("later.tif"))
    assert differences(cli, NAME) == {Class.NOT_INGESTED: 1}
    source.with_name("later.tif").unlink()
    where = f"task_key = 'a.tif' and outputs->>'stac_item' ^@ '{NAME}/'"
    with executed(
        cli, f"update geo.tasks set status = 'cancelled' where {where}", f"update geo.tasks set status = 'succeeded' where {where}"
    ):
        assert differences(cli, NAME) == {Class.UNACCOUNTED: 1}
