"""The steps of a run may be many processes: the lease between two of them, and what each knows of the job."""

import threading
from contextlib import contextmanager

import psycopg
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import lease as ledger
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages import context as contexts
from geo_assets.stages import kept_lease as keeping
from geo_assets.stages.claim import claim_job
from geo_assets.stages.context import StageContext
from geo_assets.stages.kept_lease import kept_lease
from geo_assets_tests.intake.messages import hello
from geo_assets_tests.waiting import until

BEAT = 0.1  # seconds


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(contexts, "HEARTBEAT_SECONDS", BEAT)
    monkeypatch.setattr(keeping, "HEARTBEAT_SECONDS", BEAT)


@pytest.fixture
def job(settings, submitter, dagster):
    """A job that a step has claimed whose process is gone since."""
    asked = validate_parameters("hello_world", hello()["parameters"])
    submitter.submit(asked, submitted_by="test")
    job = Job.of(asked)
    with step(settings, dagster.run(job, "STARTED")) as context:
        return claimed(context, job)


@contextmanager
def step(settings, run_id: str):
    """A process in which a step of a run is executed."""
    with StageContext(settings, run_id=run_id) as context:
        yield context


def claimed(context: StageContext, job):
    return claim_job(
        context,
        partition_key=job.partition_key,
        run_id=context.run_id,
        attempt=1,
        job_types=frozenset({"hello_world"}),
    )


def lease(dagster, job) -> tuple:
    query = "select lease_run_id, lease_heartbeat from geo.jobs where job_id = %s"
    return dagster.conn.execute(query, (job.job_id,)).fetchone()


def test_the_lease_outlives_the_process_of_the_step_that_claimed_the_job(dagster, job):
    assert lease(dagster, job)[0] == job.run_id


def test_the_lease_is_renewed_while_no_step_is_at_work(settings, dagster, job):
    _, before = lease(dagster, job)
    with kept_lease(settings, job.run_id):
        until(lambda: lease(dagster, job)[1] > before, 10)


def test_a_plan_that_is_shorter_than_a_heartbeat_opens_no_connection(settings, monkeypatch, dagster, job):
    monkeypatch.setattr(keeping, "HEARTBEAT_SECONDS", 60)
    _, before = lease(dagster, job)
    unreachable = settings.model_copy(update={"pg_port": 1})
    with kept_lease(unreachable, job.run_id):
        pass
    assert lease(dagster, job) == (job.run_id, before)


def signs(dagster, run_id: str) -> int:
    return dagster.conn.execute("select count(*) from geo.beats where run_id = %s", (run_id,)).fetchone()[0]


def test_a_run_gives_signs_of_life_before_its_first_step_and_none_while_a_process_is_at_a_step(settings, dagster):
    run_id, asked, waiting = "waits", [], threading.Event()

    def waits() -> bool:
        asked.append(run_id)
        return waiting.is_set()

    with kept_lease(settings, run_id, waits=waits):
        until(lambda: len(asked) > 2, 10)
        assert signs(dagster, run_id) == 0
        waiting.set()
        until(lambda: signs(dagster, run_id) == 1, 10)


def test_a_run_that_owns_its_job_is_not_asked_for_its_steps(settings, dagster, job):
    asked, (_, before) = [], lease(dagster, job)
    with kept_lease(settings, job.run_id, waits=lambda: bool(asked.append(1))):
        until(lambda: lease(dagster, job)[1] > before, 10)
    assert (asked, signs(dagster, job.run_id)) == ([], 0)


def test_a_process_that_writes_the_receipt_of_its_job_gives_signs_of_life(settings, dagster, job):
    with step(settings, job.run_id) as last:
        last.complete(job)
        with last.signs_of_life():
            until(lambda: signs(dagster, job.run_id) == 1, 10)


def test_a_database_that_is_away_for_a_while_does_not_end_the_renewing(settings, monkeypatch, dagster, job):
    real, calls = ledger.keep, []

    def restarting(conn, run_id):
        calls.append(run_id)
        if len(calls) == 1:
            raise psycopg.OperationalError("the database system is starting up")
        return real(conn, run_id)

    monkeypatch.setattr(ledger, "keep", restarting)
    _, before = lease(dagster, job)
    with kept_lease(settings, job.run_id):
        until(lambda: lease(dagster, job)[1] > before, 10)


def test_whoever_executes_the_plan_is_told_once_that_the_job_is_lost(settings, submitter, job):
    told = []
    with kept_lease(settings, job.run_id, lambda: told.append("lost")):
        submitter.jobs.end_attempt(job.job_id, "cancelled", GeoAssetsError("CANCELLED", "somebody asked"))
        until(lambda: told, 10)
    assert told == ["lost"]


def test_a_plan_that_is_interrupted_lets_the_job_go(settings, dagster, job):
    with pytest.raises(KeyboardInterrupt), kept_lease(settings, job.run_id):
        raise KeyboardInterrupt
    assert lease(dagster, job) == (None, None)


def test_whichever_step_fails_for_good_ends_the_attempt_of_its_run(settings, submitter, job):
    with step(settings, job.run_id) as another:
        another.give_up(GeoAssetsError("INTERNAL", "it is broken"))
    found = submitter.jobs.find(job.job_id)
    assert (found.status, found.error_code) == ("failed", "INTERNAL")


def test_a_run_that_stood_aside_ends_nothing_and_loses_nothing(settings, submitter, dagster, job):
    with step(settings, dagster.run(job, "STARTED")) as aside:
        assert claimed(aside, job).stood_aside
        aside.give_up(GeoAssetsError("INTERNAL", "it is broken"))
        assert aside.jobs.keeps(aside.run_id)
    assert submitter.jobs.find(job.job_id).status == "processing"
    assert lease(dagster, job)[0] == job.run_id


def test_a_step_whose_job_was_cancelled_is_stopped_though_nothing_interrupts_it(settings, submitter, job):
    with step(settings, job.run_id) as elsewhere, elsewhere.lease(job):
        assert not elsewhere.stopped
        submitter.jobs.end_attempt(job.job_id, "cancelled", GeoAssetsError("CANCELLED", "somebody asked"))
        until(lambda: elsewhere.stopped, 10)


def test_a_step_that_is_interrupted_lets_the_job_go_for_all_steps_of_its_run(settings, dagster, job):
    with step(settings, job.run_id) as interrupted, step(settings, job.run_id) as other:
        interrupted.stop()
        assert lease(dagster, job) == (None, None)
        assert not other.jobs.keeps(job.run_id)
        with pytest.raises(GeoAssetsError) as caught, other.lease(job):
            pass
    assert caught.value.code == "LEASE_LOST"


def test_a_run_that_has_completed_its_job_has_nothing_to_lose(settings, job):
    with step(settings, job.run_id) as last:
        last.complete(job)
        assert last.jobs.keeps(job.run_id)


def test_a_run_that_waits_for_a_store_says_so_once_however_many_steps_wait(settings, dagster, job):
    away = GeoAssetsError("STORAGE_UNAVAILABLE", "it does not answer")
    for _ in range(3):
        with step(settings, job.run_id) as waiting:
            waiting._tell_of_waiting(away)
            waiting._tell_of_waiting(away)
    told = dagster.conn.execute(
        "select severity, code from geo.errors where job_id = %s and run_id = %s", (job.job_id, job.run_id)
    ).fetchall()
    assert told == [("alert", "STORAGE_UNAVAILABLE")]
