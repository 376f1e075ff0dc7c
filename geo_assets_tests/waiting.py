"""Waiting for what another process or thread brings about.

Here: `until`, which every test that waits uses. Not here: what is waited for.
"""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(look: Callable[[], Found], seconds: float = 60, *, every: float = 0.05, failure: object = "") -> Found:
    """What `look` returns, as soon as it is true.

    Raises:
        AssertionError: it did not happen in time; `failure`, or what it returns, says what is so instead.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            said = failure() if callable(failure) else failure
            raise AssertionError(f"it did not happen within {seconds:g} s{said and f': {said}'}")
        time.sleep(every)
    return found
