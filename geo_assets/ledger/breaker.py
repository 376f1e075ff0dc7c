"""A circuit breaker that keeps its state in PostgreSQL.

Here: the storage for pybreaker, which imports a client of Redis where one is installed; a module of its own, so that a
command that asks no store does not wait for it. Not here: what is guarded, and for how long (`circuits.py`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pybreaker
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection


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
