"""The SHA-256 of a file while it is written, from its beginning, by another thread than the one that writes.

Here: following the writer. What is hashed is read from the file, not taken from the writer: it is what is there.
Not here: the hash of a file that lies there (`report.hash_of`), of pixels (`pixels.py`).
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from typing import BinaryIO

#: Bytes read at a time: few enough to stay in a processor's cache.
_PART = 1 << 20


class FileHash(AbstractContextManager["FileHash"]):
    """The SHA-256 of a file that grows.

    Args:
        thread: does its work in the order in which it is handed out: one thread, or the caller.
    """

    def __init__(self, thread: Executor) -> None:
        self._thread, self._digest = thread, hashlib.sha256()
        self._file: int | None = None
        self._at = 0
        self._pieces: list[Future[None]] = []

    def __exit__(self, *_: object) -> None:
        for piece in self._pieces:
            piece.cancel()
        if self._file is not None:
            self._thread.submit(os.close, self._file).exception()  # behind the piece that it may be reading

    def reached(self, out: BinaryIO) -> None:
        """Note that what lies before the position of `out`, which can be read, stays as it is."""
        out.flush()
        if self._file is None:
            self._file = os.dup(out.fileno())
        self._pieces.append(self._thread.submit(self._read, self._file, out.tell()))

    def _read(self, file: int, end: int) -> None:
        while self._at < end:
            part = os.pread(file, min(_PART, end - self._at), self._at)
            if not part:
                msg = "the file ends before what was written of it"
                raise OSError(msg)
            self._digest.update(part)
            self._at += len(part)

    def hexdigest(self) -> str:
        """Return the hash of the file up to the last position."""
        for piece in self._pieces:
            piece.result()
        return self._digest.hexdigest()
