"""Submissions over HTTP are answered when they are recorded; their launches follow, in order, whatever becomes of the
process that accepted them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient

from geo_assets.api.app import create_app
from geo_assets.definitions import defs
from geo_assets.defs.sensors import requests_of
from geo_assets.errors import GeoAssetsError
from geo_assets.submissions.launcher import Launcher
from geo_assets.submissions.size import SIZE_TAG, Sizes
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.intake.test_lifecycle import at_work, submitted
from geo_assets_tests.waiting import until


class Webserver:
    """Dagster's webserver, as far as a launch needs it, which answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []  # partition keys, in the order in which their launch was asked for
        self.launched: list[str] = []
        self.tags: dict[str, dict[str, str]] = {}  # of the run of each partition
        self.most_at_once = 0
        self.answers = threading.Event()
        self._at_once, self._lock = 0, threading.Lock()

    def answer(self, body: dict) -> dict:
        variables = body["variables"]
        if "addDynamicPartition" in body["query"]:
            return {"addDynamicPartition": {"__typename": "AddDynamicPartitionSuccess"}}
        tags = {tag["key"]: tag["value"] for tag in variables["params"]["executionMetadata"]["tags"]}
        with self._lock:
            self.asked.append(tags["dagster/partition"])
            self.tags[tags["dagster/partition"]] = tags
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        assert self.answers.wait(30)
        with self._lock:
            self._at_once -= 1
            self.launched.append(tags["dagster/partition"])
        return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": "r"}}}


@contextmanager
def served(webserver: Webserver):
    """The port on which it listens, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = json.dumps({"data": webserver.answer(body)}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        webserver.answers.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def webserver():
    return Webserver()


@pytest.fixture
def reached(settings, webserver):
    """Settings with which the webserver is Dagster's."""
    with served(webserver) as port:
        yield settings.model_copy(update={"webserver_port": port})


@pytest.fixture
def api(reached):
    with TestClient(create_app(reached), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_waits(dagster):
    """What an earlier test left to the sensor was cancelled."""
    dagster.conn.execute(
        "update geo.attempts set outcome = 'cancelled', error_code = 'CANCELLED' where run_id is null and outcome is null"
    )


def submit(api, message: str) -> str:
    answer = api.post("/api/jobs/submit/hello_world", json={"n": 1, "message": message})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def ingest(api, settings, *, files: int, size: int = 0) -> str:
    """Submit a container of so many files, the first of which has so many bytes."""
    container = f"sized{time.monotonic_ns()}"
    folder = settings.home / "containers" / container
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"{number}.tif").touch()
    os.truncate(folder / "0.tif", size)
    answer = api.post("/api/jobs/submit/ingest_container", json={"container": container})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def partitions(dagster, jobs: list[str]) -> list[str]:
    keys = dict(dagster.conn.execute("select job_id, partition_key from geo.jobs").fetchall())
    return [keys[job] for job in jobs]


def taken_by_the_sensor(submitter, dagster, limit: int = 50) -> list[str]:
    """The jobs that a tick of the sensor launches, in its order, a minute from now."""
    dagster.conn.execute(
        "update geo.attempts set requested_at = requested_at - interval '1 minute', launched_at = launched_at -"
        " interval '1 minute'"
    )
    return [attempt.job_id for attempt in submitter.jobs.take_launches(limit, ["hello_world"])]


def test_a_submission_over_http_is_answered_before_dagster_answers_and_is_launched_then(api, webserver, dagster):
    job = submit(api, "at once")
    assert api.get(f"/api/jobs/{job}").json()["status"] == "queued"
    until(lambda: webserver.asked)
    assert not webserver.launched
    webserver.answers.set()
    until(lambda: webserver.launched)
    assert webserver.launched == partitions(dagster, [job])


