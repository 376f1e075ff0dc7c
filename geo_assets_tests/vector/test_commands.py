"""`geo-assets load` and `geo-assets vector …` as a person calls them, on the stack of the tests."""

import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import geopandas as gpd
import psycopg
import pytest
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_crs_info
from pyproj.enums import PJType
from shapely.geometry import Point, box

from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.vector.builders import (
    NATURAL_EARTH,
    altered,
    contradicting,
    frame,
    hive,
    points,
    shapefile_parts,
    write,
    zipped,
)


def load(cli, path, table, *options):
    done = cli.run("load", str(path), "--table", table, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(cli, *arguments):
    done = cli.run(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], done.stderr
    return done.stderr


def test_the_name_of_a_layer_moves_no_cursor(cli, tmp_path):
    path = tmp_path / "a.gpkg"
    for name in ("a\x1b[2J\nb", "other"):
        write(points(2), path, layer=name)
    done = cli.run("vector", "inspect", str(path))
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "a [2J b  GPKG, 2 features" in done.stdout


def test_a_pipe_is_no_source_and_is_not_waited_for(cli, tmp_path):
    os.mkfifo(tmp_path / "a.geojson")
    for arguments in (("vector", "inspect"), ("load", "--table", "vector.pipe")):
        assert "there is no file or folder" in refused(cli, *arguments, str(tmp_path / "a.geojson"))


def test_a_loose_shapefile_is_loaded_with_its_parts(cli):
    said = load(cli, NATURAL_EARTH, "vector.ne")
    assert {"table", "layer", "rows", "rejected", "filtered", "repaired"} <= said["tables"][0].keys()
    assert (said["tables"][0]["table"], said["tables"][0]["rows"], said["tables"][0]["srid"]) == (
        "vector.ne",
        177,
        4326,
    )
    with connect(cli) as db:
        assert db.execute("select count(*) from vector.ne").fetchone() == (177,)
        assert db.execute("select has_table_privilege('geo_reader', 'vector.ne', 'select')").fetchone() == (True,)
        assert db.execute(
            "select features, loaded, rejected, filtered from geo.vector_loads where table_name = 'vector.ne'"
        ).fetchone() == (177, 177, 0, 0)


def test_a_reference_system_that_this_postgis_lacks_and_proj_has_is_added_and_transforms_as_proj_does(cli, tmp_path):
    with connect(cli) as db:
        known = {srid for (srid,) in db.execute("select srid from spatial_ref_sys").fetchall()}
    found = query_crs_info(
        auth_name="EPSG", pj_types=[PJType.PROJECTED_CRS], area_of_interest=AreaOfInterest(9, 50, 10, 51)
    )
    code = next((int(info.code) for info in found if int(info.code) not in known), None)
    if code is None:
        pytest.skip("this PostGIS knows every reference system of PROJ here")
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame({"n": [1]}, geometry=gpd.points_from_xy([9.5], [50.5]), crs=4326).to_crs(code).to_file(path)
    assert load(cli, path, "vector.rare_crs")["tables"][0]["srid"] == code
    with connect(cli) as db:
        x, y = db.execute(
            "select st_x(g), st_y(g) from (select st_transform(geom, 4326) g from vector.rare_crs) t"
        ).fetchone()
    assert (x, y) == pytest.approx((9.5, 50.5), abs=1e-7)


def test_heights_of_members_are_kept_although_the_header_of_their_geometry_has_none(cli, tmp_path):
    load(cli, contradicting(tmp_path / "a.gpkg", 6, 1003, heights=True), "vector.contradicting")
    with connect(cli) as db:
        assert db.execute("select distinct st_zmin(geom), st_zmax(geom) from vector.contradicting").fetchall() == [
            (5, 7)
        ]
        query = "select count(*) from pg_tables where schemaname = 'vector_staging' and tablename like 'contradicting%'"
        assert db.execute(query).fetchone() == (0,)


@pytest.mark.parametrize("trust", [(), ("--trust-geometry",)])
def test_every_feature_is_loaded_although_the_file_states_another_number_of_them(cli, tmp_path, trust):
    path = altered(write(points(7), tmp_path / "a.gpkg"), "update gpkg_ogr_contents set feature_count = 5")
    (table,) = load(cli, path, "vector.miscounted", *trust)["tables"]
    assert (table["rows"], table["features"]) == (7, 7)
    with connect(cli) as db:
        assert db.execute("select count(*) from vector.miscounted").fetchone() == (7,)
        query = "select count(*) from pg_tables where schemaname = 'vector_staging' and tablename like 'miscounted%'"
        assert db.execute(query).fetchone() == (0,)


def test_a_layer_that_states_one_kind_of_geometry_and_holds_two_becomes_two_tables(cli, tmp_path):
    shapes = gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), Point(5, 5)], crs=4326)
    path = altered(
        write(shapes, tmp_path / "a.gpkg"), "update gpkg_geometry_columns set geometry_type_name = 'POLYGON'"
    )
    said = load(cli, path, "vector.mis_stated")
    assert {table["table"]: table["rows"] for table in said["tables"]} == {
        "vector.mis_stated_a_point": 1,
        "vector.mis_stated_a_polygon": 1,
    }


