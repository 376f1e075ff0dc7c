"""Somebody hears of what happened: once for each event, whoever is killed meanwhile, and never a message for a file."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest

from geo_assets.alerts.bodies import body_of
from geo_assets.alerts.compose import Composer, sample
from geo_assets.alerts.send import post, send_due
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import CogOutputs, TaskInput
from geo_assets.settings import Settings, load_settings
from geo_assets.stages.janitor import run_janitor
from geo_assets.submissions.boundary import handle
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.messages import hello, raw
from geo_assets_tests.webhook import Webhook

SECRET = "whoever-knows-this-may-post"
ENDS_BADLY = GeoAssetsError("INTERNAL", "it failed at password=hush-hush\nand\x1b[2J more")
MADE = CogOutputs(cog="default/cogs/a.tif", sha256="0" * 64)


@pytest.fixture
def webhook():
    with Webhook() as webhook:
        yield webhook


@pytest.fixture
def told(settings, webhook):
    """Settings with the webhook; nothing of other tests waits."""
    with Ledger(settings) as ledger:
        ledger.alerts.forget(timedelta(0), unsent=True)
    return settings.model_copy(update={"alert_webhook": Settings(alert_webhook=webhook.url).alert_webhook})


def send(told) -> str:
    with Ledger(told) as ledger:
        return send_due(told, ledger)


def a_run(submitter, dagster, **body):
    """A job with a run that has claimed it."""
    message = raw({**hello(), **body}, correlation_id=body.get("correlation_id", "c"))
    job = submitter.jobs.find(handle(submitter, message).submitted.job_id)
    run_id = dagster.run(job, "STARTED")
    submitter.jobs.claim(job.partition_key, run_id, 1)
    return job, run_id


def with_bad_files(submitter, job, run_id, count, code="UNREADABLE", stage="cogs"):
    """Tasks that end badly, as a stage ends them."""
    tasks = [
        PlannedTask(task_key=f"{code}-{n}.tif", kind="raster", fingerprint="f", input=TaskInput()) for n in range(count)
    ]
    submitter.tasks.plan(job.job_id, run_id, stage, tasks)
    for task in tasks:
        submitter.tasks.fail(job.job_id, run_id, stage, task.task_key, GeoAssetsError(code, "it is cut off"))


def due_now(dagster):
    """Time passes."""
    dagster.conn.execute("update geo.alerts set next_try_at = now() where sent_at is null")


def test_a_failed_job_is_told_once_with_reason_remedy_and_link_and_without_secrets(submitter, dagster, told, webhook):
    job, run_id = a_run(submitter, dagster, correlation_id="order-7")
    submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    assert send(told) == "1 alert sent"
    assert send(told) == "there is nothing to tell"
    (posted,) = webhook.posted
    body = posted.body
    assert posted.headers["Idempotency-Key"] == body["id"] == f"{job.job_id}/1 ended"
    assert (body["kind"], body["severity"], body["correlation_id"]) == ("job_failed", "error", "order-7")
    assert (
        body["subject"] == f"hello_world ({job.job_id[:12]}) failed: INTERNAL: it failed at password=*** and [2J more"
    )
    assert body["job"] == {"job_id": job.job_id, "job_type": "hello_world", "attempt": 1, "run_id": run_id}
    assert body["link"] == f"{told.dagster_url}/runs/{run_id}"
    assert body["reasons"][0]["remedy"]
    assert "hush" not in json.dumps(body)


def test_many_bad_files_are_one_alert_with_a_count_an_example_and_a_remedy_for_each_code(
    submitter, dagster, told, webhook
):
    job, run_id = a_run(submitter, dagster)
    with_bad_files(submitter, job, run_id, 40)
    with_bad_files(submitter, job, run_id, 2, code="VECTOR_NO_CRS", stage="vector_tables")
    assert submitter.jobs.complete(job.job_id, run_id)
    assert send(told) == "1 alert sent"
    (posted,) = webhook.posted
    assert posted.body["kind"] == "bad_files"
    assert "42 files are bad" in posted.body["subject"]
    assert [(r["code"], r["count"], r["example"]) for r in posted.body["reasons"]] == [
        ("UNREADABLE", 40, "UNREADABLE-0.tif"),
        ("VECTOR_NO_CRS", 2, "VECTOR_NO_CRS-0.tif"),
    ]
    assert all(r["remedy"] for r in posted.body["reasons"])


def test_a_job_that_finds_no_bad_file_and_one_that_knew_them_before_are_no_news(submitter, dagster, told, webhook):
    job, run_id = a_run(submitter, dagster)
    with_bad_files(submitter, job, run_id, 1)
    submitter.jobs.complete(job.job_id, run_id)
    send(told)
    dagster.set(run_id, "SUCCESS")
    submitter.jobs.retry(job.job_id, requested_by="test", statuses=("cancelled",))
    again = dagster.run(job, "STARTED")
    submitter.jobs.claim(job.partition_key, again, 2)
    assert submitter.jobs.complete(job.job_id, again)
    good, of_good = a_run(submitter, dagster)
    submitter.jobs.complete(good.job_id, of_good)
    assert send(told) == "there is nothing to tell"
    assert len(webhook.posted) == 1


def test_a_good_file_that_a_later_attempt_finds_bad_while_it_plans_is_told_of_once(submitter, dagster, told, webhook):
    job, run_id = a_run(submitter, dagster)

    def planned(run_id, fingerprint, error=None):
        task = PlannedTask(task_key="a.tif", kind="raster", fingerprint=fingerprint, input=TaskInput(), error=error)
        submitter.tasks.plan(job.job_id, run_id, "cogs", [task])
        if error is None:
            submitter.tasks.start(job.job_id, run_id, "cogs", "a.tif")
            submitter.tasks.succeed(job.job_id, run_id, "cogs", "a.tif", outputs=MADE)
        assert submitter.jobs.complete(job.job_id, run_id)
        dagster.set(run_id, "SUCCESS")

    planned(run_id, "small")
    too_large = GeoAssetsError("TOO_LARGE", "it has 30 GB").to_dict()
    for attempt in (2, 3):
        submitter.jobs.retry(job.job_id, requested_by="test", statuses=("cancelled",))
        run_id = dagster.run(job, "STARTED")
        submitter.jobs.claim(job.partition_key, run_id, attempt)
        planned(run_id, "large", too_large)
    assert send(told) == "1 alert sent"
    (posted,) = webhook.posted
    assert (posted.body["kind"], posted.body["job"]["attempt"]) == ("bad_files", 2)
    assert [(r["code"], r["example"]) for r in posted.body["reasons"]] == [("TOO_LARGE", "a.tif")]
    (task,) = submitter.tasks.records(job.job_id)
    assert (task.status, task.started_at) == ("quarantined", None)


def test_a_run_that_was_killed_is_told_and_so_is_the_job_that_is_given_up(submitter, dagster, told, webhook):
    job, run_id = a_run(submitter, dagster)
    for attempt in (1, 2, 3):
        dagster.set(run_id, "FAILURE")
        run_janitor(submitter.jobs, submitter.messages, lambda *_: None)
        if attempt < 3:
            run_id = dagster.run(job, "STARTED")
            submitter.jobs.claim(job.partition_key, run_id, attempt + 1)
    send(told)
    assert [p.body["kind"] for p in webhook.posted] == ["run_died", "run_died", "job_failed"]
    assert len({p.body["correlation_id"] for p in webhook.posted}) == 1
    assert "attempt 1 died" in webhook.posted[0].body["subject"]
    assert "RUN_DIED" in webhook.posted[2].body["subject"]


def test_messages_in_poison_are_told_of_together(submitter, told, webhook):
    for body in (b"{", b"{", b'{"job_type": "no_such_job", "parameters": {}}'):
        assert handle(submitter, raw(body)).error
    send(told)
    (posted,) = webhook.posted
    assert posted.body["subject"].startswith("3 messages could not be accepted")
    assert {r["code"]: r["count"] for r in posted.body["reasons"]} == {"INVALID_JSON": 2, "UNKNOWN_JOB_TYPE": 1}


def test_what_is_noted_for_somebody_to_look_at_is_told(submitter, dagster, told, webhook):
    job, run_id = a_run(submitter, dagster)
    away = GeoAssetsError("STORAGE_UNAVAILABLE", "the store of a/b does not answer")
    submitter.messages.note_once(away, severity="alert", job_id=job.job_id, run_id=run_id)
    submitter.messages.note_once(away, severity="alert", job_id=job.job_id, run_id=run_id)
    submitter.messages.note(away, severity="warning", job_id=job.job_id, run_id=run_id)
    send(told)
    (posted,) = webhook.posted
    assert posted.body["kind"] == "note"
    assert "the store of a/b does not answer" in posted.body["subject"]


def test_many_alerts_at_once_are_one_digest(submitter, dagster, told, webhook):
    for _ in range(30):
        job, run_id = a_run(submitter, dagster)
        submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    assert send(told) == "30 alerts sent"
    (posted,) = webhook.posted
    assert posted.body["subject"].startswith("30 alerts: 30 × job failed")
    assert len(posted.body["reasons"]) == 21


def test_a_webhook_that_is_away_is_tried_again_later_and_later_and_the_alert_comes_once(
    submitter, dagster, told, webhook
):
    job, run_id = a_run(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    webhook.answers = [503, 500, 429]
    pauses = []
    for answer in (503, 500, 429):
        assert str(answer) in send(told)
        assert send(told) == "there is nothing to tell"
        pauses.append(
            dagster.conn.execute(
                "select extract(epoch from next_try_at - now())::int, tries from geo.alerts where sent_at is null"
            ).fetchone()
        )
        due_now(dagster)
    assert [tries for _, tries in pauses] == [1, 2, 3]
    assert [round(pause, -1) for pause, _ in pauses] == [30, 60, 120]
    assert send(told) == "1 alert sent"
    assert [p.body["repeated"] for p in webhook.posted] == [False]


def test_what_cannot_be_reached_says_so_without_its_address(submitter, dagster, told, webhook):
    job, run_id = a_run(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    nobody = Settings(alert_webhook=f"http://127.0.0.1:9/{SECRET}").alert_webhook
    said = send(told.model_copy(update={"alert_webhook": nobody}))
    assert "does not answer" in said
    with Ledger(told) as ledger:
        (waiting,) = (alert for alert in ledger.alerts.newest(100) if not alert.sent_at)
    assert SECRET not in f"{said} {waiting.fault}"
    due_now(dagster)
    assert send(told) == "1 alert sent"


def test_one_that_is_refused_does_not_hold_up_the_others(submitter, dagster, told, webhook):
    for _ in range(3):
        job, run_id = a_run(submitter, dagster)
        submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    webhook.answers = [400]
    assert send(told) == "2 alerts sent"
    due_now(dagster)
    assert send(told) == "1 alert sent"
    assert len({p.body["id"] for p in webhook.posted}) == 3


_SEND = """
from geo_assets.alerts.send import send_due
from geo_assets.ledger.ledger import Ledger
from geo_assets.settings import load_settings
settings = load_settings()
with Ledger(settings) as ledger:
    print(send_due(settings, ledger))
