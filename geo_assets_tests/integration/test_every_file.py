"""Every blob of a container is accounted for, whatever it is."""

import gzip
import json
import os
import shutil

import pytest
from psycopg import sql

from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.vector.builders import hive, points, write

pytestmark = pytest.mark.faults

NAMES = {
    "a.geojson": "source",
    "b.shp": "source",
    "b.shx": "part",
    "b.dbf": "part",
    "README.md": "companion",
    "LICENSE": "companion",
    "style.qml": "companion",
    "a.tif.vat.dbf": "companion",
    "scene_MTL.json": "companion",
    "project.qgz": "companion",
    "data.dwg": "source",
    ".DS_Store": "ignored",
    "deep/__MACOSX/x.tif": "ignored",
    "left/out.gpkg": "ignored",
    "link.tif": "ignored",
    "pipe.tif": "ignored",
}


@pytest.fixture(scope="module")
def job(cli):
    folder = cli.home / "containers" / "every-file"
    for name in NAMES.keys() - {"link.tif", "pipe.tif"}:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "link.tif").symlink_to("a.geojson")
    os.mkfifo(folder / "pipe.tif")
    write(points(2), folder / "a.geojson")
    return cli.json(
        "submit", "ingest_container", "--param", "container=every-file", "--param", "exclude=left/*", "--wait"
    )


def test_every_blob_has_one_role(cli, job):
    assert {f["path"]: f["role"] for f in cli.json("files", job["job_id"])} == NAMES


def test_a_part_names_its_source_and_what_is_ignored_its_reason(cli, job):
    files = {f["path"]: f for f in cli.json("files", job["job_id"])}
    assert files["b.dbf"]["of"] == "b.shp"
    assert "operating system" in files[".DS_Store"]["reason"]
    assert "exclude" in files["left/out.gpkg"]["reason"]
    assert (files["link.tif"]["reason"], files["pipe.tif"]["reason"]) == (
        "a link, which is not followed",
        "a pipe, socket or device",
    )


def test_companions_are_never_quarantined(cli, job):
    bad = {t["task_key"] for t in cli.json("tasks", job["job_id"]) if t["status"] == "quarantined"}
    assert bad == {"b.shp", "data.dwg"}


def test_good_data_beside_a_readme_completes(cli):
    folder = cli.home / "containers" / "with-readme"
    folder.mkdir(parents=True)
    write(points(2), folder / "a.geojson")
    (folder / "README.txt").write_text("as delivered")
    done = cli.run("submit", "ingest_container", "--param", "container=with-readme", "--wait", "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "completed")


def test_companions_do_not_use_up_the_limit(cli):
    folder = cli.home / "containers" / "companions-limited"
    folder.mkdir(parents=True)
    for name in ("0.txt", "1.txt"):
        (folder / name).write_text("x")
    for name in ("a.geojson", "b.geojson"):
        write(points(2), folder / name)
    job = cli.json(
        "submit", "ingest_container", "--param", "container=companions-limited", "--param", "limit=1", "--wait"
    )
    assert [t["task_key"] for t in cli.json("tasks", job["job_id"])] == ["a.geojson"]
    roles = {f["path"]: f["role"] for f in cli.json("files", job["job_id"])}
    assert roles == {"0.txt": "companion", "1.txt": "companion", "a.geojson": "source", "b.geojson": "beyond_limit"}


@pytest.fixture(scope="module")
def folders(cli):
    """A job over sources of many files: a FileGDB, two tables of Parquet files, MapInfo; and packed GeoJSON."""
    folder = cli.home / "containers" / "folders"
    (folder / "d").mkdir(parents=True)
    write(points(3), folder / "d" / "places.gdb")
    hive(folder / "d" / "sites", year=[2023, 2024])
    hive(folder, month=[1, 2])
    write(points(5), folder / "parcels.tab")
    write(points(6), folder / "x.geojson")
    (folder / "x.geojson.gz").write_bytes(gzip.compress((folder / "x.geojson").read_bytes()))
    (folder / "x.geojson").unlink()
    return cli.json(
        "submit", "ingest_container", "--param", "container=folders", "--param", "collection=many", "--wait"
    )


def test_a_folder_that_is_one_table_becomes_one_table_and_mapinfo_brings_its_parts(cli, folders):
    tasks = {t["task_key"]: t for t in cli.json("tasks", folders["job_id"])}
    rows = {key: [table["rows"] for table in t["outputs"].get("tables", [])] for key, t in tasks.items()}
    assert rows == {"d/places.gdb": [3], "d/sites": [4], "month=": [4], "parcels.tab": [5], "x.geojson.gz": [6]}
    assert {f["role"] for f in cli.json("files", folders["job_id"])} == {"source", "part"}


def test_the_folders_of_partitions_are_a_column_also_in_the_root_of_a_container(cli, folders):
    tasks = {t["task_key"]: t for t in cli.json("tasks", folders["job_id"])}
    for key, column, values in (("d/sites", "year", [2023, 2023, 2024, 2024]), ("month=", "month", [1, 1, 2, 2])):
        table = tasks[key]["outputs"]["tables"][0]["table"]
        with connect(cli) as conn:
            found = conn.execute(
                sql.SQL("select {} from {} order by 1").format(
                    sql.Identifier(column), sql.Identifier(*table.split("."))
                )
            )
            assert [value for (value,) in found] == values


def test_a_folder_that_is_still_there_is_not_retired_and_one_that_is_gone_is(cli, folders):
    tables = {t["task_key"]: t["outputs"]["tables"][0]["table"] for t in cli.json("tasks", folders["job_id"])}
    shutil.rmtree(cli.home / "containers" / "folders" / "d" / "sites")
    again = (
        "submit",
        "ingest_container",
        "--param",
        "container=folders",
        "--param",
        "collection=many",
        "--param",
        "deleted=retire",
        "--wait",
    )
    assert cli.json(*again)["status"] == "completed"
    with connect(cli) as conn:
        there = {
            key
            for key, table in tables.items()
            if conn.execute("select to_regclass(%s)", (table,)).fetchone()[0] is not None
        }
    assert there == {"d/places.gdb", "month=", "parcels.tab", "x.geojson.gz"}
