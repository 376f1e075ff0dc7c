"""What is old enough to go: runs in Dagster, contracts, the bytes of messages; and what dead processes left behind.

Here: counting and deleting rows, a batch at a time, each in one transaction. Not here: how old that is, and what is no
row (`retention/`).

Dagster deletes a run with all its events, those of its assets too, in two steps, of which a kill may leave one out.
Here a run goes in one commit, and what it told of assets stays. A run that the ledger has not written off is kept, and
so is one of another code location.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql

#: What is told of assets, and not of runs: their history, and that of their checks.
_OF_ASSETS = [
    "ASSET_MATERIALIZATION",
    "ASSET_OBSERVATION",
    "ASSET_FAILED_TO_MATERIALIZE",
    "ASSET_CHECK_EVALUATION",
]

#: Runs per transaction, and messages: each locks for a fraction of a second.
_RUNS, _MESSAGES = 20, 500

#: Later than this no process tells of a run that somebody deleted while it worked.
_SILENT = timedelta(days=1)

#: Runs that ended so long ago. Their attempt has an outcome, or there was another one after it.
_ENDED: LiteralString = """
    select r.id, r.run_id::text as run_id, pg_column_size(r.*)::bigint as bytes from dagster.runs r
     where r.status in ('SUCCESS', 'FAILURE', 'CANCELED')
       and coalesce(to_timestamp(r.end_time), r.update_timestamp at time zone 'UTC') <= now() - %(age)s
       and exists (select from dagster.run_tags t
                    where t.run_id = r.run_id and t.key = '.dagster/repository' and t.value = %(repository)s)
       and not exists (select from geo.attempts a
                        where a.run_id = r.run_id and a.outcome is null
                          and not exists (select from geo.attempts b
                                           where b.job_id = a.job_id and b.attempt > a.attempt))"""

#: Runs of attempts that Dagster does not know any more, and that have events beside those of assets: somebody deleted
#: them while they worked.
_LEFT: LiteralString = """
    select 0::bigint as id, a.run_id, 0::bigint as bytes from geo.attempts a
     where a.run_id is not null and not exists (select from dagster.runs r where r.run_id = a.run_id)
       and exists (select from dagster.event_logs e
                    where e.run_id = a.run_id and coalesce(e.dagster_event_type, '') <> all(%(of_assets)s))
       and not exists (select from dagster.event_logs e
                        where e.run_id = a.run_id
                          and e.timestamp > (now() at time zone 'UTC') - greatest(%(silent)s, %(age)s))"""

_EXTENT: LiteralString = (
    "with gone as ("  # noqa: S608
    + _ENDED
    + " union all "
    + _LEFT
    + """)
    select count(*)::int,
           coalesce(sum(gone.bytes + coalesce((
               select sum(pg_column_size(e.*)) from dagster.event_logs e
                where e.run_id = gone.run_id
                  and coalesce(e.dagster_event_type, '') <> all(%(of_assets)s)), 0)), 0)::bigint
      from gone"""
)

#: What a job's page says of its run, and that its files may go.
_KEEP: LiteralString = """
    insert into geo.purged_runs (run_id, run_status, created_at, started_at, ended_at)
    select r.run_id, r.status, r.create_timestamp at time zone 'UTC',
           to_timestamp(r.start_time), to_timestamp(r.end_time)
      from dagster.runs r where r.run_id = any(%(runs)s)
        on conflict do nothing"""

_DELETE_EVENTS: LiteralString = """
    with these as materialized (
            select e.id, pg_column_size(e.*) as bytes from dagster.event_logs e
             where e.run_id = any(%(runs)s) and coalesce(e.dagster_event_type, '') <> all(%(of_assets)s)),
         gone as (delete from dagster.event_logs e using these where e.id = these.id)
    select coalesce(sum(bytes), 0)::bigint from these"""

_OLD_CONTRACTS: LiteralString = """
    geo.contracts r
     where r.run_id is not null and r.written_at <= now() - %(age)s
       and not exists (select from geo.attempts a where a.run_id = r.run_id and a.outcome is null)
       and not exists (select from geo.jobs j where j.lease_run_id = r.run_id)"""

#: Of jobs that have ended: while a job is at work, the silence of its steps tells that it died.
_DEAD_STEPS: LiteralString = """
    geo.steps r
     where r.heartbeat < now() - %(silent)s
       and not exists (select from geo.jobs j where j.job_id = r.job_id and j.lease_run_id is not null)
       and (select a.outcome is not null from geo.attempts a
             where a.job_id = r.job_id order by a.attempt desc limit 1)"""

#: What nobody has to decide about any more.
_HANDLED: LiteralString = """
  from geo.messages
 where archived_at is null and state in ('accepted', 'rejected', 'replayed', 'discarded')
   and handled_at <= now() - %(age)s"""

_COUNT_MESSAGES: LiteralString = "select count(*)::int, coalesce(sum(octet_length(body)), 0)::bigint" + _HANDLED

_TAKE_MESSAGES: LiteralString = (
    "select message_id, octet_length(body)" + _HANDLED + " order by handled_at limit %(batch)s for update skip locked"
)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a kind there is, or has gone."""

    count: int = 0
    #: None: nobody knows without asking a store.
    bytes: int | None = 0

    def __add__(self, other: Extent) -> Extent:
        known = self.bytes is not None and other.bytes is not None
        return Extent(self.count + other.count, (self.bytes or 0) + (other.bytes or 0) if known else None)


