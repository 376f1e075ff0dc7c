"""Tallies: how many tasks, attempts and messages have come to which end, whatever becomes of their rows.

Here: adding up what triggers wrote one by one (sql/0038_tallies.sql). Not here: reading them (`measurements.py`).
"""

from __future__ import annotations

from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying

#: Rows that are left as they are: reading so many takes a millisecond.
_FEW = 1000

_SUM_UP = """
with single as (delete from geo.tallies where (select count(*) from geo.tallies) > %s returning *)
insert into geo.tallies (what, name, outcome, error_code, up_to, n, bytes, seconds)
select what, name, outcome, error_code, up_to, sum(n), sum(bytes), sum(seconds) from single
 group by what, name, outcome, error_code, up_to
"""


class Tallies:
    """Statements on `geo.tallies`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def sum_up(self) -> None:
        """Replace many rows by their sums. Whoever reads meanwhile sees the rows or the sums; rows that come meanwhile
        stay.
        """
        with self._pool.connection() as conn:
            conn.execute(_SUM_UP, (_FEW,))
