"""Batches of a layer, processed by several threads, in order.

Here: how many threads, and how much they hold at once. Not here: the processing (`inspect.py`, `stream.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from geo_assets.vector.reader.batches import Batch

T = TypeVar("T")

#: Batches that are processed at once. GEOS and PROJ release Python's lock; more threads would take the database
#: server's core.
THREADS = 2

#: Bytes of a batch as sent: the parent holds a few of them at once.
BATCH_BYTES = 32 * 1024**2


def in_order(batches: Iterator[Batch], work: Callable[[Batch], T], *, threads: int) -> Iterator[T]:
    """Yield the results of `work` in order; while one is used, the next are computed. A large batch is
    processed alone, and one that is all there is by the thread of the caller: in each new one PROJ begins anew.
    """
    if threads == 1:
        yield from map(work, batches)
        return
    begun = deque(islice(batches, 1))
    if begun and begun[0].wkb.nbytes <= BATCH_BYTES:
        begun.extend(islice(batches, 1))
    if len(begun) == 1 and begun[0].wkb.nbytes <= BATCH_BYTES:
        yield work(begun.popleft())
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for batch in chain(_emptied(begun), batches):
            while waiting and (len(waiting) > threads or batch.wkb.nbytes > BATCH_BYTES):
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, batch))
            if batch.wkb.nbytes > BATCH_BYTES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _emptied(begun: deque[Batch]) -> Iterator[Batch]:
    """What was read ahead, which is not held any longer."""
    while begun:
        yield begun.popleft()
