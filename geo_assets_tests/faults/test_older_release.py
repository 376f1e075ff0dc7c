"""What another release left converted: used where it is understood, made again where it is not, and never the end of a job."""

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import box

from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.integration.test_publication import ingest, items, upload
from geo_assets_tests.raster.test_cog import write

pytestmark = pytest.mark.faults

#: File -> what another release would have written otherwise.
RECEIPTS = {
    "unknown.tif": """jsonb_set(receipt, '{version}', '99')""",
    "lacking.tif": """receipt #- '{report,width}'""",
    "before.tif": """receipt - 'version'""",
    "unknown.gpkg": """jsonb_set(receipt, '{version}', '99')""",
    "lacking.gpkg": """receipt - 'layers'""",
    "before.gpkg": """receipt - 'version'""",
}
WAITING = {"waits.gpkg": """jsonb_set(load, '{version}', '99')""", "before.gpkg": """load - 'version'"""}

NOT_UNDERSTOOD = {"unknown.tif", "lacking.tif", "unknown.gpkg", "lacking.gpkg", "waits.gpkg"}


def started(cli, job: dict) -> dict:
    with connect(cli) as db:
        rows = db.execute("select task_key, started_at from geo.tasks where job_id = %s and listed", (job["job_id"],))
        return dict(rows.fetchall())


def test_what_another_release_converted_is_published_where_it_is_understood_and_converted_again_where_it_is_not(
    cli, tmp_path
):
    name = "older-receipts"
    for i, file in enumerate(sorted({*RECEIPTS, *WAITING})):
        if file.endswith(".tif"):
            write(tmp_path / file, np.full((1, 20, 20), i, "uint8"))
        else:
            gpd.GeoDataFrame({"n": [i]}, geometry=[box(i, 0, i + 1, 1)], crs=4326).to_file(tmp_path / file)
    (tmp_path / "bad.tif").write_bytes(b"II*\x00 no raster")
    upload(cli, tmp_path, name)
    job, _ = ingest(cli, name, "on_error=fail")
    assert (job["status"], job["error_code"]) == ("failed", "BAD_FILES")
    with connect(cli) as db:
        for file, otherwise in RECEIPTS.items():
            changed = db.execute(
                f"update geo.tasks set receipt = {otherwise} where (job_id, task_key) = (%s, %s) and receipt is not null",
                (job["job_id"], file),
            )
            assert changed.rowcount == 1
        for file, otherwise in WAITING.items():
            changed = db.execute(
                f"update geo.waiting_tables set load = {otherwise} where (job_id, task_key) = (%s, %s)",
                (job["job_id"], file),
            )
            assert changed.rowcount == 1
    before = started(cli, job)
    (cli.home / "containers" / name / "bad.tif").unlink()
    done, tasks = ingest(cli, name, "on_error=fail")
    assert done["status"] == "completed"
    assert {task["status"] for task in tasks.values()} == {"succeeded"}
    after = started(cli, job)
    assert {file for file in after if after[file] != before[file]} == NOT_UNDERSTOOD
    assert len(items(cli, name)) == 3
    assert len(items(cli, f"{name}-vector")) == 4


def test_what_another_release_published_and_this_one_cannot_read_is_made_again(cli, tmp_path):
    name = "older-outputs"
    for i, file in enumerate(("understood.tif", "not.tif")):
        write(tmp_path / file, np.full((1, 20, 20), i, "uint8"))
    upload(cli, tmp_path, name)
    job, first = ingest(cli, name)
    with connect(cli) as db:
        db.execute(
            "update geo.tasks set outputs = outputs - 'sha256' where (job_id, task_key) = (%s, 'not.tif')",
            (job["job_id"],),
        )
    shown = {task["task_key"]: task["outputs"] for task in cli.json("tasks", job["job_id"])}
    assert shown["not.tif"]["cog"] == first["not.tif"]["outputs"]["cog"], "people still see what there is"
    done, tasks = ingest(cli, name)
    assert done["status"] == "completed"
    assert {file: task["status"] for file, task in tasks.items()} == {
        "understood.tif": "skipped",
        "not.tif": "succeeded",
    }
    assert tasks["not.tif"]["outputs"] == first["not.tif"]["outputs"]
