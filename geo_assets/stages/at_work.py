"""What this process works on right now: which files, in which child, how much memory, which part of a file is done.

Here: noting it as it begins and ends, and looking at it when somebody asks. Not here: telling others (`context.py`,
with each sign of life), asking (`ledger/at_work.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geo_assets.ledger.at_work import Seen, SeenChild
from geo_assets.machine import resident_bytes
from geo_assets.sandbox.pool import SandboxPool

#: The most bytes of the number by which a child tells its part.
_TOLD_BYTES = 64


@dataclass
class _File:
    """A file in work of a thread."""

    stage: str
    task_key: str
    workspace: Path | None = None
    told: Path | None = None  # the file in which its child keeps telling the part that is done


class FilesAtWork:
    """The files that threads of this process work on; any thread may look."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}

    @contextmanager
    def on(self, stage: str, task_key: str) -> Iterator[None]:
        """The calling thread works on a file."""
        thread = threading.get_ident()
        self._files[thread] = _File(stage, task_key)
        try:
            yield
        finally:
            del self._files[thread]

    def lies_in(self, workspace: Path | None) -> None:
        """The file of the calling thread is in a workspace, or in none any more."""
        if file := self._files.get(threading.get_ident()):
            file.workspace, file.told = workspace, None

    def tells_in(self, told: Path) -> None:
        """The child of the calling thread keeps telling in a file which part is done."""
        if file := self._files.get(threading.get_ident()):
            file.told = told

    def seen(self, pool: SandboxPool | None) -> Seen:
        """What is done at this moment."""
        files = list(self._files.values())
        return Seen(memory_bytes=resident_bytes(os.getpid()) or 0, children=tuple(_seen(file, pool) for file in files))


def _seen(file: _File, pool: SandboxPool | None) -> SeenChild:
    workspace, told = file.workspace, file.told
    pid = pool.child_in(workspace) if pool and workspace else None
    return SeenChild(
        stage=file.stage,
        file=file.task_key,
        pid=pid,
        memory_bytes=resident_bytes(pid) if pid else None,
        part=_part(pool.peek(told, _TOLD_BYTES)) if pool and told else None,
    )


def _part(told: bytes) -> float | None:
    """The number that a child wrote; None if it wrote none, or something else: it reads what strangers made."""
    try:
        part = float(told)
    except ValueError:
        return None
    return part if 0 <= part <= 1 else None
