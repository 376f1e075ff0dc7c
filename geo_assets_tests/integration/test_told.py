"""Whole jobs in a stack with a webhook: each line about a submission is found by its id, and somebody hears how it ended."""

import json
import os
import signal

import httpx
import numpy as np
import pytest

from geo_assets import extras
from geo_assets_tests.conftest import Cli, a_stack
from geo_assets_tests.faults.test_killed_run import begun, connect, run_workers
from geo_assets_tests.otlp import PARENT, Collector, attribute
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until
from geo_assets_tests.webhook import Webhook

pytestmark = pytest.mark.faults

OTHER_PARENT = "00-00000000000000000000000000000abc-00f067aa0ba902b7-01"

HAS_OTEL = extras._is_here("opentelemetry.exporter.otlp.proto.http")

#: What a log would take for the begin of another line, if it were written as it is.
FORGED = 'bad\n{"level": "info", "event": "forged"}\x1b[2J.tif'


@pytest.fixture(scope="module")
def webhook():
    with Webhook() as webhook:
        yield webhook


@pytest.fixture(scope="module")
def collector():
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def cli(open_folder, postgres_home, webhook, collector):
    """A stack of this module's own."""
    traced = {"GEO_ASSETS_OTLP_ENDPOINT": collector.url} if HAS_OTEL else {}
    yield from a_stack(Cli(open_folder(), GEO_ASSETS_ALERT_WEBHOOK=webhook.url, **traced), postgres_home)


def delivered(cli, container):
    """A container with a good raster, two that are bad, and one whose name is an attack."""
    folder = cli.home / "containers" / container
    folder.mkdir(parents=True)
    write(folder / "good.tif", np.random.default_rng(1).integers(0, 255, (3, 64, 64)).astype("uint8"))
    for name in ("bad.tif", "also-bad.tif", FORGED):
        (folder / name).write_bytes(b"II*\x00 and no more")


def ended(cli, correlation_id):
    """The job that a submission with this id became, once it has come to its end."""
    query = "select job_id from geo.attempts where correlation_id = %s and outcome is not null"
    with connect(cli) as db:
        return until(lambda: db.execute(query, (correlation_id,)).fetchone(), seconds=180)[0]


