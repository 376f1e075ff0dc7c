"""The ledger beside somebody's own Dagster, which keeps its runs where no statement of ours sees them (here: SQLite)."""

import sys
import time
from datetime import timedelta

import dagster as dg
import psycopg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData, StepSuccessData
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy import text

from geo_assets.definitions import build_defs
from geo_assets.defs import runs
from geo_assets.defs.runs import Runs
from geo_assets.defs.sensors import build_janitor, build_submissions_sensor
from geo_assets.parameters import JOB_TYPES
from geo_assets.stages.janitor import MAX_RESCUES
from geo_assets_tests.intake.test_lifecycle import submitted


@pytest.fixture(scope="module")
def settings(settings):
    """As a migration leaves the database before Dagster's first start: its schema is empty."""
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        db.execute("drop table dagster.runs, dagster.run_tags, dagster.dynamic_partitions")
    return settings


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("dagster"))
    with DagsterInstance.local_temp(folder, overrides={"telemetry": {"enabled": False}}) as instance:
        yield instance


@pytest.fixture
def db(settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        yield db
        db.execute("update geo.attempts set outcome = 'completed', ended_at = now() where outcome is null")


@pytest.fixture
def job(submitter, db):
    """One that was launched long enough ago for somebody to ask what became of it."""
    job, *_ = submitted(submitter)
    assert submitter.jobs.take_launch(job.job_id, 1)
    later(db)
    return job


def later(db, seconds=60):
    """All that happened in the ledger happened so much earlier."""
    db.execute(
        "update geo.attempts set requested_at = requested_at - %(earlier)s, launched_at = launched_at - %(earlier)s,"
        " started_at = started_at - %(earlier)s where outcome is null",
        {"earlier": timedelta(seconds=seconds)},
    )
    db.execute("update geo.jobs set lease_heartbeat = lease_heartbeat - %s", (timedelta(seconds=seconds),))


def run_of(instance, job, status=DagsterRunStatus.NOT_STARTED, attempt=1):
    tags = {"dagster/partition": job.partition_key, "geo_assets/attempt": str(attempt)}
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("maps"), "__repository__")
    code = RepositoryPythonOrigin(sys.executable, ModuleCodePointer("geo_assets.definitions", "defs"))
    return create_run_for_test(
        instance,
        job_name=job.job_type,
        tags=tags,
        status=status,
        remote_job_origin=RemoteJobOrigin(repository, job.job_type),
        job_code_origin=JobPythonOrigin(job.job_type, code),
    )


def all_began(instance, seconds):
    """All runs began so long ago."""
    with instance.run_storage.connect() as runs_of_dagster:
        runs_of_dagster.execute(text("update runs set start_time = :began"), {"began": time.time() - seconds})


def janitor(settings, instance):
    return build_janitor(settings)(dg.build_sensor_context(instance=instance)).skip_message


def asked_for(settings, instance, job):
    """Runs that the sensor asks Dagster for."""
    jobs = build_defs(settings).get_repository_def().get_all_jobs()
    sensor = build_submissions_sensor(settings, [each for each in jobs if each.name in JOB_TYPES])
    told = sensor(dg.build_sensor_context(instance=instance))
    return [r for r in getattr(told, "run_requests", None) or [] if r.partition_key == job.partition_key]


def test_a_run_claims_its_job_and_another_stands_aside_for_as_long_as_it_is_at_work(submitter, db, job):
    assert submitter.jobs.claim(job.partition_key, "first", 1).won
    assert not submitter.jobs.claim(job.partition_key, "second", None).won
    assert submitter.jobs.find(job.job_id).status == "processing"
    later(db)
    assert submitter.jobs.claim(job.partition_key, "third", None).won


def test_a_run_that_waits_in_their_queue_is_not_launched_twice(settings, submitter, instance, job):
    run_of(instance, job, DagsterRunStatus.QUEUED)
    assert asked_for(settings, instance, job) == []
    assert janitor(settings, instance) == "all jobs are in order"
    assert submitter.jobs.find(job.job_id).status == "queued"


def test_a_launch_of_which_dagster_knows_nothing_is_asked_for_again(settings, submitter, instance, job):
    (again,) = asked_for(settings, instance, job)
    assert again.tags["geo_assets/attempt"] == "1"
    assert janitor(settings, instance) == "all jobs are in order"


def test_a_run_of_an_older_database_with_the_same_partition_and_number_is_not_taken_for_it(
    settings, submitter, instance, job, db
):
    run_of(instance, job, DagsterRunStatus.SUCCESS)
    db.execute("update geo.attempts set requested_at = now() + interval '62 seconds' where job_id = %s", (job.job_id,))
    (again,) = asked_for(settings, instance, job)
    db.execute("update geo.attempts set requested_at = requested_at + interval '1 hour', launched_at = null")
    assert again.run_key.startswith(f"{job.partition_key}:1:")


@pytest.mark.parametrize("status", [DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS])
def test_a_run_that_ended_before_it_claimed_its_job_is_replaced(settings, submitter, instance, job, status):
    run_of(instance, job, status)
    assert asked_for(settings, instance, job) == []
    assert janitor(settings, instance) == f"{job.partition_key}: rescue"
    time.sleep(2.1)  # what was asked for a moment ago may be being launched
    (again,) = asked_for(settings, instance, job)
    assert again.tags["geo_assets/attempt"] == "2"


def test_a_run_whose_process_never_came_is_reported_and_replaced(settings, instance, job, monkeypatch):
    run = run_of(instance, job, DagsterRunStatus.STARTING)
    assert janitor(settings, instance) == "all jobs are in order"
    monkeypatch.setattr(runs, "_START_SECONDS", -1)
    assert janitor(settings, instance) == f"{job.partition_key}: rescue"
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.FAILURE