@pytest.mark.faults
def test_several_layers_become_several_tables_and_are_kept_or_called_back_alone(cli, tmp_path):
    path = write(points(3), tmp_path / "a.gpkg", layer="one")
    write(points(4), path, layer="two")
    said = load(cli, path, "vector.several", "--keep-versions", "1")
    assert {t["table"]: t["rows"] for t in said["tables"]} == {"vector.several_one": 3, "vector.several_two": 4}
    load(cli, path, "vector.several_one", "--layer", "two", "--keep-versions", "1")
    back = json.loads(cli.run("vector", "rollback", "vector.several_one", "--json").stdout)
    assert back == {"table": "vector.several_one", "rows": 3, "drift": []}
    assert "no earlier version" in refused(cli, "vector", "rollback", "vector.several_one")


def test_where_one_of_several_layers_is_refused_no_table_is_published(cli, tmp_path):
    path = write(points(3), tmp_path / "a.gpkg", layer="one")
    write(points(4), path, layer="two")
    with connect(cli) as db:
        db.execute("create view vector.halved_two as select 1 as x")
    assert "halved_two" in refused(cli, "load", str(path), "--table", "vector.halved")
    with connect(cli) as db:
        assert db.execute("select tablename from pg_tables where tablename ^@ 'halved'").fetchall() == []
        db.execute("drop view vector.halved_two")


def test_a_transformation_is_named_with_its_accuracy(cli, tmp_path):
    path = write(points(3), tmp_path / "a.gpkg")  # in the middle of Germany
    arguments = ("load", str(path), "--table", "vector.moved", "--target-crs")
    said = cli.run(*arguments, "EPSG:4258").stdout  # some releases of PROJ also name the changes of axes
    assert re.search(r"^  transform  .*Inverse of ETRS89 to WGS 84 \(1\).* \(to 1 m\)$", said, re.MULTILINE)
    assert "(exact)" in cli.run(*arguments, "EPSG:3857", "--allow-drift").stdout
    arguments = (*arguments[:-1], "--allow-drift", "--source-crs", "EPSG:4267", "--override-crs", "--target-crs")
    done = cli.run(*arguments, "EPSG:4326")
    assert "(of unknown accuracy)" in done.stdout
    assert "PROJ knows no transformation from 'NAD27' to 'WGS 84'" in done.stderr


def test_inspect_says_what_a_load_would_make_and_needs_no_database(cli, tmp_path):
    path = write(frame("POINT(1 2)", "POINT EMPTY", n=[1, 2]), tmp_path / "a.gpkg")
    plan = cli.json("vector", "inspect", str(path), "--target-crs", "EPSG:3857")["layers"][0]
    assert (plan["srid"], plan["feature_count"], plan["rejected_by_reason"]) == (3857, 2, {"empty geometry": 1})
    text = cli.run("vector", "inspect", str(path)).stdout
    assert "POINT, EPSG:4326" in text


