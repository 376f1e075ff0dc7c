"""Scratch directories of several processes and threads at once: none sweeps away what another one has just made."""

import fcntl
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from geo_assets.sandbox.scratch import leave, make_and_hold, sweep


def test_a_directory_is_held_before_anybody_finds_it(tmp_path, monkeypatch):
    """Another process sweeps at each step between the making of a directory and its being held."""
    make, flock = tempfile.mkdtemp, fcntl.flock

    def swept_after(*args, **kwargs):
        made = make(*args, **kwargs)
        sweep(tmp_path)
        return made

    def swept_before(file, how):
        if how == fcntl.LOCK_EX:
            sweep(tmp_path)
        flock(file, how)

    monkeypatch.setattr(tempfile, "mkdtemp", swept_after)
    monkeypatch.setattr(fcntl, "flock", swept_before)
    folder, held = make_and_hold(tmp_path)
    sweep(tmp_path)
    assert (folder / ".held").exists()
    held.close()
    sweep(tmp_path)
    assert not folder.exists()


def test_many_that_start_and_sweep_at_once_all_keep_their_directory(tmp_path):
    lost, barrier = [], threading.Barrier(8)

    def one():
        barrier.wait()
        for _ in range(30):
            folder, held = make_and_hold(tmp_path / "scratch")
            sweep(tmp_path / "scratch")
            try:
                (folder / "file").write_bytes(b"")
            except FileNotFoundError:
                lost.append(folder)
            held.close()
            sweep(tmp_path / "scratch")
            leave(tmp_path / "scratch")

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(one) for _ in range(8)]:
            done.result()
    assert lost == []
    assert not (tmp_path / "scratch").exists()


def test_what_was_never_held_is_swept_when_it_is_old(tmp_path):
    for name, age in ((".new-old", 2 * 3600), (".new-now", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".new-now"]


def test_what_a_removal_that_was_killed_left_without_its_lock_is_swept_when_it_is_old(tmp_path):
    for name, age in (("run-old", 2 * 3600), ("run-now", 0)):
        (tmp_path / name / "0").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["run-now"]
