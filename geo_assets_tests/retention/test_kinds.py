"""What goes of each kind and what stays: rows as Dagster and the intake leave them, made older than they are."""

import json
import os
import time
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.messages import RawMessage
from geo_assets.parameters import validate_parameters
from geo_assets.retention import container_apps
from geo_assets.retention.purge import purge
from geo_assets.sandbox.scratch import make_and_hold
from geo_assets.submissions.launch import repository_label
from geo_assets.submissions.poison import replay

_REPOSITORY = repository_label("geo_assets")

_EVENTS = """
    alter table dagster.runs add column if not exists update_timestamp timestamp default now();
    create table if not exists dagster.event_logs
        (id bigserial, run_id text, event text, dagster_event_type text, timestamp timestamp);
"""

#: Kinds that need no store.
_ROWS = ("runs", "logs", "contracts", "messages", "steps")


@pytest.fixture(autouse=True)
def dagster_with_events(dagster):
    dagster.conn.execute(_EVENTS)
    dagster.conn.execute("delete from dagster.event_logs; delete from dagster.runs; delete from dagster.run_tags")
    return dagster


def ended(dagster, submitter, *, message: str, days: float, outcome="completed", repository=_REPOSITORY):
    """A job whose only run ended so many days ago: (job, run id)."""
    job = submitter.submit(validate_parameters("hello_world", {"message": message}), submitted_by="test")
    run_id = dagster.run(job, "SUCCESS")
    dagster.conn.execute(
        "update dagster.runs set end_time = extract(epoch from now() - %s), create_timestamp = now() - %s where run_id"
        " = %s",
        (timedelta(days=days), timedelta(days=days, minutes=1), run_id),
    )
    dagster.conn.execute("insert into dagster.run_tags values (%s, '.dagster/repository', %s)", (run_id, repository))
    for told in (None, "STEP_START", "ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION", "PIPELINE_SUCCESS"):
        dagster.conn.execute(
            "insert into dagster.event_logs (run_id, event, dagster_event_type, timestamp) values (%s, 'told', %s, now()"
            " - %s)",
            (run_id, told, timedelta(days=days)),
        )
    dagster.conn.execute(
        "update geo.attempts set run_id = %s, outcome = %s, ended_at = now(), requested_at = now() - %s where job_id"
        " = %s",
        (run_id, outcome, timedelta(days=days, minutes=2), job.job_id),
    )
    return job, run_id


def runs(dagster) -> set[str]:
    return {run_id for (run_id,) in dagster.conn.execute("select run_id from dagster.runs")}


def events(dagster, run_id) -> list[str]:
    found = dagster.conn.execute(
        "select dagster_event_type from dagster.event_logs where run_id = %s order by id", (run_id,)
    )
    return [kind for (kind,) in found]


def counts(settings, *kinds, **options) -> dict[str, int]:
    return {each.kind.name: each.extent.count for each in purge(settings, kinds or _ROWS, **options)}


def test_an_old_run_goes_with_its_events_and_what_it_told_of_assets_and_the_jobs_record_stay(
    settings, dagster, submitter
):
    old, old_run = ended(dagster, submitter, message="old", days=31)
    _, young_run = ended(dagster, submitter, message="young", days=29)
    before = submitter.jobs.find(old.job_id)
    would = purge(settings, ["runs"], dry_run=True)
    assert (would[0].extent.count, would[0].days) == (1, 30)
    assert runs(dagster) == {old_run, young_run}
    gone = purge(settings, ["runs"], dry_run=False)[0].extent
    assert (gone.count, gone.bytes) == (1, pytest.approx(would[0].extent.bytes, rel=0.05))
    assert runs(dagster) == {young_run}
    assert events(dagster, old_run) == ["ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"]
    assert len(events(dagster, young_run)) == 5
    after = submitter.jobs.find(old.job_id)
    assert after == before
    assert after.run_id == old_run
    assert after.started_at is not None
    assert counts(settings, "runs", dry_run=False) == {"runs": 0}


def test_what_a_runs_steps_passed_to_each_other_is_counted_whether_or_not_the_run_goes_too(
    settings, dagster, submitter
):
    _, run_id = ended(dagster, submitter, message="passed on", days=31)
    dagster.conn.execute(
        "insert into geo.contracts (place, run_id, contract, written_at) values (%s, %s, '{}', now() - interval '32 days')",
        (f"{run_id}/step/result", run_id),
    )
    would = purge(settings, ["runs", "contracts"], dry_run=True)
    gone = purge(settings, ["runs", "contracts"], dry_run=False)
    assert {each.kind.name: each.extent.count for each in gone} == {"runs": 1, "contracts": 1}
    assert {each.kind.name: each.extent.count for each in would} == {"runs": 1, "contracts": 1}