def test_a_retry_over_http_is_answered_before_dagster_answers_too(api, webserver, submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    submitter.jobs.end_attempt(job.job_id, "cancelled", GeoAssetsError("CANCELLED", "x"), run_id=run_id)
    dagster.set(run_id, "CANCELED")
    assert api.post(f"/api/jobs/{job.job_id}/retry").status_code == 202
    until(lambda: webserver.asked)
    assert not webserver.launched
    webserver.answers.set()
    until(lambda: webserver.launched)
    assert webserver.launched == [job.partition_key]


def test_launches_follow_one_at_a_time_in_the_order_of_the_submissions(api, webserver, dagster):
    jobs = [submit(api, f"in order {i}") for i in range(8)]
    webserver.answers.set()
    until(lambda: len(webserver.launched) == len(jobs))
    assert webserver.launched == webserver.asked == partitions(dagster, jobs)
    assert webserver.most_at_once == 1


def test_a_job_that_was_cancelled_while_it_waited_is_not_launched(api, webserver, dagster):
    first, second, third = (submit(api, f"cancelled {i}") for i in range(3))
    until(lambda: webserver.asked)
    assert api.post(f"/api/jobs/{second}/cancel").json()["status"] == "cancelled"
    webserver.answers.set()
    until(lambda: len(webserver.launched) == 2)
    assert webserver.launched == partitions(dagster, [first, third])


def test_what_cannot_be_launched_is_left_to_the_sensor_in_its_order(settings, submitter, dagster):
    with TestClient(create_app(settings)) as api:  # nobody listens where its webserver should
        jobs = [submit(api, f"left {i}") for i in range(5)]
    assert taken_by_the_sensor(submitter, dagster) == jobs


def test_while_the_sensor_is_at_older_ones_the_younger_wait_for_their_runs(reached, webserver, submitter, dagster):
    webserver.answers.set()
    jobs = [submitted(submitter)[0].job_id for _ in range(4)]
    dagster.conn.execute("update geo.attempts set requested_at = requested_at - interval '3 seconds'")
    taken = submitter.jobs.take_launches(2, ["hello_world"])
    assert [attempt.job_id for attempt in taken] == jobs[:2]
    launcher = Launcher(submitter.jobs, reached, Sizes(reached, submitter.ledger))
    launcher.wake()
    time.sleep(0.5)
    assert webserver.asked == []
    for attempt in taken:  # the daemon makes their runs
        dagster.run(attempt, "QUEUED")
    until(lambda: len(webserver.launched) == 2)
    launcher.stop()
    assert webserver.launched == partitions(dagster, jobs[2:])


def test_what_a_process_had_accepted_that_was_killed_is_launched_by_the_sensor_in_its_order(
    reached, webserver, submitter, dagster
):
    program = f"""
import time
from geo_assets.parameters import validate_parameters
from geo_assets.settings import Settings
from geo_assets.submissions.submit import Submitter
settings = Settings(home={str(reached.home)!r}, pg_port={reached.pg_port}, pg_database={reached.pg_database!r},
                    pipeline_password="p", webserver_port={reached.webserver_port})
with Submitter(settings, in_background=True) as submitter:
    for number in range(5):
        asked = validate_parameters("hello_world", {{"n": 1, "message": f"killed {{number}}"}})
        print(submitter.submit(asked, submitted_by="test").job_id, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        jobs = [process.stdout.readline().strip() for _ in range(5)]
        until(lambda: webserver.asked)  # the launch of the first is under way
        os.kill(process.pid, signal.SIGKILL)
    assert not webserver.launched
    assert taken_by_the_sensor(submitter, dagster) == jobs


def test_a_process_that_is_told_to_stop_does_not_wait_for_dagster(reached, webserver):
    def accept_and_stop() -> None:
        with Submitter(reached, in_background=True) as submitter:
            submitted(submitter)
            until(lambda: webserver.asked)
        stopped.set()

    stopped = threading.Event()
    threading.Thread(target=accept_and_stop, daemon=True).start()
    assert stopped.wait(15), "it waited for an answer that does not come"
    assert not webserver.launched


def test_a_tick_of_the_sensor_takes_the_oldest_first(submitter, dagster):
    jobs = [submitted(submitter)[0].job_id for _ in range(6)]
    for minutes, job in enumerate(jobs):
        dagster.conn.execute(
            "update geo.attempts set requested_at = now() - make_interval(mins => %s) where job_id = %s",
            (minutes, job),
        )
    assert taken_by_the_sensor(submitter, dagster, limit=4) == jobs[:1:-1]


def test_a_run_is_tagged_as_large_beyond_a_thousand_files_or_ten_gigabytes(api, reached, webserver, dagster):
    webserver.answers.set()
    jobs = [
        ingest(api, reached, files=1000),
        ingest(api, reached, files=1001),
        ingest(api, reached, files=1, size=10**10 + 1),
        submit(api, "reads no container"),
    ]
    until(lambda: len(webserver.launched) == 4)
    sizes = [webserver.tags[key][SIZE_TAG] for key in partitions(dagster, jobs)]
    assert sizes == ["small", "large", "large", "small"]


def test_the_sensor_tags_runs_by_their_size_too_until_its_time_is_up(settings, submitter):
    with TestClient(create_app(settings)) as api:  # nobody listens where its webserver should
        ingest(api, settings, files=3)
        ingest(api, settings, files=1001)
    time.sleep(2.1)  # until then the sensor leaves it to whoever accepted it
    taken = submitter.jobs.take_launches(50, ["ingest_container"])
    asked = requests_of(taken, Sizes(settings, submitter.ledger, seconds=60).tags)
    assert [request.tags[SIZE_TAG] for request in asked.run_requests] == ["small", "large"]
    late = requests_of(taken, Sizes(settings, submitter.ledger, seconds=-1).tags)
    assert [request.tags[SIZE_TAG] for request in late.run_requests] == ["large", "large"]


def test_a_job_whose_container_cannot_be_looked_at_counts_as_large(settings, submitter):
    with TestClient(create_app(settings)) as api:
        ingest(api, settings, files=3)
    time.sleep(2.1)
    (attempt,) = submitter.jobs.take_launches(50, ["ingest_container"])
    container = submitter.jobs.parameters(attempt.job_id).stored()["container"]
    shutil.rmtree(settings.home / "containers" / container)
    assert Sizes(settings, submitter.ledger).tags(attempt)[SIZE_TAG] == "large"


def test_a_run_of_which_nothing_is_known_counts_as_large_if_it_reads_a_container():
    jobs = {job.name: job for job in defs.get_repository_def().get_all_jobs()}
    sizes = {name: job.tags.get(SIZE_TAG) for name, job in jobs.items() if name != "__ASSET_JOB"}
    assert sizes.pop("hello_world") == sizes.pop("stac_setup") == "small"
    assert set(sizes.values()) == {"large"}
