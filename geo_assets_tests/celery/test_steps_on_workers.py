"""Steps on workers of Celery: who does them, cancellation, secrets, releases."""

import json
import time

import psycopg
import pytest

from geo_assets.ledger.lease import LEASE_SECONDS
from geo_assets_tests.celery.conftest import CHUNK
from geo_assets_tests.faults.test_killed_run import connect, converted, run_workers
from geo_assets_tests.faults.test_steps_apart import FILES, assert_exact, begun
from geo_assets_tests.faults.test_terminate import assert_cancelled, run_of, run_status, terminate, visible
from geo_assets_tests.waiting import until

SETTINGS = {"GEO_ASSETS_EXECUTOR": "celery"}

pytestmark = pytest.mark.celery


def taken_by(cli, run_id: str) -> dict[str, str]:
    """Step -> the worker that took it."""
    with connect(cli) as db:
        rows = db.execute(
            "select step_key, event::jsonb->'dagster_event'->'event_specific_data'->'metadata_entries' from"
            " dagster.event_logs where run_id = %s and event like '%%in celery worker%%'",
            (run_id,),
        ).fetchall()
    return {
        step: next(e["entry_data"]["text"] for e in entries if e["label"] == "Celery worker") for step, entries in rows
    }


def assert_nobody_tells(cli, password: str) -> None:
    """The password of the broker is neither in Dagster's tables nor in a log."""
    with connect(cli) as db:
        for table, text in (
            ("runs", "run_body"),
            ("run_tags", "value"),
            ("event_logs", "event"),
            ("job_ticks", "tick_body"),
        ):
            (found,) = db.execute(
                f"select count(*) from dagster.{table} where {text} like %s", (f"%{password}%",)
            ).fetchone()
            assert found == 0, table
    for log in (cli.home / "logs").glob("*.log"):
        assert password not in log.read_text(errors="replace"), log.name


def test_the_chunks_of_a_job_are_spread_over_the_workers_and_nobody_tells_the_password(cli, workers, redis, tmp_path):
    job = begun(cli, tmp_path, "spread")
    assert_exact(cli, "spread", job["job_id"], {})
    taken = taken_by(cli, cli.json("job", job["job_id"])["run_id"])
    chunks = {step: worker for step, worker in taken.items() if "chunk_" in step}
    assert len(chunks) >= FILES // CHUNK
    assert {worker.partition("@")[0] for worker in chunks.values()} == {"first", "second"}
    assert cli.json("job", job["job_id"])["attempt"] == 1
    assert_nobody_tells(cli, redis.password)


def test_a_run_that_waits_for_a_worker_longer_than_a_lease_is_not_taken_for_dead(cli, workers):
    with workers.frozen("first"), workers.frozen("second"):
        job = cli.json("submit", "hello_world", "--param", "message=patience")
        run_id = run_of(cli, job["job_id"])
        until(lambda: run_status(cli, run_id) == "STARTED", 60)
        time.sleep(LEASE_SECONDS + 20)  # and two looks of the janitor
        assert (cli.json("job", job["job_id"])["attempt"], run_status(cli, run_id)) == (1, "STARTED")
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 90)
    assert cli.json("job", job["job_id"])["attempt"] == 1


def test_cancel_reaches_the_workers_and_the_next_submission_does_the_rest(cli, workers, tmp_path):
    job = begun(cli, tmp_path, "cancelled", bad=0)
    until(workers.at_work)
    assert cli.run("cancel", job["job_id"]).returncode == 0
    until(lambda: not workers.at_work(), 30)
    assert cli.json("job", job["job_id"])["status"] == "cancelled"
    assert visible(cli, "cancelled") == (0, 0, 0)
    before = converted(cli, job["job_id"])
    assert len(before) < FILES
    cli.json("submit", "stage_raster", "--param", "container=cancelled")
    assert_exact(cli, "cancelled", job["job_id"], before, bad=0)


def test_dagsters_own_button_ends_the_steps_too_and_no_process_waits_for_ever(cli, workers, tmp_path):
    job = begun(cli, tmp_path, "terminated", bad=0)
    until(workers.at_work)
    run_id = run_of(cli, job["job_id"])
    terminate(cli, run_id)
    assert_cancelled(cli, job["job_id"], run_id)
    until(lambda: not workers.at_work(), 30)
    until(lambda: not run_workers(cli), 60)


def test_a_worker_of_another_release_does_not_start_and_says_so_in_a_line(cli, workers):
    state = json.loads((cli.home / "stack.json").read_text())
    superuser = {"port": state["ports"]["postgres"], "password": state["passwords"]["superuser"]}
    address = {"host": "127.0.0.1", "user": "postgres", "dbname": "geo_assets", **superuser}
    with psycopg.connect(**address, autocommit=True) as db:
        db.execute("insert into public.geo_migrations (name, sha256) values ('9999_newer.sql', '')")
        try:
            done = cli.run("worker", "--name", "third")
        finally:
            db.execute("delete from public.geo_migrations where name = '9999_newer.sql'")
    assert done.returncode != 0
    assert "the database has migrations up to 9999_newer.sql" in done.stderr
    assert "Traceback" not in done.stderr
