"""The limits of a call that are kept from outside: its time, and the disk space that its child uses.

Here: one thread per pool that watches the running calls. Not here: what a child keeps to by itself
(`child.py`).

The kernel limits the size of a file (RLIMIT_FSIZE), not of all files together; quotas ask for a file system that has
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

#: MB on disk that a child may have at a time: a source at its largest (20 GB), unpacked, and a COG of it several times
#: over.
DISK_MB = 200 * 1024

#: Seconds between two looks; at the disk, this many times what a look takes, where there are very many files.
_LOOK_EVERY, _REST_FACTOR = 0.25, 20

#: Bytes that stay free on the file system, for the database and everybody else.
_LEFT_FREE = 256 << 20


@dataclass(eq=False, slots=True)
class Watched:
    """A call under way."""

    process: subprocess.Popen[bytes]
    folder: Path
    seconds: float
    deadline: float
    #: Why its child was killed, if it was.
    verdict: GeoAssetsError | None = None


class Watch:
    """Looks at the calls of a pool from time to time and kills the children of those that go too far."""

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
                self._thread = threading.Thread(target=self._look, name="sandbox-watch", daemon=True)
                self._thread.start()
        try:
            yield watched
        finally:
            with self._lock:  # afterwards its child may already work for another call
                self._calls.discard(watched)

    def _look(self) -> None:
        at_disk = 0.0
        while not self._closed.wait(_LOOK_EVERY):
            with self._lock:
                calls = list(self._calls)
            for watched in calls:  # all of them before the first look at a disk, which may take its time
                self._judge(watched, _late(watched))
            started = time.monotonic()
            if started < at_disk:
                continue
            for watched in calls:
                with contextlib.suppress(OSError):  # of ours: the next look may do
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
                f"reading it leaves what cannot be counted on disk: more than {MAX_ENTRIES:,} files, or {MAX_DEPTH}"
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
        return GeoAssetsError("SANDBOX_TIMEOUT", "reading it took longer than one file is given")
    return None
