"""Steps on workers of Celery: what becomes of a job when workers, the broker or the plan die."""

import os
import signal
import time

import pytest

from geo_assets.ledger.lease import LEASE_SECONDS
from geo_assets_tests.celery.test_steps_on_workers import taken_by
from geo_assets_tests.faults.test_killed_run import connect, converted, run_workers
from geo_assets_tests.faults.test_steps_apart import assert_exact, begun
from geo_assets_tests.faults.test_terminate import run_of
from geo_assets_tests.waiting import until

SETTINGS = {"GEO_ASSETS_EXECUTOR": "celery"}

pytestmark = pytest.mark.celery


def test_with_one_worker_killed_and_the_other_frozen_for_a_minute_the_account_is_exact(cli, workers, tmp_path):
    job = begun(cli, tmp_path, "killed-frozen")
    both = until(lambda: len(workers.at_work()) == 2 and workers.at_work())
    before = converted(cli, job["job_id"])
    dead, alive = sorted(both)
    workers.kill(dead)
    killed_at = time.monotonic()
    with workers.frozen(alive):
        until(lambda: cli.json("job", job["job_id"])["attempt"] >= 2, 75)
        found_after = time.monotonic() - killed_at
        time.sleep(max(0.0, 60 - found_after))
    assert found_after <= 60, f"dead work was found after {found_after:.0f} s"
    print(f"dead work was found after {found_after:.0f} s")
    assert_exact(cli, "killed-frozen", job["job_id"], before)


def test_a_worker_that_is_killed_before_its_first_step_has_claimed_the_job_is_found_within_a_minute(cli, workers):
    job = cli.json("submit", "hello_world", "--param", "message=unclaimed")
    with connect(cli) as db, db.transaction():
        db.execute("select from geo.jobs where job_id = %s for update", (job["job_id"],))  # no step can claim it
        run_id = run_of(cli, job["job_id"])
        (name,) = until(lambda: [told.partition("@")[0] for told in taken_by(cli, run_id).values()], 60)
        time.sleep(LEASE_SECONDS + 15)  # it lives, and waits for its turn
        assert cli.json("job", job["job_id"])["attempt"] == 1
        workers.kill(name)
        killed_at = time.monotonic()
    until(lambda: cli.json("job", job["job_id"])["attempt"] >= 2, 75)
    found_after = time.monotonic() - killed_at
    assert found_after <= 60, f"dead work was found after {found_after:.0f} s"
    print(f"dead work was found after {found_after:.0f} s")
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 60)


def test_a_broker_that_is_started_again_and_knows_nothing_any_more_costs_an_attempt(cli, workers, redis, tmp_path):
    job = begun(cli, tmp_path, "broker")
    before = converted(cli, job["job_id"])
    redis.kill()
    time.sleep(1)
    redis.start()
    assert_exact(cli, "broker", job["job_id"], before)


def test_a_plan_that_is_killed_while_workers_are_at_its_steps_publishes_nothing_twice(cli, workers, tmp_path):
    job = begun(cli, tmp_path, "plan-killed")
    before = converted(cli, job["job_id"])
    (plan,) = until(lambda: run_workers(cli))
    os.kill(plan, signal.SIGKILL)
    assert_exact(cli, "plan-killed", job["job_id"], before)
