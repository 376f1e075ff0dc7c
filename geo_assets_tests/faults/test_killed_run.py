"""The run worker is killed in the middle: what was finished is kept, nothing is doubled, the next run does the rest."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import psycopg
import pytest

from geo_assets_tests.processes import children, command
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until


def connect(cli):
    env = cli.exports
    return psycopg.connect(
        host=env["PGHOST"],
        port=env["PGPORT"],
        user=env["PGUSER"],
        password=env["PGPASSWORD"],
        dbname=env["PGDATABASE"],
        autocommit=True,
    )


def run_workers(cli) -> list[int]:
    """Pids of the forks of the code server's forkserver: each is a run."""
    server = started(cli)["code_server"]["pid"]
    return [worker for nursery in forkservers(server) for worker in children(nursery)]


def forkservers(parent: int) -> list[int]:
    return [pid for pid in children(parent) if "multiprocessing.forkserver" in command(pid)]


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
    run_id = cli.json("job", job["job_id"])["run_id"]
    (worker,) = (pid for pid in run_workers(cli) if run_id in command(pid))
    os.kill(worker, signal.SIGKILL)
    until(lambda: not run_workers(cli))
    return job, converted(cli, job["job_id"])


def converted(cli, job_id):
    """task -> hash and start of its conversion."""
    with connect(cli) as db:
        query = (
            "select task_key, outputs->>'sha256' || started_at::text from geo.tasks where job_id = %s and receipt is"
            " not null"
        )
        return dict(db.execute(query, (job_id,)).fetchall())


def assert_completed_once(cli, container, job_id, before):
    after = converted(cli, job_id)
    assert 5 <= len(before) < 60
    assert len(after) == 60
    assert {key: after[key] for key in before} == before, "finished conversions were done again"
    with connect(cli) as db:
        query = "select count(*), count(distinct id) from pgstac.items where collection = %s"
        assert db.execute(query, (container,)).fetchone() == (60, 60)
        query = "select outputs->>'cog' from geo.tasks where job_id = %s and receipt is not null"
        named = {row[0].partition("/cogs/")[2] for row in db.execute(query, (job_id,)).fetchall()}
    cogs = cli.home / "containers" / "cogs"
    assert {str(file.relative_to(cogs)) for file in (cogs / container).rglob("*.tif")} == named


@pytest.mark.parametrize("killed", ["killed"], indirect=True)
def test_a_killed_ingest_is_completed_by_the_next_submission_without_redoing_or_doubling(cli, killed):
    job, before = killed
    again = cli.json("submit", "stage_raster", "--param", "container=killed", "--wait")
    assert again["job_id"] == job["job_id"]
    assert again["status"] == "completed"
    assert_completed_once(cli, "killed", job["job_id"], before)


@pytest.mark.faults
@pytest.mark.parametrize("killed", ["rescued"], indirect=True)
def test_a_killed_ingest_is_completed_by_the_janitor_when_nobody_asks(cli, killed):
    job, before = killed
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 120)
    assert_completed_once(cli, "rescued", job["job_id"], before)
    with connect(cli) as db:
        died = db.execute("select severity, code from geo.errors where job_id = %s", (job["job_id"],)).fetchall()
    assert died == [("warning", "RUN_DIED")]


@pytest.mark.slow
def test_a_large_raster_whose_run_worker_was_killed_goes_on_from_where_it_was(cli, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    write(
        folder / "large.tif",
        np.random.default_rng(0).integers(0, 255, (3, 20_000, 4000)).astype("uint8"),
        photometric="RGB",
    )
    assert cli.run("upload", str(folder), "default/large").returncode == 0
    job = cli.json("submit", "stage_raster", "--param", "container=large")
    until(lambda: list((cli.home / "scratch").glob("run-*/*/*/kept-*/state.npz")))
    (worker,) = run_workers(cli)
    os.kill(worker, signal.SIGKILL)
    until(lambda: not run_workers(cli))
    assert cli.json("submit", "stage_raster", "--param", "container=large", "--wait")["status"] == "completed"
    with connect(cli) as db:
        (part,) = db.execute(
            "select (receipt->'report'->>'resumed')::float from geo.tasks where job_id = %s and receipt is not null",
            (job["job_id"],),
        ).fetchone()
    assert 0 < part < 1
    (cog,) = (cli.home / "containers" / "cogs" / "large").rglob("*.tif")
    assert cli.run("cog", "validate", str(cog)).returncode == 0


def test_the_process_that_run_workers_are_forked_from_has_one_thread_and_no_connection(cli):
    cli.json("submit", "hello_world", "--param", "message=forked", "--wait")
    server = started(cli)["code_server"]["pid"]
    (nursery,) = forkservers(server)
    assert len(list(Path(f"/proc/{nursery}/task").iterdir())) == 1
    assert tcp_sockets(nursery) == []


def test_a_run_starts_after_the_process_that_run_workers_are_forked_from_was_killed(cli):
    (nursery,) = forkservers(started(cli)["code_server"]["pid"])
    os.kill(nursery, signal.SIGKILL)
    job = cli.json("submit", "hello_world", "--param", "message=a new forkserver", "--wait")
    assert job["status"] == "completed"
    assert job["attempt"] == 1
    assert forkservers(started(cli)["code_server"]["pid"]) != [nursery]


def started(cli) -> dict:
    return json.loads((cli.home / "stack.json").read_text())["processes"]


def tcp_sockets(pid: int) -> list[str]:
    """Inodes of a process's internet sockets."""
    mine = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    known = [
        line.split()[9] for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [inode for inode in known if f"socket:[{inode}]" in mine]
