"""Tables as GeoParquet: the same rows as the table, twice the same bytes, an asset of its item, swept with it."""

import hashlib
import json
import threading
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import geopandas as gpd
import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg import sql
from shapely.geometry import Point

from geo_assets.errors import GeoAssetsError
from geo_assets.stages.abandoned_tables import sweep_abandoned_tables
from geo_assets.stages.export import export
from geo_assets.stages.reconcile import reconcile
from geo_assets.stages.unpublish import unpublish_job
from geo_assets.vector.tables.export import write_table
from geo_assets.vector.tables.session import open_session
from geo_assets_tests.stages.test_catalogue import world  # noqa: F401 - the fixture


def places(world, *names):  # noqa: F811
    frame = gpd.GeoDataFrame(
        {"name": list(names), "people": range(len(names))},
        geometry=[Point(170 + number, -40) for number in range(len(names))],
        crs=4326,
    ).to_crs(2193)
    frame.to_file(world.folder / "places.gpkg")
    return frame


def files(world) -> list[Path]:  # noqa: F811
    return sorted((world.context.settings.home / "containers" / "cogs" / world.name).rglob("*.parquet"))


def exported(world):  # noqa: F811
    """The asset of the one table's file."""
    (item,) = world.items().values()
    return next(asset for key, asset in item["assets"].items() if key.endswith("-geoparquet"))


def rows_of(world, table):  # noqa: F811
    return world.rows(f"select gid, name, people, encode(st_asbinary(geom), 'hex') from {table} order by gid")


def differences(world):  # noqa: F811
    return reconcile(world.context.settings, collections=[world.name], grace=timedelta(0), deep=True).differences


def test_a_table_that_is_asked_for_as_geoparquet_is_an_asset_with_the_rows_of_the_table(world):  # noqa: F811
    places(world, "x", "y", "z")
    job, _ = world.ingest(export_tables="geoparquet")
    told = exported(world)
    (path,) = files(world)
    assert told["href"] == f"file://{path}"
    assert (told["type"], told["roles"]) == ("application/vnd.apache.parquet", ["data"])
    assert (told["proj:code"], told["table:row_count"]) == ("EPSG:2193", 3)
    assert told["file:size"] == path.stat().st_size
    assert told["file:checksum"] == f"1220{hashlib.sha256(path.read_bytes()).hexdigest()}"
    frame = gpd.read_parquet(path)
    assert frame.crs.to_epsg() == 2193
    found = zip(frame.gid, frame.name, frame.people, frame.geometry.to_wkb(hex=True).str.lower(), strict=True)
    assert list(found) == rows_of(world, f"vector.{path.name.rpartition('_')[0]}")
    assert differences(world) == ()
    assert world.tasks(job)["places.gpkg"][0] == "succeeded"


def test_without_the_parameter_there_is_no_file(world):  # noqa: F811
    places(world, "x")
    world.ingest()
    (item,) = world.items().values()
    assert list(item["assets"]) == [key for key in item["assets"] if not key.endswith("-geoparquet")]
    assert files(world) == []


def test_the_file_of_a_source_that_changed_replaces_the_old_one(world):  # noqa: F811
    places(world, "x")
    world.ingest(export_tables="geoparquet")
    (old,) = files(world)
    places(world, "x", "y")
    world.ingest(export_tables="geoparquet")
    (new,) = files(world)
    assert new != old
    assert exported(world)["table:row_count"] == 2
    assert differences(world) == ()


def test_the_file_goes_when_the_job_is_unpublished(world):  # noqa: F811
    places(world, "x")
    job, _ = world.ingest(export_tables="geoparquet")
    done = unpublish_job(world.context.settings, world.submitter.jobs, job.job_id, by="cli")
    assert (done.files, done.tables, done.left) == (1, 1, ())
    assert files(world) == []
    assert differences(world) == ()


