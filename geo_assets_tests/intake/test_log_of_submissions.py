"""What a process says of a message: found by the id that came with it, without secrets."""

import io
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient

from geo_assets import logs
from geo_assets.accounts import AzureAccount
from geo_assets.api.app import create_app
from geo_assets.submissions.boundary import handle
from geo_assets.submissions.messages import trace_of
from geo_assets_tests.intake.messages import hello, raw

SAS = "sv=2024-11-04&ss=b&srt=sco&sp=rl&se=2027-01-01T00%3A00%3A00Z&sig=hush%2Bhush%3D"


@pytest.fixture
def written(settings):
    """The lines of our modules meanwhile."""
    stream = io.StringIO()
    handler, ours = logging.StreamHandler(stream), logging.getLogger("geo_assets")
    handler.setFormatter(logs.formatter(settings))
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    yield stream
    ours.removeHandler(handler)
    ours.setLevel(level)


def events(written) -> list[dict]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_message_that_is_accepted_and_one_that_is_refused_are_found_by_the_id_that_they_name(submitter, written):
    good = json.dumps({**hello(), "correlation_id": "order-1"}).encode()
    bad = b'{"job_type": "no_such_job", "correlation_id" : "order-2", "parameters": {'
    for body in (good, bad):
        trace = trace_of(body)
        handle(submitter, raw(body, correlation_id=trace.correlation_id))
    assert [(line["event"], line["correlation_id"]) for line in events(written)] == [
        ("submission accepted", "order-1"),
        ("message rejected", "order-2"),
    ]


def test_the_errors_of_a_job_have_its_id_in_the_ledger(submitter, dagster):
    outcome = handle(submitter, raw(hello(), correlation_id="order-3"))
    job = submitter.jobs.find(outcome.submitted.job_id)
    run_id = dagster.run(job, "STARTED")
    claim = submitter.jobs.claim(job.partition_key, run_id, 1)
    assert claim.correlation_id == "order-3"
    from geo_assets.errors import GeoAssetsError

    submitter.messages.note(GeoAssetsError("INTERNAL", "x"), severity="warning", job_id=job.job_id, run_id=run_id)
    assert submitter.messages.errors(job_id=job.job_id)[0].correlation_id == "order-3"


def test_a_run_that_somebody_launches_by_hand_has_an_id_too(submitter, dagster):
    outcome = handle(submitter, raw(hello(), correlation_id="order-4"))
    job = submitter.jobs.find(outcome.submitted.job_id)
    submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), 1)
    submitter.jobs.complete(job.job_id, submitter.jobs.find(job.job_id).run_id)
    by_hand = submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), None)
    assert len(by_hand.correlation_id) == 36


class _Refusing(BaseHTTPRequestHandler):
    """A store that refuses everything, and repeats in its answer what it was asked."""

    def _refuse(self) -> None:
        body = f"<Error><Code>AuthorizationFailure</Code><Message>{self.path}</Message></Error>".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = _refuse  # noqa: N815 - as http.server calls them

    def log_message(self, *_: object) -> None:
        pass


def test_a_sas_in_the_error_of_a_store_is_in_no_line_and_no_answer(settings, written):
    store = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=store.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{store.server_port}/survey"
    away = AzureAccount(kind="azure", account_name="survey", sas_token=SAS, endpoint=endpoint)
    guarded = settings.model_copy(update={"accounts": {"survey": away}})
    with TestClient(create_app(guarded)) as api:
        answer = api.post(
            "/api/jobs/submit/list_container",
            json={"account": "survey", "container": "landing"},
            headers={"X-Correlation-ID": "order-5"},
        )
    store.shutdown()
    store.server_close()
    assert answer.status_code >= 400
    assert [line["event"] for line in events(written) if line.get("correlation_id") == "order-5"] == [
        "message rejected"
    ]
    assert "hush" not in f"{written.getvalue()} {answer.text}"