@pytest.mark.faults
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--where", "1=1; drop table x"), "where"),
        (("--columns", "n,nope"), "'nope'"),
        (("--target-crs", "EPSG:999999"), "EPSG:999999"),
        (("--target-crs", "https://example.com"), "EPSG:code"),
        (("--bbox", "1,2,3"), "box"),
        (("--mode", "drop"), "replace"),
        (("--mode", "upsert"), "--key"),
        (("--mixed", "x"), "mixed"),
        (("--layer", "x"), "'x'"),
        (("--where", "n > 1000"), "filter"),
    ],
)
def test_a_wrong_option_is_one_line_and_a_hint_and_leaves_nothing(cli, tmp_path, options, said):
    path = write(points(3), tmp_path / "a.gpkg")
    assert said in refused(cli, "load", str(path), "--table", "vector.wrong", *options)
    with connect(cli) as db:
        assert db.execute("select count(*) from pg_tables where tablename like 'wrong%'").fetchone() == (0,)


@pytest.mark.faults
@pytest.mark.parametrize(
    "table", ["public.x", "geo.jobs", "vector.a__b", "vector.A b", "vector." + "x" * 60, "vector.", 'vector."; drop']
)
def test_a_table_that_is_not_ours_to_name_is_refused(cli, tmp_path, table):
    refused(cli, "load", str(write(points(3), tmp_path / "a.gpkg")), "--table", table)


@pytest.mark.faults
def test_append_upsert_and_drift_are_told(cli, tmp_path):
    path = write(points(3, id=[1, 2, 3], t=["a", "b", "c"]), tmp_path / "a.gpkg")
    load(cli, path, "vector.moded", "--mode", "upsert", "--key", "id")
    changed = write(points(3, id=[2, 3, 4], t=["b", "x", "y"]), tmp_path / "b.gpkg")
    row = load(cli, changed, "vector.moded", "--mode", "upsert", "--key", "ID")["tables"][0]
    assert (row["rows"], row["table_rows"]) == (3, 4)
    other = write(points(1, id=[9.5]), tmp_path / "c.gpkg")
    assert "id is double precision, was bigint" in refused(cli, "load", str(other), "--table", "vector.moded")
    assert load(cli, other, "vector.moded", "--allow-drift")["tables"][0]["drift"]


@pytest.mark.faults
def test_a_name_that_a_person_took_is_not_taken_by_the_pipeline(cli, tmp_path):
    load(cli, write(points(3), tmp_path / "mine.gpkg"), "vector.taken_a")
    (tmp_path / "up").mkdir()
    write(points(5), tmp_path / "up" / "a.gpkg")
    assert cli.run("upload", str(tmp_path / "up"), "default/taken").returncode == 0
    job = cli.json("submit", "stage_vector", "--param", "container=taken", "--param", "where=n < 4", "--wait")
    (task,) = (t for t in cli.json("tasks", job["job_id"]) if t["stage"] == "vector_tables")
    (table,) = task["outputs"]["tables"]
    assert table["table"] != "vector.taken_a"
    assert (table["features"], table["loaded"], table["filtered"]) == (5, 4, 1)
    with connect(cli) as db:
        assert db.execute("select count(*) from vector.taken_a").fetchone() == (3,)


@pytest.mark.faults
def test_of_two_loads_the_one_submitted_last_stays(cli, tmp_path):
    load(cli, write(points(3), tmp_path / "a.gpkg"), "vector.late")
    with connect(cli) as db:
        db.execute(
            "update geo.vector_loads set submitted_at = now() + interval '1 hour' where table_name = 'vector.late'"
        )
        db.commit()
    said = load(cli, write(points(4), tmp_path / "b.gpkg"), "vector.late")
    assert said["tables"][0]["superseded"]
    assert re.search(r"a\.gpkg, which was submitted at \S+, later than \S+b\.gpkg at \S+$", said["warnings"][0])
    with connect(cli) as db:
        assert db.execute("select count(*) from vector.late").fetchone() == (3,)
        assert db.execute("select count(*) from pg_tables where schemaname = 'vector_staging'").fetchone() == (0,)


