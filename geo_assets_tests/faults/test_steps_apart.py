"""Each step of a run is a process of its own: what befalls one of them, and those that it leaves alone."""

import os
import signal

import numpy as np
import pytest

from geo_assets_tests.conftest import Cli, a_stack
from geo_assets_tests.faults.test_killed_run import connect, converted, forkservers, run_workers
from geo_assets_tests.faults.test_terminate import assert_cancelled, graphql, run_of, terminate, visible
from geo_assets_tests.processes import children, is_alive
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults

FILES, CHUNK = 32, 8

_LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""


@pytest.fixture(scope="module")
def cli(open_folder, postgres_home):
    """A stack whose steps are processes."""
    own = {"GEO_ASSETS_EXECUTOR": "multiprocess", "GEO_ASSETS_CHUNK_FILES": str(CHUNK), "GEO_ASSETS_WORKERS": "1"}
    yield from a_stack(Cli(open_folder(), **own), postgres_home)


def begun(cli, tmp_path, container: str, *, bad: int = 1) -> dict:
    """A job of some rasters, and a file that is none, of which some are converted."""
    folder = tmp_path / container
    folder.mkdir()
    for i in range(FILES):
        write(folder / f"tile_{i:02}.tif", np.random.default_rng(i).integers(0, 255, (3, 600, 600)).astype("uint8"))
    for i in range(bad):
        (folder / f"bad_{i}.tif").write_bytes(b"II*\0 nothing")
    assert cli.run("upload", str(folder), f"default/{container}").returncode == 0
    job = cli.json("submit", "stage_raster", "--param", f"container={container}")
    until(lambda: len(converted(cli, job["job_id"])) >= 3, 180)
    return job


def steps(worker: int) -> list[int]:
    """Pids of the steps of a run."""
    return [step for nursery in forkservers(worker) for step in children(nursery)]


def chunk_at_work(worker: int) -> int:
    """The pid of a step that has a sandboxed child."""
    return until(lambda: next((step for step in steps(worker) if children(step)), None))


def started_steps(cli, run_id: str) -> list[str]:
    """Steps of a run that were processes of their own."""
    with connect(cli) as db:
        rows = db.execute(
            "select step_key from dagster.event_logs where run_id = %s and dagster_event_type = 'STEP_WORKER_STARTED'",
            (run_id,),
        ).fetchall()
    return [key for (key,) in rows]


def assert_exact(cli, container: str, job_id: str, before: dict, *, bad: int = 1) -> None:
    """Every file is accounted for, and what was converted before was not converted again."""
    until(lambda: cli.json("job", job_id)["status"] == ("completed_with_errors" if bad else "completed"), 180)
    tally = [task["status"] for task in cli.json("tasks", job_id)]
    assert len(tally) == FILES + bad
    assert tally.count("quarantined") == bad
    assert visible(cli, container) == (FILES, 0, FILES)
    after = converted(cli, job_id)
    assert {key: after[key] for key in before} == before, "finished conversions were done again"
    with connect(cli) as db:
        assert db.execute("select count(*) from geo.steps where job_id = %s", (job_id,)).fetchone() == (0,)


def test_every_chunk_of_a_job_is_a_step_in_a_process_of_its_own(cli):
    job = cli.json("submit", "hello_world", "--param", "n=40", "--param", "message=apart", "--wait")
    assert job["status"] == "completed"
    assert all(stage["succeeded"] == 40 for stage in job["stages"])
    keys = started_steps(cli, job["run_id"])
    assert len(keys) == len(set(keys)) == 3 + 2 * 3, keys  # two plans, the end, and three chunks of each stage
    assert sum("chunk_" in key for key in keys) == 6


@pytest.mark.faults
def test_a_killed_step_costs_a_new_attempt_and_nothing_else(cli, tmp_path):
    job = begun(cli, tmp_path, "step-killed")
    (worker,) = until(lambda: run_workers(cli))
    before = converted(cli, job["job_id"])
    os.kill(chunk_at_work(worker), signal.SIGKILL)
    assert_exact(cli, "step-killed", job["job_id"], before)
    assert cli.json("job", job["job_id"])["attempt"] >= 2


@pytest.mark.faults
def test_steps_whose_run_was_killed_publish_nothing_twice(cli, tmp_path):
    job = begun(cli, tmp_path, "plan-killed")
    (worker,) = until(lambda: run_workers(cli))
    left = steps(worker)
    assert left
    before = converted(cli, job["job_id"])
    os.kill(worker, signal.SIGKILL)
    assert_exact(cli, "plan-killed", job["job_id"], before)
    until(lambda: not any(map(is_alive, left)), 60)


@pytest.mark.faults
def test_a_frozen_step_is_found_and_finds_its_job_gone_when_it_thaws(cli, tmp_path):
    job = begun(cli, tmp_path, "step-frozen")
    (worker,) = until(lambda: run_workers(cli))
    before = converted(cli, job["job_id"])
    frozen = chunk_at_work(worker)
    os.kill(frozen, signal.SIGSTOP)
    try:
        until(lambda: cli.json("job", job["job_id"])["attempt"] >= 2, 60)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert_exact(cli, "step-frozen", job["job_id"], before)
    until(lambda: not is_alive(frozen), 60)


def test_terminate_reaches_the_steps_of_a_run_and_the_next_run_does_the_rest(cli, tmp_path):
    job = begun(cli, tmp_path, "apart-terminated", bad=0)
    (worker,) = until(lambda: run_workers(cli))
    left = steps(worker)
    run_id = run_of(cli, job["job_id"])
    terminate(cli, run_id)
    assert_cancelled(cli, job["job_id"], run_id)
    assert not any(map(is_alive, left))
    assert visible(cli, "apart-terminated") == (0, 0, 0)
    before = converted(cli, job["job_id"])
    cli.json("submit", "stage_raster", "--param", "container=apart-terminated")
    assert_exact(cli, "apart-terminated", job["job_id"], before, bad=0)


def test_a_single_run_is_executed_in_one_process_if_its_configuration_says_so(cli):
    job = cli.json("submit", "hello_world", "--param", "n=2", "--param", "message=together", "--wait")
    params = {
        "selector": {
            "repositoryLocationName": "geo_assets",
            "repositoryName": "__repository__",
            "pipelineName": "hello_world",
        },
        "runConfigData": {"execution": {"config": {"in_process": {}}}},
        "mode": "default",
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": job["partition_key"]}]},
    }
    launched = graphql(cli, _LAUNCH, params=params)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]
    until(lambda: cli.json("job", job["job_id"])["run_id"] == run_id)
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed")
    assert started_steps(cli, run_id) == []
