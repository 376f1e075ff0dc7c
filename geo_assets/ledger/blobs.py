"""Blobs that may be orphaned: recorded before they are uploaded and when nothing refers to them any more, and deleted
only from here.

Here: statements on `geo.loose_blobs`. Not here: which store they are in (`stages/orphans.py`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import psycopg

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.backup import may_delete
from geo_assets.text import batched

#: Blobs that are locked at a time: an upload of one of them waits until all are deleted.
_BATCH = 10

#: Deletes a blob; raises GeoAssetsError where it cannot.
Delete = Callable[[str], None]


def announce(conn: psycopg.Connection[Any], blobs: Sequence[str], run_id: str) -> None:
    """Record blobs that are about to be uploaded; waits while another process deletes one of them."""
    conn.execute(
        """insert into geo.loose_blobs (blob, run_id) select unnest(%s::text[]), %s
           on conflict (blob) do update set since = now(), run_id = excluded.run_id""",
        (sorted(blobs), run_id),
    )


def note(conn: psycopg.Connection[Any], names: Sequence[str]) -> None:
    """Record blobs of which the ledger never knew; those that a run has announced stay that run's."""
    conn.execute(
        "insert into geo.loose_blobs (blob) select unnest(%s::text[]) on conflict do nothing", (sorted(names),)
    )


def sweep(
    conn: psycopg.Connection[Any], delete: Delete, *, grace: timedelta, limit: int = 1000, seconds: float = math.inf
) -> int:
    """Delete blobs that nothing has referred to for longer than `grace`, the oldest first; returns how many. Stops if a
    store does not answer, and while a backup copies blobs.

    A blob that cannot be deleted is tried again after another grace period, and does not delay the others.

    Args:
        conn: not in a transaction; of tuples.
        delete: deletes a blob.
        grace: how long a blob may be unreferenced.
        limit: most that are looked at.
        seconds: no further blobs are looked at after this time.
    """
    until, seen, deleted, away = time.monotonic() + seconds, 0, 0, False
    with conn.transaction():
        ((before,),) = conn.execute("select now() - %s::interval", (grace,)).fetchall()
    while seen < limit and not away and time.monotonic() < until:
        with conn.transaction():
            if not may_delete(conn):
                break
            rows = conn.execute(
                """select blob, geo.is_named(blob) from geo.loose_blobs where since <= %s
                    order by since limit %s for update skip locked""",
                (before, _BATCH),
            ).fetchall()
            gone, away = _settle(conn, delete, rows)
        if not rows:
            break
        seen, deleted = seen + len(rows), deleted + gone
    return deleted


def count_loose(conn: psycopg.Connection[Any], *, grace: timedelta) -> int:
    """How many blobs nothing has referred to for longer than `grace`."""
    ((count,),) = conn.execute(
        "select count(*) from geo.loose_blobs where since <= now() - %s::interval and not geo.is_named(blob)", (grace,)
    ).fetchall()
    return int(count)


def sweep_these(conn: psycopg.Connection[Any], delete: Delete, names: Iterable[str]) -> int:
    """As `sweep`, for these blobs and without grace; not those that a run is about to upload."""
    deleted = 0
    for batch in batched(sorted(names), _BATCH):
        with conn.transaction():
            if not may_delete(conn):
                break
            rows = conn.execute(
                """select blob, geo.is_named(blob) from geo.loose_blobs where blob = any(%s) and run_id is null
                    order by blob for update skip locked""",
                (list(batch),),
            ).fetchall()
            gone, away = _settle(conn, delete, rows)
        deleted += gone
        if away:
            break
    return deleted


def loose_among(conn: psycopg.Connection[Any], names: Sequence[str]) -> list[str]:
    """Those of these blobs that are yet to be deleted, or found to be named."""
    rows = conn.execute("select blob from geo.loose_blobs where blob = any(%s) order by blob", (list(names),))
    return [row[0] for row in rows.fetchall()]


def _settle(conn: psycopg.Connection[Any], delete: Delete, rows: Sequence[tuple[str, bool]]) -> tuple[int, bool]:
    """Delete the blobs of locked rows; returns (how many were deleted, whether their store does not answer)."""
    settled, deleted, away = [], 0, False
    for blob, named in rows:
        if not named:
            try:
                delete(blob)
            except GeoAssetsError as error:
                logging.getLogger(__name__).warning("%s could not be deleted; it is tried again: %s", blob, error.code)
                conn.execute("update geo.loose_blobs set since = now() where blob = %s", (blob,))
                if error.code == "STORAGE_UNAVAILABLE":
                    away = True
                    break
                continue
            deleted += 1
        settled.append(blob)
    conn.execute("delete from geo.loose_blobs where blob = any(%s)", (settled,))
    return deleted, away
