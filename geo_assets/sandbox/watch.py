"""The limits of a call that are enforced from outside: its time, and the disk space that its child uses.

Here: one thread per pool that watches the running calls. Not here: limits that a child sets for itself (`child.py`).

The kernel limits the size of a file (RLIMIT_FSIZE), not of all files together; quotas need a file system that supports
them.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox.scratch import MAX_DEPTH, MAX_ENTRIES, Uncountable, bytes_below

#: MB on disk that a child may have at a time: the largest source (20 GB) unpacked, and several COGs of it.
DISK_MB = 200 * 1024

#: Seconds between two checks; for the disk, this many times the duration of a check, where there are very many files.
_LOOK_EVERY, _REST_FACTOR = 0.25, 20

#: Bytes that stay free on the file system, for the database and other programs.
_LEFT_FREE = 256 << 20


@dataclass(eq=False, slots=True)
class Watched:
    """A running call."""

    process: subprocess.Popen[bytes]
    folder: Path
    seconds: float
    deadline: float
    #: Why its child was killed, if it was.
    verdict: GeoAssetsError | None = None


class Watch:
    """Checks the calls of a pool from time to time and kills children that exceed a limit."""

    def __init__(self, disk_bytes: int) -> None:
        self._disk_bytes = disk_bytes
        self._calls: set[Watched] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread:
            self._thread.join()

    @contextmanager
    def over(self, process: subprocess.Popen[bytes], folder: Path, seconds: float) -> Iterator[Watched]:
        """Watch one call of a child that works in a directory."""
        watched = Watched(process, folder, seconds, time.monotonic() + seconds)
        with self._lock:
            self._calls.add(watched)
            if self._thread is None:
                thread = threading.Thread(target=self._look, name="sandbox-watch", daemon=True)
                thread.start()
                self._thread = thread  # only now: a signal may end this process in between
        try:
            yield watched
        finally:
            with self._lock:  # later its child may already be working on another call
                self._calls.discard(watched)

    def _look(self) -> None:
        at_disk = 0.0
        while not self._closed.wait(_LOOK_EVERY):
            with self._lock:
                calls = list(self._calls)
            for watched in calls:  # all of them before the first check of a disk, which may be slow
                self._judge(watched, _late(watched))
            started = time.monotonic()
            if started < at_disk:
                continue
            for watched in calls:
                with contextlib.suppress(OSError):  # an error of ours: the next check may work
                    self._judge(watched, self._too_much(watched))
            at_disk = time.monotonic() + _REST_FACTOR * (time.monotonic() - started)

    def _judge(self, watched: Watched, verdict: GeoAssetsError | None) -> None:
        with self._lock:
            if verdict and watched in self._calls and watched.verdict is None:
                watched.verdict = verdict
                with contextlib.suppress(ProcessLookupError):
                    watched.process.kill()

    def _too_much(self, watched: Watched) -> GeoAssetsError | None:
        if time.monotonic() < watched.deadline - watched.seconds + _LOOK_EVERY:
            return None  # it has only just begun
        try:
            used = bytes_below(watched.folder, watched.process.pid)
        except Uncountable:
            return GeoAssetsError(
                "TOO_LARGE",
                f"reading it leaves too much on disk to be counted: more than {MAX_ENTRIES:,} files, or {MAX_DEPTH}"
                " directories deep",
            )
        if used > self._disk_bytes:
            return GeoAssetsError(
                "TOO_LARGE",
                f"reading it takes more than {self._disk_bytes >> 20:,} MB on disk (GEO_ASSETS_SANDBOX_DISK_MB)",
            )
        if shutil.disk_usage(watched.folder).free < _LEFT_FREE:
            return GeoAssetsError("DISK_FULL", f"less than {_LEFT_FREE >> 20} MB are left on the disk")
        return None


def _late(watched: Watched) -> GeoAssetsError | None:
    if time.monotonic() > watched.deadline:
        return GeoAssetsError("SANDBOX_TIMEOUT", "reading it took longer than the limit for one file")
    return None
