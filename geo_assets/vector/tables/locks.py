"""Locks of a published table: publishers queue by table name, and retry while others hold the table.

Here: the transaction that is retried, and its limits. Not here: what is done in it (`publish.py`, `merge.py`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import psycopg

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.tables.introspection import SCHEMA, first_line, run

T = TypeVar("T")

#: Milliseconds; with a longer wait, readers that queue behind us would notice.
_LOCK_TIMEOUT_MS = 2000

_ATTEMPTS = 8
_LONGEST_PAUSE_SECONDS = 1.0


class Changed(Exception):  # noqa: N818 - an event inside this module
    """A view was created or dropped while its table was being locked."""


_CONTENDED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, Changed)


def retry_while_locked(conn: psycopg.Connection[Any], table: str, work: Callable[[], T]) -> T:
    """Run `work` in a transaction; retry while others hold the table's lock.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE, they do not release it; SCHEMA_MISMATCH, the table is not ours.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.02, min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**attempt)))  # noqa: S311 - jitter
        try:
            with conn.transaction():
                return work()
        except _CONTENDED:
            continue
        except psycopg.errors.InsufficientPrivilege as error:
            raise GeoAssetsError(
                "SCHEMA_MISMATCH",
                f"{SCHEMA}.{table} cannot be replaced: {first_line(error)}",
                remedy="let its owner drop it or what depends on it",
            ) from error
    raise GeoAssetsError(
        "DATABASE_UNAVAILABLE",
        f"{SCHEMA}.{table} was locked by others {_ATTEMPTS} times for {_LOCK_TIMEOUT_MS / 1000:g} s",
        remedy="end the session that holds it, then submit again",
    )


def lock_names(conn: psycopg.Connection[Any], tables: Iterable[str]) -> None:
    """Wait for the other publishers of some tables, before any lock timeout applies: everybody in the same order, so
    that no two wait for each other.
    """
    keys = [f"geo_assets:{SCHEMA}.{table}" for table in sorted(tables)]
    run(
        conn,
        "select pg_advisory_xact_lock(hashtextextended(key, 0)) from unnest(%(keys)s::text[]) with ordinality"
        " as named (key, place) order by place",
        keys=keys,
    )
    run(conn, "select set_config('lock_timeout', %(limit)s, true)", limit=str(_LOCK_TIMEOUT_MS))


def lock_name(conn: psycopg.Connection[Any], table: str) -> None:
    """Wait for the other publishers of a table, as `lock_names`."""
    lock_names(conn, [table])
