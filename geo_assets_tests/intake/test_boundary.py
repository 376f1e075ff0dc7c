import contextlib
import gc
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from geo_assets.cli import app
from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import Job, validate_parameters
from geo_assets.submissions.boundary import PoisonAction, handle, poison_action, settle_poison
from geo_assets.submissions.messages import read_message, recover_job_id
from geo_assets.submissions.submit import Submitter
from geo_assets.text import escaped
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.messages import hello, raw

CORPUS = {
    "empty": b"",
    "malformed JSON": b'{"job_type": "hello_world", ',
    "truncated": json.dumps(hello()).encode()[:-5],
    "array": b"[1,2,3]",
    "number": b"42",
    "missing field": b'{"job_type": "ingest_container", "parameters": {}}',
    "wrong type": b'{"job_type": "hello_world", "parameters": {"n": "many"}}',
    "unknown job type": b'{"job_type": "no_such_job", "parameters": {}}',
    "unknown field": b'{"job_type": "hello_world", "parameters": {"n": 1}, "colour": "blue"}',
    "NUL": b'{"job_type": "hello_world", "parameters": {"message": "a\\u0000b"}}',
    "raw NUL": b"\x00" * 100,
    "lone surrogate": b'{"job_type": "hello_world", "parameters": {"message": "\\ud800"}}',
    "NaN": b'{"job_type": "hello_world", "parameters": {"n": NaN}}',
    "Infinity": b'{"job_type": "hello_world", "parameters": {"n": Infinity}}',
    "UTF-16 with BOM": '{"n": 1}'.encode("utf-16"),
    "bad UTF-8": b'{"message": "\xff\xfe"}',
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "5,000 digits": b'{"job_type": "hello_world", "parameters": {"n": ' + b"9" * 5000 + b"}}",
    "duplicate keys": b'{"job_type": "hello_world", "job_type": "stac_setup", "parameters": {}}',
    "64 KiB + 1": b'{"job_type": "hello_world", "parameters": {"message": "' + b"x" * 65_536 + b'"}}',
    "quotes and backslashes": b'\\"' * 30_000,
    "regex bomb": b'"job_id"' + b" " * 60_000 + b":",
    "regex bomb of hex": b'"job_id":"' + b"a" * 60_000,
    "many keys": json.dumps({str(i): i for i in range(5000)}).encode(),
    "SQL": b"'); drop table geo.jobs; --",
    "terminal escapes": b"\x1b]0;owned\x07\x1b[31m",
    "bidi": '\u202e{"job_type"'.encode(),
    "path traversal": b'{"job_type": "ingest_container", "parameters": {"container": "../../etc"}}',
    "a URL": b'{"job_type": "ingest_container", "parameters": {"container": "http://169.254.169.254/"}}',
}


@contextlib.contextmanager
def takes_no_time():
    """Of this thread's CPU, not of the clock: the other tests of a busy machine may take that. What the collection of
    their garbage takes is not the reader's either.
    """
    gc.disable()
    started = time.thread_time()
    try:
        yield
        assert time.thread_time() - started < 0.05
    finally:
        gc.enable()


def assert_poisoned(submitter, outcome, body):
    assert outcome.error is not None
    record, stored = submitter.messages.body(outcome.record.message_id)
    assert record.state == "poison"
    assert record.error_code == outcome.error.code
    assert stored == body[:65_537]
    assert record.head == escaped(body, 500)
    assert record.head.isprintable()
    (error, *_) = submitter.messages.errors(message_id=record.message_id)
    assert error.remedy


@pytest.mark.parametrize("what", CORPUS)
def test_a_hostile_message_is_kept_whole_and_has_an_error_record(submitter, what):
    with takes_no_time(), pytest.raises(GeoAssetsError):
        read_message(CORPUS[what])
    assert_poisoned(submitter, handle(submitter, raw(CORPUS[what])), CORPUS[what])


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["job_type", "parameters", "n", "message", "container", "job_id"]) | st.text(max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@hypothesis_settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        st.binary(max_size=300),
        json_like.map(lambda v: json.dumps(v).encode()),
        st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
    )
)
def test_no_bytes_make_the_reader_raise_anything_but_a_plain_error_or_take_long(body):
    with takes_no_time():
        with contextlib.suppress(GeoAssetsError):
            read_message(body)
        recover_job_id(body)
        escaped(body, 500)


def test_a_message_in_poison_always_has_an_error_record(submitter):
    for body in CORPUS.values():
        handle(submitter, raw(body))
    poisoned = submitter.messages.list(state="poison", limit=1000)
    with_record = {e.message_id for e in submitter.messages.errors(limit=10_000)}
    assert len(poisoned) >= len(CORPUS)
    assert {m.message_id for m in poisoned} <= with_record
    assert submitter.messages.poison_without_record() == 0