def test_a_run_that_the_ledger_has_not_written_off_and_one_of_another_code_location_stay(settings, dagster, submitter):
    _, open_run = ended(dagster, submitter, message="not written off", days=400, outcome=None)
    _, strange = ended(dagster, submitter, message="another's", days=400, repository="__repository__@other")
    assert counts(settings, "runs", older_than_days=0, dry_run=False) == {"runs": 0}
    assert runs(dagster) == {open_run, strange}
    assert len(events(dagster, strange)) == 5


def test_a_run_that_died_goes_once_another_attempt_was_asked_for(settings, dagster, submitter):
    job, run_id = ended(dagster, submitter, message="it died", days=400, outcome=None)
    dagster.set(run_id, "FAILURE")
    assert counts(settings, "runs", dry_run=False) == {"runs": 0}
    assert submitter.jobs.rescue(job.job_id, 1)
    assert counts(settings, "runs", dry_run=False) == {"runs": 1}
    assert submitter.jobs.find(job.job_id).status == "queued"


def test_what_was_told_after_somebody_deleted_a_run_goes_too(settings, dagster, submitter):
    _, run_id = ended(dagster, submitter, message="deleted by hand", days=40)
    dagster.delete(run_id)
    assert counts(settings, "runs", dry_run=True) == counts(settings, "runs", dry_run=False) == {"runs": 1}
    assert events(dagster, run_id) == ["ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"]
    assert counts(settings, "runs", dry_run=False) == {"runs": 0}


def test_what_steps_printed_goes_with_their_run_and_not_before(settings, dagster, submitter):
    _, run_id = ended(dagster, submitter, message="printed", days=40)
    folder = settings.dagster_home / "storage" / run_id
    strangers = settings.dagster_home / "storage" / "strangers"
    for each in (folder, strangers):
        (each / "compute_logs").mkdir(parents=True)
        (each / "compute_logs" / "step.out").write_text("hello")
    assert counts(settings, "logs", dry_run=True) == {"logs": 1}
    assert counts(settings, "logs", dry_run=False) == {"logs": 0}, "its run is still there"
    assert folder.exists()
    assert counts(settings, "runs", "logs", dry_run=False) == {"runs": 1, "logs": 1}
    assert not folder.exists()
    assert strangers.exists(), "it may be of a run that is at work"
    for each in (strangers / "compute_logs" / "step.out", strangers / "compute_logs", strangers):
        os.utime(each, (time.time() - 90_000,) * 2)
    assert counts(settings, "logs", dry_run=False) == {"logs": 1}


def message(settings, submitter, body: bytes, *, state: str, days: float) -> str:
    raw = RawMessage(source="http", source_id=str(body), body=body, size_bytes=len(body), correlation_id="c")
    record = submitter.messages.record(raw)
    submitter.messages.reject(record.message_id, GeoAssetsError("INVALID_JSON", "no JSON"), job_id=None)
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute(
            "update geo.messages set state = %s::geo.message_state, handled_at = now() - %s where message_id = %s",
            (state, timedelta(days=days), record.message_id),
        )
    return record.message_id


def test_the_bytes_of_an_old_message_go_and_its_record_stays_so_that_it_is_known_when_it_comes_again(
    settings, submitter
):
    old = message(settings, submitter, b"a secret, long ago", state="rejected", days=31)
    young = message(settings, submitter, b"a secret, lately", state="rejected", days=29)
    poison = message(settings, submitter, b"somebody has to decide", state="poison", days=400)
    assert purge(settings, ["messages"], dry_run=True)[0].extent.bytes == len(b"a secret, long ago")
    assert counts(settings, "messages", dry_run=False) == {"messages": 1}
    record, body = submitter.messages.body(old)
    assert (body, record.head, record.state, record.size_bytes) == (b"", "", "rejected", 18)
    assert record.sha256
    (error,) = submitter.messages.errors(message_id=old)
    assert (error.code, error.excerpt) == ("INVALID_JSON", None)
    assert submitter.messages.body(young)[1] == b"a secret, lately"
    assert submitter.messages.body(poison)[1] == b"somebody has to decide"
    again = RawMessage(
        source="http",
        source_id=str(b"a secret, long ago"),
        body=b"a secret, long ago",
        size_bytes=18,
        correlation_id="c",
    )
    assert submitter.messages.record(again).deliveries == 2
    assert submitter.messages.poison_without_record() == 0
    assert counts(settings, "messages", dry_run=False) == {"messages": 0}