"""


@pytest.mark.parametrize(("point", "sent_before"), [("alerts.taken", 0), ("alerts.posted", 1)])
def test_a_sender_that_is_killed_loses_no_alert_and_what_may_have_come_before_says_so(
    submitter, dagster, told, webhook, point, sent_before
):
    job, run_id = a_run(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    variables = {**environment(told), "GEO_ASSETS_ALERT_WEBHOOK": webhook.url, "PATH": "/usr/bin:/bin"}
    killed = subprocess.run([sys.executable, "-c", _SEND], env={**variables, "GEO_ASSETS_CRASH": point}, check=False)
    assert killed.returncode == -9
    assert len(webhook.posted) == sent_before
    due_now(dagster)
    after = subprocess.run([sys.executable, "-c", _SEND], env=variables, capture_output=True, text=True, check=True)
    assert after.stdout == "1 alert sent\n"
    assert {p.body["id"] for p in webhook.posted} == {f"{job.job_id}/1 ended"}
    assert [p.body["repeated"] for p in webhook.posted] == [False] * sent_before + [True]
    assert send(told) == "there is nothing to tell"


def test_two_senders_at_once_send_each_alert_once(submitter, dagster, told, webhook):
    for _ in range(4):
        job, run_id = a_run(submitter, dagster)
        submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    variables = {**environment(told), "GEO_ASSETS_ALERT_WEBHOOK": webhook.url, "PATH": "/usr/bin:/bin"}
    senders = [subprocess.Popen([sys.executable, "-c", _SEND], env=variables) for _ in range(3)]
    assert [sender.wait(60) for sender in senders] == [0, 0, 0]
    assert len(webhook.posted) == len({p.body["id"] for p in webhook.posted}) == 4


def test_without_a_webhook_nothing_is_sent_and_what_happened_meanwhile_is_not_sent_later(
    submitter, dagster, told, webhook, settings
):
    job, run_id = a_run(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, "failed", ENDS_BADLY, run_id=run_id)
    assert send(settings) == "GEO_ASSETS_ALERT_WEBHOOK is not set"
    with Ledger(settings) as ledger:
        ledger.alerts.forget(timedelta(days=30), unsent=True)
    assert send(told) == "there is nothing to tell"
    assert webhook.posted == []


@pytest.mark.parametrize("form", ["json", "slack", "teams"])
def test_a_sample_arrives_in_each_form_with_what_happened_and_a_link(told, webhook, form):
    post(told.model_copy(update={"alert_format": form}), sample(told))
    (posted,) = webhook.posted
    said = json.dumps(posted.body)
    assert all(part in said for part in ("this is a test", "UNREADABLE", "scans/0042.tif", told.dagster_url))


@pytest.mark.parametrize("form", ["slack", "teams"])
def test_the_name_of_a_file_makes_no_link_and_calls_nobody(submitter, dagster, told, webhook, form):
    job, run_id = a_run(submitter, dagster)
    name = "<!channel> <https://evil.example|click> [here](https://evil.example) & *bold*"
    submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("INTERNAL", name), run_id=run_id)
    with Ledger(told) as ledger:
        (record,) = ledger.alerts.take(10)
        body = body_of(Composer(told, ledger).of(record), form)
    if form == "slack":
        assert "<" not in body["text"]
        assert body["blocks"][0]["text"]["type"] == "plain_text"
    else:
        lines = [run for block in body["attachments"][0]["content"]["body"] for run in block["inlines"]]
        assert {run["type"] for run in lines} == {"TextRun"}


def test_the_address_of_the_webhook_is_a_secret(monkeypatch, tmp_path, told):
    assert SECRET not in f"{told!r} {told.model_dump_json()}"
    monkeypatch.setenv("GEO_ASSETS_HOME", str(tmp_path))
    monkeypatch.setenv("GEO_ASSETS_ALERT_WEBHOOK", f"ftp://example.org/{SECRET}")
    with pytest.raises(GeoAssetsError) as refused:
        load_settings()
    assert refused.value.code == "INVALID_SETTINGS"
    assert SECRET not in refused.value.message
