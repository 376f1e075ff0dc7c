"""The limits of a call that are kept from outside: its time, and the room that its child takes on disk.

Here: one thread a pool that looks at the calls that are under way. Not here: what a child keeps to by itself (`child.py`).

The kernel limits the size of a file (RLIMIT_FSIZE), not of all files together; quotas ask for a file system that has them.
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
from geo_assets.sandbox.scratch import bytes_below

#: MB on disk that a child may have at a time: a source at its largest (20 GB), unpacked, and a COG of it several times over.
DISK_MB = 200 * 1024

#: Seconds between two looks; or this many times what a look takes, where there are very many files.
_LOOK_EVERY, _REST_FACTOR = 0.25, 20

#: Bytes that stay free on the file system, for the database and everybody else, where a child has taken more than that itself.
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
        rest = _LOOK_EVERY
        while not self._closed.wait(rest):
            started = time.monotonic()
            with self._lock:
                calls = list(self._calls)
            for watched in calls:
                verdict = self._verdict(watched)
                with self._lock:
                    if verdict and watched in self._calls and watched.verdict is None:
                        watched.verdict = verdict
                        with contextlib.suppress(ProcessLookupError):
                            watched.process.kill()
            rest = max(_LOOK_EVERY, _REST_FACTOR * (time.monotonic() - started))

    def _verdict(self, watched: Watched) -> GeoAssetsError | None:
        now = time.monotonic()
        if now > watched.deadline:
            return GeoAssetsError("SANDBOX_TIMEOUT", "reading it took longer than one file is given")
        if now < watched.deadline - watched.seconds + _LOOK_EVERY:
            return None  # it has only just begun
        used = bytes_below(watched.folder, watched.process.pid)
        if used > self._disk_bytes:
            return GeoAssetsError(
                "TOO_LARGE", f"reading it takes more than {self._disk_bytes >> 20:,} MB on disk (GEO_ASSETS_SANDBOX_DISK_MB)"
            )
        if used > _LEFT_FREE > shutil.disk_usage(watched.folder).free:
            return GeoAssetsError("DISK_FULL", f"less than {_LEFT_FREE >> 20} MB are left on the disk")
        return None
