"""What is worth knowing of a good file is seen wherever its job is looked at, and counted by kind."""

import json

import httpx
import numpy as np
import pytest
import rasterio.crs

from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.raster.test_cog import write

CRS = "its CRS is that of scan.prj: EPSG:32618"
NULLED = "'t': 1 value without the offset from UTC that the others have, now NULL: '2024-03-01T10:00:00'"
REJECTED = "1 feature was rejected: coordinates are not numbers (1)"
COUNTS = {"features rejected": 1, "values made NULL": 1, "CRS": 1}


def feature(coordinates, time):
    return {"type": "Feature", "properties": {"t": time}, "geometry": {"type": "Point", "coordinates": coordinates}}


@pytest.fixture(scope="module")
def job(cli, tmp_path_factory):
    """A raster whose CRS lies beside it, a vector with a rejected feature and a time without offset, and one of which
    there is nothing to say.
    """
    folder = tmp_path_factory.mktemp("warned")
    write(folder / "scan.tif", np.ones((1, 20, 20), "uint8"), crs=None)
    (folder / "scan.prj").write_text(rasterio.crs.CRS.from_epsg(32618).to_wkt(version="WKT1_ESRI"))
    write(folder / "plain.tif", np.ones((1, 20, 20), "uint8"))
    good = [
        feature([7, 51], "2024-03-01T10:00:00+02:00"),
        feature([8, 51], "2024-03-01T10:00:00"),
        feature([8, 51], "2024-07-01T10:00:00-05:00"),
    ]
    (folder / "points.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [*good, feature(["7", "51"], None)]})
    )
    assert cli.run("upload", str(folder), "default/warned").returncode == 0
    done = cli.json("submit", "ingest_container", "--param", "container=warned", "--wait")
    assert done["status"] == "completed"
    return done


def test_the_account_of_a_job_counts_the_warnings_of_its_files_by_kind(cli, job):
    assert job["warnings"] == COUNTS
    assert cli.json("job", job["job_id"])["warnings"] == COUNTS
    shown = cli.run("job", job["job_id"]).stdout
    assert all(kind in shown for kind in COUNTS)
    assert f"tasks {job['job_id'][:12]} --warned" in shown
    url = cli.exports["GEO_ASSETS_API_URL"]
    assert httpx.get(f"{url}/api/jobs/status/{job['job_id']}", timeout=30).json()["warnings"] == COUNTS


def test_tasks_show_the_warnings_of_each_file_and_can_show_only_files_that_have_some(cli, job):
    shown = cli.run("tasks", job["job_id"]).stdout
    assert all(f"warning: {said}" in shown for said in (CRS, NULLED))
    assert f"warning: vector.warned_points: {REJECTED}; they are in vector.warned_points__rejects" in shown
    assert "plain.tif" in shown
    assert {t["task_key"] for t in cli.json("tasks", job["job_id"], "--warned")} == {"scan.tif", "points.geojson"}
    tasks = httpx.get(f"{cli.json('env')['GEO_ASSETS_API_URL']}/api/db/tasks/{job['job_id']}", timeout=30).json()[
        "tasks"
    ]
    assert {t["task_key"]: t["outputs"].get("warnings") for t in tasks} == {
        "scan.tif": [CRS],
        "plain.tif": None,
        "points.geojson": [NULLED],
    }


def test_items_carry_the_warnings_of_their_source(cli, job):
    with connect(cli) as db:
        rows = db.execute(
            "select i.content->'properties'->>'title', i.content->'properties'->'geo_assets:warnings' from pgstac.items"
            " i where collection ^@ 'warned'"
        ).fetchall()
    warned = dict(rows)
    assert (warned["scan.tif"], warned["plain.tif"]) == ([CRS], None)
    assert warned["points.geojson"][0] == NULLED
    assert REJECTED in warned["points.geojson"][1]


def test_dagster_shows_warnings_with_the_assets_of_the_run_and_with_its_report(cli, job):
    with connect(cli) as db:
        events = db.execute(
            "select asset_key, event from dagster.event_logs where run_id = %s and dagster_event_type ="
            " 'ASSET_MATERIALIZATION'",
            (job["run_id"],),
        ).fetchall()
    shown = {}
    for key, event in events:
        entries = json.loads(event)["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
        shown[json.loads(key)[-1]] = next((e["entry_data"]["md_str"] for e in entries if e["label"] == "warnings"), "")
    assert f"| CRS | 1 | scan.tif: {CRS} |" in shown["cogs"]
    assert "| values made NULL | 1 | points.geojson: " in shown["vector_tables"]
    assert all(f"| {kind} | 1 |" in shown["submission_report"] for kind in COUNTS)
