"""Something that is looked at every so often while a block of code runs.

Here: the thread, its beginning and its end. Not here: what is looked at, and threads that a block must not wait for
(heartbeats: `stages/context.py`, `stages/kept_lease.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def every(seconds: float, look: Callable[[], bool | None], name: str) -> Iterator[None]:
    """Call `look` every so many seconds, in a thread, until the block ends, which waits for it, or `look` returns
    False.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            if look() is False:
                return

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
