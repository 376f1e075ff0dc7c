"""The disk of the database is full: nothing that was acknowledged is lost, and jobs go on when there is room."""

import json
import time
from contextlib import suppress

import psycopg
import pytest

from geo_assets.local.postgresql import find_binaries
from geo_assets.local.stack import Stack
from geo_assets_tests.conftest import a_stack
from geo_assets_tests.faults.test_killed_run import assert_completed_once, begun, connect, converted
from geo_assets_tests.oracle import assert_reconciled
from geo_assets_tests.own_mounts import CliIn, OwnMounts
from geo_assets_tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

#: Megabytes of the disk: a new database has 150, and its WAL grows to 64 here.
ROOM = 400

FULL_SECONDS = 30


@pytest.fixture(scope="module")
def crowded(open_folder, postgres_home):
    """A stack whose PostgreSQL has a disk of its own."""
    few = json.dumps({"max_wal_size": "64MB", "min_wal_size": "32MB"})
    with OwnMounts() as mounts:
        cli = CliIn(mounts, open_folder(), GEO_ASSETS_POSTGRES_SETTINGS=few)
        stack = a_stack(cli, postgres_home)
        next(stack)
        try:
            move_to_a_small_disk(cli)
            yield cli
        finally:
            next(stack, None)


def move_to_a_small_disk(cli) -> None:
    cli.run("down")
    data = cli.home / "postgres"
    aside = data.rename(cli.home / "postgres-aside")
    data.mkdir()
    cli.mounts.mount(data, ROOM)
    assert cli.mounts.run("cp", "-a", f"{aside}/.", data).returncode == 0
    assert cli.mounts.run("rm", "-r", aside).returncode == 0
    up = cli.run("up")
    assert up.returncode == 0, up.stderr


def use_up_wal(cli) -> None:
    """Go on to a new file of 16 MB, as hours of small commits do: those that are kept for it are used up soon."""
    stack = Stack(cli.home)
    superuser = stack.cluster(stack.state(), find_binaries(cli.home)).dsn()
    with suppress(psycopg.OperationalError), psycopg.connect(superuser, autocommit=True) as db:
        db.execute("select pg_logical_emit_message(false, 'filler', 'filler'), pg_switch_wal()")


def test_jobs_wait_while_the_disk_of_the_database_is_full_and_go_on_when_there_is_room(crowded, tmp_path):
    job = begun(crowded, tmp_path / "many", "many")
    before = converted(crowded, job["job_id"])
    filler = crowded.home / "postgres" / "filler"
    crowded.mounts.fill(filler)
    full_until = time.monotonic() + FULL_SECONDS
    acknowledged, refused = [], 0
    while time.monotonic() < full_until:
        done = crowded.run("submit", "hello_world", "--param", f"message=at {time.monotonic()}", "--json")
        if done.returncode == 0:
            acknowledged.append(json.loads(done.stdout)["job_id"])
        else:
            refused += 1
            assert "error" in json.loads(done.stdout), "whoever is not heard is told"
        use_up_wal(crowded)
        crowded.mounts.fill(filler)  # what a checkpoint has set free
    assert "No space left on device" in (crowded.home / "logs" / "postgresql.log").read_text(encoding="utf-8")
    assert crowded.mounts.run("rm", filler).returncode == 0
    for job_id in (job["job_id"], *acknowledged):
        until(
            lambda job_id=job_id: crowded.json("job", job_id).get("status") == "completed",
            300,
            failure=lambda job_id=job_id: crowded.json("job", job_id),
        )
    print(f"\n{len(acknowledged)} submissions were taken while the disk was full, {refused} refused")
    assert_completed_once(crowded, "many", job["job_id"], before)
    with connect(crowded) as db:
        assert db.execute("select count(*) from geo.tasks where error_code is not null").fetchone() == (0,)
    assert_reconciled(crowded)
