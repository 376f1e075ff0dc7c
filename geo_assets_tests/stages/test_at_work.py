"""How far a job is, and what is done right now: real files and children, the ledger, the commands; no Dagster."""

import json
import os
import pty
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from geo_assets.ledger.models import JobStatus
from geo_assets_tests.conftest import INTERRUPTIBLE, geo_assets
from geo_assets_tests.databases import environment
from geo_assets_tests.processes import children
from geo_assets_tests.stages.test_chunks import SIDES, world  # noqa: F401 - a fixture
from geo_assets_tests.waiting import until


@pytest.fixture
def said(settings):
    """What a command prints."""

    def said(*command: str) -> str:
        env = {**os.environ, **environment(settings)}
        done = subprocess.run(geo_assets(*command), env=env, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    return said


def test_top_shows_each_file_with_its_child_its_memory_and_the_part_that_is_done(world, said, monkeypatch):  # noqa: F811
    monkeypatch.setattr("geo_assets.stages.context.HEARTBEAT_SECONDS", 0.1)
    made = world({"large.tif": 7000}, here=False)
    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(made.convert, made.chunks[0])

        def look():
            (step,) = json.loads(said("top", "--json"))
            return step["files"] and step["files"][0]["part"] and step

        try:
            step = until(look)
            table = said("top")
        finally:
            working.result()
    (file,) = step["files"]
    assert (step["host"], step["pid"], step["doing"]) == (socket.gethostname(), os.getpid(), "cogs, chunk 0")
    assert (step["job_id"], step["run_id"]) == (made.job.job_id, made.run_id)
    assert (file["stage"], file["file"]) == ("cogs", "large.tif")
    assert file["child"] in children(os.getpid())
    assert file["memory_bytes"] > 10_000_000 < step["memory_bytes"]
    assert 0 < file["part"] < 1
    assert 0 < file["seconds"] < 30 > step["seconds"]
    assert step["since"].endswith("Z")
    assert [word in table for word in ("large.tif", "cogs, chunk 0", " MB", socket.gethostname())] == [True] * 4
    (between,) = json.loads(said("top", "--json"))
    assert (between["host"], between["files"]) == (None, [])
    made.context.complete(made.job)
    assert json.loads(said("top", "--json")) == []


def test_on_a_terminal_top_is_drawn_again_and_again_until_it_is_interrupted(settings):
    ours, theirs = pty.openpty()
    env = {**os.environ, **environment(settings), "TERM": "xterm-256color", "COLUMNS": "140"}
    drawing = subprocess.Popen(geo_assets("top"), env=env, stdout=theirs, stderr=theirs, **INTERRUPTIBLE)
    os.close(theirs)
    drawn = b""
    while drawn.count(b"no run is at work") < 2:
        drawn += os.read(ours, 4096)
    drawing.send_signal(signal.SIGINT)
    assert drawing.wait(20) == 0
    os.close(ours)


def test_a_process_that_is_silent_is_told_of(world, said):  # noqa: F811
    made = world({"a.tif": 40})
    jobs = made.context.jobs
    step = jobs.begin_step(made.job.job_id, made.run_id, "away/7", "cogs, chunk 1", 2)
    with psycopg.connect(made.context.settings.dsn("pipeline")) as conn:
        conn.execute("update geo.steps set heartbeat = now() - interval '25 s' where step = %s", (step,))
    assert "silent for 2" in said("top", "--once")
    jobs.end_step(step)
    made.context.complete(made.job)


def test_a_job_tells_how_far_and_how_fast_it_is_and_when_it_will_have_ended(world):  # noqa: F811
    made = world(SIDES, here=False)
    jobs = made.context.jobs
    before = jobs.find(made.job.job_id).progress
    assert (before.files, before.files_done, before.bytes_done) == (4, 0, 0)
    made.convert(made.chunks[0])
    time.sleep(1)
    half = jobs.find(made.job.job_id).progress
    assert (half.files_done, half.bytes_done > 2500 * 2500 * 3) == (1, True)
    assert half.bytes_per_second > 2500 * 2500 * 3 / 60
    assert 0 < half.files_per_second <= 1
    assert 0 < half.remaining_seconds_low < half.remaining_seconds < half.remaining_seconds_high
    assert half.work_seconds > 0 < before.work_seconds
    assert (half.ends_at - half.at).total_seconds() == pytest.approx(half.remaining_seconds, abs=0.01)
    assert str(half).startswith("1 of 4 files, ")
    assert "left (" in str(half)
    for chunk in made.chunks[1:]:
        made.convert(chunk)
    rest = jobs.find(made.job.job_id).progress
    assert (rest.files_done, rest.work_seconds) == (4, 0)
    assert rest.remaining_seconds > 0  # what comes after the files
    made.context.complete(made.job)
    with psycopg.connect(made.context.settings.dsn("pipeline")) as conn:
        noted = conn.execute("select form, size, exp(log_bytes) from geo.costs where stage = 'after the files'")
        assert ("stage_raster", 3, pytest.approx(4)) in noted.fetchall()


def test_a_job_that_has_ended_tells_how_fast_it_was_in_all(world, dagster):  # noqa: F811
    made = world(SIDES, here=False)
    for chunk in made.chunks:
        made.convert(chunk)
    with psycopg.connect(made.context.settings.dsn("pipeline")) as conn:
        done = "update geo.tasks set status = 'succeeded', finished_at = now() where job_id = %s"
        conn.execute(done, (made.job.job_id,))
        conn.execute("update geo.attempts set started_at = now() - interval '200 s' where run_id = %s", (made.run_id,))
    made.context.complete(made.job)
    dagster.set(made.run_id, "SUCCESS")
    record = made.context.jobs.find(made.job.job_id)
    assert record.status is JobStatus.COMPLETED
    assert record.progress.files_per_second == pytest.approx(4 / 200, rel=0.1)
    assert record.progress.bytes_per_second == pytest.approx(record.progress.bytes / 200, rel=0.1)
    assert (record.progress.remaining_seconds, record.progress.ends_at) == (None, None)


def test_what_an_earlier_run_has_done_is_done_and_says_nothing_of_how_fast_this_one_is(world):  # noqa: F811
    made = world(SIDES, here=False)
    made.convert(made.chunks[0])
    with psycopg.connect(made.context.settings.dsn("pipeline")) as conn:
        later = "update geo.attempts set started_at = now() + interval '1 ms' where run_id = %s"
        conn.execute(later, (made.run_id,))
    time.sleep(1.1)
    now = made.context.jobs.find(made.job.job_id).progress
    assert (now.files_done, now.files_per_second, now.bytes_per_second) == (1, 0, 0)
    assert now.remaining_seconds > 0
    made.context.complete(made.job)
