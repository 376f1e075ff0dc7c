"""Tables that wait for their job's gate: with `on_error: fail` nothing is published before every file is known to be
good.

Here: moving loaded tables to the schema `vector_waiting`, publishing them after the gate, dropping those that no task
refers to any more.
Not here: loading (`vector_load.py`), the gate (`catalogue.py`).

A table is moved there, and published, in the same transaction that records it in the ledger. A table that still waits
when its job ends is kept, as a COG is: the next attempt publishes it without loading it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Literal

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, ValidationError

from geo_assets.database.connections import connect
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.file_stages import TABLES
from geo_assets.ledger import waiting_tables
from geo_assets.ledger.models import Work
from geo_assets.outcomes import FetchedFile, Outputs, Receipt, read_receipt
from geo_assets.stages.bad_files import end_badly
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.vector_load import LoadOptions, Origin, Part, loaded_of, publish_parts
from geo_assets.vector.models import LayerPlan
from geo_assets.vector.tables.publish import PublishedTable
from geo_assets.vector.tables.staging import WAITING_SCHEMA, StagedTable, set_aside

#: Tables per transaction: each dropped table holds some locks until the commit, and PostgreSQL has room for some
#: thousands.
_DROPPED_AT_ONCE = 20


class WaitingTable(BaseModel):
    """The data that publishing a table needs beyond the job's parameters. Versioned as a receipt is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[1] = 1
    plan: LayerPlan
    staged: StagedTable
    key: tuple[str, ...]


def wait(
    context: StageContext,
    job: JobRef,
    work: Work,
    parts: Sequence[Part],
    *,
    outputs: Outputs,
    receipt: Receipt,
) -> None:
    """Keep the tables of a source waiting, and mark its task as converted, in one transaction."""
    with context.load_database.connection() as conn, conn.transaction():
        _drop(conn, waiting_tables.of_task(conn, job.job_id, TABLES, work.task_key))
        for position, part in enumerate(parts):
            entry = WaitingTable(plan=part.plan, staged=set_aside(conn, part.staged), key=part.key)
            waiting_tables.add(
                conn,
                job.job_id,
                TABLES,
                work.task_key,
                table=part.staged.staging_name,
                position=position,
                load=entry.model_dump(mode="json", exclude={"plan": {"changed"}}),
            )
        context.tasks.convert(conn, job.job_id, job.run_id, TABLES, work.task_key, outputs=outputs, receipt=receipt)


def unreadable(context: StageContext, job: JobRef) -> list[str]:
    """The tasks whose waiting tables this release cannot read, because another release recorded them."""
    with connect(context.settings) as conn:
        loads = waiting_tables.loads_of_job(conn, job.job_id, TABLES)
    return sorted({key for key, load in loads if not _is_readable(load)})


def _is_readable(load: Any) -> bool:
    try:
        WaitingTable.model_validate(load)
    except ValidationError:
        return False
    return True


def publish_waiting_tables(
    context: StageContext,
    job: JobRef,
    origin_of: Callable[[StageContext, JobRef, Work, Sequence[FetchedFile]], Origin],
    options: LoadOptions,
) -> int:
    """Publish every waiting table of the job, those of a source in one commit; returns how many.

    Raises:
        GeoAssetsError: as raised by publication. If the error is permanent, the next attempt loads the file again.
    """
    if job.stood_aside:
        return 0
    with connect(context.settings) as conn:
        rows = waiting_tables.of_run(conn, job.job_id, job.run_id)
    for _, tables in groupby(rows, lambda row: row["task_key"]):
        of_source = list(tables)
        work, fetched = Work.model_validate(of_source[0]), read_receipt(TABLES, of_source[0]["receipt"]).input
        try:
            _publish(context, job, work, of_source, origin_of(context, job, work, fetched), options)
        except GeoAssetsError as error:
            if error.error_class is not ErrorClass.TRANSIENT and error.code != "LEASE_LOST":
                end_badly(context, job, TABLES, work.task_key, error)
            raise
    return len(rows)


def _publish(
    context: StageContext,
    job: JobRef,
    work: Work,
    rows: Sequence[dict[str, Any]],
    origin: Origin,
    options: LoadOptions,
) -> None:
    """Publish the waiting tables of a source, and record them in its task."""
    waiting = [WaitingTable.model_validate(row["load"]) for row in rows]
    parts = [Part(each.plan, each.staged, each.key) for each in waiting]

    def settle(conn: psycopg.Connection[Any], done: Sequence[PublishedTable]) -> None:
        waiting_tables.settle(
            conn,
            job.job_id,
            job.run_id,
            TABLES,
            work.task_key,
            tables=[row["table_name"] for row in rows],
            entries=[loaded.entry() for loaded in loaded_of(parts, done)],
        )

    publish_parts(context.load_database, origin, options, parts, settle=settle)


def sweep_waiting_tables(conn: psycopg.Connection[Any]) -> list[str]:
    """Drop the waiting tables whose task does not need them any more: its source changed, or it failed.

    Args:
        conn: not in a transaction.
    """
    swept: list[str] = []
    while True:
        with conn.transaction():
            names = waiting_tables.given_up(conn, _DROPPED_AT_ONCE)
            _drop(conn, names)
        swept += names
        if len(names) < _DROPPED_AT_ONCE:
            return swept


def _drop(conn: psycopg.Connection[Any], tables: list[str]) -> None:
    for table in tables:
        both = sql.SQL(", ").join(sql.Identifier(WAITING_SCHEMA, name) for name in (table, f"{table}r"))
        conn.execute(sql.SQL("drop table if exists {}").format(both))
    waiting_tables.remove(conn, tables)
