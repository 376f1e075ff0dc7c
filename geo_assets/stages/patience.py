"""Waiting for a store that does not answer: a run keeps its job, and resumes when the store is back.

Here: how long, how often, and what is reported meanwhile. Not here: short interruptions, which the transport retries
(`storage/containers.py`); what an error means (`storage/faults.py`).

Where the store says how long it wants to be left alone (Retry-After), it is. obstore passes no headers on: what it was
refused is asked again as what is not answered at all, after the pauses of the transport, this module and the breaker.

As long as the store answers, calls go to it directly. Once a call finds that it does not answer, the calls of this
process go through the circuit breaker of the account, which all processes share: one of them asks, the others wait for
its result.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.circuits import circuit_of

T = TypeVar("T")

#: Seconds between two looks, more or less: the breaker decides whether the store is asked.
_PAUSE = 2.0

#: The codes of errors that are waited for.
_AWAY = frozenset({"STORAGE_UNAVAILABLE", "CIRCUIT_OPEN"})


class StoragePatience:
    """Asks a store until it answers, the run has lost its job, or the time is over."""

    def __init__(
        self,
        circuit: Callable[[str], AbstractContextManager[None]],
        *,
        seconds: float,
        keep: Callable[[], bool],
        tell: Callable[[GeoAssetsError], None],
    ) -> None:
        """Nothing is asked yet.

        Args:
            circuit: the breakers, by name.
            seconds: how long one call waits.
            keep: renews the job's lease; false where the run no longer owns it.
            tell: called once for each wait, when it begins.
        """
        self._circuit, self._seconds, self._keep, self._tell = circuit, seconds, keep, tell

    def __call__(self, alias: str, ask: Callable[[], T], /) -> T:
        """Return what `ask` returns, after waiting for the store if needed.

        Raises:
            GeoAssetsError: STORAGE_UNAVAILABLE, the time is over; LEASE_LOST; what `ask` raises when the store answers.
        """
        try:
            return ask()
        except GeoAssetsError as error:
            if error.code not in _AWAY:
                raise
            away = error
        self._tell(away)
        deadline = time.monotonic() + self._seconds
        again = time.monotonic() + away.retry_after
        while time.monotonic() < deadline:
            time.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - so that waiting threads do not ask in step
            if not self._keep():
                raise GeoAssetsError("LEASE_LOST", f"the job was taken over while it waited for {alias}")
            if time.monotonic() < again:
                continue
            try:
                with self._circuit(circuit_of(alias)):
                    return ask()
            except GeoAssetsError as error:
                if error.code not in _AWAY:
                    raise
                away = error if error.code == "STORAGE_UNAVAILABLE" else away
                again = time.monotonic() + error.retry_after
        raise away
