"""What must hold after a storm of faults (`nemesis.py`)."""

import os
import time

import pytest

from geo_assets.task_status import BAD_INPUT
from geo_assets_tests.faults.nemesis import RASTERS, Told, storm
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.oracle import assert_reconciled
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults

_ENDED = ("completed", "completed_with_errors", "failed", "cancelled")

_SEEDS = [int(seed) for seed in os.environ.get("NEMESIS_SEEDS", "1 2 3").split()]
_MINUTES = float(os.environ.get("NEMESIS_MINUTES", "10"))
_SUBMISSIONS = int(os.environ.get("NEMESIS_SUBMISSIONS", "200"))

#: What the stack may take, at most, to do what a storm left undone.
_AFTERWARDS = 900


def test_after_a_minute_of_several_faults_at_once_every_submission_has_ended_and_all_agrees(cli):
    assert_all_held(cli, storm(cli, seed=11, minutes=1, submissions=15))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", _SEEDS)
def test_after_a_long_storm_every_submission_has_ended_and_all_agrees(cli, seed):
    assert_all_held(cli, storm(cli, seed, _MINUTES, _SUBMISSIONS))


def assert_all_held(cli, told: Told) -> None:
    assert cli.run("up").returncode == 0
    assert not told.half_visible, told.half_visible[:5]
    assert told.looks > 0
    jobs = ended(cli, told)
    assert_a_record_for_each_malformed_message(cli, told)
    again = [job_id for job_id, status in jobs.items() if status in ("failed", "cancelled")]
    for job_id in again:  # three deaths in a row end a job, and so does Dagster's button: its sender asks once more
        assert cli.run("retry", job_id).returncode == 0
    blamed = with_files_blamed(cli)
    for job_id in set(blamed) - set(again):  # a file on which two children died counts as what they died of
        assert cli.run("retry", job_id, "--error-code", "FATAL_FILE").returncode == 0
    jobs = ended(cli, told)
    assert set(jobs.values()) <= {"completed", "completed_with_errors"}, jobs
    assert_exact(cli)
    assert_reconciled(cli)
    print(
        f"{len(told.submitted)} jobs, {len(again)} asked for once more, {len(blamed)} with files that were blamed, {told.looks} looks; {dict(told.faults)}"
    )


def ended(cli, told: Told) -> dict[str, str]:
    """Job -> status, once all that were submitted are known and have ended."""

    def all_ended() -> dict[str, str] | None:
        with connect(cli) as db:
            query = """select job_id, status, coalesce(parameters->>'message', parameters->>'container')
                         from geo.job_status
                        where parameters->>'message' like 'nemesis %' or parameters->>'container' like 'nemesis-%'"""
            rows = db.execute(query).fetchall()
        asked = {str(job.parameters.get("message") or job.parameters["container"]) for job in told.submitted}
        known = {name for _, _, name in rows}
        assert {job.job_id for job in told.submitted if job.job_id} <= {job_id for job_id, _, _ in rows}, (
            "a job is lost"
        )
        return {j: s for j, s, _ in rows} if asked <= known and all(s in _ENDED for _, s, _ in rows) else None

    began = time.monotonic()
    found = until(all_ended, _AFTERWARDS)
    print(f"all ended {time.monotonic() - began:.0f} s later")
    return found


def with_files_blamed(cli) -> list[str]:
    with connect(cli) as db:
        query = "select distinct job_id from geo.tasks where error_code = 'FATAL_FILE'"
        return [job_id for (job_id,) in db.execute(query).fetchall()]


def assert_a_record_for_each_malformed_message(cli, told: Told) -> None:
    with connect(cli) as db:
        query = "select count(*) from geo.errors where code = 'INVALID_JSON'"
        assert db.execute(query).fetchone()[0] >= told.malformed


def assert_exact(cli) -> None:
    """Of each container: its rasters published once, its bad file quarantined, nothing else."""
    with connect(cli) as db:
        tasks = """select j.parameters->>'container', count(*) filter (where receipt is not null),
                          count(*) filter (where status = %s), count(*)
                     from geo.jobs j join geo.tasks t using (job_id)
                    where j.parameters->>'container' like 'nemesis-%%' group by 1"""
        assert {row[1:] for row in db.execute(tasks, (BAD_INPUT,)).fetchall()} <= {(RASTERS, 1, RASTERS + 1)}
        items = """select collection, count(*), count(distinct id) from pgstac.items
                    where collection like 'nemesis-%' group by 1"""
        assert {row[1:] for row in db.execute(items).fetchall()} <= {(RASTERS, RASTERS)}
