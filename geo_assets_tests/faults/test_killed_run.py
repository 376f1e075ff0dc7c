"""The run worker is killed in the middle: what was finished is kept, nothing is doubled, the next run does the rest."""

import functools
import os
import signal
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest

from geo_assets_tests.raster.test_cog import write


@functools.cache
def environment(cli) -> dict[str, str]:
    """Asked for once: ports are remembered, and each call is a process."""
    return cli.json("env")


def connect(cli):
    env = environment(cli)
    return psycopg.connect(
        host=env["PGHOST"], port=env["PGPORT"], user=env["PGUSER"], password=env["PGPASSWORD"], dbname=env["PGDATABASE"], autocommit=True
    )


def run_workers(cli) -> list[int]:
    """Pids of processes that the code server started and that are not sandboxed children."""
    import json

    server = json.loads((cli.home / "stack.json").read_text())["processes"]["code_server"]["pid"]
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == server and b"spawn_main" in command:
            found.append(int(stat.parent.name))
    return found


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def begun(cli, folder: Path, container: str) -> dict:
    """A job of 60 rasters, some of which are converted."""
    folder.mkdir()
    for i in range(60):
        write(folder / f"tile_{i:02}.tif", np.random.default_rng(i).integers(0, 255, (3, 600, 600)).astype("uint8"))
    assert cli.run("upload", str(folder), f"default/{container}").returncode == 0
    job = cli.json("submit", "stage_raster", "--param", f"container={container}")
    until(lambda: len(converted(cli, job["job_id"])) >= 5)
    return job


@pytest.fixture
def killed(cli, tmp_path, request):
    """A job of 60 rasters whose run worker was killed after some were converted: (job, what was converted by then)."""
    job = begun(cli, tmp_path / "many", request.param)
    (worker,) = until(lambda: run_workers(cli))
    os.kill(worker, signal.SIGKILL)
    until(lambda: not run_workers(cli))
    return job, converted(cli, job["job_id"])


def converted(cli, job_id):
    """task -> hash and start of its conversion."""
    with connect(cli) as db:
        query = "select task_key, outputs->>'sha256' || started_at::text from geo.tasks where job_id = %s and receipt is not null"
        return dict(db.execute(query, (job_id,)).fetchall())


def assert_completed_once(cli, container, job_id, before):
    after = converted(cli, job_id)
    assert 5 <= len(before) < 60
    assert len(after) == 60
    assert {key: after[key] for key in before} == before, "finished conversions were done again"
    with connect(cli) as db:
        query = "select count(*), count(distinct id) from pgstac.items where collection = %s"
        assert db.execute(query, (container,)).fetchone() == (60, 60)
    assert len(list((cli.home / "containers" / "cogs" / container).rglob("*.tif"))) == 60


@pytest.mark.parametrize("killed", ["killed"], indirect=True)
def test_a_killed_ingest_is_completed_by_the_next_submission_without_redoing_or_doubling(cli, killed):
    job, before = killed
    again = cli.json("submit", "stage_raster", "--param", "container=killed", "--wait")
    assert again["job_id"] == job["job_id"]
    assert again["status"] == "completed"
    assert_completed_once(cli, "killed", job["job_id"], before)


@pytest.mark.parametrize("killed", ["rescued"], indirect=True)
def test_a_killed_ingest_is_completed_by_the_janitor_when_nobody_asks(cli, killed):
    job, before = killed
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 120)
    assert_completed_once(cli, "rescued", job["job_id"], before)
    with connect(cli) as db:
        died = db.execute("select severity, code from geo.errors where job_id = %s", (job["job_id"],)).fetchall()
    assert died == [("warning", "RUN_DIED")]