def test_a_good_message_becomes_a_job_and_a_second_delivery_changes_nothing(submitter):
    message = raw(hello())
    first = handle(submitter, message)
    again = handle(submitter, message)
    assert first.submitted.attempt == 1
    assert again.submitted is None
    assert again.error is None
    record, _ = submitter.messages.body(first.record.message_id)
    assert (record.state, record.deliveries, record.job_id) == ("accepted", 2, first.submitted.job_id)


def test_the_same_bad_message_twice_is_one_poisoned_message_with_one_record(submitter):
    message = raw(b"{")
    handle(submitter, message)
    handle(submitter, message)
    record = handle(submitter, message).record
    assert len(submitter.messages.errors(message_id=record.message_id)) == 1


def test_a_message_with_the_id_of_another_request_is_refused(submitter):
    outcome = handle(submitter, raw({**hello(), "job_id": "0" * 64}))
    assert outcome.error.code == "JOB_ID_MISMATCH"


def test_the_same_message_delivered_20_times_in_parallel_by_20_connections_is_one_job_with_one_attempt(settings):
    body = hello(message="parallel")

    def deliver(_):
        with Submitter(settings, launches=False) as submitter:
            return handle(submitter, raw(body)).submitted

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(deliver, range(20)))
    assert len({a.job_id for a in answers}) == 1
    assert sum(not a.duplicate for a in answers) == 1
    assert [a.attempt for a in answers if a.attempt] == [1]


def killed_at(point, settings, body, *, source_id):
    """Deliver a message to a process that is killed at a crash point."""
    program = f"""
from geo_assets.settings import Settings
from geo_assets.submissions.submit import Submitter
from geo_assets.submissions.boundary import handle
from geo_assets.ledger.messages import RawMessage
settings = Settings(home={str(settings.home)!r}, pg_port={settings.pg_port}, pg_database={settings.pg_database!r},
                    pipeline_password="p")
body = {body!r}
with Submitter(settings, launches=False) as s:
    handle(s, RawMessage(source="crash", source_id={source_id!r}, body=body, size_bytes=len(body), correlation_id="c"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"GEO_ASSETS_CRASH": point, "PATH": "/usr/bin:/bin"}, check=False
    )
    assert done.returncode == -9


@pytest.mark.parametrize("point", ["boundary.recorded", "boundary.accepted", "boundary.rejected"])
def test_a_process_killed_at_a_crash_point_loses_nothing_when_the_message_comes_again(settings, submitter, point):
    body = b"{" if point == "boundary.rejected" else json.dumps(hello(message=point)).encode()
    killed_at(point, settings, body, source_id=point)
    again = handle(submitter, raw(body, source="crash", source_id=point))
    record, _ = submitter.messages.body(again.record.message_id)
    assert record.deliveries == 2
    if point == "boundary.rejected":
        assert record.state == "poison"
        assert len(submitter.messages.errors(message_id=record.message_id)) == 1
    else:
        assert record.state == "accepted"
        assert submitter.jobs.life(record.job_id).attempt == 1


# -- what poison means for a job ---------------------------------------------------------------------------------------


def job_of(body: dict) -> Job:
    return Job.of(validate_parameters(body["job_type"], body["parameters"]))


def poisoned(submitter, job) -> PoisonAction:
    outcome = handle(submitter, raw(b'{"broken": "job_id":"' + job.job_id.encode() + b'"'))
    assert outcome.error is not None
    return [e.code for e in submitter.messages.errors(message_id=outcome.record.message_id)]


def a_job(submitter, dagster, run_status: str | None, *, claimed: bool = False):
    body = hello()
    job = job_of(body)
    handle(submitter, raw(body))
    if run_status:
        run_id = dagster.run(job, run_status)
        if claimed:
            submitter.jobs.claim(job.partition_key, run_id, 1)
    return job


def test_poison_for_a_completed_job_leaves_its_result_alone_with_a_warning(submitter, dagster):
    job = a_job(submitter, dagster, "SUCCESS", claimed=True)
    assert "POISON_AFTER_COMPLETION" in poisoned(submitter, job)
    assert submitter.jobs.find(job.job_id).status == "completed"


def test_poison_for_a_job_at_work_leaves_it(submitter, dagster):
    job = a_job(submitter, dagster, "STARTED", claimed=True)
    assert "POISON_LEFT" in poisoned(submitter, job)
    assert submitter.jobs.find(job.job_id).status == "processing"


def test_poison_for_a_job_that_nobody_works_on_fails_it_and_alerts(submitter, dagster):
    job = a_job(submitter, dagster, None)
    assert "UNHANDLED_POISON" in poisoned(submitter, job)
    found = submitter.jobs.find(job.job_id)
    assert (found.status, found.error_code) == ("failed", "UNHANDLED_POISON")
    assert [e.severity for e in submitter.messages.errors(job_id=job.job_id) if e.code == "UNHANDLED_POISON"] == [
        "alert"
    ]


def test_a_job_of_a_poisoned_message_fails_also_where_the_process_was_killed_that_rejected_it(
    settings, submitter, dagster
):
    job = a_job(submitter, dagster, None)
    body = b'{"broken": "job_id":"' + job.job_id.encode() + b'"'
    killed_at("boundary.rejected", settings, body, source_id="settled later")
    again = handle(submitter, raw(body, source="crash", source_id="settled later"))
    found = submitter.jobs.find(job.job_id)
    assert (found.status, found.error_code) == ("failed", "UNHANDLED_POISON")
    assert {e.code for e in submitter.messages.errors(message_id=again.record.message_id)} == {
        "INVALID_JSON",
        "UNHANDLED_POISON",
    }


def test_a_poisoned_message_that_comes_again_leaves_a_later_attempt_of_its_job_alone(submitter, dagster):
    body = hello()
    job = job_of(body)
    handle(submitter, raw(body))
    bad = raw(b'{"broken": "job_id":"' + job.job_id.encode() + b'"')
    handle(submitter, bad)
    assert submitter.jobs.find(job.job_id).status == "failed"
    assert handle(submitter, raw(body)).submitted.attempt == 2
    record = handle(submitter, bad).record
    assert submitter.jobs.find(job.job_id).status == "queued"
    assert len(submitter.messages.errors(message_id=record.message_id)) == 2


def test_poison_for_a_failed_job_is_expected(submitter, dagster):
    job = a_job(submitter, dagster, None)
    submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("INTERNAL", "before"))
    assert "POISON_EXPECTED" in poisoned(submitter, job)
    assert submitter.jobs.find(job.job_id).error_message == "before"


def test_poison_that_names_an_unknown_job_is_an_orphan(submitter):
    outcome = handle(submitter, raw(b'{"job_id":"' + b"f" * 64 + b'"'))
    assert {e.code for e in submitter.messages.errors(message_id=outcome.record.message_id)} == {
        "INVALID_JSON",
        "ORPHAN_POISON",
    }


def test_settling_poison_twice_adds_nothing(submitter, dagster):
    job = a_job(submitter, dagster, "SUCCESS", claimed=True)
    outcome = handle(submitter, raw(b'{"job_id":"' + job.job_id.encode() + b'"'))
    before = len(submitter.messages.errors(message_id=outcome.record.message_id))
    assert settle_poison(submitter, outcome.record.message_id, job.job_id, outcome.error) is PoisonAction.KEEP_RESULT
    assert len(submitter.messages.errors(message_id=outcome.record.message_id)) == before


def test_a_message_without_a_recoverable_id_touches_no_job():
    assert poison_action(None, None) is PoisonAction.NOTHING


# -- out of poison -----------------------------------------------------------------------------------------------------


@pytest.fixture
def poison(settings, monkeypatch):
    """`geo-assets poison …`: its exit code, and what it printed, or the error with which it ended."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def call(*arguments):
        done = CliRunner().invoke(app, ["poison", *arguments, "--json"])
        return done.exit_code, json.loads(done.stdout) if done.stdout else done.exception

    return call