def test_a_run_that_was_killed_at_work_is_reported_and_replaced(settings, submitter, instance, job, db):
    run = run_of(instance, job, DagsterRunStatus.STARTED)
    assert submitter.jobs.claim(job.partition_key, run.run_id, 1).won
    assert janitor(settings, instance) == "all jobs are in order"
    later(db)
    assert janitor(settings, instance) == f"{job.partition_key}: mark_dead_and_rescue"
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.FAILURE
    assert submitter.jobs.find(job.job_id).attempt == 2


def test_a_run_that_waits_for_a_worker_is_not_taken_for_dead_there_either(settings, submitter, instance, job):
    run = run_of(instance, job, DagsterRunStatus.STARTED)
    all_began(instance, 60)
    submitter.jobs.give_sign(run.run_id)
    assert janitor(settings, instance) == "all jobs are in order"
    with submitter.ledger._pool.connection() as conn:
        conn.execute("update geo.beats set beat = now() - interval '1 minute'")
    assert janitor(settings, instance) == f"{job.partition_key}: mark_dead_and_rescue"


def test_a_run_that_somebody_terminated_is_cancelled_and_not_replaced(settings, submitter, instance, job):
    run = run_of(instance, job, DagsterRunStatus.STARTED)
    assert submitter.jobs.claim(job.partition_key, run.run_id, 1).won
    instance.report_run_canceling(run)
    submitter.jobs.let_go(run.run_id)
    instance.report_run_canceled(run)
    assert submitter.jobs.find(job.job_id).status == "processing"
    with submitter.ledger._pool.connection() as conn:
        conn.execute(
            "update geo.attempts set started_at = now() - interval '1 minute' where job_id = %s", (job.job_id,)
        )
    assert janitor(settings, instance) == f"{job.partition_key}: cancel"
    assert submitter.jobs.find(job.job_id).status == "cancelled"


def test_a_run_that_was_cancelled_in_their_queue_is_cancelled(settings, submitter, instance, job):
    instance.report_run_canceled(run_of(instance, job, DagsterRunStatus.QUEUED))
    assert janitor(settings, instance) == f"{job.partition_key}: cancel"
    assert submitter.jobs.find(job.job_id).status == "cancelled"


def test_a_job_whose_runs_never_begin_is_given_up(settings, submitter, instance, job, db):
    for attempt in range(1, MAX_RESCUES + 2):
        if attempt > 1:
            assert submitter.jobs.take_launch(job.job_id, attempt)
            later(db)
        run_of(instance, job, DagsterRunStatus.FAILURE, attempt)
        janitor(settings, instance)
    record = submitter.jobs.find(job.job_id)
    assert (record.status, record.error_code) == ("failed", "RUN_DIED")


def test_the_dead_run_of_an_older_attempt_does_not_hold_up_the_newest(settings, submitter, instance, job, db):
    late = run_of(instance, job, DagsterRunStatus.STARTED)
    assert submitter.jobs.rescue(job.job_id, 1)
    assert submitter.jobs.claim(job.partition_key, late.run_id, 1).won
    assert submitter.jobs.take_launch(job.job_id, 2)
    run_of(instance, job, DagsterRunStatus.QUEUED, 2)
    janitor(settings, instance)
    assert instance.get_run_by_id(late.run_id).status is DagsterRunStatus.STARTED
    later(db, 120)
    all_began(instance, 300)
    janitor(settings, instance)
    assert instance.get_run_by_id(late.run_id).status is DagsterRunStatus.FAILURE
    assert submitter.jobs.find(job.job_id).status == "queued"


def test_of_the_runs_that_somebody_launched_by_hand_ours_are_those_of_our_code_location(instance, job):
    run = run_of(instance, job, DagsterRunStatus.STARTED, attempt="")
    of_attempt = run_of(instance, job, DagsterRunStatus.STARTED)

    def by_hand(location: str) -> set[str]:
        return {seen.run_id for seen in Runs(instance, location).at_work() if seen.is_by_hand}

    assert run.run_id in by_hand("maps")
    assert of_attempt.run_id not in by_hand("maps")
    assert by_hand("another") == by_hand("") == set()


def test_a_run_waits_until_a_process_begins_with_a_step_and_again_when_it_is_done(instance, job):
    run, waits = run_of(instance, job, DagsterRunStatus.STARTED), Runs(instance).waits

    error = SerializableErrorInfo("away", [], "Error")
    data = {
        DagsterEventType.STEP_UP_FOR_RETRY: StepRetryData(error=error),
        DagsterEventType.STEP_SUCCESS: StepSuccessData(duration_ms=1.0),
        DagsterEventType.STEP_FAILURE: StepFailureData(error=error, user_failure_data=None),
    }

    def tell(kind: DagsterEventType, step: str) -> None:
        event = DagsterEvent(kind.value, job.job_type, step_key=step, event_specific_data=data.get(kind))
        instance.report_dagster_event(event, run.run_id)

    assert waits(run.run_id)
    tell(DagsterEventType.STEP_START, "claim")
    assert not waits(run.run_id)
    tell(DagsterEventType.STEP_UP_FOR_RETRY, "claim")
    assert waits(run.run_id)
    tell(DagsterEventType.STEP_RESTARTED, "claim")
    tell(DagsterEventType.STEP_START, "other")
    tell(DagsterEventType.STEP_SUCCESS, "claim")
    assert not waits(run.run_id)
    tell(DagsterEventType.STEP_FAILURE, "other")
    assert waits(run.run_id)
