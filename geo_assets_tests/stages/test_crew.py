"""Threads that work ahead: the steps of one process find done what idle threads have done of later chunks."""

import threading
import time

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import Work
from geo_assets.outcomes import Outputs
from geo_assets.parameters import validate_parameters
from geo_assets.stages.contracts import Chunk, JobRef
from geo_assets.stages.crew import Crew, Share, has_steps_here, steps_here

JOB = JobRef(
    job_id="0" * 64,
    job_type="ingest_container",
    parameters=validate_parameters("ingest_container", {"container": "some"}),
    partition_key="x",
    run_id="r",
    owner_run_id="r",
)


def chunk(index: int, *keys: str) -> Chunk:
    return Chunk(job=JOB, stage="cogs", index=index, first=keys[0], last=keys[-1], size=len(keys))


def crew_of(keys: list[list[str]], do, *, threads=2, stopped=lambda: False):
    shares = [Share(chunk(index, *some)) for index, some in enumerate(keys)]

    def tasks(of: Chunk):
        return [Work(task_key=key, kind="raster", fingerprint="f", input={}) for key in keys[of.index]]

    def result(work: Work):
        do(work.task_key)
        return work, Outputs()

    return shares, Crew(shares, tasks, result, threads=threads, stopped=stopped)


def test_while_one_file_takes_long_the_files_of_later_chunks_are_done():
    later_are_done, done = threading.Event(), []

    def do(key):
        if key == "huge":
            assert later_are_done.wait(20)
        done.append(key)
        if len(done) == 3:
            later_are_done.set()

    shares, crew = crew_of([["huge"], ["a", "b"], ["c"]], do)
    said = [[*crew.lines(share), *share.summary()] for share in shares]
    assert done == ["a", "b", "c", "huge"]
    assert [[line.partition(":")[0] for line in lines] for lines in said] == [
        ["huge", "1 file"],
        ["a", "b", "2 files"],
        ["c", "1 file"],
    ]
    assert [share.counts["done"] for share in shares] == [1, 2, 1]
    crew.end()
    assert not crew.is_at_work


def test_a_fault_that_is_no_files_ends_the_crew_and_the_step_that_waits_raises_it():
    def do(key):
        if key == "c":
            raise GeoAssetsError("STORAGE_UNAVAILABLE", "gone")

    shares, crew = crew_of([["a"], ["b", "c", "d"]], do, threads=1)
    list(crew.lines(shares[0]))
    with pytest.raises(GeoAssetsError, match="gone"):
        list(crew.lines(shares[1]))
    crew.end()
    assert crew.is_broken
    assert (shares[1].ended, shares[1].is_complete) == (1, False)


def test_after_a_fault_another_crew_goes_on_with_what_is_left():
    left, fail = [["a", "b"], ["c"]], [True]

    def do(key):
        if key == "b" and fail:
            raise GeoAssetsError("STORAGE_UNAVAILABLE", fail.pop() and "gone")
        left[:] = [[other for other in keys if other != key] for keys in left]

    shares, crew = crew_of(left, do, threads=1)
    with pytest.raises(GeoAssetsError):
        list(crew.lines(shares[0]))
    crew.end()

    def tasks(of: Chunk):
        return [Work(task_key=key, kind="raster", fingerprint="f", input={}) for key in left[of.index]]

    again = Crew(shares, tasks, lambda w: (do(w.task_key), (w, Outputs()))[1], threads=1, stopped=lambda: False)
    assert [sum(1 for _ in again.lines(share)) for share in shares] == [1, 1]
    assert [share.counts["done"] for share in shares] == [2, 1]


def test_a_crew_that_is_stopped_begins_no_other_task_and_nobody_waits_for_ever():
    stop, done = threading.Event(), []

    def do(key):
        done.append(key)
        stop.set()

    shares, crew = crew_of([["a", "b"]], do, threads=1, stopped=stop.is_set)
    with pytest.raises(GeoAssetsError) as caught:
        list(crew.lines(shares[0]))
    assert caught.value.code == "CANCELLED"
    assert done == ["a"]


def test_a_chunk_of_which_nothing_is_left_is_complete_at_once():
    shares, crew = crew_of([["a"]], lambda key: None)
    list(crew.lines(shares[0]))
    crew.end()
    again = Crew(shares, lambda of: [], lambda work: (work, Outputs()), threads=1, stopped=lambda: False)
    assert list(again.lines(shares[0])) == []


def test_of_many_files_no_more_lines_are_kept_than_a_step_logs():
    keys = [f"{n:04}" for n in range(3000)]
    shares, crew = crew_of([["first"], keys], lambda key: time.sleep(0.3) if key == "first" else None, threads=4)
    list(crew.lines(shares[0]))
    crew.end(20)
    assert len(shares[1].lines) <= 50


def test_a_run_has_its_steps_here_only_while_its_plan_is_executed_here():
    with steps_here("r1"):
        assert has_steps_here("r1")
        assert not has_steps_here("r2")
    assert not has_steps_here("r1")
    assert not has_steps_here("")