@pytest.mark.parametrize("command", ["discard", "replay"])
@pytest.mark.parametrize("state", ["received", "accepted"])
def test_a_message_that_is_not_in_poison_is_neither_discarded_nor_replayed(submitter, poison, state, command):
    message = raw(hello())
    record = submitter.messages.record(message)
    if state == "accepted":
        handle(submitter, message)
    code, said = poison(command, record.message_id[:12])
    assert (code, said.code) == (1, "INVALID_PARAMETERS")
    assert f"is not in poison, but {state}" in said.message
    assert submitter.messages.body(record.message_id)[0].state == state
    assert (handle(submitter, message).submitted is None) is (state == "accepted")


def test_a_replay_fails_while_a_message_is_still_not_accepted_and_a_discarded_one_is_not_replayed(submitter, poison):
    message_id = handle(submitter, raw(b"{")).record.message_id
    code, (outcome,) = poison("replay", message_id)
    assert (code, outcome["state"], outcome["error_code"]) == (1, "poison", "INVALID_JSON")
    assert poison("discard", message_id) == (0, [{"message_id": message_id, "state": "discarded"}])
    assert poison("replay", message_id)[0] == 1
    assert submitter.messages.body(message_id)[0].state == "discarded"


def test_a_message_leaves_poison_with_the_commit_that_accepts_it_and_keeps_its_error(submitter, poison, monkeypatch):
    def refuses(*_, **__):
        raise GeoAssetsError("INTERNAL", "not yet")

    message = raw(hello())
    with monkeypatch.context() as patch:
        patch.setattr(submitter, "submit", refuses)
        for _ in range(5):
            with contextlib.suppress(GeoAssetsError):
                message_id = handle(submitter, message).record.message_id
    code, (outcome,) = poison("replay", message_id)
    assert (code, outcome["state"]) == (0, "replayed")
    record, _ = submitter.messages.body(message_id)
    assert (record.state, record.job_id, record.error_code) == ("replayed", outcome["job_id"], "INTERNAL")
