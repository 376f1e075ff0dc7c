"""What a scrape says is what the ledger says, whatever became of the rows, and it fails without harm."""

import os
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from pydantic import SecretStr

from geo_assets import __version__
from geo_assets.accounts import AzureAccount
from geo_assets.api.app import create_app
from geo_assets.database.connections import connect, retrying
from geo_assets.database.migrate import migrate
from geo_assets.defs.reconcile import KEY, NAME, agreement
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.measurements import QUESTIONS, ask
from geo_assets.ledger.measurements_of_dagster import CLASSES, RECONCILED
from geo_assets.ledger.models import PlannedTask
from geo_assets.ledger.pause import pause
from geo_assets.outcomes import GreetingOutputs
from geo_assets.parameters import validate_parameters
from geo_assets.stages.janitor import run_janitor
from geo_assets.stages.reconcile import Class
from geo_assets.submissions.boundary import handle
from geo_assets.submissions.poison import replay
from geo_assets_tests.databases import Dagster, before_migration
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.intake.test_lifecycle import age_lease, at_work
from geo_assets_tests.monitoring.test_alerts import PROMTOOL, needs_promtool

#: Longer than an answer is fresh.
STALE = 1.1


@pytest.fixture
def settings(databases, open_folder):
    """A database of the test's own: it counts."""
    settings = databases.make(open_folder())
    yield settings
    databases.end_sessions(settings)


