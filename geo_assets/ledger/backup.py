"""What a backup and its restoration ask of the ledger.

Here: holding back deletions of blobs, where the blobs are that rows name, whether a database holds anything. Not here:
the backup (`backup/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

#: Of the whole database: whoever deletes blobs shares it, a backup has it alone.
_DELETIONS: LiteralString = "hashtextextended('geo_assets:deletions', 0)"

#: Schemas of the migrator in which objects are the pipeline's.
_SHARED = ("geo", "vector", "vector_staging", "vector_versions", "vector_waiting")

#: All that is ours in a database, beside extensions.
_SCHEMAS = (*_SHARED, "dagster", "pgstac")

#: A schema without anything in it, which is there until a restoration is complete; its comment names the backup.
RESTORING = "geo_restoring"

#: What a person would miss.
_HOLDS = {"geo.jobs": "jobs", "geo.messages": "messages", "pgstac.items": "items"}


def hold_deletions(conn: psycopg.Connection[Any]) -> None:
    """Let nobody delete a blob until this session ends; waits for those who are deleting now.

    Args:
        conn: with autocommit.
    """
    conn.execute("select pg_advisory_lock(" + _DELETIONS + ")")


def may_delete(conn: psycopg.Connection[Any]) -> bool:
    """Whether blobs may be deleted in this transaction: not while a backup copies them."""
    ((may,),) = conn.execute("select pg_try_advisory_xact_lock_shared(" + _DELETIONS + ")").fetchall()
    return bool(may)


def note_named(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """Note the blobs that rows name, for this session; returns how many are in each alias/container."""
    conn.execute(
        """create temporary table named as
           select distinct blob, split_part(blob, '/', 1) || '/' || split_part(blob, '/', 2) as container
             from (select unnest(geo.blobs_of(outputs)) as blob from geo.published
                   union all select blob from geo.collection_files) as of_rows"""
    )
    conn.execute("alter table named add primary key (blob)")
    return dict(conn.execute("select container, count(*) from named group by 1").fetchall())


def strike_out(conn: psycopg.Connection[Any], blobs: Sequence[str]) -> None:
    """Blobs that were copied are no longer among those that are named and missing."""
    conn.execute("delete from named where blob = any(%s)", (list(blobs),))


def missing(conn: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """(alias/container, blob) of those that rows name and that were not copied."""
    return conn.execute("select container, blob from named order by blob").fetchall()


def jobs_at_work(conn: psycopg.Connection[Any]) -> int:
    """How many jobs a run owns."""
    ((count,),) = conn.execute("select count(*)::int from geo.jobs where lease_run_id is not null").fetchall()
    return int(count)


def held(conn: psycopg.Connection[Any]) -> list[str]:
    """What a database holds that restoring would destroy, in words; empty for one that was only just made."""
    found = []
    for table, what in _HOLDS.items():
        if _is_there(conn, table) and conn.execute(sql.SQL("select from {} limit 1").format(sql.SQL(table))).fetchall():
            found.append(what)
    tables = conn.execute("select from pg_tables where schemaname = 'vector' limit 1").fetchall()
    return [*found, *(["tables"] if tables else [])]


def unfinished(conn: psycopg.Connection[Any]) -> str | None:
    """The backup, as `prepare` was told it, whose restoration began and did not end; None if there is none."""
    ((said,),) = conn.execute("select obj_description(to_regnamespace(%s), 'pg_namespace')", (RESTORING,)).fetchall()
    return None if said is None else str(said)


def hold_still(conn: psycopg.Connection[Any]) -> None:
    """Let nobody add to what a database holds until this transaction ends."""
    for table in _HOLDS:
        if _is_there(conn, table):
            conn.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(table)))


def sessions(conn: psycopg.Connection[Any], role: str) -> list[str]:
    """The programs that are connected to the database with a role, by their names."""
    rows = conn.execute(
        """select distinct application_name from pg_stat_activity
            where datname = current_database() and usename = %s and pid <> pg_backend_pid() order by 1""",
        (role,),
    )
    return [name for (name,) in rows.fetchall()]


def prepare(conn: psycopg.Connection[Any], backup: str) -> None:
    """Drop all that is ours, so that it can be restored, and note of which backup. The schemas in which objects are the
    pipeline's are made already: it becomes the owner of each object before it has its rights again, and an owner must
    have had that of creating some.
    """
    with conn.transaction():
        names = sql.SQL(", ").join(map(sql.Identifier, (*_SCHEMAS, RESTORING)))
        conn.execute(sql.SQL("drop schema if exists {} cascade").format(names))
        conn.execute("drop table if exists public.geo_migrations")
        conn.execute("drop function if exists public.pgstac_admin_owns()")  # pgstac's own migration leaves it there
        for name in map(sql.Identifier, _SHARED):
            conn.execute(sql.SQL("create schema {}").format(name))
        shared = sql.SQL(", ").join(map(sql.Identifier, (*_SHARED, "public")))
        conn.execute(sql.SQL("grant create on schema {} to geo_pipeline").format(shared))
        mark = sql.Identifier(RESTORING)
        conn.execute(sql.SQL("create schema {0}; comment on schema {0} is {1}").format(mark, sql.Literal(backup)))


def complete(conn: psycopg.Connection[Any]) -> None:
    """Take back what `prepare` granted beyond what was restored, and give the feed of changes a new name: a mirror that
    has seen more than was restored must copy all anew. That ends a restoration.
    """
    with conn.transaction():
        conn.execute(sql.SQL("drop schema {}").format(sql.Identifier(RESTORING)))
        conn.execute("revoke create on schema geo from geo_pipeline")
        conn.execute("update geo.change_feed set feed = default")


def _is_there(conn: psycopg.Connection[Any], table: str) -> bool:
    ((there,),) = conn.execute("select to_regclass(%s) is not null", (table,)).fetchall()
    return bool(there)