class Readers:
    """Two connections that ask the table and a view over it, over and over."""

    def __init__(self, cli):
        self.stop, self.faults, self.seen, self.slowest = threading.Event(), [], set(), 0.0
        self.connections = [connect(cli) for _ in range(2)]
        self.threads = [threading.Thread(target=self.read, args=(conn,)) for conn in self.connections]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread, conn in zip(self.threads, self.connections, strict=True):
            thread.join()
            conn.close()

    def read(self, conn):
        conn.autocommit = True
        while not self.stop.is_set():
            for name in ("vector.swapped", "public.swapped_view"):
                began = time.monotonic()
                try:
                    self.seen.add(conn.execute(f"select count(*), count(distinct w) from {name}").fetchone())
                except psycopg.Error as error:
                    self.faults.append(str(error))
                self.slowest = max(self.slowest, time.monotonic() - began)


def swap(cli, tmp_path, *, writers, seconds):
    """Writers replace one table while two readers watch; what they saw, and all faults."""
    geometry = points(2000).geometry
    paths = [
        write(gpd.GeoDataFrame({"w": [w] * 2000}, geometry=geometry), tmp_path / f"w{w}.gpkg") for w in range(writers)
    ]
    load(cli, paths[0], "vector.swapped")
    with connect(cli) as db:
        db.execute("create or replace view public.swapped_view as select w, geom from vector.swapped")
    faults, end = [], time.monotonic() + seconds

    def work(path):
        while True:
            done = cli.run("load", str(path), "--table", "vector.swapped")
            if done.returncode:
                faults.append(done.stderr)
            if time.monotonic() > end:
                return

    with Readers(cli) as readers:
        workers = [threading.Thread(target=work, args=(path,)) for path in paths]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    with connect(cli) as db:
        loads = db.execute("select count(*) from geo.vector_loads where table_name = 'vector.swapped'").fetchone()[0]
        db.execute("drop view public.swapped_view")
        assert db.execute("select count(*) from pg_tables where schemaname = 'vector_staging'").fetchone() == (0,)
    print(f"{loads} loads by {writers} writers; slowest read {readers.slowest:.2f} s; seen {readers.seen}")
    return readers.seen, faults + readers.faults, readers.slowest


@pytest.mark.slow
def test_three_writers_and_two_readers_never_meet(cli, tmp_path):
    seen, faults, _ = swap(cli, tmp_path, writers=3, seconds=3)
    assert (seen, faults) == ({(2000, 1)}, [])


@pytest.mark.slow
def test_six_writers_and_two_readers_never_meet_for_a_minute(cli, tmp_path):
    seen, faults, slowest = swap(cli, tmp_path, writers=6, seconds=60)
    assert (seen, faults) == ({(2000, 1)}, [])
    assert (
        slowest < 2
    )  # of a read, on a machine that six loads keep busy; the swap itself is measured in test_publish.py


@pytest.mark.faults
def test_a_job_appends_the_same_bytes_once_and_new_bytes_again(cli, tmp_path):
    parameters = [part for p in ("container=appended", "mode=append", "collection=app") for part in ("--param", p)]

    def table(*options):
        job = cli.json("submit", "stage_vector", *parameters, "--wait", *options)
        (task,) = (t for t in cli.json("tasks", job["job_id"]) if t["stage"] == "vector_tables")
        assert task["status"] in {"succeeded", "skipped"}, task
        with connect(cli) as db:
            return db.execute(f"select count(*), max(n) from {task['outputs']['tables'][0]['table']}").fetchone()

    upload = ("upload", str(write(points(3), tmp_path / "a.gpkg")), "default/appended")
    assert cli.run(*upload).returncode == 0
    assert table() == (3, 2)
    assert table("--force") == (3, 2)
    (tmp_path / "a.gpkg").unlink()
    write(points(5), tmp_path / "a.gpkg")
    assert cli.run(*upload).returncode == 0
    assert table() == (8, 4)


def test_a_folder_that_is_a_geodatabase_is_loaded(cli, tmp_path):
    gdb = write(points(4, crs=2193), tmp_path / "a.gdb", layer="roads")
    assert load(cli, gdb, "vector.gdb")["tables"][0]["rows"] == 4


def made(folder):
    folder.mkdir()
    return folder


