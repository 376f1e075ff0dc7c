"""The database as loads of vectors use it, on connections that are kept from one source to the next.

Here: which connections a load needs. Not here: what it does on them (`vector_load.py`), how they are kept (`kept.py`).

A small source takes less time to load than its connections to open: five of them cost 65 ms here and 60 ms at the
server.
"""

from __future__ import annotations

import time
from typing import Self

from geo_assets.database.connections import KeptConnection
from geo_assets.kept import Kept
from geo_assets.settings import Settings
from geo_assets.vector.tables.session import Session, kept_sessions
from geo_assets.vector.tables.staging import sweep

#: Seconds between two looks for what killed processes left.
_SWEEP_SECONDS = 30.0


class LoadDatabase:
    """A database to load into; safe with several threads. Opens nothing before it is used. Close it."""

    def __init__(self, settings: Settings, session: Kept[Session] | None = None) -> None:
        """Open nothing yet; `session` is for one that is opened already."""
        self.settings = settings
        self._next_sweep = 0.0
        #: For statements and transactions.
        self.connection = KeptConnection(settings)
        #: For what comes as Arrow.
        self.session = session or kept_sessions(settings)

    def sweep(self) -> None:
        """Drop what killed processes left, once in a while."""
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_SECONDS
            with self.connection() as conn:
                sweep(conn)

    def close(self) -> None:
        """Close what lies idle."""
        self.session.close()
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
