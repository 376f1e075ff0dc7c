"""Launching behind the back of who submits: an answer over HTTP does not wait for Dagster.

Here: the thread that launches what was recorded, one after the other. Not here: launching one (`launch.py`).

The ledger is the line. What is not launched from here within seconds is launched by the sensor, the oldest first
(`Attempts.take_launches`): when Dagster does not answer, when this process is killed, and when the sensor is at the
older ones, for runs are made in the order of the submissions.
"""

from __future__ import annotations

import logging
from threading import Event, Thread

from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.models import Attempt
from geo_assets.settings import Settings
from geo_assets.submissions.launch import launch_taken
from geo_assets.submissions.size import Sizes

#: How often, and how many times, the thread looks for more after the last one: somebody else may be launching an older.
_EVERY_SECONDS, _TIMES = 0.1, 10

#: How long a launch that is under way may still take when the process is to stop.
_STOP_SECONDS = 3.0

_log = logging.getLogger(__name__)


class Launcher:
    """Launches recorded attempts, the oldest first, one at a time, in a thread of its own. Stop it."""

    def __init__(self, jobs: Jobs, settings: Settings, sizes: Sizes) -> None:
        """Start the thread.

        Args:
            jobs: the ledger's; it decides who launches an attempt.
            settings: where Dagster is.
            sizes: of jobs.
        """
        self._jobs, self._settings, self._sizes = jobs, settings, sizes
        self._recorded, self._stopping = Event(), Event()
        self._last: Attempt | None = None  # that was launched from here
        self._thread = Thread(target=self._work, name="launcher", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that an attempt was recorded; this does not wait."""
        self._recorded.set()

    def stop(self) -> None:
        """End the thread, after the launch that is under way; what waits is left to the sensor."""
        self._stopping.set()
        self._recorded.set()
        self._thread.join(_STOP_SECONDS)

    def _work(self) -> None:
        while self._recorded.wait() and not self._stopping.is_set():
            self._recorded.clear()
            try:
                self._launch_all()
            except Exception as error:  # noqa: BLE001 - the thread outlives whatever a launch may run into
                _log.warning("the sensor launches what waits: %s", error)

    def _launch_all(self) -> None:
        in_vain = 0
        while in_vain < _TIMES and not self._stopping.is_set():
            attempt = self._jobs.take_next_launch(self._last)
            if attempt is None:
                in_vain += 1
                self._stopping.wait(_EVERY_SECONDS)
                continue
            in_vain, self._last = 0, attempt
            launch_taken(self._jobs, self._settings, attempt, self._sizes)
