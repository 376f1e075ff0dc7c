"""A lane: a directory, the user who owns it, and the child that works only in it.

Here: when its child is started and replaced, and clearing the directory. Not here: which call gets a lane (`pool.py`).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox.process import Child
from geo_assets.sandbox.protocol import Terms
from geo_assets.sandbox.scratch import (
    TEMPORARY,
    WORK,
    empty,
    take_back,
)
from geo_assets.sandbox.walls import is_root

#: Bytes of a source for which a call gets one more second. The slowest rate that we have measured, compressed, is 10
#: MB/s.
_BYTES_A_SECOND = 2_000_000

#: Seconds for clearing a lane while its child lives: a child that continues to write is killed.
_CLEAR_SECONDS = 5.0

#: A child is replaced after this many calls, so that what a native library leaks does not add up.
_CALLS_PER_CHILD = 500


def _bytes_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a directory."""
    return (
        path.stat().st_size
        if path.is_file()
        else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    )


class Lane:
    """A directory, the user who owns it, and the child that works in it, started when first needed."""

    def __init__(self, folder: Path, terms: Terms, start: Callable[[Path, Terms], Child]) -> None:
        temporary = folder / TEMPORARY
        temporary.mkdir(parents=True)
        (folder / WORK).mkdir(mode=0o700)
        if is_root():
            os.chown(temporary, terms.user, terms.user)
        self.folder = folder
        self.user = terms.user
        self._terms = terms
        self._start = start
        self.busy_seconds = 0.0  # of calls that have ended
        self._child: Child | None = None
        #: Whether it may have a child now, and since when nobody uses it (`idle.py`).
        self.seated, self.idle_since = False, 0.0
        self._one_call = threading.Lock()
        self._first: int | None = None  # bytes of the source that was named first in a workspace, which we wrote
        self._seconds: dict[str, float] = {}

    def seconds_for(self, request: object) -> float:
        """Return the extra seconds for a large source. Its size is taken when it is first named, because its child may
        alter it later. A file that is named after a call may have been made by a child, and counts at most as much as
        an archive of the first one's size may contain.
        """
        source = getattr(request, "source", getattr(request, "archive", None))
        if not isinstance(source, str) or not source:
            return 0.0
        from geo_assets.archives import MAX_RATIO  # loads the whole archive code

        if source not in self._seconds:
            if self._first is None:
                self._first = size = _bytes_of(Path(source))
            else:
                size = min(Path(source).stat().st_size if Path(source).is_file() else 0, MAX_RATIO * self._first)
            self._seconds[source] = size / _BYTES_A_SECOND
        return self._seconds[source]

    def goes_on_from(self, other: Lane) -> None:
        """Note that its input was made by the child of another lane."""
        self._first = other._first

    def ready(self) -> Child:
        """Return a living child."""
        if self._child and (self._child.process.poll() is not None or self._child.calls >= _CALLS_PER_CHILD):
            self.end()
        self._child = self._child or self._start(self.folder, self._terms)
        return self._child

    def workspace(self) -> Path:
        """Return the directory in which its child may write: always the same, and empty. A child that wrote between
        calls is killed.
        """
        if not self._cleared(0):
            self.end()
            self._cleared(math.inf)
        return self.folder / WORK

    def clear(self) -> None:
        """Remove what its child has left, and kill the child if it continues to write."""
        if not self._cleared(_CLEAR_SECONDS):
            self.end()
            self._cleared(math.inf)

    def _cleared(self, seconds: float) -> bool:
        take_back(self.folder / WORK)
        self._first, self._seconds = None, {}
        left = [name for name in (WORK, TEMPORARY) if not empty(self.folder / name, seconds)]
        return not left

    @property
    def pid(self) -> int | None:
        """The process of its child; None if there is none at this moment."""
        child = self._child
        return child.process.pid if child and child.process.returncode is None else None

    def distrust(self) -> None:
        """Give the next call a new child: this one gave a false answer."""
        if child := self._child:
            child.calls = _CALLS_PER_CHILD

    def end(self) -> None:
        """Kill the child, if there is one."""
        if self._child:
            self._child.close()
        self._child = None

    @contextmanager
    def child(self) -> Iterator[Child]:
        """Yield the child, for one call."""
        with self._one_call:
            child = self.ready()
            child.calls += 1
            began = time.monotonic()
            try:
                yield child
            except GeoAssetsError as error:
                if child.process.poll() is not None or error.code in {"SANDBOX_TIMEOUT", "SANDBOX_CRASHED"}:
                    self.end()
                raise
            except BaseException:
                self.end()  # its state is unknown: an answer may still be on the way
                raise
            finally:
                self.busy_seconds += time.monotonic() - began
