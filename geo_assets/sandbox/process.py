"""One sandboxed child, seen from its parent: the process, and the pipe that it writes to.

Here: its terms, killing it, the end of a stream. Not here: starting it (`start.py`), which call it gets (`lane.py`,
`pool.py`), the limits inside it (`child.py`, `walls.py`).
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import subprocess
from pathlib import Path
from typing import Any

from geo_assets.sandbox import start
from geo_assets.sandbox.protocol import Terms, send
from geo_assets.wire import told

#: Milliseconds of silence in a stream after which to check whether its child still lives.
_SILENCE_MS = 250


class Child:
    """One process, its control socket and its lifeline."""

    def __init__(self, folder: Path, terms: Terms) -> None:
        self.calls = 0
        self._started = started = start.taken()
        self.process, self.control = started.process, started.control
        with contextlib.suppress(OSError):  # it died already; the first call finds that
            send(self.control, {"folder": str(folder), **told(terms)})

    def close(self) -> None:
        """Kill it and close its descriptors; may be repeated."""
        self._started.end()


class PipeEnd(io.RawIOBase):
    """The end of a stream's pipe from which we read. It ends when the child is dead, even if another process holds the
    other end.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor, self._alive = descriptor, _yes

    def written_by(self, process: subprocess.Popen[bytes]) -> None:
        """Set the child that writes at the other end."""
        self._alive = lambda: process.poll() is None

    def readable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def readinto(self, buffer: Any) -> int:
        """Read the available bytes; wait for some while the child lives."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            living = self._alive()  # checked before reading: what the child wrote before it died can still be read
            with contextlib.suppress(BlockingIOError):
                return os.readv(self._descriptor, [buffer])
            if not living:
                return 0
            poll.poll(_SILENCE_MS)

    def close(self) -> None:
        """Close it, once."""
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _yes() -> bool:
    return True
