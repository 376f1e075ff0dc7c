"""What a process is called in a list of processes.

Here: the title that a process has while it executes a run or a step. Not here: what a run does
(`geo_assets/stages`), where its process comes from (`code_server.py`).

A run's process is a fork whose arguments name nothing: without a title, whoever looks for the process of a run finds
some alike.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Else a title that is longer than the arguments is written over the environment, which tells whose process it is.
os.environ.setdefault("SPT_NOENV", "1")

import setproctitle


@contextmanager
def titled(title: str) -> Iterator[None]:
    """Call this process so for a while."""
    before = setproctitle.getproctitle()
    setproctitle.setproctitle(title)
    try:
        yield
    finally:
        setproctitle.setproctitle(before)
