import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from geo_assets.cli import app
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import deltas, tasks
from geo_assets.ledger.deltas import Deltas
from geo_assets.ledger.models import PlannedTask, RunAtWork, StalledJob
from geo_assets.ledger.tasks import Tasks
from geo_assets.ledger.vector_loads import submitted_at
from geo_assets.outcomes import GreetingOutputs
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages.janitor import MAX_RESCUES, Action, decide, run_janitor
from geo_assets.submissions import launch
from geo_assets.submissions.launch import ATTEMPT_TAG, attempt_of
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.messages import hello


def submitted(submitter, body=None):
    body = body or hello()
    parameters = validate_parameters(body["job_type"], body["parameters"])
    return Job.of(parameters), submitter.submit(parameters, submitted_by="test"), parameters


def at_work(submitter, dagster, body=None):
    job, _, parameters = submitted(submitter, body)
    run_id = dagster.run(job, "STARTED")
    assert submitter.jobs.claim(job.partition_key, run_id, 1).won
    return job, run_id, parameters


def age_lease(dagster, job, seconds):
    dagster.conn.execute(
        "update geo.jobs set lease_heartbeat = now() - make_interval(secs => %s) where job_id = %s",
        (seconds, job.job_id),
    )
    dagster.conn.execute("update dagster.runs set start_time = start_time - %s", (seconds,))


# -- the five answers to the same request ------------------------------------------------------------------------------


def test_the_same_request_while_queued_asks_for_nothing(submitter):
    _, first, parameters = submitted(submitter)
    again = submitter.submit(parameters, submitted_by="test")
    assert (again.job_id, again.duplicate, again.attempt, again.status) == (first.job_id, True, None, "queued")


def test_the_same_request_while_processing_asks_for_nothing(submitter, dagster):
    _, _, parameters = at_work(submitter, dagster)
    again = submitter.submit(parameters, submitted_by="test")
    assert (again.attempt, again.status) == (None, "processing")


def test_the_same_request_after_completion_asks_for_nothing_unless_forced(submitter, dagster):
    _, run_id, parameters = at_work(submitter, dagster)
    dagster.set(run_id, "SUCCESS")
    assert submitter.submit(parameters, submitted_by="test").attempt is None
    assert submitter.submit(parameters, submitted_by="test", force=True).attempt == 2


def test_the_same_request_after_a_failure_is_a_new_attempt(submitter, dagster):
    job, run_id, parameters = at_work(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("INTERNAL", "x"), run_id=run_id)
    dagster.set(run_id, "FAILURE")
    assert submitter.submit(parameters, submitted_by="test").attempt == 2


def test_the_same_request_after_a_cancellation_is_a_new_attempt(submitter, dagster):
    job, _, parameters = submitted(submitter)
    assert submitter.cancel(job.job_id)
    assert submitter.jobs.find(job.job_id).status == "cancelled"
    assert submitter.submit(parameters, submitted_by="test").attempt == 2


def test_a_rescue_and_a_retry_go_on_with_a_submission_and_what_is_asked_anew_is_one(submitter, dagster):
    job, _, parameters = submitted(submitter)

    def attempt(number, *, dies=False):
        """Run it until it fails or dies; the time of its submission, and of its request."""
        run_id = dagster.run(job, "STARTED")
        assert submitter.jobs.claim(job.partition_key, run_id, number).won
        at = submitted_at(dagster.conn, run_id)
        if not dies:
            submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("INTERNAL", "x"), run_id=run_id)
        dagster.set(run_id, "FAILURE")
        query = "select requested_at from geo.attempts where run_id = %s"
        return at, dagster.conn.execute(query, (run_id,)).fetchone()[0]

    first, requested = attempt(1, dies=True)
    assert first == requested
    assert submitter.jobs.rescue(job.job_id, 1)
    assert attempt(2, dies=True)[0] == first
    assert submitter.jobs.rescue(job.job_id, 2)
    assert attempt(3)[0] == first
    submitter.retry(job.job_id, requested_by="test", only=["failed"])
    assert attempt(4)[0] == first
    assert submitter.submit(parameters, submitted_by="test").attempt == 5
    again, requested = attempt(5, dies=True)
    assert first < again == requested
    assert submitter.jobs.rescue(job.job_id, 5)
    assert attempt(6)[0] == again
    submitter.retry(job.job_id, requested_by="test", force=True)
    forced, requested = attempt(7)
    assert again < forced == requested


