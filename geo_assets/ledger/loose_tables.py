"""Abandoned (loose) tables: recorded when an item or a task stops referring to them, removed from the record when they
are dropped or used again.

Here: statements on `geo.loose_tables`, and what refers to a table. Not here: dropping tables
(`stages/abandoned_tables.py`). All work on a connection of the caller's, within its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row, scalar_row

#: Whether its item names it, a task will register it, or its source is being loaded and may need it again.
_STANDING = """
with source as (select account, container, path, collection from geo.table_names where table_name = %(name)s),
     jobs as (select j.job_id, s.path from source s join geo.jobs j on
                     (j.parameters->>'account', j.parameters->>'container', j.parameters->>'collection')
                     = (s.account, s.container, s.collection)),
     published as (select from jobs join geo.published p using (job_id)
                    where p.outputs->'tables' @> jsonb_build_array(jsonb_build_object('table', %(label)s::text))),
     unfinished as (select from jobs join geo.tasks t
                        on t.job_id = jobs.job_id and t.stage = %(stage)s and t.task_key = jobs.path
                     where t.listed and t.status in ('pending', 'running', 'cancelled')
                       and (t.status <> 'cancelled' or t.receipt is not null))
select exists (select from source) as is_known, exists (select from published) as is_published,
       exists (select from unfinished) as is_unfinished
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What refers to a table."""

    is_known: bool  # its name is a source's
    is_published: bool  # an item names it
    is_unfinished: bool  # its source is being loaded, or waits to be registered


def oldest(conn: psycopg.Connection[Any], limit: int) -> list[str]:
    """The tables that have been loose for longest, as schema.name."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute("select table_name from geo.loose_tables order by since limit %s", (limit,)).fetchall()


def count(conn: psycopg.Connection[Any]) -> int:
    """How many tables are loose."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute("select count(*) from geo.loose_tables").fetchall()[0])


def standing(conn: psycopg.Connection[Any], label: str, *, stage: str) -> Standing:
    """Find what refers to a table.

    Args:
        conn: of the transaction.
        label: schema.name
        stage: whose tasks load tables.
    """
    with conn.cursor(row_factory=class_row(Standing)) as cursor:
        values = {"name": label.partition(".")[2], "label": label, "stage": stage}
        (found,) = cursor.execute(_STANDING, values).fetchall()
    return found


def postpone(conn: psycopg.Connection[Any], label: str) -> None:
    """Record that it could not be dropped: it is tried again after the others."""
    conn.execute("update geo.loose_tables set since = now() where table_name = %s", (label,))


def forget(conn: psycopg.Connection[Any], label: str) -> None:
    """Remove it from the record: it was dropped, or something refers to it again."""
    conn.execute("delete from geo.loose_tables where table_name = %s", (label,))
