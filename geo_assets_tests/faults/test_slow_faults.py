"""Faults that take minutes: run by `make test-slow`, before an intake issue is resolved."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from geo_assets_tests.faults.test_killed_run import begun, connect, converted, run_workers, started
from geo_assets_tests.intake.test_boundary import CORPUS
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_2000_hostile_messages_each_have_a_record_and_none_takes_longer_than_50_ms(settings):
    from geo_assets.submissions.boundary import handle
    from geo_assets.submissions.submit import Submitter
    from geo_assets_tests.intake.messages import raw

    generator = random.Random(1)
    corpus = list(CORPUS.values())
    with Submitter(settings, launches=False) as submitter:
        before = len(submitter.messages.list(limit=100_000))
        times = []
        for _ in range(2000):
            body = bytearray(generator.choice(corpus))
            for _ in range(generator.randrange(6)):
                if body:
                    body[generator.randrange(len(body))] = generator.randrange(256)
            body = bytes(body[: generator.randrange(len(body) + 1)]) if generator.random() < 0.3 else bytes(body)
            start = time.perf_counter()
            handle(submitter, raw(body))
            times.append(time.perf_counter() - start)
        assert len(submitter.messages.list(limit=100_000)) == before + 2000
        assert submitter.messages.poison_without_record() == 0
    times.sort()
    assert times[-21] < 0.05, f"99 of 100 within {1000 * times[-21]:.0f} ms, the slowest {1000 * times[-1]:.0f} ms"


def test_20_processes_deliver_one_message_and_there_is_one_job_with_one_attempt(settings):
    program = f"""
from geo_assets.settings import Settings
from geo_assets.submissions.submit import Submitter
from geo_assets.submissions.boundary import handle
from geo_assets.ledger.messages import RawMessage
import uuid
settings = Settings(home={str(settings.home)!r}, pg_port={settings.pg_port}, pg_database={settings.pg_database!r},
                    pipeline_password="p")
body = b'{{"job_type": "hello_world", "parameters": {{"message": "twenty"}}}}'
with Submitter(settings, launches=False) as s:
    o = handle(s, RawMessage(source="twenty", source_id=str(uuid.uuid4()), body=body, size_bytes=len(body), correlation_id="c"))
    print(o.submitted.job_id, o.submitted.attempt)
