"""Abandoned tables: published tables whose source was deleted, whose item no longer refers to them, or whose task was
never registered. The database calls them loose (`geo.loose_tables`).

Here: dropping them, under the lock of their name. Not here: who abandons a table (`retire.py`, `catalogue.py`,
`ledger/tasks.py`), whether other tasks still use one (`ledger/loose_tables.py`), tables that were never published
(`waiting_tables.py`, `vector/tables/publish.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import TABLES
from geo_assets.ledger import loose_tables
from geo_assets.ledger.table_names import release_name
from geo_assets.ledger.vector_loads import forget_keys
from geo_assets.vector.tables.locks import lock_name, retry_while_locked
from geo_assets.vector.tables.publish import kept_tables

#: Tables per sweep.
_MOST = 100


def names_of(labels: Sequence[str]) -> str:
    """The names of the tables for the error message of `retry_while_locked`."""
    return ", ".join(label.partition(".")[2] for label in labels)


def drop_tables(conn: psycopg.Connection, labels: Sequence[str], *, then: str = "then submit again") -> None:
    """Drop published tables with their rejects and their kept versions, in the caller's transaction
    (`retry_while_locked`). Their names become free again, and files that were appended to them may be appended again.

    Args:
        conn: of the transaction.
        labels: schema.name of each.
        then: the rest of the remedy, if other objects depend on one of them.

    Raises:
        GeoAssetsError: SCHEMA_MISMATCH, something depends on one of them.
    """
    for label in sorted(labels):
        schema, _, name = label.partition(".")
        lock_name(conn, name)
        shown = [sql.Identifier(schema, part) for part in (name, f"{name}__rejects")]
        every = sql.SQL(", ").join([*shown, *kept_tables(conn, name)])
        try:
            conn.execute(sql.SQL("drop table if exists {}").format(every))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise GeoAssetsError(
                "SCHEMA_MISMATCH",
                f"{label} is kept although its source no longer has it:"
                f" {' '.join((error.diag.message_detail or '').split())}",
                remedy=f"drop what depends on it, {then}",
            ) from error
        release_name(conn, name)
        forget_keys(conn, label)


def sweep_abandoned_tables(conn: psycopg.Connection[Any]) -> int:
    """Drop abandoned tables that no other task or item uses; returns how many.

    Args:
        conn: not in a transaction.
    """
    dropped = 0
    with conn.transaction():
        labels = loose_tables.oldest(conn, _MOST)
    for label in labels:
        try:
            dropped += drop_abandoned(conn, label)
        except GeoAssetsError as error:
            logging.getLogger(__name__).warning("%s could not be dropped; it is tried again: %s", label, error.message)
            with conn.transaction():  # so that it does not block the others
                loose_tables.postpone(conn, label)
            if error.code == "DATABASE_UNAVAILABLE":
                break  # waiting for its lock took time, and a tick is short
    return dropped


def drop_abandoned(conn: psycopg.Connection[Any], label: str) -> bool:
    """Drop an abandoned table unless a task or item uses it; returns whether it was dropped.

    Args:
        conn: not in a transaction.
        label: schema.name

    Raises:
        GeoAssetsError: SCHEMA_MISMATCH, something depends on it; DATABASE_UNAVAILABLE, its lock was not released in
            time. The sweep tries it again.
    """
    return retry_while_locked(conn, names_of([label]), partial(_drop_abandoned, conn, label))


def _drop_abandoned(conn: psycopg.Connection[Any], label: str) -> bool:
    lock_name(conn, label.partition(".")[2])
    standing = loose_tables.standing(conn, label, stage=TABLES)
    if standing.is_unfinished:
        return False
    drops = standing.is_known and not standing.is_published
    if drops:
        drop_tables(conn, [label], then="and it is dropped automatically")
    loose_tables.forget(conn, label)
    return drops
