"""What is costly to open, such as a connection, kept for the next piece of work.

Here: handing it out, to as many threads as ask, and when it is opened anew. Not here: what it is
(`database/connections.py`, `vector/tables/session.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, Self, TypeVar

T = TypeVar("T")

#: Seconds after which one is opened anew: a session of PostgreSQL keeps some 20 kB in memory of each table that it saw.
_OLDEST = 60.0


class Kept(Generic[T]):
    """Each piece of work has one alone, and leaves it for another; after a piece that failed it is closed. Close it."""

    def __init__(
        self,
        make: Callable[[], T],
        close: Callable[[T], None],
        *,
        tidy: Callable[[T], bool],
        answers: Callable[[T], bool],
    ) -> None:
        """Open none yet.

        Args:
            make: opens one.
            close: closes one.
            tidy: ends what a piece of work left open; False if it is of no more use.
            answers: whether one that lay idle still works.
        """
        self._make, self._close, self._tidy, self._answers = make, close, tidy, answers
        self._idle: list[tuple[float, T]] = []
        self._coming: Future[T] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def ahead(self) -> None:
        """Open one in a thread, once, before the first piece of work: that waits for it, or raises its error.

        Nothing else waits: whoever closes meanwhile, or ends the process, goes on.
        """
        coming = self._coming = Future[T]()

        def make() -> None:
            try:
                coming.set_result(self._make())
            except BaseException as error:  # noqa: BLE001 - whoever waits for it raises it
                coming.set_exception(error)

        threading.Thread(target=make, name="opened ahead", daemon=True).start()

    @contextmanager
    def __call__(self) -> Iterator[T]:
        """One, for a piece of work."""
        made, one = self._taken() or (time.monotonic(), self._make())
        try:
            yield one
            is_of_use = self._tidy(one)
        except BaseException:
            self._close(one)
            raise
        is_left = False
        with self._lock:
            if is_of_use and not self._closed and time.monotonic() - made < _OLDEST:
                self._idle.append((made, one))
                is_left = True
        if not is_left:
            self._close(one)

    def _taken(self) -> tuple[float, T] | None:
        """The one that was left last, or opened ahead, if it still works."""
        self._await()
        while True:
            with self._lock:
                if not self._idle:
                    return None
                made, one = self._idle.pop()
            if time.monotonic() - made < _OLDEST and self._answers(one):
                return made, one
            self._close(one)

    def _await(self) -> None:
        """Wait for the one that is opened ahead, which then lies idle."""
        coming = self._coming
        if coming is None:
            return
        failure = coming.exception()
        with self._lock:
            if self._coming is not coming:
                return  # another thread was first
            self._coming = None
            if failure is None:
                self._idle.append((time.monotonic(), coming.result()))
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close those that lie idle, and those in work when they are left."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
            coming, self._coming = self._coming, None
        if coming is not None:
            coming.add_done_callback(lambda done: done.exception() or self._close(done.result()))
        for _, one in idle:
            self._close(one)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