def has_dagster(conn: psycopg.Connection[Any]) -> bool:
    """Whether Dagster keeps its runs in our database: somebody's own may keep them elsewhere, and looks after them."""
    ((here,),) = conn.execute(
        "select to_regclass('dagster.runs') is not null and to_regclass('dagster.event_logs') is not null"
    ).fetchall()
    return bool(here)


def count_runs(conn: psycopg.Connection[Any], age: timedelta, repository: str) -> Extent:
    """Runs that ended so long ago, with their events.

    Args:
        conn: of tuples.
        age: since their end.
        repository: whose runs; as Dagster tags them.
    """
    return _extent(conn, _EXTENT, _of_runs(age, repository)) if has_dagster(conn) else Extent()


def delete_runs(conn: psycopg.Connection[Any], age: timedelta, repository: str) -> Extent:
    """Delete some of these runs, the oldest first, in one transaction; nothing where there are none, or others are
    deleting them.
    """
    if not has_dagster(conn):
        return Extent()
    values = _of_runs(age, repository)
    with conn.transaction():
        rows = (
            conn.execute(
                _ENDED + " order by r.id limit %(batch)s for update of r skip locked", {**values, "batch": _RUNS}
            ).fetchall()
            or conn.execute(_LEFT + " limit %(batch)s", {**values, "batch": _RUNS}).fetchall()
        )
        runs = [run_id for _, run_id, _ in rows]
        of_these = {**values, "runs": runs}
        conn.execute(_KEEP, of_these)
        ((events,),) = conn.execute(_DELETE_EVENTS, of_these).fetchall()
        conn.execute("delete from geo.contracts where run_id = any(%(runs)s)", of_these)
        conn.execute("delete from geo.stood_aside where run_id = any(%(runs)s)", of_these)
        conn.execute("delete from dagster.runs where run_id = any(%(runs)s)", of_these)
    return Extent(len(runs), events + sum(size for _, _, size in rows))


def ended_runs(conn: psycopg.Connection[Any], age: timedelta, repository: str) -> set[str]:
    """The runs that `delete_runs` would delete."""
    return {run_id for _, run_id, _ in conn.execute(_ENDED, _of_runs(age, repository)).fetchall()}


def known_runs(conn: psycopg.Connection[Any], names: Iterable[str]) -> set[str]:
    """Those of these runs that Dagster has."""
    rows = conn.execute("select run_id::text from dagster.runs where run_id = any(%s)", (sorted(names),))
    return {run_id for (run_id,) in rows.fetchall()}


