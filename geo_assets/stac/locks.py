"""The locks of collections: whoever changes a collection, its items or what is published of them holds its lock.

Here: taking them. Not here: what is done under them (`pgstac.py`, `stages/`).

Who needs the locks of several collections takes them in the order of their names, before any row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

#: The key of a collection's lock.
_KEY = "hashtextextended('geo_assets:stac:' || %s, 0)"


def queue_up(conn: psycopg.Connection[Any], collection: str) -> None:
    """Lock the collection's items against changes by others until the transaction ends; so no writer waits for
    another's rows.
    """
    conn.execute(f"select pg_advisory_xact_lock({_KEY})", (collection,))


def queue_up_now(conn: psycopg.Connection[Any], collection: str) -> None:
    """As `queue_up`, but do not wait.

    Raises:
        psycopg.errors.LockNotAvailable: another holds the lock.
    """
    row = conn.execute(f"select pg_try_advisory_xact_lock({_KEY})", (collection,)).fetchone()
    if row != (True,):
        raise psycopg.errors.LockNotAvailable(f"{collection} is being changed by another")


@contextmanager
def alone(conn: psycopg.Connection[Any], collections: Iterable[str]) -> Iterator[None]:
    """Hold the locks of collections over several transactions: what one of them made room for stays until the last. All
    take them in one order, and before any row.
    """
    conn.commit()
    for collection in sorted(collections):
        conn.execute(f"select pg_advisory_lock({_KEY})", (collection,))
    conn.commit()
    yield  # if it fails, the connection is closed, and the locks end with it
    try:
        conn.execute("select pg_advisory_unlock_all()")
        conn.commit()
    except psycopg.Error:  # all is committed already
        conn.close()
