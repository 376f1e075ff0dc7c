"""A line of a log is one line, has the ids by which it is found, and no secret, whatever it is about."""

import io
import json
import logging
import threading
import time

import pytest

from geo_assets import logs
from geo_assets.correlation import Trace, about, process_about
from geo_assets.errors import unforeseen
from geo_assets.redaction import redacted
from geo_assets.settings import Settings
from geo_assets_tests.otlp import PARENT

SAS = "sv=2024-11-04&ss=b&srt=sco&sp=rl&se=2027-01-01T00:00:00Z&sig=hush%2Bhush%3D"
KEY = "aHVzaC1odXNoLWh1c2gtaHVzaC1odXNo"
SECRET = "hush"


class Written:
    """A logger whose lines are kept."""

    def __init__(self, **settings) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(logs.formatter(Settings(**settings)))
        self.log = logging.Logger("geo_assets.of_tests")  # noqa: LOG001 - of this test alone
        self.log.addHandler(handler)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines()]


def test_a_line_is_json_with_what_happened_and_every_id_of_its_process_and_thread():
    written = Written()
    with process_about(correlation_id="c-1", run_id="r-1"), about(task_key="a.tif", stage="cogs"):
        written.log.info("file converted", extra={"seconds": 1.5})
    (line,) = written.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "file converted",
        "logger": "geo_assets.of_tests",
        "correlation_id": "c-1",
        "run_id": "r-1",
        "task_key": "a.tif",
        "stage": "cogs",
        "seconds": 1.5,
    }


def test_the_threads_of_a_process_share_its_ids_and_have_tasks_of_their_own():
    written = Written()

    def work(name):
        with about(task_key=name):
            written.log.info("at work")

    with process_about(correlation_id="c-2"), about(task_key="of the first thread"):
        threads = [threading.Thread(target=work, args=(f"{n}.tif",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {line["correlation_id"] for line in written.lines} == {"c-2"}
    assert {line["task_key"] for line in written.lines} == {f"{n}.tif" for n in range(4)}


FORGED = 'a.tif\n2026-11-28T00:00:00Z ERROR forged\r{"level": "error"}\x1b[2J\u2028\u202egnp.\x00\udcff'


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_name_with_line_breaks_and_escapes_stays_one_line_and_moves_no_cursor(log_format):
    written = Written(log_format=log_format)
    with about(task_key=FORGED):
        written.log.warning("file %s is bad", FORGED, extra={"reason": FORGED, "more": {FORGED: [FORGED]}})
    assert written.text.count("\n") == 1
    assert written.text.endswith("\n")
    assert all(character.isprintable() for character in written.text[:-1])


def test_a_name_comes_back_unchanged_from_json():
    written = Written()
    written.log.info("seen", extra={"task_key": FORGED})
    assert written.lines[0]["task_key"] == FORGED


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_traceback_begins_no_line_that_looks_like_another_event(log_format):
    written = Written(log_format=log_format)
    written.log.error("it failed", exc_info=ValueError(FORGED))
    assert "ValueError" in written.text
    events = [line for line in written.text.splitlines() if not line.startswith("    | ")]
    assert len(events) == 1


SAYING_SECRETS = [
    f"GET https://a.blob.core.windows.net/c/b.tif?{SAS} failed",
    f"SharedAccessSignature={SAS};BlobEndpoint=https://a.blob.core.windows.net",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hushhushhush==;EndpointSuffix=core.windows.net",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=hush%2F2026&X-Amz-Signature=hush0123&X-Amz-Security-Token=hush",
    "postgresql://geo_pipeline:hush@db.example.org:5432/geo",
    "redis://:hush@broker:6379/0",
    "connection failed: host=db user=x password=hush dbname=y",
    "GEO_ASSETS_PIPELINE_PASSWORD='hush'",
    '{"account_key": "hush==", "secret_access_key": "hush", "sas_token": "hush"}',
    "Authorization: Bearer hush.hush-hush",
    "Authorization: Basic aHVzaDpodXNoaHVzaA==hush",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJodXNoIn0.hush_hush",
    "-----BEGIN PRIVATE KEY-----\nhush\nhush\n-----END PRIVATE KEY-----",
]


@pytest.mark.parametrize("said", SAYING_SECRETS)
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_is_in_a_line_wherever_it_was_in_the_event(said, log_format):
    written = Written(log_format=log_format)
    written.log.error("the store says %s", said, extra={"reason": said, "more": {"it": [said]}})
    written.log.error("it failed", exc_info=ValueError(said))
    assert SECRET not in written.text
    assert SECRET not in unforeseen(ValueError(said)).message


def test_a_secret_of_the_settings_is_hidden_whatever_it_looks_like():
    accounts = {"a": {"kind": "azure", "account_name": "surveydata", "account_key": KEY}}
    broker = "memory://quiet-words"
    written = Written(accounts=accounts, celery_broker=broker, reader_password="pass with space/")
    written.log.error("%s %s pass with space/ pass%%20with%%20space%%2F", KEY, broker)
    assert [word for word in (KEY, "quiet-words", "space") if word in written.text] == []


PLAIN = [
    "there is no token for PostgreSQL: the program printed nothing",
    "a.tif: quarantined, UNREADABLE: tile 3 is cut off at byte 81,920 → upload it again",
    "GEO_ASSETS_ACCOUNTS: survey.account_key: is not base64, as every account key is",
    "task_key=a/b/password.tif partition_key=ingest_0123 monkey=banana",
    "https://example.org:8080/stac/search?collections=a&limit=10",
    "user@example.org wrote to https://example.org/a",
    "bearer token required",
]


@pytest.mark.parametrize("said", PLAIN)
def test_what_is_no_secret_is_left_as_it_is(said):
    assert redacted(said) == said


def test_a_text_that_is_long_or_hostile_takes_no_longer_than_its_length():
    began = time.process_time()
    for text in (
        "a" * 200_000,
        "password" * 20_000,
        "://:" * 50_000,
        "eyJ" * 60_000,
        "-----BEGIN PRIVATE KEY-----" * 500,
    ):
        redacted(text)
    assert time.process_time() - began < 10  # a second; minutes, if it grew with the square


@pytest.mark.parametrize(
    ("given", "parent", "kept", "kept_parent"),
    [
        ("order 7/a", None, "order 7/a", None),
        ("order-7", PARENT, "order-7", PARENT),
        (None, PARENT, "4bf92f3577b34da6a3ce929d0e0e4736", PARENT),
        ("a\nb", PARENT, "4bf92f3577b34da6a3ce929d0e0e4736", PARENT),
        ("x" * 128, "nonsense", "x" * 128, None),
    ],
)
def test_ids_that_come_with_a_submission_are_kept(given, parent, kept, kept_parent):
    assert Trace.of(given, parent) == Trace(kept, kept_parent)


@pytest.mark.parametrize("given", [None, "", " ", "x" * 129, "a\nb", "é", "a\x1bb"])
@pytest.mark.parametrize(
    "parent", [None, "", f"{PARENT}\n", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff" + PARENT[2:]]
)
def test_what_is_no_id_is_replaced_by_a_new_one(given, parent):
    first, second = Trace.of(given, parent), Trace.of(given, parent)
    assert first != second
    assert len(first.correlation_id) == 36
    assert first.traceparent is None