def lines(cli):
    """Every line that a process of ours wrote: name of the file, fields."""
    for log in (cli.home / "logs").glob("*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                yield log.stem, json.loads(line)


def found(cli, correlation_id):
    return [(log, line) for log, line in lines(cli) if line.get("correlation_id") == correlation_id]


def said(found, event):
    return [(log, line) for log, line in found if line["event"] == event]


def assert_whole(cli, correlation_id, job_id):
    """Run, step, task and child are found by the id; nothing is said of the job without it."""
    until(lambda: any(line.get("event_type") == "PIPELINE_SUCCESS" for _, line in found(cli, correlation_id)))
    told = found(cli, correlation_id)
    (run,) = (line for _, line in told if line.get("event_type") == "PIPELINE_SUCCESS")
    assert run["job_id"] == job_id
    assert {line["run_id"] for _, line in told if "run_id" in line} == {run["run_id"]}
    assert any("step_key" in line for _, line in told)
    children = [line for _, line in told if line["logger"] == "geo_assets.sandbox.pool"]
    assert {"good.tif", "bad.tif", "also-bad.tif"} <= {line.get("task_key") for line in children}
    assert all(line["child_pid"] and line["run_id"] == run["run_id"] for line in children)
    bad = {line["task_key"]: line["code"] for _, line in said(told, "file is bad")}
    assert {"bad.tif", "also-bad.tif"} <= bad.keys()
    return told


def test_all_that_is_said_of_a_submission_over_http_is_found_by_its_id(cli):
    delivered(cli, "told-http")
    answer = httpx.post(
        f"{cli.exports['GEO_ASSETS_API_URL']}/api/jobs/submit/ingest_container",
        json={"container": "told-http"},
        headers={"X-Correlation-ID": "order 1/http", "traceparent": PARENT},
        timeout=60,
    )
    assert answer.status_code == 202
    assert answer.json()["correlation_id"] == "order 1/http"
    assert ended(cli, "order 1/http") == answer.json()["job_id"]
    told = assert_whole(cli, "order 1/http", answer.json()["job_id"])
    assert [log for log, _ in said(told, "submission accepted")] == ["api"]
    assert said(told, "run launched") or said(told, "run requested")
    with connect(cli) as db:
        kept = db.execute("select traceparent from geo.attempts where correlation_id = 'order 1/http'").fetchone()
        tag = db.execute("select value from dagster.run_tags where key = 'geo_assets/traceparent'").fetchone()
    assert kept == tag
    assert kept[0].startswith(PARENT[:35])  # the span of the submission, where spans are sent, is between


def test_all_that_is_said_of_a_message_is_found_by_its_id(cli):
    delivered(cli, "told-message")
    inbox = cli.home / "containers" / "submissions" / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    message = {
        "job_type": "ingest_container",
        "parameters": {"container": "told-message"},
        "correlation_id": "order-2",
        "traceparent": OTHER_PARENT,
    }
    (inbox / "order.json").write_text(json.dumps(message))
    told = assert_whole(cli, "order-2", ended(cli, "order-2"))
    assert [log for log, _ in said(told, "submission accepted")] == ["code_server"]
    assert len(said(told, "run requested")) == 1


@pytest.mark.skipif(not HAS_OTEL, reason="extra otel")
@pytest.mark.parametrize("parent", [PARENT, OTHER_PARENT], ids=["http", "message"])
def test_one_trace_goes_from_the_submission_over_the_run_and_its_files_to_the_children(collector, parent):
    _, trace, sender, _ = parent.split("-")
    found = {s.span_id: s for s in collector.trace(trace, "submission", "run", "file", "child")}
    above = {
        name: {found[s.parent_span_id].name for s in found.values() if s.name == name and s.parent_span_id in found}
        for name in ("run", "file")
    }
    assert above == {"run": {"submission"}, "file": {"run"}}
    (submission,) = (s for s in found.values() if s.name == "submission")
    assert submission.parent_span_id.hex() == sender
    calls = {attribute(found[s.parent_span_id], "task_key") for s in found.values() if s.name == "child"}
    assert {"good.tif", "bad.tif", "also-bad.tif"} <= calls


def test_the_name_of_a_file_forges_no_line(cli):
    assert [line for _, line in lines(cli) if "forged" in json.dumps(line)]
    assert [line for _, line in lines(cli) if line["event"] == "forged"] == []
    assert "\x1b[2J" not in "".join(log.read_text(errors="replace") for log in (cli.home / "logs").glob("*.log"))


def test_somebody_hears_once_of_each_job_with_bad_files_however_many_they_are(cli, webhook):
    told = [p.body for p in webhook.wait(2)]
    assert sorted(body["correlation_id"] for body in told) == ["order 1/http", "order-2"]
    assert {body["kind"] for body in told} == {"bad_files"}
    assert all("3 files are bad" in body["subject"] for body in told)
    assert all(body["link"].startswith(cli.exports["GEO_ASSETS_WEBSERVER_URL"]) for body in told)


def test_somebody_hears_of_a_run_that_was_killed(cli, webhook, tmp_path):
    before = len(webhook.posted)
    job = begun(cli, tmp_path / "many", "told-killed")
    (worker,) = until(lambda: run_workers(cli))
    os.kill(worker, signal.SIGKILL)
    (told,) = webhook.wait(before + 1, seconds=120)[before:]
    assert (told.body["kind"], told.body["job"]["job_id"]) == ("run_died", job["job_id"])
    with connect(cli) as db:
        query = "select attempt, correlation_id, outcome from geo.attempts where job_id = %s order by 1"
        until(lambda: db.execute(query, (job["job_id"],)).fetchall()[-1][2] == "completed", seconds=180)
        ids = [row[1] for row in db.execute(query, (job["job_id"],)).fetchall()]
    assert ids == [told.body["correlation_id"]] * 2


def test_a_sample_arrives_and_the_command_lists_what_was_told(cli, webhook):
    before = len(webhook.posted)
    assert cli.run("alert", "--test").returncode == 0
    assert webhook.wait(before + 1)[before].body["kind"] == "sample"
    listed = until(lambda: [a for a in cli.json("alert") if a["sent_at"]])
    assert [alert["kind"] for alert in listed] == ["run_died", "bad_files", "bad_files"]


def test_no_line_has_the_address_of_the_webhook_or_a_password_of_the_stack(cli, webhook):
    passwords = json.loads((cli.home / "stack.json").read_text())["passwords"].values()
    written = "".join(log.read_text(errors="replace") for log in (cli.home / "logs").glob("*.log"))
    assert [secret for secret in (webhook.url, *passwords) if secret in written] == []
