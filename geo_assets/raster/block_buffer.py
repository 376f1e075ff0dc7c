"""A buffer for compressed blocks until the size of all levels is known: a COG begins with its smallest level.

Here: keeping them in memory and, when there are too many, in one file per level. Not here: which blocks there are
(`onepass.py`), what survives the process (`checkpoint.py`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from geo_assets.raster import cogfile
from geo_assets.raster.checkpoint import Checkpoint, KeptIsWrongError

#: Bytes moved at a time from a buffer file to the output take disk space twice: a part of the file, within limits, as
#: each truncation takes time.
_MOVED_PART, _MOVED_LEAST, _MOVED_MOST = 64, 1 << 20, 8 << 20

#: Blocks written to disk in one call, and the part of the memory for blocks that is still taken afterwards.
_BLOCKS_AT_ONCE, _REST = 32, 0.9


class BlockBuffer:
    """Holds the blocks of all levels until they are written to the output: in memory and, when there are too many, in
    one file per level.
    """

    def __init__(self, directory: Path, levels: int, in_memory: int, checkpoint: Checkpoint | None) -> None:
        self._directory, self._in_memory, self._checkpoint = directory, in_memory, checkpoint
        self._memory: list[list[bytes]] = [[] for _ in range(levels)]
        self._files: list[BinaryIO | None] = [None] * levels
        self._bytes = 0

    def append(self, level: int, block: bytes) -> None:
        """Add a block to those of a level."""
        framed = cogfile.framed(block)
        self._memory[level] += framed
        self._bytes += sum(map(len, framed))
        if self._bytes > self._in_memory:
            largest = max(range(len(self._memory)), key=lambda i: len(self._memory[i]))
            self._to_disk(largest, rest=int(_REST * self._in_memory))

    def all_to_disk(self) -> list[int]:
        """Write all blocks; returns the bytes of each level."""
        for level in range(len(self._memory)):
            self._to_disk(level, rest=0)
            self._file(level).flush()
        return [self._file(level).tell() for level in range(len(self._memory))]

    def _file(self, level: int) -> BinaryIO:
        file = self._files[level]
        if file is None:
            checkpoint = self._checkpoint
            file = (
                checkpoint.blocks(level) if checkpoint else tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
            )
            file.seek(0, os.SEEK_END)
            self._files[level] = file
        return file

    def _to_disk(self, level: int, *, rest: int) -> None:
        """Write the first blocks of a level to its file until `rest` bytes of all levels are left in memory."""
        blocks, file = self._memory[level], self._file(level)
        while blocks and self._bytes > rest:
            part = blocks[: 3 * _BLOCKS_AT_ONCE]
            file.writelines(part)
            del blocks[: len(part)]
            self._bytes -= sum(map(len, part))

    @contextmanager
    def output(self, made: Path, header: bytes) -> Iterator[BinaryIO]:
        """The COG, opened for writing behind its header; see `place` for where.

        Raises:
            KeptIsWrongError: what was moved before is behind another header.
        """
        if self._checkpoint is None:
            with made.open("w+b") as out:
                out.write(header)
                yield out
            return
        place = self._checkpoint.cog
        with place.open("r+b" if place.exists() else "w+b") as out:
            if out.read(len(header)) != header:
                if place.stat().st_size > len(header):
                    self._checkpoint.forget()
                    raise KeptIsWrongError
                out.seek(0)
                out.write(header)
            yield out

    def place(self, made: Path) -> Path:
        """Where the COG is written: where progress is kept, in the same place, so that it can be gone on with."""
        return self._checkpoint.cog if self._checkpoint else made

    def move_to(self, out: BinaryIO, level: int, length: int, written: Callable[[BinaryIO], None]) -> None:
        """Move the blocks of a level to the current position of the output, in order; they take no disk space twice.

        Args:
            out: see `output`.
            level: its number.
            length: bytes of its blocks, of which those at the end may have been moved before.
            written: called with the output where what lies before its position stays as it is.
        """
        start, waiting = out.tell(), self._memory[level]
        if self._checkpoint or self._files[level]:
            _move(self._file(level), out, start)
        out.seek(start + length - sum(map(len, waiting)))
        written(out)
        for first in range(0, len(waiting), 3 * _BLOCKS_AT_ONCE):
            out.writelines(waiting[first : first + 3 * _BLOCKS_AT_ONCE])
            written(out)
        waiting.clear()

    def close(self) -> None:
        """Close all files."""
        for file in filter(None, self._files):
            file.close()


def _move(file: BinaryIO, out: BinaryIO, start: int) -> None:
    """Move a file's bytes to a position of `out`, the last ones first: only the end of a file can be truncated. What
    was written but not truncated before a kill is written again.
    """
    size = file.seek(0, os.SEEK_END)
    for offset in reversed(range(0, size, min(max(size // _MOVED_PART, _MOVED_LEAST), _MOVED_MOST))):
        file.seek(offset)
        out.seek(start + offset)
        shutil.copyfileobj(file, out, 1 << 20)
        out.flush()
        file.truncate(offset)