@pytest.mark.parametrize("closed", [False, True])
def test_who_cancels_a_job_that_is_done_hears_so_also_while_dagster_closes_its_run(
    settings, submitter, dagster, monkeypatch, closed
):
    job, run_id, _ = at_work(submitter, dagster)
    assert submitter.jobs.complete(job.job_id, run_id)
    if closed:
        dagster.set(run_id, "SUCCESS")
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["cancel", job.job_id, "--json"])
    told = "the job is completed" if closed else f"attempt 1 has ended; Dagster has not closed run {run_id} yet"
    assert (done.exit_code, done.stderr) == (0, f"nothing to cancel: {told}\n")


def test_all_tasks_and_deltas_of_a_job_are_listed_and_never_more_of_them_held_than_a_page(
    settings, submitter, dagster, monkeypatch
):
    job, run_id, _ = at_work(submitter, dagster)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    held = []

    def printed(*command):
        return json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)

    def counted(read):
        def page(*args, **given):
            found = read(*args, **given)
            held.append(len(found))
            return found

        return page

    monkeypatch.setattr(Tasks, "records", counted(Tasks.records))
    monkeypatch.setattr(Deltas, "files", counted(Deltas.files))
    for module in (tasks, deltas):
        monkeypatch.setattr(module, "_PAGE", 2, raising=False)
    assert printed("tasks", job.job_id) == printed("delta", job.job_id) == []

    keys = [f"{number}.tif" for number in range(5)]
    planned = [PlannedTask(task_key=key, kind="raster", fingerprint="f") for key in keys]
    for stage in ("cogs", "other"):
        submitter.tasks.plan(job.job_id, run_id, stage, planned)
    dagster.conn.execute(
        "insert into geo.deltas (job_id, delivery, stage, task_key, what)"
        " select job_id, 1, stage, task_key, 'new' from geo.tasks where job_id = %s",
        (job.job_id,),
    )
    assert [each["task_key"] for each in printed("tasks", job.job_id)] == keys * 2
    assert [each["task_key"] for each in printed("tasks", job.job_id, "--stage", "other")] == keys
    assert [each["file"] for each in printed("delta", job.job_id)] == keys * 2
    assert max(held) == 2


# -- the lease -----------------------------------------------------------------------------------------------------


