"""Sandboxed children that outlive a step: a worker executes one step of a run after the other, and a child takes most
of a second of processor time to start.

Here: the pool of the last step, kept for a while for the next one of the same run. Not here: the pool
(`sandbox/pool.py`), giving the seats of idle children to others on this host, which it does also while it is kept.

Never for another run: what a hostile file of one delivery did to its child is not to reach another delivery.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from geo_assets.sandbox.pool import SandboxPool

#: Seconds for which a pool waits for the next step of its run: longer than a plan takes to send one.
_KEPT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Kept:
    run_id: str
    pool: SandboxPool
    timer: threading.Timer


class _Shelf:
    """Where a process keeps one pool, once it was told to."""

    def __init__(self) -> None:
        self.is_used = False
        self._kept: _Kept | None = None
        self._lock = threading.Lock()

    def take(self, run_id: str = "") -> SandboxPool | None:
        """The pool of a run, if that is the one; another one is ended."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is None:
            return None
        kept.timer.cancel()
        if run_id and kept.run_id == run_id:
            return kept.pool
        kept.pool.close()
        return None

    def put(self, run_id: str, pool: SandboxPool) -> None:
        """Keep a pool; it is ended if nobody asks for it in time."""
        self.take()
        timer = threading.Timer(_KEPT_SECONDS, self._expire, args=(pool,))
        timer.daemon = True
        with self._lock:
            self._kept = _Kept(run_id, pool, timer)
        timer.start()

    def _expire(self, pool: SandboxPool) -> None:
        with self._lock:
            if self._kept is None or self._kept.pool is not pool:
                return  # it was taken just now
            self._kept = None
        pool.close()


_SHELF = _Shelf()


def keep_children() -> None:
    """For a process that executes one step after the other: keep the children of each for the next one."""
    _SHELF.is_used = True


def end_kept_children() -> None:
    """End what is kept: the process ends."""
    _SHELF.take()


@contextmanager
def children_of(run_id: str, make: Callable[[], SandboxPool]) -> Iterator[SandboxPool]:
    """The pool that the step before left for its run, or a new one; ended afterwards unless it is kept."""
    pool = (_SHELF.is_used and _SHELF.take(run_id)) or make()
    try:
        yield pool
    finally:
        if _SHELF.is_used and run_id and not pool.aborted:
            _SHELF.put(run_id, pool)
        else:
            pool.close()
