"""Circuit breakers whose state is in PostgreSQL: every tick and every step may be a new process, and all must know it.

Here: the storage for pybreaker and the wrapper that names the error. The breaker for PostgreSQL itself cannot live
here: without the database nothing is received at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pybreaker
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection
from geo_assets.errors import ErrorClass, GeoAssetsError

#: Consecutive failures that open a circuit, and how long it stays open before one probe is let through.
FAILURES, OPEN_SECONDS = 3, 30


def circuit_of(alias: str) -> str:
    """The name of a storage account's breaker."""
    return f"storage {alias}"


class PostgresStorage(pybreaker.CircuitBreakerStorage):
    """pybreaker's state, as a row of `geo.circuits`."""

    def __init__(self, pool: ConnectionPool[DictConnection], name: str) -> None:
        super().__init__(name)
        self._pool = pool
        self._dependency = name
        self._write("insert into geo.circuits (name) values (%s) on conflict do nothing")

    def _write(self, statement: Any, *values: Any) -> None:
        with self._pool.connection() as conn:
            conn.execute(statement, (*values, self._dependency))

    def _row(self) -> dict[str, Any]:
        with self._pool.connection() as conn:
            return dict(
                conn.execute("select * from geo.circuits where name = %s", (self._dependency,)).fetchone() or {}
            )

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        return str(self._row()["state"])

    @state.setter
    def state(self, state: str) -> None:
        self._write("update geo.circuits set state = %s where name = %s", state)

    def increment_counter(self) -> None:
        """Count one more failure."""
        self._write("update geo.circuits set failures = failures + 1 where name = %s")

    def reset_counter(self) -> None:
        """Record that it works again."""
        self._write("update geo.circuits set failures = 0, reason = null where name = %s")

    def increment_success_counter(self) -> None:
        """Not counted: one success closes it."""

    def reset_success_counter(self) -> None:
        """Not counted."""

    @property
    def counter(self) -> int:
        """Consecutive failures."""
        return int(self._row()["failures"])

    @property
    def success_counter(self) -> int:
        """Not counted."""
        return 1

    @property
    def opened_at(self) -> datetime | None:
        """When it opened."""
        at = self._row()["opened_at"]
        return at.astimezone(UTC) if at else None

    @opened_at.setter
    def opened_at(self, at: datetime) -> None:
        self._write("update geo.circuits set opened_at = %s where name = %s", at.replace(tzinfo=at.tzinfo or UTC))


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