def test_a_second_run_of_a_job_at_work_stands_aside_and_is_not_taken_for_it(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    second = dagster.run(job, "STARTED")
    claim = submitter.jobs.claim(job.partition_key, second, None)
    assert not claim.won
    assert claim.owner_run_id == run_id
    dagster.set(second, "SUCCESS")
    assert submitter.jobs.find(job.job_id).run_id == run_id
    assert submitter.jobs.find(job.job_id).status == "processing"


def test_a_second_run_of_an_attempt_does_not_do_again_what_the_first_has_done(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    twin = dagster.run(job, "QUEUED")
    submitter.jobs.complete(job.job_id, run_id)
    dagster.set(run_id, "SUCCESS")
    dagster.set(twin, "STARTED")
    claim = submitter.jobs.claim(job.partition_key, twin, 1)
    assert (claim.won, claim.owner_run_id) == (False, run_id)
    dagster.set(twin, "SUCCESS")
    found = submitter.jobs.find(job.job_id)
    assert (found.run_id, found.attempt, found.status) == (run_id, 1, "completed")


def test_a_run_that_is_executed_again_in_dagster_is_an_attempt_of_its_own(submitter, dagster):
    job, *_ = completed(submitter, dagster)
    again = dagster.run(job, "STARTED")
    assert submitter.jobs.claim(job.partition_key, again, 1, again=True).won
    assert submitter.jobs.claim(job.partition_key, again, 1).won  # it has its attempt
    assert submitter.jobs.life(job.job_id).attempt == 2


def test_an_attempt_is_not_launched_again_while_its_launcher_may_still_wait_for_dagsters_answers(submitter, dagster):
    job, *_ = submitted(submitter)
    assert submitter.jobs.take_launch(job.job_id, 1)
    waits = 2 * launch._client().timeout.read
    age = "update geo.attempts set requested_at = now() - %(age)s, launched_at = now() - %(age)s where job_id = %(job)s"

    def taken(seconds):
        dagster.conn.execute(age, {"age": timedelta(seconds=seconds), "job": job.job_id})
        return [each.job_id for each in submitter.jobs.take_launches(1000, ["hello_world"])]

    assert job.job_id not in taken(waits)
    assert job.job_id in taken(2 * waits)
    assert submitter.cancel(job.job_id)  # launches of other tests would wait for it


def test_a_run_that_lost_its_lease_changes_no_task(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    task = PlannedTask(task_key="0000", kind="greeting", fingerprint="f")
    submitter.tasks.plan(job.job_id, run_id, "greetings", [task])
    age_lease(dagster, job, 100)
    second = dagster.run(job, "STARTED")
    assert submitter.jobs.claim(job.partition_key, second, None).won
    submitter.tasks.plan(job.job_id, second, "greetings", [task])
    with pytest.raises(GeoAssetsError) as caught:
        submitter.tasks.succeed_many(job.job_id, run_id, [("greetings", "0000", GreetingOutputs(greeting="late"))])
    assert caught.value.code == "LEASE_LOST"
    assert not submitter.jobs.heartbeat(job.job_id, run_id)


def test_after_a_cancellation_the_run_can_publish_nothing(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    submitter.tasks.plan(
        job.job_id, run_id, "greetings", [PlannedTask(task_key="0000", kind="greeting", fingerprint="f")]
    )
    assert submitter.cancel(job.job_id)
    with pytest.raises(GeoAssetsError, match="no longer owns"):
        submitter.tasks.succeed_many(job.job_id, run_id, [("greetings", "0000", GreetingOutputs(greeting="late"))])
    for late in (submitter.tasks.start, lambda *a: submitter.tasks.fail(*a, GeoAssetsError("INTERNAL", "late"))):
        with pytest.raises(GeoAssetsError, match="no longer owns"):
            late(job.job_id, run_id, "greetings", "0000")
    dagster.set(run_id, "FAILURE")
    assert submitter.jobs.find(job.job_id).status == "cancelled"
    assert [t.status for t in submitter.tasks.records(job.job_id)] == ["cancelled"]


# -- the janitor -------------------------------------------------------------------------------------------------------


def patient(status: str, rescues: int = 0, *, terminated: bool = False) -> StalledJob:
    return StalledJob("a" * 64, "hello_world", "k", 1, "r", status, terminated, 100.0, rescues)


def test_a_dead_run_is_rescued_a_silent_one_buried_first_and_a_hopeless_one_given_up():
    assert decide(patient("FAILURE")) is Action.RESCUE
    assert decide(patient("STARTED")) is Action.MARK_DEAD_AND_RESCUE
    assert decide(patient("FAILURE", MAX_RESCUES)) is Action.GIVE_UP
    assert decide(patient("CANCELED")) is Action.CANCEL


def test_a_run_that_was_told_to_end_is_cancelled_however_it_ended_and_one_that_succeeded_is_complete():
    assert decide(patient("FAILURE", terminated=True)) is Action.CANCEL
    assert decide(patient("STARTED", terminated=True)) is Action.CANCEL
    assert decide(patient("CANCELING")) is Action.CANCEL
    assert decide(patient("SUCCESS")) is Action.COMPLETE


def rounds(submitter, buried=None):
    return {
        p.job_id: action
        for p, action in run_janitor(
            submitter.jobs, submitter.messages, lambda run, _: (buried if buried is not None else []).append(run)
        )
    }


def test_a_run_that_was_killed_gets_a_new_attempt_once(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    dagster.set(run_id, "FAILURE")
    assert submitter.jobs.find(job.job_id).status == "processing"
    assert rounds(submitter)[job.job_id] is Action.RESCUE
    assert job.job_id not in rounds(submitter)
    assert submitter.jobs.life(job.job_id).attempt == 2


def test_a_run_that_is_silent_is_declared_dead(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    assert job.job_id not in rounds(submitter)
    age_lease(dagster, job, 100)
    buried = []
    assert rounds(submitter, buried)[job.job_id] is Action.MARK_DEAD_AND_RESCUE
    assert run_id in buried


@pytest.mark.parametrize("ended", ["cancelled", "completed"])
def test_a_job_that_ends_between_the_janitors_look_and_its_deed_is_not_started_again(submitter, dagster, ended):
    job, run_id, _ = at_work(submitter, dagster)
    age_lease(dagster, job, 100)
    (seen,) = [each for each in submitter.jobs.stalled_jobs() if each.job_id == job.job_id]
    assert submitter.cancel(job.job_id) if ended == "cancelled" else submitter.jobs.complete(job.job_id, run_id)
    dagster.set(run_id, "SUCCESS")
    assert not submitter.jobs.rescue(seen.job_id, seen.attempt)
    life = submitter.jobs.life(job.job_id)
    assert (life.status, life.attempt) == (ended, 1)


def seen_at_work(dagster, job, run_id, attempt=1, seconds=300):
    """A run of an attempt that Dagster calls started, for so long."""
    told = dagster.conn.execute(
        "select correlation_id from geo.attempts where job_id = %s and attempt = %s", (job.job_id, attempt)
    ).fetchone()
    started = datetime.now(UTC) - timedelta(seconds=seconds)
    return RunAtWork(run_id, job.partition_key, attempt, told[0] if told else "", started)


def test_an_attempt_is_not_launched_when_another_was_asked_for(submitter, dagster):
    job, *_ = submitted(submitter)
    assert submitter.jobs.rescue(job.job_id, 1)
    dagster.conn.execute(
        "update geo.attempts set requested_at = now() - interval '1 minute' * (3 - attempt) where job_id = %s",
        (job.job_id,),
    )
    assert submitter.jobs.take_launch(job.job_id, 1) is None
    taken = [each for each in submitter.jobs.take_launches(1000, ["hello_world"]) if each.job_id == job.job_id]
    assert [each.attempt for each in taken] == [2]
    submitter.jobs.give_back_launch(job.job_id, 2)
    while (following := submitter.jobs.take_next_launch()) and following.job_id != job.job_id:
        pass
    assert following
    assert following.attempt == 2


def test_the_dead_run_of_an_older_attempt_is_ended_so_that_the_newest_can_begin(submitter, dagster):
    job, late, _ = at_work(submitter, dagster)
    assert submitter.jobs.rescue(job.job_id, 1)
    dagster.run(job, "QUEUED")
    left = submitter.jobs.left_behind
    assert left([seen_at_work(dagster, job, late)]) == []
    age_lease(dagster, job, 100)
    assert left([seen_at_work(dagster, job, late, seconds=1)]) == []
    seen = seen_at_work(dagster, job, late)
    assert left([seen]) == [late]
    buried = []
    run_janitor(submitter.jobs, submitter.messages, lambda run, _: buried.append(run), at_work=lambda: [seen])
    assert buried == [late]


def test_a_dead_run_that_never_claimed_its_job_is_ended_when_the_job_goes_on_without_it(submitter, dagster):
    job, *_ = submitted(submitter)
    assert submitter.jobs.rescue(job.job_id, 1)
    assert submitter.jobs.left_behind([seen_at_work(dagster, job, "late", seconds=40)]) == []
    assert submitter.jobs.left_behind([seen_at_work(dagster, job, "late")]) == ["late"]


@pytest.mark.parametrize("claimed", [True, False])
def test_a_dead_run_is_ended_for_one_that_was_launched_by_hand_and_waits_behind_it(submitter, dagster, claimed):
    job, *_ = submitted(submitter)
    dead = dagster.run(job, "STARTED")
    if claimed:
        assert submitter.jobs.claim(job.partition_key, dead, 1).won
        age_lease(dagster, job, 100)
    assert submitter.jobs.left_behind([seen_at_work(dagster, job, dead)]) == []  # the janitor looks after it as before
    dagster.run(job, "QUEUED")
    assert submitter.jobs.left_behind([seen_at_work(dagster, job, dead)]) == [dead]


def test_a_run_that_was_killed_after_its_job_had_ended_is_ended_and_none_that_may_say_so_itself(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    assert submitter.jobs.complete(job.job_id, run_id)
    seen = seen_at_work(dagster, job, run_id)
    assert submitter.jobs.left_behind([seen]) == []
    dagster.conn.execute("update geo.attempts set ended_at = now() - interval '5 minutes' where run_id = %s", (run_id,))
    assert submitter.jobs.left_behind([seen]) == [run_id]


def test_a_run_that_waits_for_its_first_step_or_writes_the_receipt_of_its_job_is_not_taken_for_dead(submitter, dagster):
    waiting, *_ = submitted(submitter)
    writing, writer, _ = at_work(submitter, dagster)
    waiter = dagster.run(waiting, "STARTED")
    assert submitter.jobs.complete(writing.job_id, writer)
    dagster.conn.execute("update geo.attempts set ended_at = now() - interval '5 minutes' where run_id = %s", (writer,))
    dagster.conn.execute("update dagster.runs set start_time = start_time - 100 where run_id = %s", (waiter,))
    for run in (waiter, writer):
        submitter.jobs.give_sign(run)
    assert submitter.jobs.left_behind([seen_at_work(dagster, writing, writer)]) == []
    assert waiting.job_id not in rounds(submitter)
    dagster.conn.execute("update geo.beats set beat = now() - interval '5 minutes'")
    assert submitter.jobs.left_behind([seen_at_work(dagster, writing, writer)]) == [writer]
    assert rounds(submitter)[waiting.job_id] is Action.MARK_DEAD_AND_RESCUE


def test_a_run_that_is_told_to_end_while_it_waits_for_a_worker_is_cancelled_after_a_lease(submitter, dagster):
    job, *_ = submitted(submitter)
    run_id = dagster.run(job, "STARTED")
    dagster.conn.execute("update dagster.runs set start_time = start_time - 100 where run_id = %s", (run_id,))
    submitter.jobs.give_sign(run_id)
    assert job.job_id not in rounds(submitter)
    dagster.set(run_id, "CANCELING")
    assert rounds(submitter)[job.job_id] is Action.CANCEL


def test_a_run_whose_step_is_dead_does_not_hold_up_one_that_was_launched_by_hand(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    seen, left = seen_at_work(dagster, job, run_id), submitter.jobs.left_behind
    assert submitter.jobs.begin_step(job.job_id, run_id, "far/1")
    dagster.run(job, "QUEUED")
    assert left([seen]) == []
    dagster.conn.execute("update geo.steps set heartbeat = now() - interval '100 seconds' where run_id = %s", (run_id,))
    assert submitter.jobs.keeps(run_id)  # whoever executes its plan lives, and waits for the step
    assert left([seen]) == [run_id]


def test_a_run_by_hand_that_dies_before_it_claims_its_ended_job_is_ended_so_that_the_job_can_go_on(submitter, dagster):
    job, _, parameters = completed(submitter, dagster)
    run_id = dagster.run(job, "STARTED")
    assert submitter.submit(parameters, submitted_by="test", force=True).attempt is None  # it is taken for at work
    seen = replace(seen_at_work(dagster, job, run_id), attempt=None, correlation_id="", is_by_hand=True)
    submitter.jobs.give_sign(run_id)
    assert submitter.jobs.left_behind([seen]) == []
    dagster.conn.execute("update geo.beats set beat = now() - interval '1 minute' where run_id = %s", (run_id,))
    assert submitter.jobs.left_behind([seen]) == [run_id]


def test_a_run_by_hand_does_what_an_attempt_asks_for_that_nobody_has_launched_yet(submitter, dagster):
    job, _, parameters = completed(submitter, dagster)
    assert submitter.submit(parameters, submitted_by="test", force=True).attempt == 2
    claim = submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), None)
    assert (claim.won, claim.force) == (True, True)
    assert submitter.jobs.life(job.job_id).attempt == 2
    assert submitter.jobs.take_launch(job.job_id, 2) is None


def test_a_run_by_hand_that_has_an_attempt_keeps_it_although_another_waits_to_be_launched(submitter, dagster):
    job, _, _ = completed(submitter, dagster)
    run_id = dagster.run(job, "STARTED")
    assert submitter.jobs.claim(job.partition_key, run_id, None).won
    number = submitter.jobs.life(job.job_id).attempt
    dagster.conn.execute(
        "insert into geo.attempts (job_id, attempt, requested_by) values (%s, %s, 'test')", (job.job_id, number + 1)
    )
    assert submitter.jobs.claim(job.partition_key, run_id, None).won
    query = "select attempt from geo.attempts where run_id = %s"
    assert dagster.conn.execute(query, (run_id,)).fetchall() == [(number,)]


def test_a_run_of_another_installation_with_our_partition_is_left_alone(submitter, dagster):
    job, _, _ = completed(submitter, dagster)
    ours = seen_at_work(dagster, job, "theirs")
    strangers = [replace(ours, correlation_id="another"), replace(ours, attempt=None, correlation_id="")]
    assert submitter.jobs.left_behind([*strangers, replace(ours, partition_key="elsewhere")]) == []


@pytest.mark.parametrize("tag", ["99999999999", "²", "-1", "1.5", ""])
def test_a_tag_that_is_no_attempt_is_none(tag):
    assert attempt_of({ATTEMPT_TAG: tag}) is None


def test_a_run_that_failed_with_a_reason_is_left_alone(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("BAD_FILES", "x"), run_id=run_id)
    dagster.set(run_id, "FAILURE")
    assert job.job_id not in rounds(submitter)
    assert submitter.jobs.find(job.job_id).error_code == "BAD_FILES"


def test_a_job_whose_runs_keep_dying_is_given_up_with_an_alert(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    dagster.set(run_id, "FAILURE")
    for attempt in range(2, MAX_RESCUES + 2):
        assert rounds(submitter)[job.job_id] is Action.RESCUE
        run_id = dagster.run(job, "STARTED")
        assert submitter.jobs.claim(job.partition_key, run_id, attempt).won
        dagster.set(run_id, "FAILURE")
    assert rounds(submitter)[job.job_id] is Action.GIVE_UP
    found = submitter.jobs.find(job.job_id)
    assert (found.status, found.error_code) == ("failed", "RUN_DIED")
    assert "alert" in {e.severity for e in submitter.messages.errors(job_id=job.job_id)}


def test_a_run_terminated_in_the_ui_is_a_cancelled_job(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    dagster.set(run_id, "CANCELED")
    assert submitter.jobs.find(job.job_id).status == "cancelled"
    assert rounds(submitter)[job.job_id] is Action.CANCEL


@pytest.mark.parametrize(("run_status", "rescues"), [("CANCELED", 0), ("FAILURE", MAX_RESCUES)])
def test_a_resubmission_that_comes_between_the_janitors_look_and_its_deed_is_not_cancelled(
    submitter, dagster, monkeypatch, run_status, rescues
):
    job, run_id, parameters = at_work(submitter, dagster)
    dagster.set(run_id, run_status)
    (seen,) = (p for p in submitter.jobs.stalled_jobs() if p.job_id == job.job_id)
    assert submitter.submit(parameters, submitted_by="test").attempt == 2
    monkeypatch.setattr(submitter.jobs, "stalled_jobs", lambda: [replace(seen, rescues=rescues)])
    assert rounds(submitter)[job.job_id] in {Action.CANCEL, Action.GIVE_UP}
    assert submitter.jobs.find(job.job_id).status == "queued"
    run_id = dagster.run(job, "STARTED")
    assert submitter.jobs.claim(job.partition_key, run_id, 2).won
    assert not submitter.messages.errors(job_id=job.job_id)


def test_a_rescue_of_a_forced_attempt_is_forced(submitter, dagster):
    job, run_id, parameters = completed(submitter, dagster)
    assert submitter.submit(parameters, submitted_by="test", force=True).attempt == 2
    run_id = dagster.run(job, "STARTED")
    assert submitter.jobs.claim(job.partition_key, run_id, 2).force
    dagster.set(run_id, "FAILURE")
    assert rounds(submitter)[job.job_id] is Action.RESCUE
    assert submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), 3).force


# -- a run that is deleted in Dagster, at each state of its job
# ---------------------------------------------------------


def completed(submitter, dagster):
    job, run_id, parameters = at_work(submitter, dagster)
    assert submitter.jobs.complete(job.job_id, run_id)
    dagster.set(run_id, "SUCCESS")
    return job, run_id, parameters


def test_a_completed_job_stays_completed_when_its_run_is_deleted(submitter, dagster):
    job, run_id, parameters = completed(submitter, dagster)
    dagster.delete(run_id)
    found = submitter.jobs.find(job.job_id)
    assert (found.status, found.run_id, found.error_code) == ("completed", run_id, None)
    assert found.started_at <= found.ended_at
    assert submitter.submit(parameters, submitted_by="test").attempt is None
    assert submitter.submit(parameters, submitted_by="test", force=True).attempt == 2
    assert submitter.jobs.find(job.job_id).status == "queued"
    assert job.job_id not in rounds(submitter)


def test_a_job_is_completed_when_its_run_has_ended_too_and_not_long_after_where_that_never_does(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    assert submitter.jobs.complete(job.job_id, run_id)
    assert submitter.jobs.find(job.job_id).status == "processing"
    dagster.conn.execute(
        "update geo.attempts set ended_at = now() - interval '1 minute' where job_id = %s", (job.job_id,)
    )
    assert submitter.jobs.find(job.job_id).status == "completed"
    dagster.set(run_id, "FAILURE")
    assert submitter.jobs.find(job.job_id).status == "completed"


def test_a_completed_job_whose_run_is_deleted_can_be_retried(submitter, dagster):
    job, run_id, _ = completed(submitter, dagster)
    dagster.delete(run_id)
    assert submitter.retry(job.job_id, requested_by="test").attempt == 2


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_a_job_that_did_not_complete_stays_so_when_its_run_is_deleted_and_is_done_by_the_next_submission(
    submitter, dagster, outcome
):
    job, run_id, parameters = at_work(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, outcome, GeoAssetsError("INTERNAL", "x"), run_id=run_id)
    dagster.set(run_id, "FAILURE")
    dagster.delete(run_id)
    found = submitter.jobs.find(job.job_id)
    assert (found.status, found.error_code) == (outcome, "INTERNAL")
    assert submitter.submit(parameters, submitted_by="test").attempt == 2


def test_a_queued_run_that_is_deleted_is_launched_again(submitter, dagster):
    job, _, _ = submitted(submitter)
    assert submitter.jobs.take_launch(job.job_id, 1)
    dagster.delete(dagster.run(job, "QUEUED"))
    assert submitter.jobs.find(job.job_id).status == "queued"
    dagster.conn.execute(
        "update geo.attempts set launched_at = now() - interval '1 minute' where job_id = %s", (job.job_id,)
    )
    dagster.conn.execute(
        "update geo.attempts set requested_at = now() - interval '1 minute' where job_id = %s", (job.job_id,)
    )
    assert job.job_id in {a.job_id for a in submitter.jobs.take_launches(1000, ["hello_world"])}


def test_a_run_that_is_deleted_while_it_works_goes_on_and_its_job_completes(submitter, dagster):
    job, run_id, parameters = at_work(submitter, dagster)
    dagster.delete(run_id)
    assert submitter.jobs.find(job.job_id).status == "processing"
    assert submitter.submit(parameters, submitted_by="test").attempt is None
    assert job.job_id not in rounds(submitter)
    assert not submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), None).won
    assert submitter.jobs.complete(job.job_id, run_id)
    assert submitter.jobs.find(job.job_id).status == "completed"


def test_a_run_that_is_deleted_and_whose_worker_is_dead_is_rescued(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    dagster.delete(run_id)
    age_lease(dagster, job, 100)
    assert submitter.jobs.find(job.job_id).status == "processing"
    assert rounds(submitter)[job.job_id] is Action.RESCUE
    assert submitter.jobs.life(job.job_id).attempt == 2


def test_the_submission_after_a_worker_died_and_its_run_was_deleted_is_a_new_attempt(submitter, dagster):
    job, run_id, parameters = at_work(submitter, dagster)
    dagster.delete(run_id)
    age_lease(dagster, job, 100)
    assert submitter.submit(parameters, submitted_by="test").attempt == 2


def test_a_run_that_succeeded_and_could_not_say_so_is_written_down_as_completed(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    dagster.set(run_id, "SUCCESS")
    assert rounds(submitter)[job.job_id] is Action.COMPLETE
    dagster.delete(run_id)
    assert submitter.jobs.find(job.job_id).status == "completed"


# -- runs that are not the job's ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("job_type", ["ingest_container", "__ASSET_JOB"])
@pytest.mark.parametrize("status", ["QUEUED", "STARTED", "FAILURE"])
def test_a_run_of_another_job_type_leaves_a_finished_job_as_it_was(submitter, dagster, job_type, status):
    job, _, parameters = completed(submitter, dagster)
    stranger = dagster.run(job, "STARTED", job_type)
    with pytest.raises(GeoAssetsError) as caught:
        submitter.jobs.claim(job.partition_key, stranger, None, job_types={"ingest_container"})
    assert caught.value.code == "PARTITION_MISMATCH"
    dagster.set(stranger, status)
    found = submitter.jobs.find(job.job_id)
    if job_type == "ingest_container" or status == "FAILURE":
        assert (found.status, found.attempt) == ("completed", 1)
        assert submitter.submit(parameters, submitted_by="test").attempt is None
    assert job.job_id not in rounds(submitter)


def test_a_run_that_was_launched_by_hand_and_died_before_its_first_step_leaves_a_finished_job_as_it_was(
    submitter, dagster
):
    job, first, _ = completed(submitter, dagster)
    again = dagster.run(job, "QUEUED")
    assert submitter.jobs.find(job.job_id).status == "queued"
    dagster.set(again, "FAILURE")
    found = submitter.jobs.find(job.job_id)
    assert (found.status, found.run_id) == ("completed", first)


def test_a_run_whose_attempt_was_cancelled_before_it_started_never_owns_the_job(submitter, dagster):
    job, _, _ = submitted(submitter)
    assert submitter.cancel(job.job_id)
    with pytest.raises(GeoAssetsError) as caught:
        submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), 1)
    assert caught.value.code == "CANCELLED"
    assert submitter.jobs.find(job.job_id).status == "cancelled"


# -- launching ---------------------------------------------------------------------------------------------------------


def test_an_attempt_is_launched_by_exactly_one_of_many(settings, submitter):
    from concurrent.futures import ThreadPoolExecutor

    _, first, _ = submitted(submitter)
    with ThreadPoolExecutor(10) as pool:
        takes = list(pool.map(lambda _: submitter.jobs.take_launch(first.job_id, 1), range(10)))
    assert sum(map(bool, takes)) == 1


def test_retrying_a_job_at_work_is_refused(submitter, dagster):
    job, _, _ = at_work(submitter, dagster)
    with pytest.raises(GeoAssetsError) as caught:
        submitter.retry(job.job_id, requested_by="test")
    assert caught.value.code == "STILL_AT_WORK"


def test_a_job_whose_parameters_this_release_does_not_take_fails_once_and_says_why(submitter, dagster):
    job, _, _ = submitted(submitter)
    dagster.conn.execute(
        "update geo.jobs set parameters = parameters || '{\"volume\": 11}' where job_id = %s", (job.job_id,)
    )
    with pytest.raises(GeoAssetsError, match="volume") as caught:
        submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), 1)
    assert caught.value.code == "INVALID_PARAMETERS"
    record = submitter.jobs.find(job.job_id)
    assert (record.status, record.error_code) == ("failed", "INVALID_PARAMETERS")


def test_a_job_that_was_stored_before_parameters_were_added_gets_their_defaults(submitter, dagster):
    job, _, _ = submitted(submitter)
    dagster.conn.execute("update geo.jobs set parameters = parameters - 'n' where job_id = %s", (job.job_id,))
    claim = submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), 1)
    assert claim.parameters == validate_parameters("hello_world", {"message": job.parameters.message})
