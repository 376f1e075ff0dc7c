"""A pause: nothing is launched for a while, and what is at work is waited for.

Here: beginning and ending a pause, what is at work, waiting until nothing is. Not here: the launches that a pause holds
back (`attempts.py`), migrations (`database/migrate.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row, tuple_row

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.lease import LEASE_SECONDS
from geo_assets.settings import Settings

#: What a migration may take beyond the time that it waits for jobs. Who was killed meanwhile holds up nobody longer.
_MIGRATION = timedelta(hours=1)

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Pause:
    """Until when nothing is launched, and why."""

    until: datetime
    reason: str
    since: datetime


def pause(conn: psycopg.Connection[Any], lasts: timedelta, reason: str) -> Pause:
    """Launch nothing for a while; a pause that is there is replaced."""
    return (
        conn.cursor(row_factory=class_row(Pause))
        .execute(
            """insert into geo.pause (until, reason) values (now() + %s, %s)
               on conflict (one) do update set until = excluded.until, reason = excluded.reason, since = now()
               returning until, reason, since""",
            (lasts, reason),
        )
        .fetchall()[0]
    )


def resume(conn: psycopg.Connection[Any]) -> bool:
    """End the pause; whether there was one."""
    now = current(conn)
    conn.execute("delete from geo.pause")
    return now is not None


def current(conn: psycopg.Connection[Any]) -> Pause | None:
    """The pause that there is."""
    query = "select until, reason, since from geo.pause where until > now()"
    return conn.cursor(row_factory=class_row(Pause)).execute(query).fetchone()


def at_work(conn: psycopg.Connection[Any]) -> list[str]:
    """Jobs that a run holds, or that were launched a moment ago."""
    rows = (
        conn.cursor(row_factory=tuple_row)
        .execute(
            """select job_id from geo.jobs where lease_run_id is not null and lease_heartbeat > now() - %(lease)s
            union
           select job_id from geo.attempts where run_id is null and outcome is null and launched_at > now() - %(lease)s
            order by 1""",
            {"lease": timedelta(seconds=LEASE_SECONDS)},
        )
        .fetchall()
    )
    return [str(job_id) for (job_id,) in rows]


@contextmanager
def nothing_at_work(settings: Settings, wait: float, say: Callable[[str], None], reason: str) -> Iterator[None]:
    """While the body runs, nothing is at work and nothing is launched. A pause of somebody else's is kept.

    Args:
        settings: where the database is.
        wait: seconds that jobs at work are waited for.
        say: told once what is waited for.
        reason: of the pause.

    Raises:
        GeoAssetsError: JOBS_AT_WORK, after that time; what was paused goes on.
    """
    with connect(settings, autocommit=True) as conn:
        knows_jobs, knows_pauses = _known(conn, "geo.attempts"), _known(conn, "geo.pause")
        mine = knows_pauses and current(conn) is None
        if mine:
            pause(conn, timedelta(seconds=wait) + _MIGRATION, reason)
        try:
            if knows_jobs:
                _wait(conn, wait, say)
            yield
        finally:
            if mine:
                resume(conn)


def _known(conn: psycopg.Connection[Any], table: str) -> bool:
    """Whether a release that knows this table has migrated the database."""
    return conn.execute("select to_regclass(%s) is not null", (table,)).fetchone() == (True,)


def _wait(conn: psycopg.Connection[Any], wait: float, say: Callable[[str], None]) -> None:
    deadline, said = time.monotonic() + wait, False
    while jobs := at_work(conn):
        names = ", ".join(job_id[:12] for job_id in jobs[:_NAMED]) + (" …" if len(jobs) > _NAMED else "")
        if time.monotonic() >= deadline:
            raise GeoAssetsError("JOBS_AT_WORK", f"{len(jobs)} jobs are at work: {names}")
        if not said:
            say(f"waiting for {len(jobs)} jobs at work: {names}")
            said = True
        time.sleep(0.5)
