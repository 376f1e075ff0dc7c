"""The lanes of a pool that nobody uses: taking one that may have a child, putting it back.

Here: waiting for a lane and for a seat on the host (`host.py`), giving seats back. Not here: what a lane is
(`lane.py`), which call gets it (`pool.py`).

A lane has a child only while it has a seat. Whoever holds a lane never waits for a second one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox.host import LOOK_EVERY, HostShare
from geo_assets.sandbox.lane import Lane

#: Seconds for which a child is idle before its seat goes to another run that waits: longer than the pause between two
#: files.
_IDLE_SECONDS = 1.0

#: Seconds between two looks whether another run waits for the seats of idle children.
_SWEEP_EVERY = 0.5


class IdleLanes:
    """The lanes of a pool that are free, the last used first: its child is the one that is ready."""

    def __init__(self, lanes: Iterable[Lane], share: HostShare | None) -> None:
        """All of them are free.

        Args:
            lanes: of the pool, the first to be used first.
            share: what the pool holds of the host; None: it has a seat for each lane.
        """
        self._free = list(lanes)[::-1]
        self._share = share
        self._wanting = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._sweeper: threading.Thread | None = None
        if share is None:
            for lane in self._free:
                lane.seated = True

    @property
    def wait_for_host(self) -> bool:
        """Whether somebody waits for a seat that others on this host hold."""
        return self._share is not None and self._share.waits

    def give_way(self) -> None:
        """Say that this pool works for a large run."""
        if self._share:
            self._share.give_way()

    def take(self) -> Lane:
        """Return a lane with a seat; wait for it.

        Raises:
            GeoAssetsError: CANCELLED, after `stop`.
        """
        with self._changed:
            self._wanting += 1
            try:
                while True:
                    if self._stopped:
                        raise GeoAssetsError("CANCELLED", "the run was told to stop")
                    if lane := self._found():
                        return lane
                    self._changed.wait(LOOK_EVERY if self._free else None)
            finally:
                self._wanting -= 1
                self._leave_the_line()

    def take_now(self) -> Lane | None:
        """As `take`; None if there is no lane with a seat at this moment."""
        with self._changed:
            lane = self._found()
            self._leave_the_line()
            return lane

    def put(self, lane: Lane) -> None:
        """Return a lane after use, and its seat to the host if another run needs it more."""
        try:
            if self._share and lane.seated and self._share.owes():
                self._unseat(lane)
        finally:
            lane.idle_since = time.monotonic()
            with self._changed:
                self._free.append(lane)
                self._changed.notify()

    def stop(self) -> None:
        """Those who wait give up, now and later."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the children of the free lanes, and give back what the pool holds of the host."""
        self._closed.set()
        if self._sweeper:
            self._sweeper.join()
        for lane in self._free:
            lane.end()
        if self._share:
            self._share.close()

    def _found(self) -> Lane | None:
        lane = next((lane for lane in reversed(self._free) if lane.seated), None)
        if lane is None and self._free and self._share and self._share.ask():
            lane = self._free[-1]
            lane.seated = True
            self._watch_over_idle()
        if lane:
            self._free.remove(lane)
        return lane

    def _leave_the_line(self) -> None:
        if self._share and not self._wanting:
            self._share.ask_no_more()

    def _unseat(self, lane: Lane) -> None:
        lane.end()
        lane.seated = False
        if self._share:
            self._share.give_back()

    def _watch_over_idle(self) -> None:
        if self._sweeper is None:
            sweeper = threading.Thread(target=self._sweep, name="sandbox-idle", daemon=True)
            sweeper.start()
            self._sweeper = sweeper  # only now, as in `watch.py`

    def _sweep(self) -> None:
        """Give back the seats of idle children that are in the way of another run: a run may publish for minutes."""
        while not self._closed.wait(_SWEEP_EVERY):
            while lane := self._in_the_way():
                self._unseat(lane)
                with self._changed:
                    self._free.insert(0, lane)
                    self._changed.notify()

    def _in_the_way(self) -> Lane | None:
        before = time.monotonic() - _IDLE_SECONDS
        with self._changed:
            idle = [lane for lane in self._free if lane.seated and lane.idle_since < before]
            if not idle or not self._share or not self._share.is_wanted():
                return None
            self._free.remove(idle[0])
            return idle[0]