@pytest.fixture
def api(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def samples(api) -> dict[str, float]:
    """`name{label="value",…}` -> value."""
    answer = api.get("/metrics")
    assert answer.status_code == 200, answer.text
    return by_name(prometheus(answer.text))


def by_name(families) -> dict[str, float]:
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
        found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def files(outcome, error_code="", stage="greetings"):
    return f'geo_assets_files_total{{error_code="{error_code}",outcome="{outcome}",stage="{stage}"}}'


def ended(outcome):
    return f'geo_assets_files_ended_total{{outcome="{outcome}"}}'


def plan(submitter, job, run_id, keys):
    tasks = [PlannedTask(task_key=key, kind="greeting", fingerprint=key, bytes=100) for key in keys]
    submitter.tasks.plan(job.job_id, run_id, "greetings", tasks)


def work(submitter, job, run_id, key, error=None):
    submitter.tasks.start(job.job_id, run_id, "greetings", key)
    if error:
        submitter.tasks.fail(job.job_id, run_id, "greetings", key, error)
    else:
        submitter.tasks.succeed(job.job_id, run_id, "greetings", key, outputs=GreetingOutputs(greeting="hello"))


BROKEN = GeoAssetsError("INTERNAL", "it broke")


def test_a_scrape_is_understood_as_prometheus_and_as_openmetrics(api, submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    plan(submitter, job, run_id, ["a"])
    work(submitter, job, run_id, "a")
    for accept, kind, parse in (
        ("text/plain;version=0.0.4", "text/plain", prometheus),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text", openmetrics),
    ):
        answer = api.get("/metrics", headers={"accept": accept})
        assert answer.headers["content-type"].startswith(kind)
        found = by_name(parse(answer.text))
        assert found[files("succeeded")] == 1
        assert found["geo_assets_scrape_ok"] == 1
        assert found[f'geo_assets_build_info{{version="{__version__}"}}'] == 1
        assert found['geo_assets_stage_duration_seconds_bucket{le="+Inf",stage="greetings"}'] == 1


@needs_promtool
def test_promtool_finds_no_fault_in_a_scrape(api, submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    plan(submitter, job, run_id, ["a"])
    work(submitter, job, run_id, "a", BROKEN)
    text = api.get("/metrics").text
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_metric_is_described_and_none_has_an_id_as_label(api, submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    plan(submitter, job, run_id, ["a"])
    work(submitter, job, run_id, "a", BROKEN)
    handle(submitter, raw(b"no json", source="blob:default/submissions"))
    families = list(prometheus(api.get("/metrics").text))
    assert [family.name for family in families if not family.documentation.endswith(".")] == []
    of_dagster = {metric.name for question in QUESTIONS if question.needs for metric in question.metrics}
    here = {family.name for family in families} | of_dagster
    assert {metric.name for question in QUESTIONS for metric in question.metrics} <= here
    values = {
        value
        for family in families
        for sample in family.samples
        for label, value in sample.labels.items()
        if label != "route"  # a path with the names of its parameters
    }
    assert {value for value in values if re.search(r"[0-9a-f]{8}|/", value)} == set()


def test_channels_and_ends_are_counted_from_nought_before_anything_came(api):
    found = samples(api)
    for channel in ("blob", "http", "queue"):
        assert found[f'geo_assets_messages_total{{channel="{channel}",error_code="",outcome="accepted"}}'] == 0
    assert found['geo_assets_attempts_ended_total{outcome="died"}'] == 0
    assert found["geo_assets_poison_messages"] == 0


def test_a_file_is_counted_each_time_its_work_ends_and_stays_counted_when_its_row_is_deleted(api, submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    plan(submitter, job, run_id, ["a", "b", "c"])
    work(submitter, job, run_id, "a")
    work(submitter, job, run_id, "b", BROKEN)
    work(submitter, job, run_id, "c", GeoAssetsError("UNREADABLE", "bad"))
    plan(submitter, job, run_id, ["a", "b", "c"])  # again: what is done is skipped, what is bad stays so
    work(submitter, job, run_id, "b", BROKEN)
    before = samples(api)
    assert (before[files("succeeded")], before[files("failed", "INTERNAL")]) == (1, 2)
    assert before[files("quarantined", "UNREADABLE")] == 1
    assert before[files("failed", "INTERNAL").replace("files_total", "file_bytes_total")] == 200
    assert (before[ended("succeeded")], before[ended("failed")], before[ended("cancelled")]) == (1, 2, 0)
    assert before['geo_assets_stage_duration_seconds_count{stage="greetings"}'] == 4
    dagster.conn.execute("delete from geo.jobs")
    time.sleep(STALE)
    after = samples(api)
    assert {name: after[name] for name in before if "_file" in name} == {
        name: before[name] for name in before if "_file" in name
    }
    assert not [name for name in after if name.startswith("geo_assets_jobs{")]


def test_adding_up_what_was_counted_changes_no_number(api, submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    plan(submitter, job, run_id, [str(n) for n in range(1500)])
    dagster.conn.execute(
        "update geo.tasks set status = 'succeeded', outputs = '{\"a\": 1}', started_at = now() - interval '2 s',"
        " finished_at = now()"
    )
    counted = re.compile("geo_assets_(files|file_bytes|files_ended|stage_duration)_")
    before = {name: value for name, value in samples(api).items() if counted.match(name)}
    assert before[files("succeeded")] == before[ended("succeeded")] == 1500
    assert before['geo_assets_stage_duration_seconds_bucket{le="3.0",stage="greetings"}'] == 1500
    assert before['geo_assets_stage_duration_seconds_bucket{le="1.0",stage="greetings"}'] == 0
    submitter.ledger.tallies.sum_up()
    assert dagster.conn.execute("select count(*) from geo.tallies").fetchone()[0] < 10
    time.sleep(STALE)
    assert {name: value for name, value in samples(api).items() if counted.match(name)} == before


def test_jobs_are_counted_as_the_view_of_their_status_has_them(api, submitter, dagster):
    submitter.submit(validate_parameters("hello_world", {"n": 9}), submitted_by="test")
    for letter in "abc":  # all good, a bad file, one that is not done
        job, run_id, _ = at_work(submitter, dagster)
        plan(submitter, job, run_id, [letter])
        if letter != "c":
            work(submitter, job, run_id, letter, BROKEN if letter == "b" else None)
        submitter.jobs.complete(job.job_id, run_id)
        dagster.set(run_id, "SUCCESS")
    for outcome in ("failed", "cancelled"):
        job, run_id, _ = at_work(submitter, dagster)
        submitter.jobs.end_attempt(job.job_id, outcome, BROKEN, run_id=run_id)
    at_work(submitter, dagster)
    view = dagster.conn.execute("select status, count(*) from geo.job_status group by 1").fetchall()
    found = samples(api)
    assert {name: value for name, value in found.items() if name.startswith("geo_assets_jobs{")} == {
        f'geo_assets_jobs{{status="{status}",type="hello_world"}}': count for status, count in view
    }
    assert len(view) == 6
    assert found['geo_assets_attempts_ended_total{outcome="completed"}'] == 3
    assert found['geo_assets_attempts_total{error_code="INTERNAL",outcome="failed",type="hello_world"}'] == 1
    assert found['geo_assets_job_duration_seconds_count{type="hello_world"}'] == 4  # a cancelled one says nothing
    assert 0 < found['geo_assets_oldest_job_age_seconds{status="queued"}'] < 60


def test_a_run_that_died_is_counted_although_its_attempt_has_no_outcome(api, submitter, dagster):
    job, _, _ = at_work(submitter, dagster)
    assert samples(api)["geo_assets_leases"] == 1
    age_lease(dagster, job, 400)
    time.sleep(STALE)
    found = samples(api)
    assert found["geo_assets_leases_expired"] == 1
    assert 399 < found["geo_assets_oldest_lease_age_seconds"] < 500
    run_janitor(submitter.jobs, submitter.messages, lambda run_id, _: dagster.set(run_id, "FAILURE"))
    time.sleep(STALE)
    found = samples(api)
    assert found['geo_assets_attempts_ended_total{outcome="died"}'] == 1
    assert (found["geo_assets_leases_expired"], found["geo_assets_oldest_lease_age_seconds"]) == (0, 0)


def test_what_came_as_poison_stays_counted_when_it_leaves_poison(api, submitter):
    poison = [
        handle(submitter, raw(body, source="queue:geospatial-jobs")).record.message_id
        for body in (b"no json", b'{"job_type": "hello_world", "parameters": {"n": 1}, "unknown": 1}')
    ]
    handle(submitter, raw({"job_type": "hello_world", "parameters": {"n": 1}}, source="blob:default/submissions"))
    submitter.messages.discard(poison[0])
    assert replay(submitter, poison[1])["state"] == "poison"
    found = samples(api)
    came = Counter()
    for name, value in found.items():
        if match := re.match(r'geo_assets_messages_total{channel="(\w+)",.*outcome="(\w+)"}', name):
            came[match.groups()] += int(value)
    assert +came == {("queue", "poison"): 2, ("blob", "accepted"): 1}
    assert (found["geo_assets_poison_messages"], found["geo_assets_poison_without_record"]) == (1, 0)


def test_what_ended_before_there_were_metrics_is_counted(cluster, settings, tmp_path):
    older = before_migration("0038", cluster, settings, tmp_path)
    with psycopg.connect(older.dsn("pipeline")) as conn:
        conn.execute(
            "insert into geo.jobs (job_id, job_type, parameters, partition_key, submitted_by)"
            " values (repeat('a', 64), 'hello_world', '{}', 'a', 'test')"
        )
        conn.execute(
            """insert into geo.tasks (job_id, stage, task_key, kind, status, fingerprint, run_id, error_code,
                 error_message, bytes)
               select repeat('a', 64), 'greetings', n::text, 'greeting', 'failed', 'f', 'r', 'INTERNAL', 'x', 5
                 from generate_series(1, 3) n"""
        )
    migrate(older)
    with connect(older) as conn:
        rows = [row for answer in ask(conn) for row in answer.rows if "stage" in row and "took_le" not in row]
    assert rows == [{"stage": "greetings", "outcome": "failed", "error_code": "INTERNAL", "n": 3, "bytes": 15}]


def test_several_scrapes_within_a_second_ask_the_database_once(api, submitter, dagster):
    first = samples(api)
    submitter.submit(validate_parameters("hello_world", {"n": 3}), submitted_by="test")

    def asked(found):
        return {name for name in found if name.startswith("geo_assets_jobs{")}

    assert asked(samples(api)) == asked(first)
    time.sleep(STALE)
    assert asked(samples(api)) != asked(first)


def test_requests_are_timed_by_route_and_status_and_no_job_is_a_series_of_its_own(api):
    for path in ("/api/jobs/0123456789abcdef", "/api/jobs/fedcba9876543210", "/nowhere/0123456789"):
        assert api.get(path).status_code == 404
    assert api.request("INVENTED", "/livez").status_code == 405
    found = samples(api)

    def timed_as(method, route, status):
        return found[f'http_request_duration_seconds_count{{method="{method}",route="{route}",status="{status}"}}']

    assert timed_as("GET", "/api/jobs/{job_id}", 404) == 2
    assert timed_as("GET", "", 404) == 1
    assert [name for name in found if 'method="INVENTED"' in name] == []
    assert [name for name in found if "0123456789" in name] == []


def test_connections_of_the_pool_are_told_as_they_are_used(api):
    ledger = api.app.state.submitter.ledger
    assert samples(api)["geo_assets_db_pool_in_use"] == 0
    with ledger._pool.connection():
        found = samples(api)
    assert (found["geo_assets_db_pool_in_use"], found["geo_assets_db_pool_waiting"]) == (1, 0)


def test_sizes_of_messages_are_counted_as_they_come(api, submitter):
    for size in (7, 500, 40_000):
        handle(submitter, raw(b"x" * size, source="queue:geospatial-jobs"))
    found = samples(api)
    counted = {
        bound: found[f'geo_assets_message_size_bytes_bucket{{channel="queue",le="{bound}"}}']
        for bound in ("100.0", "1000.0", "30000.0", "65536.0", "+Inf")
    }
    assert counted == {"100.0": 1, "1000.0": 2, "30000.0": 2, "65536.0": 3, "+Inf": 3}
    assert found['geo_assets_message_size_bytes_sum{channel="queue"}'] == 40_507
    assert found['geo_assets_message_size_bytes_count{channel="http"}'] == 0


def retries(dependency, reason):
    return f'geo_assets_retries_total{{dependency="{dependency}",reason="{reason}"}}'


def test_what_is_tried_again_is_counted_by_what_it_waited_for(api, submitter, dagster):
    before = samples(api)
    assert before[retries("run", "RUN_DIED")] == before[retries("storage", "STORAGE_UNAVAILABLE")] == 0
    job, run_id, _ = at_work(submitter, dagster)
    away = GeoAssetsError("STORAGE_UNAVAILABLE", "no answer")
    for _ in range(2):
        submitter.messages.note_once(away, severity="alert", job_id=job.job_id, run_id=run_id)
    age_lease(dagster, job, 400)
    run_janitor(submitter.jobs, submitter.messages, lambda run_id, _: dagster.set(run_id, "FAILURE"))
    time.sleep(STALE)
    found = samples(api)
    assert (found[retries("run", "RUN_DIED")], found[retries("storage", "STORAGE_UNAVAILABLE")]) == (1, 1)


def test_a_statement_that_is_tried_again_is_counted_in_the_process_that_tries(api, settings):
    name = 'geo_assets_db_retries_total{reason="AdminShutdown"}'
    before = samples(api).get(name, 0)
    tries = []

    @retrying
    def ask_again():
        tries.append(len(tries))
        with connect(settings) as conn:
            if len(tries) < 3:
                conn.execute("select pg_terminate_backend(pg_backend_pid())")

    ask_again()
    assert samples(api)[name] - before == 2


def test_a_pause_is_told_with_its_end(api, settings):
    assert samples(api)["geo_assets_paused"] == 0
    with connect(settings, autocommit=True) as conn:
        pause(conn, timedelta(minutes=5), "a new disk")
    time.sleep(STALE)
    found = samples(api)
    assert (found["geo_assets_paused"], 290 < found["geo_assets_pause_remaining_seconds"] <= 300) == (1, True)


def test_what_lies_in_an_inbox_is_told_with_its_age(api, settings):
    inbox = settings.home / "containers" / "submissions" / "inbox"
    inbox.mkdir(parents=True)
    for number in range(3):
        (inbox / f"{number}.json").write_text("{}")
        os.utime(inbox / f"{number}.json", (time.time() - 100 * number,) * 2)
    found = samples(api)
    assert found['geo_assets_queue_messages{queue="blob inbox"}'] == 3
    assert 199 < found['geo_assets_queue_oldest_message_age_seconds{queue="blob inbox"}'] < 260


def test_the_end_of_a_sas_is_told_by_the_name_of_its_account(settings):
    def account(sas):
        return AzureAccount(kind="azure", account_name="partner", sas_token=SecretStr(f"sv=2024-11-04{sas}&sig=x"))

    accounts = {
        "seconds": account("&se=2027-01-02T03%3A04%3A05Z"),
        "day": account("&se=2027-01-02"),
        "policy": account("&si=readers"),
    }
    changed = settings.model_copy(update={"accounts": accounts})
    with TestClient(create_app(changed)) as client:
        found = samples(client)
    named = {name: value for name, value in found.items() if name.startswith("geo_assets_sas_")}
    assert named == {
        'geo_assets_sas_expires_timestamp_seconds{account="seconds"}': 1798859045,
        'geo_assets_sas_expires_timestamp_seconds{account="day"}': 1798848000,
    }


REFUSED = GeoAssetsError("STORAGE_FORBIDDEN", "access to partner/delivery is refused: 403")


def test_what_a_store_refuses_is_told_until_the_job_is_tried_again_or_the_message_is_settled(api, submitter, dagster):
    refused_whole, run_id, _ = at_work(submitter, dagster)
    submitter.jobs.end_attempt(refused_whole.job_id, "failed", REFUSED, run_id=run_id)
    dagster.set(run_id, "FAILURE")
    refused_in_part, run_id, _ = at_work(submitter, dagster)
    plan(submitter, refused_in_part, run_id, ["a", "b"])
    work(submitter, refused_in_part, run_id, "a")
    work(submitter, refused_in_part, run_id, "b", REFUSED)
    submitter.jobs.complete(refused_in_part.job_id, run_id)
    dagster.set(run_id, "SUCCESS")
    assert samples(api)["geo_assets_storage_refused"] == 2
    for job in (refused_whole, refused_in_part):
        submitter.retry(job.job_id, requested_by="test", only=["failed", "quarantined"])
    time.sleep(STALE)
    assert samples(api)["geo_assets_storage_refused"] == 0


def test_a_job_without_a_good_file_is_told_and_one_with_a_few_files_or_a_good_one_is_not(api, submitter, dagster):
    bad = GeoAssetsError("UNREADABLE", "bad")
    for files_of_job in ("abc", "ab", "abcG"):
        job, run_id, _ = at_work(submitter, dagster)
        plan(submitter, job, run_id, list(files_of_job))
        for key in files_of_job:
            work(submitter, job, run_id, key, None if key == "G" else bad)
        submitter.jobs.complete(job.job_id, run_id)
        dagster.set(run_id, "SUCCESS")
    assert samples(api)["geo_assets_jobs_all_bad"] == 1
    dagster.conn.execute("update geo.attempts set ended_at = ended_at - interval '25 hours'")
    time.sleep(STALE)
    assert samples(api)["geo_assets_jobs_all_bad"] == 0


def test_the_classes_of_differences_are_those_that_there_are():
    assert set(CLASSES.split(",")) == {str(kind) for kind in Class}


class Line:
    """A connection between a process and PostgreSQL that can be cut, or freeze."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = threading.Event()
        self._open.set()
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._open.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    def cut(self) -> None:
        for end in (self._server, *self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def over_a_line(settings, *, require_auth=False):
    line = Line(settings.pg_port)
    far = settings.model_copy(update={"pg_port": line.port})
    with TestClient(create_app(far, require_auth=require_auth), raise_server_exceptions=False) as client:
        try:
            yield line, client
        finally:
            line.thaw()
            line.cut()


def timed(call):
    started = time.monotonic()
    return call(), time.monotonic() - started


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["freeze", "cut"])
def test_without_the_database_a_scrape_says_so_in_time_and_the_server_lives(settings, fault):
    with over_a_line(settings) as (line, client):
        assert samples(client)["geo_assets_scrape_ok"] == 1
        getattr(line, fault)()
        time.sleep(STALE)
        for _ in range(2):
            found, seconds = timed(lambda: samples(client))
            assert seconds < 8  # Prometheus waits for 10
            assert found["geo_assets_scrape_ok"] == 0
            assert found['geo_assets_free_disk_bytes{place="scratch"}'] > 0
        alive, seconds = timed(lambda: client.get("/livez"))
        assert (alive.status_code, seconds < 1) == (200, True)
        if fault == "freeze":
            line.thaw()
            time.sleep(STALE)
            assert samples(client)["geo_assets_scrape_ok"] == 1


def test_without_the_database_nobody_can_show_a_token_and_hears_so_before_prometheus_gives_up(
    settings, submitter, caplog, capfd
):
    token = submitter.tokens.create("scrapes", ["read"])
    header = {"Authorization": f"Bearer {token}"}
    with over_a_line(settings, require_auth=True) as (line, client), caplog.at_level("INFO", logger="geo_assets"):
        assert client.get("/metrics", headers=header).status_code == 200
        line.cut()
        answer, seconds = timed(lambda: client.get("/metrics", headers=header))
        assert (answer.status_code, answer.json()["title"]) == (503, "DATABASE_UNAVAILABLE")
        assert seconds < 10  # for so long it waits
    tried_again = [vars(line) for line in caplog.records if line.getMessage() == "statement tried again"]
    assert "Tokens.find" in {line["statement"] for line in tried_again}
    logged = caplog.text + str(tried_again) + "".join(capfd.readouterr())
    assert token not in logged


def test_the_comparison_of_each_day_is_asked_for_by_the_name_that_its_asset_has():
    (check,) = agreement.check_specs
    assert f"asset_key = '{KEY.to_string()}' and check_name = '{check.name}'" in RECONCILED
    assert f"= '{NAME}'" in RECONCILED


def test_only_who_may_read_may_scrape(settings, submitter):
    with TestClient(create_app(settings, require_auth=True), raise_server_exceptions=False) as client:
        assert client.get("/metrics").status_code == 401
        for scopes, status in ((["submit"], 403), (["read"], 200)):
            token = submitter.tokens.create(f"scrapes with {scopes[0]}", scopes)
            answer = client.get("/metrics", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == status


def test_a_thousand_jobs_with_a_hundred_tasks_each_are_scraped_in_a_fifth_of_a_second(settings, submitter, dagster):
    fill(dagster, jobs=1000, tasks=100)
    submitter.ledger.tallies.sum_up()  # as the janitor does every ten seconds
    with connect(settings) as conn:
        list(ask(conn))  # the server reads its catalogue
        conn.rollback()
        seconds = min(timed(lambda: list(ask(conn)))[1] for _ in range(5))
    print(f"\n100,000 tasks of 1,000 jobs: {1000 * seconds:.0f} ms")
    assert seconds < 0.2


def fill(dagster: Dagster, *, jobs: int, tasks: int) -> None:
    """Jobs that ended, each with tasks of which some are bad, and with its run."""
    for statement in (
        """insert into geo.jobs (job_id, job_type, parameters, partition_key, submitted_by)
           select encode(sha256(n::text::bytea), 'hex'), 'ingest_container', '{}', 'p' || n, 'test'
             from generate_series(1, %(jobs)s) n""",
        """insert into geo.attempts (job_id, attempt, requested_by, run_id, launched_at, started_at)
           select job_id, 1, 'test', partition_key, now(), now() from geo.jobs""",
        "update geo.attempts set outcome = 'completed', ended_at = now()",
        """insert into dagster.runs (run_id, pipeline_name, status) select partition_key, job_type, 'SUCCESS'
             from geo.jobs""",
        """insert into dagster.run_tags select partition_key, 'dagster/partition', partition_key from geo.jobs""",
        """insert into geo.tasks (job_id, stage, task_key, kind, status, fingerprint, run_id, outputs, error_code,
             error_message, started_at, finished_at)
           select job_id, 'cogs', 'folder/' || n || '.tif', 'raster',
                  (case when n %% 50 = 0 then 'quarantined' else 'succeeded' end)::geo.task_status, 'f', partition_key,
                  case when n %% 50 = 0 then '{}'::jsonb
                       else jsonb_build_object('cog', repeat('x', 200), 'stac_item', n) end,
                  case when n %% 50 = 0 then 'UNREADABLE' end, case when n %% 50 = 0 then 'x' end, now(), now()
             from geo.jobs, generate_series(1, %(tasks)s) n""",
    ):
        dagster.conn.execute(statement, {"jobs": jobs, "tasks": tasks})
