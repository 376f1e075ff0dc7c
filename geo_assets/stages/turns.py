"""Who works at the same time in this process, and who alone.

Here: waiting until all others have ended. Not here: which file is worked on alone (`chunks.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from geo_assets.errors import GeoAssetsError

#: Seconds between two looks whether the work was stopped.
_LOOK_SECONDS = 0.5


class Turns:
    """Any number together, or one alone. Whoever wants to be alone is not overtaken by those who come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work = 0
        self._is_one_alone = False
        self._want_alone = 0

    @contextmanager
    def taken(self, *, alone: bool, stopped: Callable[[], bool]) -> Iterator[None]:
        """Work with others, or alone, until the end of the block.

        Raises:
            GeoAssetsError: CANCELLED, the work was stopped while it waited.
        """
        with self._changed:
            self._want_alone += alone
            try:
                while self._is_one_alone or (self._at_work if alone else self._want_alone):
                    if stopped():
                        raise GeoAssetsError("CANCELLED", "the run was told to stop")
                    self._changed.wait(_LOOK_SECONDS)
                self._is_one_alone = alone
                self._at_work += 1
            finally:
                self._want_alone -= alone
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._is_one_alone = False
                self._changed.notify_all()