def test_an_export_takes_the_file_that_is_there(world, tmp_path):  # noqa: F811
    places(world, "x", "y")
    world.ingest(export_tables="geoparquet")
    export(world.context.settings, world.name, str(tmp_path / "out"))
    (there,) = files(world)
    (taken,) = (path for path in (tmp_path / "out").rglob("*.parquet") if path.name != "items.parquet")
    assert taken.read_bytes() == there.read_bytes()
    (item,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/*/*.json"))
    (asset,) = item["assets"].values()
    assert (asset["href"], asset["type"]) == (f"./{there.name}", "application/vnd.apache.parquet")


def test_a_database_that_takes_no_connection_stops_the_job_and_makes_no_file_bad(world, cluster):  # noqa: F811
    places(world, "x")
    begun = []

    def no_more_connections(job):
        begun.append(job)
        with psycopg.connect(cluster.dsn(), autocommit=True) as conn:
            conn.execute("alter role geo_pipeline connection limit 0")

    try:
        with pytest.raises(GeoAssetsError) as away:
            world.ingest(before=no_more_connections, export_tables="geoparquet")
    finally:
        with psycopg.connect(cluster.dsn(), autocommit=True) as conn:
            conn.execute("alter role geo_pipeline connection limit -1")
    assert away.value.code == "DATABASE_UNAVAILABLE"
    assert world.tasks(begun[0])["places.gpkg"][0] == "running", "whoever goes on with the job registers it"


def test_a_connection_that_is_lost_while_a_table_is_read_is_not_the_tables_fault(settings, cluster, tmp_path):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("create table vector.cut_off (gid bigint primary key, t text)")
        conn.execute("insert into vector.cut_off select n, repeat('x', 500) from generate_series(1, 100000) n")
    with open_session(settings.dsn("pipeline")) as session:
        ((pid,),) = session(sql.SQL("select pg_backend_pid()"))
        threading.Thread(target=end_while_it_reads, args=(cluster, pid)).start()
        with pytest.raises(GeoAssetsError) as lost:
            write_table(session, "cut_off", tmp_path / "x.parquet")
    assert lost.value.code == "DATABASE_UNAVAILABLE"
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("drop table vector.cut_off")


def end_while_it_reads(cluster, pid):
    query = "select 1 from pg_stat_activity where pid = %s and state = 'active' and query ~* 'copy|cut_off'"
    with psycopg.connect(cluster.dsn(), autocommit=True) as conn:
        while not conn.execute(query, (pid,)).fetchone():
            time.sleep(0.001)
        conn.execute("select pg_terminate_backend(%s)", (pid,))


def test_a_table_that_can_never_be_read_is_its_own_fault(settings, tmp_path):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("create table vector.refuses (gid bigint primary key, t int generated always as (7) stored)")
        conn.execute("insert into vector.refuses values (1)")
        conn.execute("revoke select on vector.refuses from current_user")
    try:
        with (
            open_session(settings.dsn("pipeline")) as session,
            pytest.raises(GeoAssetsError, match="permission denied") as refused,
        ):
            write_table(session, "refuses", tmp_path / "x.parquet")
    finally:
        with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
            conn.execute("drop table vector.refuses")
    assert refused.value.code == "INTERNAL"


def test_the_tables_of_a_file_whose_export_fails_are_dropped(world):  # noqa: F811
    for layer in ("east", "west"):
        frame = gpd.GeoDataFrame({"n": [1]}, geometry=[Point(170, -40)], crs=4326)
        frame.to_file(world.folder / "two.gpkg", layer=layer)

    def lose_one(job):
        (self_made,) = world.rows("select outputs->'tables'->0->>'table' from geo.tasks where job_id = %s", job.job_id)
        world.rows(f"drop table {self_made[0]}")

    job, registered = world.ingest(before=lose_one, export_tables="geoparquet")
    assert (registered.items, registered.failed) == (0, 1)
    assert world.tasks(job)["two.gpkg"][:2] == ["failed", "OUTPUT_GONE"]
    kept = "select tablename from pg_tables where schemaname = 'vector' and tablename ^@ %s"
    assert len(world.rows(kept, world.name)) == 1
    with psycopg.connect(world.context.settings.dsn("pipeline")) as conn:
        conn.commit()
        sweep_abandoned_tables(conn)
    assert world.rows(kept, world.name) == []


ODD = """
    create table vector.all_kinds (gid serial primary key, "bbox" text, yes boolean, s smallint, i integer, b bigint, r real,
        d double precision, n numeric(12, 3), wide numeric(60, 2), any_number numeric, t text, raw bytea, day date, clock time,
        local timestamp, moment timestamptz, long interval, j jsonb, names text[], numbers integer[], u uuid,
        "ümlaut x" text, geom geometry(PolygonZ, 2193));
    insert into vector.all_kinds values (7, 'box', true, 1, 2, 3, 1.5, 2.5, 12.345, 1234567890123456789012345678901234567890.12,
        3.14159, 'ä', '\\x00ff', '2026-01-02', '03:04:05.678', '2026-01-02 03:04:05.678901', '2026-01-02 03:04:05.678901+00',
        '1 mon 2 days', '{"a": [1, null]}', '{a,NULL,b}', '{1,2}', '00000000-0000-0000-0000-000000000001', 'q',
        st_geomfromtext('POLYGON Z ((0 0 1, 5 0 2, 5 6 3, 0 0 1))', 2193));
    insert into vector.all_kinds (gid, n) values (3, 'NaN');
"""


@pytest.fixture
def odd(settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("set search_path to public")
        conn.execute(ODD)
        yield conn
        conn.execute("drop table vector.all_kinds")


def test_every_type_of_column_is_kept_and_the_rows_are_in_the_order_of_the_key(settings, odd, tmp_path):
    paths = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    for path in paths:
        with open_session(settings.dsn("pipeline")) as session:
            assert write_table(session, "all_kinds", path) == 2
    assert paths[0].read_bytes() == paths[1].read_bytes()
    empty, row = pq.read_table(paths[0]).to_pylist()
    assert (empty["gid"], row["gid"]) == (3, 7)
    assert {value for name, value in empty.items() if name != "gid"} == {None}
    ((moment, local),) = odd.execute("select moment, local from vector.all_kinds where gid = 7").fetchall()
    kept = {name: row[name] for name in ("bbox", "yes", "s", "i", "b", "r", "d", "n", "t", "raw", "names", "numbers")}
    assert kept == {
        "bbox": "box",
        "yes": True,
        "s": 1,
        "i": 2,
        "b": 3,
        "r": 1.5,
        "d": 2.5,
        "n": Decimal("12.345"),
        "t": "ä",
        "raw": b"\x00\xff",
        "names": ["a", None, "b"],
        "numbers": [1, 2],
    }
    assert (row["moment"], row["local"], row["ümlaut x"]) == (moment, local, "q")
    assert (str(row["day"]), str(row["clock"]), row["u"][-1]) == ("2026-01-02", "03:04:05.678000", "1")
    assert (row["wide"], row["any_number"]) == ("1234567890123456789012345678901234567890.12", "3.14159")
    assert (row["long"], json.loads(row["j"])) == ("1 mon 2 days", {"a": [1, None]})
    assert row["bbox_1"] == {"xmin": 0.0, "ymin": 0.0, "xmax": 5.0, "ymax": 6.0}
    geo = json.loads(pq.read_metadata(paths[0]).metadata[b"geo"])["columns"]["geom"]
    assert (geo["geometry_types"], geo["bbox"]) == (["Polygon Z"], [0.0, 0.0, 5.0, 6.0])
    assert geo["covering"]["bbox"]["ymax"] == ["bbox_1", "ymax"]
    frame = gpd.read_parquet(paths[0])
    assert (frame.crs.to_epsg(), frame.geometry.iloc[1].has_z) == (2193, True)


def test_a_table_that_is_not_there_is_named(settings, tmp_path):
    with (
        open_session(settings.dsn("pipeline")) as session,
        pytest.raises(GeoAssetsError, match=r"there is no table vector\.never_made") as refused,
    ):
        write_table(session, "never_made", tmp_path / "x.parquet")
    assert refused.value.code == "OUTPUT_GONE"


def test_many_rows_come_in_batches_and_all_of_them_come(settings, tmp_path):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("create table vector.many_rows (gid bigint primary key, t text)")
        conn.execute("insert into vector.many_rows select n, repeat('x', 500) from generate_series(50000, 1, -1) n")
        with open_session(settings.dsn("pipeline")) as session:
            assert write_table(session, "many_rows", tmp_path / "many.parquet") == 50_000
        conn.execute("drop table vector.many_rows")
    assert pq.read_metadata(tmp_path / "many.parquet").num_row_groups > 1
    gids = pq.read_table(tmp_path / "many.parquet")["gid"].to_pylist()
    assert gids == sorted(gids)
    assert b"geo" not in pq.read_metadata(tmp_path / "many.parquet").metadata
