"""A file that takes down the process that works on it, twice, is not tried a third time; nor does it stop the others."""

import os
import signal
import time

import numpy as np
import pytest

from geo_assets_tests.conftest import Cli, a_stack
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until


@pytest.fixture(scope="module")
def cli(open_folder, postgres_home):
    """A stack whose steps are processes."""
    own = {"GEO_ASSETS_EXECUTOR": "multiprocess", "GEO_ASSETS_CHUNK_FILES": "8", "GEO_ASSETS_WORKERS": "2"}
    yield from a_stack(Cli(open_folder(), **own), postgres_home)


def at_work_on(db, job_id: str, name: str, not_in: set[int]) -> int | None:
    """The pid of the step that works on a file, other than these."""
    row = db.execute(
        "select process from geo.tasks t where job_id = %s and task_key = %s and status = 'running' and receipt is null"
        " and exists (select from geo.steps s where s.process = t.process)",
        (job_id, name),
    ).fetchone()
    pid = int(row[0].rpartition("/")[2]) if row and row[0] else 0
    return pid if pid and pid not in not_in else None


def seized(db, job_id: str, name: str, not_in: set[int], seconds: float = 120) -> int:
    end = time.monotonic() + seconds
    while (pid := at_work_on(db, job_id, name, not_in)) is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return pid


@pytest.mark.faults
def test_a_file_that_kills_two_steps_is_quarantined_and_the_others_are_published(cli, tmp_path):
    folder = tmp_path / "fatal"
    folder.mkdir()
    for i in range(20):
        write(folder / f"tile_{i:02}.tif", np.random.default_rng(i).integers(0, 255, (3, 300, 300)).astype("uint8"))
    write(folder / "kills.tif", np.random.default_rng(99).integers(0, 255, (3, 5000, 5000)).astype("uint8"))
    assert cli.run("upload", str(folder), "default/fatal").returncode == 0
    job_id = cli.json("submit", "stage_raster", "--param", "container=fatal")["job_id"]
    killed: set[int] = set()
    with connect(cli) as db:
        db.autocommit = True
        for _ in range(2):
            pid = seized(db, job_id, "kills.tif", killed)
            time.sleep(0.5)  # others are in work beside it, the first time
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    until(lambda: cli.json("job", job_id)["status"] == "completed_with_errors", 180)
    tasks = {task["task_key"]: task for task in cli.json("tasks", job_id)}
    assert tasks["kills.tif"]["status"] == "quarantined"
    assert tasks["kills.tif"]["error_code"] == "FATAL_FILE"
    assert "--quarantined" in tasks["kills.tif"]["remedy"]
    assert [key for key, task in tasks.items() if task["status"] != "succeeded"] == ["kills.tif"]
    assert cli.json("job", job_id)["attempt"] == 3
    assert cli.run("retry", job_id, "--quarantined", "--wait").returncode == 0
    assert cli.json("job", job_id)["status"] == "completed"