def test_a_mapinfo_table_takes_its_parts_along_and_a_folder_of_parquet_is_one_table(cli, tmp_path):
    for path, rows, columns in (
        (write(points(3), made(tmp_path / "one") / "f.tab"), 3, ["n"]),
        (write(points(3), made(tmp_path / "two") / "f.mif"), 3, ["n"]),
        (hive(tmp_path / "sites", year=[2023, 2024]), 4, ["n", "year"]),
    ):
        (plan,) = cli.json(
            "vector", "inspect", str(path), *(() if path.suffix != ".mif" else ("--source-crs", "EPSG:4326"))
        )["layers"]
        assert (plan["feature_count"], [c["name"] for c in plan["columns"]]) == (rows, columns)


def test_links_below_a_folder_lead_nowhere_else(cli, tmp_path):
    folder = hive(tmp_path / "sites", year=[2023])
    (folder / "year=2024").symlink_to(folder, target_is_directory=True)
    (folder / "year=2023" / "zero.parquet").symlink_to("/dev/zero")
    (plan,) = cli.json("vector", "inspect", str(folder))["layers"]
    assert plan["feature_count"] == 2


@pytest.mark.faults
def test_a_zipped_geodatabase_under_its_usual_name_is_loaded_alone_and_from_a_container(cli, tmp_path):
    folder = write(points(2), tmp_path / "roads.gdb")
    zipped = Path(shutil.make_archive(str(tmp_path / "roads.gdb"), "zip", tmp_path, folder.name))
    assert zipped.name == "roads.gdb.zip"
    assert load(cli, zipped, "vector.gdb_zip")["tables"][0]["rows"] == 2
    assert cli.run("upload", str(zipped), "default/gdbzip").returncode == 0
    job = cli.json("submit", "ingest_container", "--param", "container=gdbzip", "--wait")
    assert job["status"] == "completed"
    (task,) = cli.json("tasks", job["job_id"])
    assert [t["rows"] for t in task["outputs"]["tables"]] == [2]


def test_hostile_uploads_are_refused_on_the_command_line_and_nothing_is_left(cli, tmp_path):
    (tmp_path / "vrt.geojson").write_text(
        "<OGRVRTDataSource><SrcDataSource>CSV:/etc/passwd</SrcDataSource></OGRVRTDataSource>"
    )
    (tmp_path / "cut.gpkg").write_bytes(write(points(3000), tmp_path / "a.gpkg").read_bytes()[:50_000])
    for name in ("vrt.geojson", "cut.gpkg", "nothing.gpkg"):
        refused(cli, "load", str(tmp_path / name), "--table", "vector.evil")
    assert not [p for p in (cli.home / "scratch").rglob("*") if p.is_file() and p.name != ".held"]
    with connect(cli) as db:
        assert db.execute("select count(*) from pg_tables where tablename like 'evil%'").fetchone() == (0,)


@pytest.mark.faults
def test_a_shapefile_called_city_thumbs_brings_its_attributes_loose_zipped_in_a_folder_and_in_a_container(
    cli, tmp_path
):
    delivery = tmp_path / "delivery"
    for folder in (delivery, tmp_path / "loose"):
        folder.mkdir()
    loose = write(points(3, label=["a", "b", "c"]), tmp_path / "loose" / "city_thumbs.shp")
    parts = shapefile_parts(loose)
    assert {part.suffix for part in parts} >= {".shp", ".shx", ".dbf", ".prj"}
    for part in parts:
        shutil.copy(part, delivery)
    packed = zipped(delivery / "packed.zip", *parts)
    tables = [load(cli, path, f"vector.thumbs_{name}")["tables"][0] for name, path in (("a", loose), ("b", packed))]
    assert cli.run("upload", str(delivery), "default/thumbs").returncode == 0
    job = cli.json("submit", "stage_vector", "--param", "container=thumbs", "--wait")
    assert job["status"] == "completed"
    tasks = [task for task in cli.json("tasks", job["job_id"]) if task["stage"] == "vector_tables"]
    assert {task["task_key"] for task in tasks} == {"city_thumbs.shp", "packed.zip"}
    tables += [table for task in tasks for table in task["outputs"]["tables"]]
    with connect(cli) as db:
        for table in tables:
            labels = db.execute(f"select label from {table['table']} order by 1").fetchall()
            assert labels == [("a",), ("b",), ("c",)], table
