"""Ending a job on purpose, and doing parts of it again."""

import numpy as np
import pytest

from geo_assets_tests.faults.test_killed_run import connect, converted
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults


@pytest.fixture
def many(cli, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(40):
        write(folder / f"tile_{i:02}.tif", np.random.default_rng(i).integers(0, 255, (3, 600, 600)).astype("uint8"))
    assert cli.run("upload", str(folder), "default/cancelled").returncode == 0


def test_a_cancelled_ingest_publishes_nothing_more_and_goes_on_where_it_was_when_it_is_submitted_again(cli, many):
    job = cli.json("submit", "stage_raster", "--param", "container=cancelled")
    until(lambda: len(converted(cli, job["job_id"])) >= 3)
    assert cli.run("cancel", job["job_id"]).returncode == 0
    assert cli.json("job", job["job_id"])["status"] == "cancelled"
    before = converted(cli, job["job_id"])
    with connect(cli) as db:
        assert db.execute("select count(*) from pgstac.items where collection = 'cancelled'").fetchone() == (0,)
    again = cli.json("submit", "stage_raster", "--param", "container=cancelled", "--wait")
    assert again["status"] == "completed"
    after = converted(cli, job["job_id"])
    assert len(after) == 40
    assert {k: after[k] for k in before} == before


def test_retry_does_the_chosen_tasks_anew_and_leaves_the_rest(cli, tmp_path):
    write(tmp_path / "good.tif", np.ones((1, 20, 20), "uint8"))
    (tmp_path / "bad.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    assert cli.run("upload", str(tmp_path / "good.tif"), str(tmp_path / "bad.tif"), "default/retried").returncode == 0
    job = cli.json("submit", "stage_raster", "--param", "container=retried", "--wait")
    started = {t["task_key"]: t["started_at"] for t in cli.json("tasks", job["job_id"])}
    again = cli.json("retry", job["job_id"], "--quarantined", "--wait")
    tasks = {t["task_key"]: t for t in cli.json("tasks", job["job_id"])}
    assert again["attempt"] == 2
    assert (tasks["good.tif"]["status"], tasks["good.tif"]["started_at"]) == ("skipped", started["good.tif"])
    assert tasks["bad.tif"]["status"] == "quarantined"
    assert tasks["bad.tif"]["started_at"] != started["bad.tif"]


def test_the_plan_says_what_a_submission_then_does(cli, tmp_path):
    write(tmp_path / "one.tif", np.ones((1, 20, 20), "uint8"))
    (tmp_path / "notes.docx").write_bytes(b"x")
    cli.run("upload", str(tmp_path / "one.tif"), str(tmp_path / "notes.docx"), "default/planned")
    first = cli.json("plan", "ingest_container", "--param", "container=planned")
    assert first["counts"] == {"companion": 1, "create": 1}
    assert (
        cli.run("submit", "ingest_container", "--param", "container=planned", "--plan-hash", "0" * 64).returncode != 0
    )
    job = cli.json(
        "submit", "ingest_container", "--param", "container=planned", "--plan-hash", first["plan_hash"], "--wait"
    )
    assert sum(s["total"] for s in job["stages"]) == first["expected_tasks"]
    write(tmp_path / "one.tif", np.full((1, 20, 20), 2, "uint8"))
    cli.run("upload", str(tmp_path / "one.tif"), "default/planned")
    assert cli.json("plan", "ingest_container", "--param", "container=planned")["counts"] == {
        "change": 1,
        "companion": 1,
    }
