import json
import re
import subprocess
import time
import zipfile

import geopandas as gpd
import numpy as np
import psycopg
import pytest
from shapely.geometry import Point, Polygon, box

from geo_assets_tests.raster.test_cog import write


def connect(cli):
    env = cli.exports
    return psycopg.connect(
        host=env["PGHOST"], port=env["PGPORT"], user=env["PGUSER"], password=env["PGPASSWORD"], dbname=env["PGDATABASE"]
    )


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
    (folder / "plan.dwg").write_bytes(b"PK")
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
        "plan.dwg": "UNSUPPORTED_FORMAT",
        "lonely.tfw": "ORPHAN_SIDECAR",
    }
    assert all(tasks[k]["error_message"] and tasks[k]["remedy"] for k in bad)


def test_a_table_is_typed_indexed_and_keeps_null_apart_from_empty(cli, mixed):
    with connect(cli) as db:
        assert db.execute("select name from vector.mixed_parcels order by st_xmin(geom)").fetchall() == [
            ("a",),
            ("",),
            (None,),
        ]
        assert db.execute(
            "select srid, type from geometry_columns where f_table_name = 'mixed_parcels'"
        ).fetchone() == (
            4326,
            "MULTIPOLYGON",
        )


def test_the_reader_role_sees_tables_and_the_ledger_but_changes_nothing(cli, mixed):
    env, passwords = cli.exports, json.loads((cli.home / "stack.json").read_text())["passwords"]
    with psycopg.connect(
        host=env["PGHOST"],
        port=env["PGPORT"],
        user="geo_reader",
        password=passwords["reader"],
        dbname=env["PGDATABASE"],
    ) as db:
        assert db.execute("select count(*) from vector.mixed_parcels").fetchone() == (3,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("delete from vector.mixed_parcels")


def checks_of(cli, run_id):
    """(asset, check) -> (passed, severity, description) as Dagster keeps them."""
    with connect(cli) as db:
        events = db.execute(
            "select evaluation_event from dagster.asset_check_executions where run_id = %s and evaluation_event is not"
            " null",
            (run_id,),
        ).fetchall()
    evaluations = [json.loads(event)["dagster_event"]["event_specific_data"] for (event,) in events]
    return {
        (e["asset_key"]["path"][-1], e["check_name"]): (
            e["success"],
            (e["severity"] or {}).get("__enum__", "").rpartition(".")[2],
            e["description"],
        )
        for e in evaluations
    }


def test_checks_pass_where_all_is_as_it_should_be_and_warn_where_files_are_bad(cli, mixed):
    checks = checks_of(cli, mixed["run_id"])
    assert {name for _, name in checks} >= {
        "cogs_readable",
        "tables_sound",
        "every_item_found",
        "every_file_accounted_for",
    }
    bad = {asset: said for (asset, name), said in checks.items() if name == "no_bad_files"}
    assert {asset: said[:2] for asset, said in bad.items()} == dict.fromkeys(
        ("container_inventory", "cogs", "vector_tables", "submission_report"), (False, "WARN")
    )
    assert "broken.tif (UNREADABLE)" in bad["cogs"][2]
    assert f"/geo-assets tasks {mixed['job_id'][:12]}" in bad["submission_report"][2]
    others = {key: said for key, said in checks.items() if key[1] != "no_bad_files"}
    assert all(passed and description for passed, _, description in others.values()), others


def said_in_dagster(cli, run_id):
    """The lines of a run's log that are neither an event nor an error."""
    with connect(cli) as db:
        rows = db.execute(
            "select event::json->>'user_message' from dagster.event_logs where run_id = %s and dagster_event_type is"
            " null and (event::json->>'level')::int = 20 order by id",
            (run_id,),
        ).fetchall()
    return [line for (line,) in rows]


def test_dagsters_log_and_the_compute_log_tell_what_each_file_became(cli, mixed):
    lines = said_in_dagster(cli, mixed["run_id"])
    compute = "".join(
        p.read_text() for p in (cli.home / "dagster" / "storage" / mixed["run_id"] / "compute_logs").glob("*.err")
    )
    for start in (
        "scan.tif: done, COG default/cogs/mixed/default/mixed/scan_",
        "parcels.gpkg: done, table vector.mixed_parcels (3 rows)",
        "broken.tif: quarantined, UNREADABLE: ",
        "no_crs.csv: quarantined, VECTOR_NO_GEOMETRY: ",
        "plan.dwg: quarantined, UNSUPPORTED_FORMAT: ",
        "lonely.tfw: quarantined, ORPHAN_SIDECAR: ",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, start
        assert start in compute
    assert "→" in next(line for line in lines if line.startswith("broken.tif"))


def texts_in(value):
    """Every text in JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


def test_every_command_that_dagster_shows_runs_as_it_is_shown_from_any_directory(cli, mixed):
    with connect(cli) as db:
        events = db.execute(
            "select event::json from dagster.event_logs where run_id = %s", (mixed["run_id"],)
        ).fetchall()
    shown = [text for (event,) in events for text in texts_in(event) if "geo-assets " in text]
    assert not [text for text in shown if re.search(r"(?<!/)geo-assets [a-z-]", text)]
    commands = {
        found
        for text in shown
        for found in re.findall(r"(?:GEO_ASSETS_HOME=\S+ )?/\S*/geo-assets tasks [^`\n;'\"]+", text)
    }
    assert commands
    for command in commands:
        ran = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert "broken.tif" in ran.stdout


def test_the_tables_and_lists_of_a_stage_fit_on_dagsters_page(cli, mixed):
    """It cuts off what is wider than the page: no row has two columns of paths, which do not wrap."""
    with connect(cli) as db:
        (event,) = db.execute(
            "select event::json from dagster.event_logs where run_id = %s and dagster_event_type ="
            " 'ASSET_MATERIALIZATION' and asset_key = '[\"ingest_container\", \"cogs\"]'",
            (mixed["run_id"],),
        ).fetchone()
    entries = event["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
    shown = {entry["label"]: entry["entry_data"]["md_str"] for entry in entries if "md_str" in entry["entry_data"]}
    assert shown["bad files"].startswith("| file | why | what to do |\n")
    assert "| broken.tif | quarantined, UNREADABLE: broken.tif is not readable as GeoTIFF: " in shown["bad files"]
    assert shown["made"].startswith("* scan.tif: COG default/cogs/mixed/default/mixed/scan_")


def tags_of(cli, run_id):
    with connect(cli) as db:
        return dict(db.execute("select key, value from dagster.run_tags where run_id = %s", (run_id,)).fetchall())


def assert_found_by_its_tags(cli, run_id, job, size):
    tags = {
        key: value
        for key, value in tags_of(cli, run_id).items()
        if key.startswith("geo_assets/") and key != "geo_assets/attempt"
    }
    with connect(cli) as db:
        (correlation_id,) = db.execute(
            "select correlation_id from geo.attempts where run_id = %s", (run_id,)
        ).fetchone()
    assert tags == {
        "geo_assets/correlation_id": correlation_id,
        "geo_assets/job_id": job["job_id"],
        "geo_assets/container": "mixed",
        "geo_assets/size": size,
        "geo_assets/collection": "mixed",
        "geo_assets/submitter": "cli",
    }


def test_the_parameters_of_a_run_are_in_its_metadata_and_its_tags_name_its_job(cli, mixed):
    assert_found_by_its_tags(cli, mixed["run_id"], mixed, "small")
    with connect(cli) as db:
        event = db.execute(
            "select event from dagster.event_logs where run_id = %s and dagster_event_type = 'ASSET_MATERIALIZATION'"
            ' and asset_key = \'["ingest_container", "submission_report"]\'',
            (mixed["run_id"],),
        ).fetchone()
    entries = json.loads(event[0])["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
    assert next(e for e in entries if e["label"] == "parameters")["entry_data"]["data"]["container"] == "mixed"


def test_a_run_that_had_nothing_to_look_at_has_passed_nothing(cli, mixed):
    job = cli.json(
        "submit",
        "ingest_container",
        "--param",
        "container=mixed",
        "--param",
        "prefix=nothing/",
        "--allow-empty",
        "--wait",
    )
    checks = checks_of(cli, job["run_id"])
    assert len(checks) == 11
    assert {said[:2] for said in checks.values()} == {(False, "WARN")}
    assert {said[2] for said in checks.values()} == {
        "default/mixed holds no file that the submission selects; nothing was checked"
    }
    assert "default/mixed: 0 files" in said_in_dagster(cli, job["run_id"])[0]


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
        [*command, "-w", str(workspace)],
        env={**os.environ, **cli.exports},
        capture_output=True,
        text=True,
        check=False,
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
    assert_found_by_its_tags(cli, job["run_id"], mixed, "large")  # nobody looked at its container
    assert any(
        line.startswith("scan.tif: skipped, COG default/cogs/mixed/default/mixed/scan_")
        for line in said_in_dagster(cli, job["run_id"])
    )


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
        assert db.execute("select count(*), bool_and(st_isvalid(geom)) from vector.bowties_bowties").fetchone() == (
            2,
            True,
        )


def test_stac_setup_finds_the_catalogue_ready(cli):
    job = cli.json("submit", "stac_setup", "--wait")
    assert job["status"] == "completed"
    assert cli.json("tasks", job["job_id"])[0]["outputs"]["pgstac_version"] == "0.10.0"
