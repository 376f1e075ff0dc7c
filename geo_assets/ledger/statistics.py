"""Counts for people who watch over the service. Not here: the account of one job (`jobs.py`, `tasks.py`)."""

from __future__ import annotations

from typing import LiteralString

from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection

#: Rows of the last 24 hours, counted by their state or code.
_COUNTED: dict[str, LiteralString] = {
    "jobs": "select status as what, count(*) as n from geo.job_status where created_at > now() - interval '24 hours'"
    " group by 1",
    "tasks": "select status::text as what, count(*) as n from geo.tasks"
    " where coalesce(finished_at, now()) > now() - interval '24 hours' group by 1",
    "messages": "select state::text as what, count(*) as n from geo.messages"
    " where received_at > now() - interval '24 hours' group by 1",
    "errors": "select code as what, count(*) as n from geo.errors where at > now() - interval '24 hours' group by 1",
}


def last_day(pool: ConnectionPool[DictConnection]) -> dict[str, dict[str, int]]:
    """Count the jobs, tasks, messages and errors of the last 24 hours, by state or code."""
    with pool.connection() as conn:
        return {
            name: {str(row["what"]): int(str(row["n"])) for row in conn.execute(query).fetchall()}
            for name, query in _COUNTED.items()
        }
