import numpy as np
import psycopg
from rasterio.transform import from_origin

from geo_assets_tests.raster.test_cog import assert_faithful, write


def test_good_rasters_are_published_a_bad_one_is_quarantined_and_a_rerun_skips_all(cli, tmp_path):
    folder = tmp_path / "rasters"
    folder.mkdir()
    for i in range(3):
        write(
            folder / f"tile_{i}.tif",
            np.full((1, 40, 50), i, "uint8"),
            transform=from_origin(5e5 + i * 500, 4e6, 10, 10),
        )
    (folder / "bad.tif").write_bytes(b"not a raster")
    assert cli.run("upload", str(folder), "default/tiles").returncode == 0

    job = cli.json("submit", "stage_raster", "--param", "container=tiles", "--wait")
    assert job["status"] == "completed_with_errors"
    tasks = {t["task_key"]: t for t in cli.json("tasks", job["job_id"])}
    assert {k: t["status"] for k, t in tasks.items()} == {
        "bad.tif": "quarantined",
        **{f"tile_{i}.tif": "succeeded" for i in range(3)},
    }
    assert tasks["bad.tif"]["error_code"] == "UNSUPPORTED_FORMAT"
    for i in range(3):
        assert_faithful(
            folder / f"tile_{i}.tif",
            cli.home / "containers" / tasks[f"tile_{i}.tif"]["outputs"]["cog"].removeprefix("default/"),
        )

    env = cli.exports
    with psycopg.connect(
        host=env["PGHOST"], port=env["PGPORT"], user=env["PGUSER"], password=env["PGPASSWORD"], dbname=env["PGDATABASE"]
    ) as db:
        ids = [tasks[f"tile_{i}.tif"]["outputs"]["stac_item"].split("/")[1] for i in range(3)]
        assert db.execute("select count(*) from pgstac.items where id = any(%s)", (ids,)).fetchone() == (3,)

    again = cli.json("submit", "stage_raster", "--param", "container=tiles", "--wait")
    assert again["run_id"] != job["run_id"]
    assert [(s["total"], s["skipped"], s["quarantined"]) for s in again["stages"]] == [(4, 3, 1)]