def purged_runs(conn: psycopg.Connection[Any], names: Iterable[str]) -> set[str]:
    """Those of these runs that were deleted because of their age."""
    rows = conn.execute("select run_id from geo.purged_runs where run_id = any(%s)", (sorted(names),))
    return {run_id for (run_id,) in rows.fetchall()}


def over(conn: psycopg.Connection[Any], names: Iterable[str]) -> set[str]:
    """Those of these runs that ended an hour ago: their processes have said their last word. One that nobody here
    knows may be another installation's.
    """
    found = purged_runs(conn, names)
    if has_dagster(conn):
        rows = conn.execute(
            """select run_id::text from dagster.runs
                where run_id = any(%s) and status in ('SUCCESS', 'FAILURE', 'CANCELED')
                  and to_timestamp(end_time) < now() - interval '1 hour'""",
            (sorted(names),),
        )
        found |= {run_id for (run_id,) in rows.fetchall()}
    return found


def count_contracts(conn: psycopg.Connection[Any], age: timedelta) -> Extent:
    """What runs passed to their own steps so long ago."""
    return _count(conn, _OLD_CONTRACTS, {"age": age})


def delete_contracts(conn: psycopg.Connection[Any], age: timedelta) -> Extent:
    """Delete them."""
    return _delete(conn, _OLD_CONTRACTS, {"age": age})


def count_messages(conn: psycopg.Connection[Any], age: timedelta) -> Extent:
    """Messages that were dealt with so long ago, and whose bytes are still there."""
    return _extent(conn, _COUNT_MESSAGES, {"age": age})


def archive_messages(conn: psycopg.Connection[Any], age: timedelta) -> Extent:
    """Delete the bytes of some of these messages, and what is quoted of them. The records stay: by them a message that
    comes again is known.
    """
    with conn.transaction():
        rows = conn.execute(_TAKE_MESSAGES, {"age": age, "batch": _MESSAGES}).fetchall()
        these = [message_id for message_id, _ in rows]
        conn.execute(
            "update geo.messages set body = '', head = '', archived_at = now() where message_id = any(%s)", (these,)
        )
        conn.execute(
            "update geo.errors set excerpt = null where message_id = any(%s) and excerpt is not null", (these,)
        )
    return Extent(len(these), sum(size for _, size in rows))


def count_steps(conn: psycopg.Connection[Any]) -> Extent:
    """Steps of processes that died, of jobs that have ended."""
    return _count(conn, _DEAD_STEPS, {"silent": _SILENT})


def delete_steps(conn: psycopg.Connection[Any]) -> Extent:
    """Delete them."""
    return _delete(conn, _DEAD_STEPS, {"silent": _SILENT})


def _count(conn: psycopg.Connection[Any], rows: LiteralString, values: Mapping[str, Any]) -> Extent:
    return _extent(
        conn,
        sql.SQL("select count(*)::int, coalesce(sum(pg_column_size(r.*)), 0)::bigint from {}").format(sql.SQL(rows)),
        values,
    )


def _delete(conn: psycopg.Connection[Any], rows: LiteralString, values: Mapping[str, Any]) -> Extent:
    query = sql.SQL(
        """with gone as (delete from {} returning pg_column_size(r.*) as bytes)
           select count(*)::int, coalesce(sum(bytes), 0)::bigint from gone"""
    ).format(sql.SQL(rows))
    with conn.transaction():
        return _extent(conn, query, values)


def _of_runs(age: timedelta, repository: str) -> dict[str, Any]:
    return {"age": age, "repository": repository, "of_assets": _OF_ASSETS, "silent": _SILENT}


def _extent(conn: psycopg.Connection[Any], query: LiteralString | sql.Composed, values: Mapping[str, Any]) -> Extent:
    ((count, size),) = conn.execute(query, values).fetchall()
    return Extent(count, size)
