"""Staged tables: complete, but not published yet.

Here: their names, and removing those that will not be published. Not here: making one (`load.py`), publishing it
(`publish.py`, `merge.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import StreamReport
from geo_assets.vector.names import MAX_TABLE_NAME_BYTES
from geo_assets.vector.tables.introspection import SCHEMA, run

#: The schema into which tables are loaded.
STAGING_SCHEMA = "vector_staging"

#: The schema of loaded tables that wait to be published; not for readers.
WAITING_SCHEMA = "vector_waiting"

_TABLE_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class StagedTable:
    """A table in `vector_staging`, complete but not published."""

    staging_name: str
    table: str  # its future name in `vector`
    rows: int
    srid: int  # 0 without geometry
    geometry_type: str | None
    has_z: bool
    report: StreamReport
    features: int = 0  # in the source: rows + rejected + filtered
    columns: tuple[str, ...] = ()  # attributes, in order
    rejects_name: str | None = None  # where there are rejected features
    home: str = STAGING_SCHEMA


def check_table_name(table: str) -> None:
    """Refuse a name that `names.table_name` would not return.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    if not _TABLE_NAME.fullmatch(table) or len(table) > MAX_TABLE_NAME_BYTES or "__" in table:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{table[:80]!r} is not a table name: at most {MAX_TABLE_NAME_BYTES} of a-z, 0-9 and single _, not starting"
            " with a digit",
            remedy="choose a plain name, for example vector.roads",
        )


def staging_lock(suffix: str) -> sql.Composed:
    """Return the number of the lock that marks an attempt's staged tables as in use."""
    return sql.SQL("hashtextextended({}, 0)").format(sql.Literal(f"geo_assets:staging:{suffix}"))


def staged_table(name: str) -> sql.Identifier:
    """Return the identifier of a table of `vector_staging`."""
    return sql.Identifier(STAGING_SCHEMA, name)


def text_literal(value: str) -> sql.Literal:
    """Return text that PostgreSQL accepts: without NUL and lone surrogates."""
    return sql.Literal(value.replace("\0", "").encode("utf-8", "replace").decode())


def set_aside(conn: psycopg.Connection[Any], staged: StagedTable) -> StagedTable:
    """Move a staged table to where it is not swept, in the caller's transaction; the caller then owns it."""
    for name in filter(None, (staged.staging_name, staged.rejects_name)):
        run(
            conn,
            sql.SQL("alter table {} set schema {}").format(
                sql.Identifier(staged.home, name), sql.Identifier(WAITING_SCHEMA)
            ),
        )
    return replace(staged, home=WAITING_SCHEMA)


@contextmanager
def discarded_on_failure(conn: psycopg.Connection[Any], staged: Sequence[StagedTable]) -> Iterator[None]:
    """Discard staged tables if their publication fails; those that were set aside stay."""
    for table in staged:
        check_table_name(table.table)
        if conn.info.transaction_status != TransactionStatus.IDLE:
            raise GeoAssetsError(
                "INTERNAL", f"{SCHEMA}.{table.table} cannot be published from within another transaction"
            )
    try:
        yield
    except BaseException:
        for table in staged:
            if not conn.broken and table.home != WAITING_SCHEMA:
                discard(conn, table)
        raise


def discard(conn: psycopg.Connection[Any], staged: StagedTable) -> None:
    """Drop a staged table; harmless if it is gone."""
    with conn.transaction():
        for name in filter(None, (staged.staging_name, staged.rejects_name)):
            run(conn, sql.SQL("drop table if exists {}").format(sql.Identifier(staged.home, name)))


def sweep(conn: psycopg.Connection[Any]) -> list[str]:
    """Drop what killed processes left in `vector_staging`: a running process holds the lock of its suffix.

    Args:
        conn: not in a transaction.
    """
    swept = []
    with conn.transaction():
        names = _staged(conn)
    for name in names:
        with conn.transaction():
            if _is_left(conn, name):
                run(conn, sql.SQL("drop table if exists {}").format(sql.Identifier(STAGING_SCHEMA, name)))
                swept.append(name)
    return swept


def left_over(conn: psycopg.Connection[Any]) -> list[str]:
    """What killed processes left in `vector_staging`; locked until the transaction ends."""
    return [name for name in _staged(conn) if _is_left(conn, name)]


def _staged(conn: psycopg.Connection[Any]) -> list[str]:
    query = "select tablename from pg_tables where schemaname = %(schema)s"
    return [str(name) for (name,) in run(conn, query, schema=STAGING_SCHEMA)]


def _is_left(conn: psycopg.Connection[Any], name: str) -> bool:
    """Whether no process holds the lock of a staged table; rejects have an r after their table's suffix, which may
    itself end in r.
    """
    suffix = name.rpartition("__")[2]
    locks = [
        sql.SQL("pg_try_advisory_xact_lock({})").format(staging_lock(s)) for s in {suffix, suffix.removesuffix("r")}
    ]
    return all(run(conn, sql.SQL("select {}").format(lock))[0][0] for lock in locks)
