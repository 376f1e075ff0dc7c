"""Loaded tables that wait for their job's gate, each with the data that its publication needs.

Here: statements on `geo.waiting_tables`. Not here: setting tables aside, publishing and dropping them
(`stages/waiting_tables.py`). All work on a connection of the caller's, within its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row, scalar_row, tuple_row
from psycopg.types.json import Jsonb

from geo_assets.ledger.lease import lease_lost
from geo_assets.outcomes import TableEntry


def add(
    conn: psycopg.Connection[Any], job_id: str, stage: str, task_key: str, *, table: str, position: int, load: Any
) -> None:
    """Record that a table of a task waits; `load` is the data that its publication needs."""
    conn.execute(
        "insert into geo.waiting_tables (table_name, job_id, stage, task_key, position, load)"
        " values (%s, %s, %s, %s, %s, %s)",
        (table, job_id, stage, task_key, position, Jsonb(load)),
    )


def of_run(conn: psycopg.Connection[Any], job_id: str, run_id: str) -> list[dict[str, Any]]:
    """The tables that a run may publish, with their tasks, in the order of files and layers."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """select w.table_name, w.load, t.task_key, t.kind, t.fingerprint, t.input, t.receipt
                 from geo.waiting_tables w join geo.tasks t using (job_id, stage, task_key)
                where w.job_id = %s and t.run_id = %s and t.listed and t.status = 'running' and t.receipt is not null
                order by w.task_key, w.position""",
            (job_id, run_id),
        ).fetchall()


def loads_of_job(conn: psycopg.Connection[Any], job_id: str, stage: str) -> list[tuple[str, Any]]:
    """(task key, load) of every table of a job that waits."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(
            "select task_key, load from geo.waiting_tables where job_id = %s and stage = %s", (job_id, stage)
        ).fetchall()


def of_task(conn: psycopg.Connection[Any], job_id: str, stage: str, task_key: str) -> list[str]:
    """The tables of a task; locked until the transaction ends."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(
            "select table_name from geo.waiting_tables where job_id = %s and stage = %s and task_key = %s for update",
            (job_id, stage, task_key),
        ).fetchall()


#: Their task does not need them any more: its source changed, or it failed.
_GIVEN_UP: LiteralString = """
 from geo.waiting_tables w
where not exists (select from geo.tasks t
                   where t.job_id = w.job_id and t.stage = w.stage and t.task_key = w.task_key
                     and t.receipt is not null and t.listed)"""


def given_up(conn: psycopg.Connection[Any], limit: int) -> list[str]:
    """Tables that their task no longer refers to; locked until the transaction ends."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute("select table_name" + _GIVEN_UP + " limit %s for update", (limit,)).fetchall()


def count_given_up(conn: psycopg.Connection[Any]) -> int:
    """How many tables their task no longer refers to."""
    with conn.cursor(row_factory=scalar_row) as cursor:
        return int(cursor.execute("select count(*)" + _GIVEN_UP).fetchall()[0])


def remove(conn: psycopg.Connection[Any], tables: list[str]) -> None:
    """Remove tables that no longer wait."""
    conn.execute("delete from geo.waiting_tables where table_name = any(%s)", (tables,))


def settle(
    conn: psycopg.Connection[Any],
    job_id: str,
    run_id: str,
    stage: str,
    task_key: str,
    *,
    tables: list[str],
    entries: Sequence[TableEntry],
) -> None:
    """In the publishing transaction: remove the tables of a task, and record in it what was published.

    Raises:
        GeoAssetsError: LEASE_LOST.
    """
    remove(conn, tables)
    changed = conn.execute(
        """update geo.tasks set outputs = jsonb_set(outputs, '{tables}', coalesce(outputs->'tables', '[]') || %s)
            where job_id = %s and run_id = %s and stage = %s and task_key = %s""",
        (Jsonb([entry.stored() for entry in entries]), job_id, run_id, stage, task_key),
    ).rowcount
    if changed != 1:
        raise lease_lost(job_id, run_id)
