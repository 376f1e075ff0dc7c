"""Threads: batches of a layer that several process, in order; a look at a text beside GDAL.

Here: how many threads, how much they hold at once. Not here: what they do (`inspect.py`, `stream.py`, `sources.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from geo_assets.vector.reader.batches import Batch

T = TypeVar("T")
R = TypeVar("R")

#: Batches that are processed at once. GEOS and PROJ release Python's lock; more threads would take the database
#: server's core.
THREADS = 2

#: Bytes of a batch as sent: the parent holds a few of them at once.
BATCH_BYTES = 32 * 1024**2


def in_order(batches: Iterator[Batch], work: Callable[[Batch], T], *, threads: int) -> Iterator[T]:
    """Yield the results of `work` in order; while one is used, the next are computed. A large batch is processed
    alone. The first is processed by the thread of the caller, before another is read: whoever waits for it, as a
    database does, begins the sooner, and in each new thread PROJ begins anew.
    """
    yield from map(work, islice(batches, None if threads == 1 else 1))
    with ThreadPoolExecutor(threads) as pool:  # which begins no thread before it has work
        waiting: deque[Future[T]] = deque()
        for batch in batches:
            while waiting and (len(waiting) > threads or batch.wkb.nbytes > BATCH_BYTES):
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, batch))
            if batch.wkb.nbytes > BATCH_BYTES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def beside_gdal(look: Callable[[], T], read: Callable[[], R]) -> tuple[T, R | None]:
    """Look at a text by Python while GDAL reads it. What GDAL fails with it fails with once more where it is wanted,
    and is told there, unless our look refuses the text.
    """
    import pyarrow as pa  # noqa: F401 - beside Python at work, each file of an import waits for its lock
    import pyogrio.raw  # noqa: F401

    found = None
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(look)
        with suppress(Exception):
            found = read()
        return answer.result(), found
