"""Threads of a conversion, or none.

Here: who does some pieces of work. Not here: the pieces. Starting and ending a thread takes as long as a small raster's
tile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class _Caller(Executor):
    """Does each piece of work at once, in the thread that submits it."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Return the result, or what was raised, as of a piece that has ended."""
        future: Future[R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result raises it
            future.set_exception(error)
        return future


def workers(threads: int, pieces: int, initializer: Callable[[], None] | None = None) -> Executor:
    """Threads for some pieces of work; for a single one there is none, and the caller does it.

    Args:
        threads: at most.
        pieces: of work; where they are not known, as many as are handed out at a time.
        initializer: what each thread does first.
    """
    return _Caller() if pieces <= 1 else ThreadPoolExecutor(min(threads, pieces), initializer=initializer)
