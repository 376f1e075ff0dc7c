"""Alerts: events that somebody is to hear of, and which of them were sent.

Here: taking those that are due, and what became of them. Not here: which events there are (the triggers of
sql/0039_traces_and_alerts.sql write a row in the commit of each), what is said of one (`geo_assets/alerts/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg_pool import ConnectionPool
from pydantic import BaseModel, ConfigDict

from geo_assets.database.connections import DictConnection, retrying

#: Seconds until an alert is tried again, doubled with each try: longer than a sender takes, shorter than an hour.
_FIRST_PAUSE, _LONGEST_PAUSE = 30, 3600

#: What could not be sent for so long is no news.
_NEWS = timedelta(days=3)

_COLUMNS = (
    "alert_id, event, kind, job_id, attempt, error_code, error_message, correlation_id, at, tries, sent_at, fault"
)


class AlertRecord(BaseModel):
    """One event."""

    model_config = ConfigDict(frozen=True)
    alert_id: int
    event: str  # its name: of the same event there is one record
    kind: str
    job_id: str | None
    attempt: int | None
    error_code: str | None
    error_message: str | None
    correlation_id: str | None
    at: datetime
    tries: int
    sent_at: datetime | None
    fault: str | None  # why the last try failed
    run_id: str | None = None  # of the attempt


class BadFiles(BaseModel):
    """Files of a job that ended with one code."""

    model_config = ConfigDict(frozen=True)
    code: str
    count: int
    example: str  # the first of their names


class Unsent(BaseModel):
    """Alerts that were tried and that nobody has heard of yet."""

    model_config = ConfigDict(frozen=True)
    count: int
    since: datetime | None  # the oldest
    fault: str | None  # of the newest try


def unsent(conn: psycopg.Connection[Any]) -> Unsent:
    """What could not be sent so far; what is no news any more does not count."""
    rows = (
        conn.cursor(row_factory=class_row(Unsent))
        .execute(
            """select count(*)::int as count, min(at) as since, (array_agg(fault order by next_try_at desc))[1] as fault
                 from geo.alerts where sent_at is null and fault is not null and at > now() - %s""",
            (_NEWS,),
        )
        .fetchall()
    )
    return rows[0]


class Alerts:
    """Statements on `geo.alerts`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    def take(self, limit: int) -> list[AlertRecord]:
        """Alerts that are due, the oldest first, for the caller to send. Nobody else gets them before their next try,
        which comes if the caller dies. Not tried again itself: what was taken without an answer would wait.
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                f"""with due as (
                      select alert_id from geo.alerts
                       where sent_at is null and next_try_at <= now() and at > now() - %(news)s
                       order by alert_id limit %(limit)s for update skip locked),
                    taken as (
                      update geo.alerts a
                         set tries = tries + 1,
                             next_try_at = now() + least(%(longest)s, %(first)s * 2 ^ least(tries, 20))
                                                   * interval '1 second'
                        from due where a.alert_id = due.alert_id returning a.*)
                    select {_COLUMNS}, (select run_id from geo.attempts b
                                         where (b.job_id, b.attempt) = (taken.job_id, taken.attempt))
                      from taken order by alert_id""",  # noqa: S608
                {"news": _NEWS, "limit": limit, "first": _FIRST_PAUSE, "longest": _LONGEST_PAUSE},
            ).fetchall()
        return [AlertRecord.model_validate(row) for row in rows]

    @retrying
    def sent(self, alerts: Sequence[AlertRecord]) -> None:
        """Record that alerts were sent."""
        with self._pool.connection() as conn:
            conn.execute(
                "update geo.alerts set sent_at = now(), fault = null where alert_id = any(%s)",
                ([alert.alert_id for alert in alerts],),
            )

    @retrying
    def failed(self, alerts: Sequence[AlertRecord], fault: str, *, pause: float = 0.0) -> None:
        """Record why alerts could not be sent; they are tried again, after `pause` seconds at the earliest."""
        with self._pool.connection() as conn:
            conn.execute(
                "update geo.alerts set fault = %s, next_try_at = greatest(next_try_at, now() + make_interval(secs =>"
                " %s)) where alert_id = any(%s) and sent_at is null",
                (fault, min(pause, _LONGEST_PAUSE), [alert.alert_id for alert in alerts]),
            )

    @retrying
    def forget(self, older_than: timedelta, *, unsent: bool) -> None:
        """Forget old alerts; with `unsent` also those that are not sent: nobody is to hear of them."""
        with self._pool.connection() as conn:
            conn.execute(
                "delete from geo.alerts where at < now() - %s or (%s and sent_at is null)", (older_than, unsent)
            )

    @retrying
    def bad_files(self, job_id: str) -> list[BadFiles]:
        """The bad files of a job by their codes, the most frequent first."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select error_code as code, count(*)::int as count, min(task_key) as example from geo.tasks
                    where job_id = %s and listed and error_code is not null group by 1 order by 2 desc, 1""",
                (job_id,),
            ).fetchall()
        return [BadFiles.model_validate(row) for row in rows]

    @retrying
    def newest(self, limit: int) -> list[AlertRecord]:
        """The newest alerts first."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                f"select {_COLUMNS} from geo.alerts order by alert_id desc limit %s",  # noqa: S608
                (limit,),
            ).fetchall()
        return [AlertRecord.model_validate(row) for row in rows]
