import time
from functools import partial
from pathlib import Path

import pytest

from geo_assets.sandbox.pool import SandboxPool
from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest
from geo_assets.stages import kept_children


@pytest.fixture
def step(tmp_path, monkeypatch):
    """A step of a run, in a process that keeps children; the pid of the child that it used."""
    monkeypatch.setattr(kept_children, "_SHELF", kept_children._Shelf())
    kept_children.keep_children()

    def child_of(run_id: str, *, stopped: bool = False) -> int:
        with kept_children.children_of(run_id, partial(SandboxPool, tmp_path)) as pool:
            pid = pool.call("geo_assets.sandbox.selftest:probe", ProbeRequest(action="environment"), ProbeReport).pid
            if stopped:
                pool.abort()
        return pid

    yield child_of
    kept_children.end_kept_children()


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_child_of_one_step_serves_the_next_step_of_its_run_and_never_another_run(step):
    first = step("a")
    assert step("a") == first
    other = step("b")
    assert other != first
    assert not is_there(first)
    assert step("a") != other
    assert not is_there(other)


def test_the_children_of_a_run_that_was_stopped_are_not_kept(step):
    first = step("a", stopped=True)
    assert not is_there(first)
    assert step("a") != first


def test_children_that_no_step_asks_for_are_ended_and_their_folder_is_removed(step, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_children, "_KEPT_SECONDS", 0.2)
    first = step("a")
    until = time.monotonic() + 10
    while is_there(first) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(first)
    while list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_a_process_that_was_not_told_to_keeps_none(step, monkeypatch):
    monkeypatch.setattr(kept_children._SHELF, "is_used", False)
    assert not is_there(step("a"))
