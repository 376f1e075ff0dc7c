"""Published tables that go: of sources that are gone, of items that name them no longer, of tasks that never came to be
registered.

Here: dropping them, under the lock of their name. Not here: who gives a table up (`retire.py`, `catalogue.py`,
`ledger/tasks.py`), tables that were never published (`waiting.py`, `vector/tables/publish.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.stages.files import TABLES
from geo_assets.vector.tables.publish import lock_name, with_patience

#: Tables that one sweep looks at.
_MOST = 100

#: Who has to do with a table: its item names it, a task will register it, or its source is being loaded and may have it
#: again.
_STANDING = """
with source as (select account, container, path, collection from geo.table_names where table_name = %(name)s),
     jobs as (select j.job_id, s.path from source s join geo.jobs j on (j.parameters->>'account', j.parameters->>'container',
                     j.parameters->>'collection') = (s.account, s.container, s.collection)),
     published as (select from jobs join geo.published p using (job_id) where p.outputs->'tables' @> jsonb_build_array(jsonb_build_object('table', %(label)s::text))),
     unfinished as (select from jobs join geo.tasks t on t.job_id = jobs.job_id and t.stage = %(stage)s and t.task_key = jobs.path
                     where t.listed and t.status in ('pending', 'running', 'cancelled') and (t.status <> 'cancelled' or t.receipt is not null))
select exists (select from source), exists (select from published), exists (select from unfinished)
"""


def names_of(tables: Sequence[dict[str, Any]]) -> str:
    """What people are told is locked, as `with_patience` takes it."""
    return ", ".join(table["table"].partition(".")[2] for table in tables)


def drop_tables(conn: psycopg.Connection, tables: Sequence[dict[str, Any]], *, then: str = "then submit again") -> None:
    """Drop published tables with their rejects, in a transaction of the caller's (`with_patience`); their names are
    free again, and what was appended to them may be appended anew.

    Args:
        conn: of the transaction.
        tables: as a task puts them out.
        then: what is done after what depends on one of them was dropped.

    Raises:
        GeoAssetsError: SCHEMA_MISMATCH, something depends on one of them.
    """
    for label in sorted(table["table"] for table in tables):
        schema, _, name = label.partition(".")
        lock_name(conn, name)
        both = sql.SQL(", ").join(sql.Identifier(schema, part) for part in (name, f"{name}__rejects"))
        try:
            conn.execute(sql.SQL("drop table if exists {}").format(both))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise GeoAssetsError(
                "SCHEMA_MISMATCH",
                f"{label} is kept though its source has it no longer:"
                f" {' '.join((error.diag.message_detail or '').split())}",
                remedy=f"drop what depends on it, {then}",
            ) from error
        conn.execute("delete from geo.table_names where table_name = %s", (name,))
        conn.execute(
            "update geo.vector_loads set load_key = null where table_name = %s and load_key is not null", (label,)
        )


def sweep_loose_tables(conn: psycopg.Connection[Any]) -> int:
    """Drop the tables of tasks that gave them up, where nobody else stands behind them; returns how many.

    Args:
        conn: not in a transaction; of tuples.
    """
    dropped = 0
    with conn.transaction():
        rows = conn.execute("select table_name from geo.loose_tables order by since limit %s", (_MOST,)).fetchall()
    for (label,) in rows:
        try:
            dropped += drop_loose(conn, label)
        except GeoAssetsError as error:
            logging.getLogger(__name__).warning("%s could not be dropped; it is tried again: %s", label, error.message)
            with conn.transaction():  # it stands in nobody's way
                conn.execute("update geo.loose_tables set since = now() where table_name = %s", (label,))
            if error.code == "DATABASE_UNAVAILABLE":
                break  # its lock was waited for, and a tick is short
    return dropped


def drop_loose(conn: psycopg.Connection[Any], label: str) -> bool:
    """Drop a loose table unless somebody stands behind it; whether it was dropped.

    Args:
        conn: not in a transaction; of tuples.
        label: schema.name

    Raises:
        GeoAssetsError: SCHEMA_MISMATCH, something depends on it; DATABASE_UNAVAILABLE, others do not let go. It stays
            loose.
    """
    return with_patience(conn, names_of([{"table": label}]), partial(_drop_loose, conn, label))


def _drop_loose(conn: psycopg.Connection[Any], label: str) -> bool:
    name = label.partition(".")[2]
    lock_name(conn, name)
    ((is_known, is_published, is_unfinished),) = conn.execute(
        _STANDING, {"name": name, "label": label, "stage": TABLES}
    ).fetchall()
    if is_unfinished:
        return False
    drops = bool(is_known and not is_published)
    if drops:
        drop_tables(conn, [{"table": label}], then="and it goes by itself")
    conn.execute("delete from geo.loose_tables where table_name = %s", (label,))
    return drops
