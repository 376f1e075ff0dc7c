"""Everything is lost while a job runs, and comes back: from a backup, and from the receipts alone."""

import json
import os
import shutil
import signal
import subprocess

import psycopg
import pytest

from geo_assets.local.postgresql import usable_data_dir
from geo_assets.stages.reconcile import Class
from geo_assets_tests.conftest import Cli, a_stack
from geo_assets_tests.faults.test_killed_run import begun
from geo_assets_tests.faults.test_terminate import barrier, delivery
from geo_assets_tests.oracle import assert_reconciled, settings_of
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults

#: What was being published in the moment of a backup is a file that nobody names yet. It is copied, and swept when it is
#: old enough; for the oracle nothing is too young.
UNNAMED = {Class.ORPHAN_COG}


@pytest.fixture(scope="module")
def stack(open_folder, postgres_home):
    """A stack that may be destroyed."""
    yield from a_stack(Cli(open_folder()), postgres_home)


def destroy(cli, *, keep_containers: bool) -> None:
    """Delete all that a stack has; the machine has the same ports free as before."""
    assert cli.run("down").returncode == 0
    ports = json.loads((cli.home / "stack.json").read_text())["ports"]
    shutil.rmtree(usable_data_dir(cli.home))
    for path in cli.home.iterdir():
        if path.is_symlink() or (keep_containers and path.name == "containers"):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (cli.home / "stack.json").write_text(json.dumps({"ports": ports}))


def succeeds(cli, *words) -> str:
    done = cli.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_restoring(cli) -> bool:
    query = "select count(*) from pg_stat_activity where application_name = 'psql' and state <> 'idle'"
    with psycopg.connect(settings_of(cli).dsn("migrator")) as db:
        return db.execute(query).fetchone()[0] > 0


def test_all_is_lost_while_a_job_runs_and_a_backup_brings_it_back_and_the_job_to_its_end(stack, tmp_path):
    delivery(stack, tmp_path, "finished")
    finished = stack.json("submit", "ingest_container", "--param", "container=finished", "--wait")
    job = begun(stack, tmp_path / "many", "many")
    with barrier(stack, "lock table geo.published in share mode"):  # it publishes nothing yet, and can be read
        made = stack.json(
            "backup", str(tmp_path / "backup"), "--container", "default/many", "--container", "default/finished"
        )
    assert made["jobs_at_work"] == 1
    destroy(stack, keep_containers=False)
    succeeds(stack, "up", "--database-only")
    command = stack.command("restore", str(tmp_path / "backup"))
    with subprocess.Popen(command, env=stack.env) as killed:
        until(lambda: is_restoring(stack))
        os.kill(killed.pid, signal.SIGKILL)
    succeeds(stack, "restore", str(tmp_path / "backup"))
    succeeds(stack, "up")
    assert stack.json("job", finished["job_id"]) == finished
    until(lambda: stack.json("job", job["job_id"])["status"] == "completed", 180)
    record = stack.json("job", job["job_id"])
    assert {stage["stage"]: stage["succeeded"] for stage in record["stages"]}["cogs"] == 60
    succeeds(stack, "reconcile", "--deep")
    succeeds(stack, "verify", "--all", "--deep")
    assert_reconciled(stack, allow=UNNAMED)
    done = stack.run("restore", str(tmp_path / "backup"), "--json")
    assert json.loads(done.stdout)["error"]["code"] == "DATABASE_NOT_EMPTY"
    again = stack.json("submit", "ingest_container", "--param", "container=finished", "--wait")
    assert again["status"] == "completed"


def test_the_database_is_lost_and_there_is_no_backup_and_the_receipts_bring_it_back(stack):
    before = stack.json("collection", "list")
    destroy(stack, keep_containers=True)
    succeeds(stack, "up")
    succeeds(stack, "rebuild", "--from", "default/cogs")
    assert stack.json("collection", "list") == before
    succeeds(stack, "verify", "--all", "--deep")
    succeeds(stack, "reconcile", "--deep")
    assert_reconciled(stack, allow=UNNAMED)
