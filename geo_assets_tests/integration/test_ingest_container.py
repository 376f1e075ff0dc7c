import json
import time
import zipfile

import geopandas as gpd
import numpy as np
import psycopg
import pytest
from shapely.geometry import Point, Polygon, box

from geo_assets_tests.raster.test_cog import write


def connect(cli):
    env = cli.json("env")
    return psycopg.connect(host=env["PGHOST"], port=env["PGPORT"], user=env["PGUSER"], password=env["PGPASSWORD"], dbname=env["PGDATABASE"])


@pytest.fixture(scope="module")
def mixed(cli, tmp_path_factory):
    """A container with good and bad of every kind, ingested."""
    folder = tmp_path_factory.mktemp("mixed")
    write(folder / "scan.tif", np.arange(1200, dtype="uint16").reshape(1, 30, 40))
    (folder / "broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    parcels = gpd.GeoDataFrame({"name": ["a", "", None]}, geometry=[box(i, 0, i + 1, 1) for i in range(3)], crs=4326)
    parcels.to_file(folder / "parcels.gpkg", layer="parcels")
    parcels.to_file(folder / "roads.shp")
    with zipfile.ZipFile(folder / "zipped.zip", "w") as archive:
        for part in sorted(folder.glob("roads.*")):
            archive.write(part, part.name)
    gpd.GeoDataFrame(geometry=[Point(1, 2)], crs=4326).to_file(folder / "points.geojson")
    (folder / "no_crs.csv").write_text("a,b\n1,2\n")
    (folder / "notes.docx").write_bytes(b"PK")
    (folder / "lonely.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    assert cli.run("upload", str(folder), "default/mixed").returncode == 0
    return cli.json("submit", "ingest_container", "--param", "container=mixed", "--wait")


def test_every_file_is_accounted_for_and_bad_ones_have_a_reason_and_a_remedy(cli, mixed):
    assert mixed["status"] == "completed_with_errors"
    tasks = {t["task_key"]: t for t in cli.json("tasks", mixed["job_id"])}
    assert {k for k, t in tasks.items() if t["status"] == "succeeded"} == {
        "scan.tif",
        "parcels.gpkg",
        "roads.shp",
        "zipped.zip",
        "points.geojson",
    }
    bad = {k: t["error_code"] for k, t in tasks.items() if t["status"] == "quarantined"}
    assert bad == {
        "broken.tif": "UNREADABLE",
        "no_crs.csv": "VECTOR_NO_GEOMETRY",
        "notes.docx": "UNSUPPORTED_FORMAT",
        "lonely.tfw": "ORPHAN_SIDECAR",
    }
    assert all(tasks[k]["error_message"] and tasks[k]["remedy"] for k in bad)


def test_a_table_is_typed_indexed_and_keeps_null_apart_from_empty(cli, mixed):
    with connect(cli) as db:
        assert db.execute("select name from vector.mixed_parcels order by st_xmin(geom)").fetchall() == [("a",), ("",), (None,)]
        assert db.execute("select srid, type from geometry_columns where f_table_name = 'mixed_parcels'").fetchone() == (
            4326,
            "MULTIPOLYGON",
        )


def test_the_reader_role_sees_tables_and_the_ledger_but_changes_nothing(cli, mixed):
    env, passwords = cli.json("env"), json.loads((cli.home / "stack.json").read_text())["passwords"]
    with psycopg.connect(
        host=env["PGHOST"], port=env["PGPORT"], user="geo_reader", password=passwords["reader"], dbname=env["PGDATABASE"]
    ) as db:
        assert db.execute("select count(*) from vector.mixed_parcels").fetchone() == (3,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("delete from vector.mixed_parcels")


def test_asset_checks_are_recorded_and_pass(cli, mixed):
    with connect(cli) as db:
        checks = db.execute(
            "select check_name, execution_status from dagster.asset_check_executions where run_id = %s", (mixed["run_id"],)
        ).fetchall()
    assert {name for name, _ in checks} >= {"cogs_readable", "tables_sound", "every_item_found", "every_file_accounted_for"}
    assert {status for _, status in checks} == {"SUCCEEDED"}


def test_a_backfill_of_a_finished_job_makes_a_new_run_that_skips_every_task(cli, mixed):
    import os
    import subprocess
    import sys
    from pathlib import Path

    command = [
        sys.executable,
        "-m",
        "dagster",
        "job",
        "backfill",
        "-j",
        "ingest_container",
        "--partitions",
        mixed["partition_key"],
        "--noprompt",
    ]
    workspace = Path(__file__).resolve().parents[2] / "workspace.yaml"
    done = subprocess.run(
        [*command, "-w", str(workspace)], env={**os.environ, **cli.json("env")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        job = cli.json("job", mixed["job_id"])
        if job["run_id"] != mixed["run_id"] and job["status"] not in {"queued", "processing"}:
            break
        time.sleep(0.5)
    assert job["run_id"] != mixed["run_id"]
    assert job["status"] == mixed["status"]
    assert sum(s["skipped"] for s in job["stages"]) == 5
    assert sum(s["succeeded"] for s in job["stages"]) == 0


def test_on_error_fail_registers_nothing(cli, tmp_path):
    folder = tmp_path / "strict"
    folder.mkdir()
    write(folder / "good.tif", np.ones((1, 20, 20), "uint8"))
    (folder / "bad.tif").write_bytes(b"nothing")
    cli.run("upload", str(folder), "default/strict")
    job = cli.json("submit", "ingest_container", "--param", "container=strict", "--param", "on_error=fail", "--wait")
    assert job["status"] == "failed"
    with connect(cli) as db:
        assert db.execute("select count(*) from pgstac.items where collection = 'strict'").fetchone() == (0,)


def test_invalid_geometry_is_repaired_before_it_is_published(cli, tmp_path):
    folder = tmp_path / "bowties"
    folder.mkdir()
    bowtie = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    gpd.GeoDataFrame(geometry=[bowtie, box(2, 2, 3, 3)], crs=4326).to_file(folder / "bowties.gpkg")
    cli.run("upload", str(folder), "default/bowties")
    assert cli.json("submit", "ingest_container", "--param", "container=bowties", "--wait")["status"] == "completed"
    with connect(cli) as db:
        assert db.execute("select count(*), bool_and(st_isvalid(geom)) from vector.bowties_bowties").fetchone() == (2, True)


def test_stac_setup_finds_the_catalogue_ready(cli):
    job = cli.json("submit", "stac_setup", "--wait")
    assert job["status"] == "completed"
    assert cli.json("tasks", job["job_id"])[0]["outputs"]["pgstac_version"] == "0.10.0"
