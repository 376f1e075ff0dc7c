"""The file of each collection's items: where it is, and of which state of the items.

Here: statements on `geo.collection_files`. Not here: making the file (`stages/items_file.py`). All work on a connection
of the caller's, within its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class CollectionFile:
    """A collection's items as a file."""

    blob: str  # alias/container/path
    state: str  # a hash of the items that are in it


def find(conn: psycopg.Connection[Any], collection: str) -> CollectionFile | None:
    """The file of a collection."""
    with conn.cursor(row_factory=class_row(CollectionFile)) as cursor:
        return cursor.execute(
            "select blob, state from geo.collection_files where collection = %s", (collection,)
        ).fetchone()


def listed(conn: psycopg.Connection[Any], collections: Sequence[str] | None) -> dict[str, CollectionFile]:
    """Collection -> its file, of these collections or of all."""
    rows = conn.execute(
        """select collection, blob, state from geo.collection_files
            where %(of)s::text[] is null or collection = any(%(of)s) order by collection""",
        {"of": collections},
    )
    return {collection: CollectionFile(blob, state) for collection, blob, state in rows.fetchall()}


def publish(conn: psycopg.Connection[Any], collection: str, file: CollectionFile) -> None:
    """Make a file that of a collection; the one before it becomes loose."""
    conn.execute(
        """with named as (delete from geo.loose_blobs where blob = %(blob)s)
           insert into geo.collection_files (collection, blob, state) values (%(collection)s, %(blob)s, %(state)s)
               on conflict (collection) do update set blob = excluded.blob, state = excluded.state, at = now()""",
        {"collection": collection, "blob": file.blob, "state": file.state},
    )


def withdraw(conn: psycopg.Connection[Any], collection: str) -> None:
    """A collection has no file any more; the one that it had becomes loose."""
    conn.execute("delete from geo.collection_files where collection = %s", (collection,))
