"""Launching behind the back of who submits: an answer over HTTP does not wait for Dagster.

Here: a line of attempts, and the thread that launches them one after the other. Not here: launching one (`launch.py`).

Nothing is lost with the line: each attempt was recorded before it came here, and what is not launched from here within
seconds is launched by the sensor, the oldest first (`Attempts.take_launches`). So the line may be forgotten at any
time: when it is full, when Dagster does not answer, when the process is killed, and when the sensor is at the older
ones: runs are made in the order of the submissions, by the one or by the other.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread

from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.models import Attempt
from geo_assets.submissions.launch import launch

#: Attempts that wait at most: minutes of launching. The sensor takes the oldest meanwhile, and those for which there is
#: no room.
LONGEST_LINE = 1000

#: How long a launch that is under way may still take when the process is to stop.
_STOP_SECONDS = 3.0

#: How long, and how often, the line waits for the run of an older attempt that somebody else is launching.
_OLDER_SECONDS, _OLDER_EVERY = 1.0, 0.1

_log = logging.getLogger(__name__)


class Launcher:
    """Launches attempts in the order in which they were added, one at a time, in a thread of its own. Stop it."""

    def __init__(self, jobs: Jobs, webserver_url: str, *, longest: int = LONGEST_LINE) -> None:
        """Start the thread.

        Args:
            jobs: the ledger's; it decides who launches an attempt.
            webserver_url: of Dagster.
            longest: how many attempts may wait; others are left to the sensor.
        """
        self._jobs, self._webserver_url = jobs, webserver_url
        self._line: Queue[Attempt | None] = Queue(longest)
        self._stopping = Event()
        self._last: tuple[str, int] | None = None  # that was launched from here
        self._thread = Thread(target=self._work, name="launcher", daemon=True)
        self._thread.start()

    def add(self, attempt: Attempt) -> None:
        """Have a recorded attempt launched after those before it; this does not wait."""
        with suppress(Full):
            self._line.put_nowait(attempt)

    @property
    def waiting(self) -> int:
        """How many attempts wait in the line."""
        return self._line.qsize()

    def stop(self) -> None:
        """End the thread, after the launch that is under way; what waits is left to the sensor."""
        self._stopping.set()
        self._forget()
        with suppress(Full):
            self._line.put_nowait(None)
        self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        while attempt := self._line.get():
            try:
                if not self._is_next(attempt):
                    self._forget()
                elif launch(self._jobs, self._webserver_url, attempt):
                    self._last = attempt.job_id, attempt.attempt
            except Exception as error:  # noqa: BLE001 - the thread outlives whatever a launch may run into
                _log.warning("the sensor launches what waits: %s", error)
                self._forget()
            if self._stopping.is_set():
                return

    def _is_next(self, attempt: Attempt) -> bool:
        """Whether no older attempt is being launched by somebody else, in a moment from now."""
        for _ in range(round(_OLDER_SECONDS / _OLDER_EVERY)):
            older = self._jobs.launching_before(attempt)
            if older is None or older == self._last:
                return True
            if self._stopping.wait(_OLDER_EVERY):
                break
        return False

    def _forget(self) -> None:
        """Leave what waits to the sensor: each of a thousand would wait for Dagster as long as the one that failed."""
        with suppress(Empty):
            while True:
                self._line.get_nowait()
