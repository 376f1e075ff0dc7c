"""Orphans: finished or unfinished outputs that no task and no published item refers to any more.

Here: deleting such blobs and tables; at once when an output was replaced or retired, otherwise by the janitor after a
grace period.
Not here: finding outputs that the ledger never knew of (`reconcile.py`), and when those are deleted (`repair.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import psycopg
from obstore.exceptions import BaseError

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import blobs, loose_tables, tombstones, waiting_tables
from geo_assets.settings import Settings
from geo_assets.stages.abandoned_tables import sweep_abandoned_tables
from geo_assets.stages.waiting_tables import sweep_waiting_tables
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import open_container
from geo_assets.vector.tables.staging import left_over as left_staged
from geo_assets.vector.tables.staging import sweep as sweep_staged

#: A tick of the janitor has a minute, and has other work to do.
_SECONDS = 20.0


def sweep_orphans(settings: Settings, *, grace: timedelta | None = None) -> int:
    """Delete blobs that have been orphaned for longer than the grace period, and tables that no process works on;
    returns how many.

    Args:
        settings: the database, the accounts and the grace period.
        grace: instead of the settings'.
    """
    return sweep_tables(settings) + sweep_old_blobs(settings, grace=grace)


def sweep_tables(settings: Settings) -> int:
    """Drop tables that no process works on and no task refers to; returns how many."""
    with connect(settings) as conn:
        return (
            _tried(conn, lambda: len(sweep_staged(conn)))
            + _tried(conn, lambda: len(sweep_waiting_tables(conn)))
            + _tried(conn, lambda: sweep_abandoned_tables(conn))
        )


def count_tables(settings: Settings) -> int:
    """How many tables are there to be dropped, as far as can be told without their locks."""
    with connect(settings) as conn, conn.transaction():
        return len(left_staged(conn)) + waiting_tables.count_given_up(conn) + loose_tables.count(conn)


def sweep_old_blobs(settings: Settings, *, grace: timedelta | None = None) -> int:
    """Delete blobs that have been orphaned for longer than the grace period; returns how many."""
    with connect(settings) as conn:
        swept = _tried(
            conn,
            lambda: blobs.sweep(
                conn, lambda blob: _delete(settings, blob), grace=_patience(settings, grace), seconds=_SECONDS
            ),
        )
        with conn.transaction():
            tombstones.settle(conn)
    return swept


def count_blobs(settings: Settings) -> int:
    """How many blobs have been orphaned for longer than the grace period."""
    with connect(settings) as conn, conn.transaction():
        return blobs.count_loose(conn, grace=_patience(settings, None))


def _patience(settings: Settings, grace: timedelta | None) -> timedelta:
    return timedelta(hours=settings.orphan_grace_hours) if grace is None else grace


def _tried(conn: psycopg.Connection[Any], sweep: Callable[[], int]) -> int:
    """Run one sweep; its failure does not prevent the others."""
    try:
        return sweep()
    except psycopg.Error as error:
        if conn.broken:
            raise
        logging.getLogger(__name__).warning("orphans could not be deleted; the next tick tries again: %s", error)
        return 0


def sweep_blobs(settings: Settings, names: Iterable[str]) -> int:
    """Delete those of these blobs that are orphaned; the janitor deletes later what cannot be deleted now."""
    wanted = set(names)
    if not wanted:
        return 0
    with connect(settings) as conn:
        return blobs.sweep_these(conn, lambda blob: _delete(settings, blob), wanted)


def delete_unknown(settings: Settings, names: Iterable[str]) -> set[str]:
    """Delete blobs of which the ledger never knew, unless one is named by now; returns those that are left: a run is
    about to publish one, or its store refuses. The janitor asks again after the grace period.
    """
    wanted = sorted(names)
    with connect(settings) as conn, conn.transaction():
        blobs.note(conn, wanted)
    sweep_blobs(settings, wanted)
    with connect(settings) as conn:
        return set(blobs.loose_among(conn, wanted))


def _delete(settings: Settings, blob: str) -> None:
    ref = BlobRef.parse(blob)
    try:
        open_container(settings, ref.alias, ref.container, hasty=True).delete(ref.path)
    except (BaseError, OSError) as error:
        raise GeoAssetsError("INTERNAL", f"{blob} could not be deleted: {type(error).__name__}") from error
