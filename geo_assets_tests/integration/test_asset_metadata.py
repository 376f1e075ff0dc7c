"""What Dagster's asset pages know of a partition: where it is, how large, with which columns, and what made it."""

import json

import numpy as np

from geo_assets import __version__
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.raster.test_cog import write


def entries(cli, job, asset):
    """Label -> entry of the metadata of a partition's materialization, and its tags."""
    with connect(cli) as db:
        (event,) = db.execute(
            "select event from dagster.event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
            " and asset_key = %s and partition = %s",
            (json.dumps(["ingest_container", asset]), job["partition_key"]),
        ).fetchone()
    made = json.loads(event)["dagster_event"]["event_specific_data"]["materialization"]
    return {entry["label"]: entry["entry_data"] for entry in made["metadata_entries"]}, made["tags"]


def test_an_asset_page_tells_where_a_partition_is_how_many_rows_it_has_and_which_release_made_it(cli, tmp_path):
    folder = tmp_path / "delivery"
    folder.mkdir()
    write(folder / "one.tif", np.ones((1, 30, 40), "uint8"))
    write(folder / "two.tif", np.ones((1, 30, 40), "uint8"))
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 50]}, "properties": {"name": "a"}}
    (folder / "wells.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [point, point]}))
    assert cli.run("upload", str(folder), "default/asset-pages").returncode == 0
    job = cli.json("submit", "ingest_container", "--param", "container=asset-pages", "--wait")
    assert job["status"] == "completed"

    rasters, tags = entries(cli, job, "cogs")
    assert tags["dagster/code_version"] == __version__
    assert rasters["dagster/uri"]["url"].startswith("file:///")
    assert rasters["dagster/uri"]["url"].endswith("cogs/asset-pages/default/asset-pages")

    told, _ = entries(cli, job, "submission_report")
    assert {what: told[what]["value"] for what in ("new", "changed", "gone", "unchanged")} == {
        **job["delta"],
        "new": 3,
    }
    assert "| two.tif | new |" in told["delta"]["md_str"]

    tables, _ = entries(cli, job, "vector_tables")
    (table,) = (
        t["outputs"]["tables"][0]["table"] for t in cli.json("tasks", job["job_id"]) if "tables" in t["outputs"]
    )
    assert tables["dagster/table_name"]["text"] == f"geo_assets.{table}"
    assert tables["dagster/row_count"]["value"] == tables["dagster/partition_row_count"]["value"] == 2
    columns = {column["name"]: column["type"] for column in tables["dagster/column_schema"]["schema"]["columns"]}
    assert columns == {"name": "text", "geom": "geometry(Point,4326)"}
