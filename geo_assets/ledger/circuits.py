"""Circuit breakers whose state is in PostgreSQL: every tick and every step may be a new process, and all must know it.

Here: the wrapper that names the error. Not here: the state (`breaker.py`). The breaker for PostgreSQL itself cannot
live here: without the database nothing is received at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection
from geo_assets.errors import ErrorClass, GeoAssetsError

#: Consecutive failures that open a circuit, and how long it stays open before one probe is let through.
FAILURES, OPEN_SECONDS = 3, 30


def circuit_of(alias: str) -> str:
    """The name of a storage account's breaker."""
    return f"storage {alias}"


class Circuits:
    """The breakers of this process; all processes share their state."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Let the block through unless the circuit is open; count its transient failures.

        Raises:
            GeoAssetsError: CIRCUIT_OPEN.
        """
        import pybreaker  # it takes longer to import than a submission takes to be recorded

        from geo_assets.ledger.breaker import PostgresStorage

        breaker = pybreaker.CircuitBreaker(
            fail_max=FAILURES,
            reset_timeout=OPEN_SECONDS,
            state_storage=PostgresStorage(self._pool, name),
            exclude=[lambda e: not _counts(e)],
        )
        try:
            with breaker.calling():
                yield
        except pybreaker.CircuitBreakerError as error:
            raise GeoAssetsError(
                "CIRCUIT_OPEN",
                f"{name} has failed {FAILURES} times in a row; it is tried again within {OPEN_SECONDS} s",
            ) from error

    def states(self) -> dict[str, str]:
        """Dependency -> state."""
        with self._pool.connection() as conn:
            return {
                str(row["name"]): str(row["state"])
                for row in conn.execute("select name, state from geo.circuits").fetchall()
            }


def _counts(error: BaseException) -> bool:
    """Whether an error counts: a bad message says nothing about its source."""
    return not isinstance(error, GeoAssetsError) or error.error_class is ErrorClass.TRANSIENT
