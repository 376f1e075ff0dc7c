"""Steps may run where nobody sees them die: a run of which one step is silent is dead, whatever its engine says."""

import pytest

from geo_assets.stages.janitor import Action
from geo_assets_tests.intake.test_lifecycle import age_lease, at_work, rounds


@pytest.fixture
def job(submitter, dagster):
    """A job whose run is executed by somebody who keeps its lease."""
    job, run_id, _ = at_work(submitter, dagster)
    age_lease(dagster, job, 100)  # the run has been going on for a while
    assert submitter.jobs.heartbeat(job.job_id, run_id)
    return job, run_id


def age(dagster, step: int, seconds: int) -> None:
    dagster.conn.execute(
        "update geo.steps set heartbeat = now() - make_interval(secs => %s) where step = %s", (seconds, step)
    )


def steps(dagster, job) -> list[tuple]:
    return dagster.conn.execute("select run_id, process from geo.steps where job_id = %s", (job.job_id,)).fetchall()


def test_a_run_of_which_one_step_is_silent_is_reported_dead_and_gets_a_new_attempt(submitter, dagster, job):
    job, run_id = job
    silent, alive = (submitter.jobs.begin_step(job.job_id, run_id, f"host/{pid}") for pid in (1, 2))
    age(dagster, silent, 100)
    assert submitter.jobs.heartbeat(job.job_id, run_id, alive), "the others work, and the lease is renewed"
    buried = []
    assert rounds(submitter, buried)[job.job_id] is Action.MARK_DEAD_AND_RESCUE
    assert buried == [run_id]
    (told,) = dagster.conn.execute(
        "select message from geo.errors where run_id = %s and code = 'RUN_DIED'", (run_id,)
    ).fetchall()
    assert "silent for 100 s" in told[0]


def test_a_run_whose_steps_are_alive_is_left_alone(submitter, dagster, job):
    job, run_id = job
    step = submitter.jobs.begin_step(job.job_id, run_id, "host/1")
    age(dagster, step, 100)
    assert submitter.jobs.heartbeat(job.job_id, run_id, step)
    assert job.job_id not in rounds(submitter)


def test_a_step_that_has_ended_says_nothing_and_is_not_missed(submitter, dagster, job):
    job, run_id = job
    step = submitter.jobs.begin_step(job.job_id, run_id, "host/1")
    submitter.jobs.end_step(step)
    assert steps(dagster, job) == []
    assert job.job_id not in rounds(submitter)


def test_a_process_works_on_one_step_at_a_time(submitter, dagster, job):
    job, run_id = job
    left = submitter.jobs.begin_step(job.job_id, run_id, "host/1")
    age(dagster, left, 100)  # it could not say that it ended: the database was away
    submitter.jobs.begin_step(job.job_id, run_id, "host/1")
    assert steps(dagster, job) == [(run_id, "host/1")]
    assert job.job_id not in rounds(submitter)


def test_a_step_does_not_begin_for_a_run_that_has_lost_its_job_and_the_next_run_begins_without_its_steps(
    submitter, dagster, job
):
    job, run_id = job
    step = submitter.jobs.begin_step(job.job_id, run_id, "host/1")
    dagster.set(run_id, "FAILURE")
    assert rounds(submitter)[job.job_id] is Action.RESCUE
    after = dagster.run(job, "STARTED")
    assert submitter.jobs.claim(job.partition_key, after, 2).won
    assert steps(dagster, job) == []
    assert not submitter.jobs.heartbeat(job.job_id, run_id, step), "a machine that was frozen finds its lease gone"
    assert submitter.jobs.begin_step(job.job_id, run_id, "host/1") is None
