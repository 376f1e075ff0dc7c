"""Contracts that one step passes to the next, where every step of a run can read them.

Here: statements on `geo.contracts`. Not here: what a contract is (`stages/contracts.py`), whose output is where
(`defs/io_manager.py`), when one goes (`retention.py`).
"""

from __future__ import annotations

from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying


class Contracts:
    """Statements on `geo.contracts`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def write(self, place: str, contract: str, *, run_id: str | None) -> None:
        """Put a contract in its place, instead of one that is there.

        Args:
            place: names the output whose contract it is.
            contract: JSON.
            run_id: of the run for whose own steps it is; None: later runs read it, too.
        """
        with self._pool.connection() as conn:
            conn.execute(
                """insert into geo.contracts (place, run_id, contract) values (%s, %s, %s::jsonb)
                       on conflict (place) do update
                           set run_id = excluded.run_id, contract = excluded.contract, written_at = now()""",
                (place, run_id, contract),
            )

    @retrying
    def read(self, place: str) -> str | None:
        """The contract in a place, as JSON; None where there is none."""
        with self._pool.connection() as conn:
            row = conn.execute(
                "select contract::text as contract from geo.contracts where place = %s", (place,)
            ).fetchone()
        return str(row["contract"]) if row else None
