"""Whole runs on workers of Celery, each with all of its steps in the process of the worker."""

import time

import pytest

from geo_assets_tests.faults.test_killed_run import converted
from geo_assets_tests.faults.test_steps_apart import FILES, assert_exact, begun
from geo_assets_tests.faults.test_terminate import assert_cancelled, run_of, terminate, visible
from geo_assets_tests.waiting import until

SETTINGS = {"GEO_ASSETS_RUN_LAUNCHER": "celery"}

pytestmark = pytest.mark.celery


def test_a_run_whose_worker_is_killed_is_found_although_celery_calls_it_running(cli, workers, tmp_path):
    job = begun(cli, tmp_path, "run-killed")
    dead = workers.the_one_at_work()
    before = converted(cli, job["job_id"])
    workers.kill(dead)
    killed_at = time.monotonic()
    until(lambda: cli.json("job", job["job_id"])["attempt"] >= 2, 75)
    found_after = time.monotonic() - killed_at
    assert found_after <= 60
    print(f"the dead run was found after {found_after:.0f} s")
    assert_exact(cli, "run-killed", job["job_id"], before)


def test_a_run_whose_worker_is_frozen_is_done_by_the_other_and_writes_nothing_when_it_thaws(cli, workers, tmp_path):
    job = begun(cli, tmp_path, "run-frozen")
    frozen = workers.the_one_at_work()
    before = converted(cli, job["job_id"])
    with workers.frozen(frozen):
        until(lambda: cli.json("job", job["job_id"])["attempt"] >= 2, 75)
    assert_exact(cli, "run-frozen", job["job_id"], before)
    until(lambda: not workers.at_work(), 60)


def test_terminate_ends_the_run_on_its_worker(cli, workers, tmp_path):
    job = begun(cli, tmp_path, "run-terminated", bad=0)
    until(workers.at_work)
    run_id = run_of(cli, job["job_id"])
    terminate(cli, run_id)
    assert_cancelled(cli, job["job_id"], run_id)
    until(lambda: not workers.at_work(), 30)
    assert visible(cli, "run-terminated") == (0, 0, 0)
    before = converted(cli, job["job_id"])
    assert len(before) < FILES
    cli.json("submit", "stage_raster", "--param", "container=run-terminated")
    assert_exact(cli, "run-terminated", job["job_id"], before, bad=0)
