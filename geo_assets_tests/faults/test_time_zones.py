"""A database whose own time zone is not UTC: times that Dagster keeps without a zone mean the same as anywhere."""

import os
import signal
import time

import psycopg
import pytest

from geo_assets.settings import STACK_ENV_FILE, Settings
from geo_assets_tests.faults.test_killed_run import (
    assert_completed_once,
    begun,
    connect,
    converted,
    run_workers,
    started,
)
from geo_assets_tests.faults.test_terminate import STAGES, barrier
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture
def zone(cli, request):
    """The stack's database in another time zone, its daemon started there."""
    settings = Settings(home=cli.home, _env_file=cli.home / STACK_ENV_FILE)

    def alter(change: str) -> None:
        with psycopg.connect(settings.dsn("migrator"), autocommit=True) as conn:
            conn.execute(f"alter database {settings.pg_database} {change}")

    alter(f"set timezone to '{request.param}'")
    os.kill(started(cli)["daemon"]["pid"], signal.SIGKILL)
    yield request.param
    alter("reset timezone")


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin"], indirect=True)
def test_the_stack_comes_up_and_a_killed_worker_is_rescued_in_any_time_zone(cli, tmp_path, zone):
    assert cli.run("up").returncode == 0
    findings = {f["what"]: f for f in cli.json("doctor")}
    assert (findings["time zone"]["level"], findings["time zone"]["found"]) == ("ok", "UTC")
    container = "zone-" + zone.partition("/")[2].replace("_", "-").lower()
    job = begun(cli, tmp_path / "many", container)
    (worker,) = until(lambda: run_workers(cli))
    os.kill(worker, signal.SIGKILL)
    until(lambda: not run_workers(cli))
    before = converted(cli, job["job_id"])
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 120)
    assert_completed_once(cli, container, job["job_id"], before)


@pytest.mark.parametrize("zone", ["America/New_York"], indirect=True)
def test_a_run_that_waits_in_the_queue_for_long_is_launched_once_in_any_time_zone(cli, zone, tmp_path):
    assert cli.run("up").returncode == 0
    (tmp_path / "notes.txt").write_text("x")
    assert cli.run("upload", str(tmp_path / "notes.txt"), "default/queue").returncode == 0
    with barrier(cli, STAGES["listing"]):
        held = [  # as many as run at once
            cli.json("submit", "list_container", "--param", "container=queue", "--param", f"prefix={'note'[: i + 1]}")
            for i in range(4)
        ]
        until(lambda: len(run_workers(cli)) == 4, 180)  # a killed run of another test has a place until it is found
        waiting = cli.json("submit", "hello_world", "--param", f"message=patient in {zone}")
        time.sleep(27)  # longer than a launch may take, and a tick of the sensor
    for job in (*held, waiting):
        until(lambda job=job: cli.json("job", job["job_id"])["status"] == "completed")
    with connect(cli) as db:
        query = "select count(*) from dagster.run_tags where key = 'dagster/partition' and value = %s"
        assert db.execute(query, (waiting["partition_key"],)).fetchone() == (1,)


@pytest.mark.parametrize("zone", ["Europe/Berlin"], indirect=True)
def test_doctor_names_a_connection_that_is_not_in_utc(cli, zone):
    assert cli.run("up").returncode == 0
    plain = cli.exports["GEO_ASSETS_DAGSTER_POSTGRES_URL"].partition("?")[0]
    cli.env["GEO_ASSETS_DAGSTER_POSTGRES_URL"] = f"{plain}?options=-csearch_path%3Ddagster"
    try:
        finding = next(f for f in cli.json("doctor") if f["what"] == "time zone")
    finally:
        del cli.env["GEO_ASSETS_DAGSTER_POSTGRES_URL"]
    assert finding["level"] == "failure"
    assert "Dagster's Europe/Berlin" in finding["found"]
    assert "timezone" in finding["remedy"]