"""
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-c", program], capture_output=True, text=True, check=True
                ).stdout.split(),
                range(20),
            )
        )
    assert len({job for job, _ in answers}) == 1
    assert sorted(attempt for _, attempt in answers) == ["1"] + ["None"] * 19


def test_200_submissions_racing_with_6_kills_of_the_daemon_are_200_jobs_none_run_twice(cli):
    inbox = cli.home / "containers" / "submissions" / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    for i in range(200):
        part = inbox.parent / f".{i}.json"
        part.write_text(json.dumps({"job_type": "hello_world", "parameters": {"n": 1, "message": f"race {i}"}}))
        part.rename(inbox / f"race{i}.json")
    for _ in range(6):
        time.sleep(8)
        kill(started(cli)["daemon"]["pid"])
        assert cli.run("up").returncode == 0
    query = """select count(*), count(*) filter (where status = 'completed')
                 from geo.job_status where parameters->>'message' like 'race %'"""

    def counts():
        with connect(cli) as db:
            return db.execute(query).fetchone()

    until(lambda: counts()[1] == 200, 800)
    assert counts() == (200, 200)
    with connect(cli) as db:
        started_runs = db.execute(  # a daemon that is killed before the launch leaves a run that never starts; the janitor makes another
            """select count(*), count(distinct partition) from dagster.runs r join geo.jobs j on r.partition = j.partition_key
                where j.parameters->>'message' like 'race %' and r.start_time is not null"""
        ).fetchone()
    assert started_runs == (200, 200)


@pytest.mark.parametrize(
    "victims",
    [("worker", "code_server"), ("worker", "code_server", "webserver", "daemon", "api"), ("worker", "postgres")],
    ids="-".join,
)
def test_whatever_is_killed_in_mid_ingest_the_job_is_completed_by_the_next_attempt(cli, tmp_path, victims):
    container = "-".join(("killed", *victims)).replace("_", "-")[:60]
    job = begun(cli, tmp_path / "many", container)
    before = converted(cli, job["job_id"])
    (worker,) = until(lambda: run_workers(cli))
    pids = {"worker": worker, **{name: p["pid"] for name, p in started(cli).items()}}
    if "postgres" in victims:
        pids["postgres"] = int((cli.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    for victim in victims:
        kill(pids[victim])
    killed_at = time.monotonic()
    time.sleep(1)
    assert cli.run("up").returncode == 0  # what a supervisor would do
    with_attempt = until(lambda: (j := cli.json("job", job["job_id"])) and j["attempt"] > 1 and j, 90)
    assert with_attempt
    assert time.monotonic() - killed_at < 60 + 15  # detected within 60 s, and the restart of the stack
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 180)
    after = converted(cli, job["job_id"])
    assert len(after) == 60
    assert {key: after[key] for key in before} == before
    assert len(list((Path(cli.home) / "containers" / "cogs" / container).rglob("*.tif"))) == 60


def test_hello_world_30_through_the_api_takes_at_most_4_seconds_in_the_median_of_5(cli):
    import httpx

    url = cli.exports["GEO_ASSETS_API_URL"]

    def timed(n: int, message: str) -> float:
        start = time.perf_counter()
        answer = httpx.post(f"{url}/api/jobs/submit/hello_world", json={"n": n, "message": message}).json()
        while httpx.get(answer["status_url"]).json()["status"] != "completed":
            time.sleep(0.05)
        return time.perf_counter() - start

    timed(1, "warm")
    thirty = sorted(timed(30, f"timing {i}") for i in range(5))
    hundred, thousand = timed(100, "timing 100"), timed(1000, "timing 1000")
    print(f"\nhello_world: n=30 {[round(t, 2) for t in thirty]} s, n=100 {hundred:.2f} s, n=1000 {thousand:.2f} s")
    assert thirty[2] <= 4
    assert thousand <= 3 * thirty[2]


def test_3_minutes_without_the_database_while_malformed_messages_arrive_poison_stays_empty_and_then_all_are_recorded(
    open_folder,
    postgres_home,
    azurite,
):
    from azure.storage.queue import QueueClient

    from geo_assets_tests.conftest import Cli, own_ports
    from geo_assets_tests.databases import link_postgresql
    from geo_assets_tests.local.test_supervisor import pids

    stack = Cli(open_folder())
    link_postgresql(postgres_home, stack.home)
    own_ports(stack.home)
    connection = azurite.account().connection
    stack.env["GEO_ASSETS_QUEUE_CONNECTION_STRING"] = connection
    raw = {"message_encode_policy": None, "message_decode_policy": None}
    queue, poison = (
        QueueClient.from_connection_string(connection, name, **raw)
        for name in ("geospatial-jobs", "geospatial-jobs-poison")
    )
    queue.create_queue()
    poison.create_queue()
    assert stack.run("up").returncode == 0
    try:
        queue.send_message("{ before")
        until(lambda: poison.get_queue_properties().approximate_message_count == 1, 120)
        os.kill(pids(stack)["supervisor"], signal.SIGKILL)  # it would start PostgreSQL again
        postmaster = int((stack.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGINT)
        until(lambda: not Path(f"/proc/{postmaster}").exists(), 30)
        down = time.monotonic()
        for i in range(18):
            queue.send_message(f"{{ during {i}")
            assert poison.get_queue_properties().approximate_message_count == 1
            time.sleep(10)
        assert time.monotonic() - down >= 180
        assert {m.dequeue_count for m in queue.peek_messages(32)} <= {0, None}
        assert stack.run("up").returncode == 0
        until(lambda: poison.get_queue_properties().approximate_message_count == 19, 240)
        listed = stack.json("poison", "list")
        records = listed["messages"] if isinstance(listed, dict) else listed
        assert len([m for m in records if m["source"].startswith("queue:")]) == 19
        assert all(m["error_code"] for m in records)
    finally:
        stack.run("down")


def test_a_job_of_many_small_files_that_is_started_30_times_loses_none(cli, tmp_path):
    """Threads ask at once for what a run makes when it is first needed; on Python 3.12 and later a few of a hundred
    starts lost files.
    """
    for number in range(60):
        write(tmp_path / f"{number:02}.tif", np.full((1, 16, 16), number, "uint8"))
    assert cli.run("upload", str(tmp_path), "default/many-small").returncode == 0
    for attempt in range(30):
        job = cli.json("submit", "ingest_container", "--param", "container=many-small", "--force", "--wait")
        wrong = {
            t["task_key"]: t["error_message"] for t in cli.json("tasks", job["job_id"]) if t["status"] != "succeeded"
        }
        assert not wrong, f"start {attempt}"
        assert job["status"] == "completed"
