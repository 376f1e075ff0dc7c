"""The ids by which all that is said of a submission is found: from its message, over its runs and their steps, to the
children that open its files.

Here: which id a submission has, and what this process and this thread are at work for. Not here: lines of logs
(`logs.py`), where an attempt keeps its id (`ledger/attempts.py`).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Self

#: The name of the header of HTTP, and of the tag of a run.
CORRELATION_HEADER = "X-Correlation-ID"

#: An id of somebody else's, in a header: printable ASCII. What is longer is not an id.
_ID = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")

#: https://www.w3.org/TR/trace-context/, version 00: ids that are all zeros are invalid.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Trace:
    """How a submission is found again.

    Attributes:
        correlation_id: in everything that is said of it.
        traceparent: the span of the sender that asked for it, where the sender traces (W3C Trace Context).
    """

    correlation_id: str
    traceparent: str | None = None

    @classmethod
    def of(cls, correlation_id: str | None = None, traceparent: str | None = None) -> Self:
        """The ids that came with a submission. Without a correlation id it is that of the trace; without both, a new
        one. What is not an id counts as nothing: nobody's submission is refused for it.
        """
        parent = _TRACEPARENT.fullmatch(traceparent or "")
        given = correlation_id if correlation_id and _ID.fullmatch(correlation_id) else None
        return cls(given or (parent[1] if parent else str(uuid.uuid4())), parent[0] if parent else None)


#: Of the process, whose threads share them: it works for one run at a time.
_OF_PROCESS: dict[str, str] = {}

#: Of the thread, or of the request that it answers.
_HERE: ContextVar[dict[str, str] | None] = ContextVar("geo_assets_ids", default=None)


def ids() -> dict[str, str]:
    """Name -> id of what is worked on here: correlation_id, job_id, run_id, stage, task_key."""
    return {**_OF_PROCESS, **(_HERE.get() or {})}


@contextmanager
def about(**given: str | None) -> Iterator[None]:
    """Say what this thread is at work for."""
    token = _HERE.set({**(_HERE.get() or {}), **{name: value for name, value in given.items() if value}})
    try:
        yield
    finally:
        _HERE.reset(token)


def process_is_about(**given: str | None) -> None:
    """Say more of what this process is at work for, which is known only now."""
    _OF_PROCESS.update({name: value for name, value in given.items() if value})


@contextmanager
def process_about(**given: str | None) -> Iterator[None]:
    """Say what this process is at work for, with all its threads: a run, or a step of one."""
    before = dict(_OF_PROCESS)
    process_is_about(**given)
    try:
        yield
    finally:
        _OF_PROCESS.clear()
        _OF_PROCESS.update(before)