def test_a_message_whose_bytes_are_gone_is_not_replayed(settings, submitter):
    old = message(settings, submitter, json.dumps({"job_type": "hello_world"}).encode(), state="discarded", days=31)
    purge(settings, ["messages"], dry_run=False)
    with pytest.raises(GeoAssetsError, match="its bytes are not kept any more"):
        replay(submitter, old)


def test_steps_of_dead_processes_go_when_their_job_has_ended(settings, dagster, submitter):
    at_work, _ = ended(dagster, submitter, message="at work", days=2, outcome=None)
    over, _ = ended(dagster, submitter, message="over", days=2)
    for job, hours in ((at_work, 48), (over, 48), (over, 1)):
        dagster.conn.execute(
            "insert into geo.steps (job_id, run_id, process, heartbeat) values (%s, 'r', 'host/1', now() - %s)",
            (job.job_id, timedelta(hours=hours)),
        )
    assert counts(settings, "steps", dry_run=True) == counts(settings, "steps", dry_run=False) == {"steps": 1}
    left = dagster.conn.execute("select job_id, heartbeat < now() - interval '1 day' from geo.steps").fetchall()
    assert sorted(left) == sorted([(at_work.job_id, True), (over.job_id, False)])
    dagster.conn.execute("delete from geo.steps")


def test_scratch_of_killed_processes_goes_and_that_of_living_ones_stays(settings):
    held, lock = make_and_hold(settings.home / "scratch")
    dead, dead_lock = make_and_hold(settings.home / "scratch")
    (dead / "big").write_bytes(b"x" * 1000)
    dead_lock.close()
    assert purge(settings, ["scratch"], dry_run=True)[0].extent.bytes == 1000
    assert counts(settings, "scratch", dry_run=False) == {"scratch": 1}
    assert held.exists()
    assert not dead.exists()
    lock.close()


def test_a_kind_that_there_is_not_and_an_age_that_is_none_are_refused(settings):
    with pytest.raises(GeoAssetsError, match="there is no kind 'run'"):
        purge(settings, ["run"], dry_run=True)
    for days in (-1.0, float("nan"), float("inf"), 3e6):
        with pytest.raises(GeoAssetsError, match="takes days from 0 to 36,500"):
            purge(settings, ["runs"], older_than_days=days, dry_run=True)


def test_where_dagster_keeps_its_runs_elsewhere_there_are_none_to_purge(settings, dagster):
    dagster.conn.execute("alter table dagster.event_logs rename to elsewhere")
    try:
        assert counts(settings, "runs", "logs", dry_run=True) == {"runs": 0, "logs": 0}
        assert counts(settings, "runs", "logs", dry_run=False) == {"runs": 0, "logs": 0}
    finally:
        dagster.conn.execute("alter table dagster.elsewhere rename to event_logs")


def test_jobs_of_container_apps_go_an_hour_after_their_run_and_those_of_others_stay(
    settings, dagster, submitter, monkeypatch
):
    pytest.importorskip("azure.mgmt.appcontainers")
    runs = [ended(dagster, submitter, message=f"in a container {n}", days=n)[1] for n in (40, 2, 0)]
    purge(settings, ["runs"], dry_run=False)
    jobs = [SimpleNamespace(name=f"dagster-run-{n}", tags={"dagster-run-id": run}) for n, run in enumerate(runs)]
    jobs += [
        SimpleNamespace(name="another's", tags={"dagster-run-id": "unknown"}),
        SimpleNamespace(name="no run", tags=None),
    ]

    class Jobs:
        def list_by_resource_group(self, group):
            assert group == "geo"
            return iter(jobs)

        def begin_delete(self, group, name):
            jobs[:] = [job for job in jobs if job.name != name]

    assert counts(settings, "container_apps", dry_run=True) == {"container_apps": 0}, "no group is named"
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "1")
    monkeypatch.setenv("AZURE_RESOURCE_GROUP", "geo")
    monkeypatch.setattr(container_apps, "_client", lambda: SimpleNamespace(jobs=Jobs()))
    assert counts(settings, "container_apps", dry_run=True) == {"container_apps": 2}
    assert counts(settings, "container_apps", dry_run=False) == {"container_apps": 2}
    assert [job.name for job in jobs] == ["dagster-run-2", "another's", "no run"]
    assert counts(settings, "container_apps", dry_run=False) == {"container_apps": 0}
