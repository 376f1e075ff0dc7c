"""Leftovers: what was put out, or begun, and is named by nobody any more.

Here: deleting such blobs and tables, at once where something was replaced or retired, and after a grace period by the janitor.
Not here: finding what nobody ever knew of (`reconcile.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta

from obstore.exceptions import BaseError

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import blobs
from geo_assets.settings import Settings
from geo_assets.stages.waiting import sweep_waiting
from geo_assets.storage.containers import BlobRef, open_container
from geo_assets.vector.publish import sweep as sweep_staged


def sweep_leftovers(settings: Settings, *, grace: timedelta | None = None) -> int:
    """Delete what has been without a name for longer than the grace period, and tables that nobody is at work on; returns how many.

    Args:
        settings: the database, the accounts and the grace period.
        grace: instead of the settings'.
    """
    with connect(settings) as conn:
        swept = [*sweep_staged(conn), *sweep_waiting(conn)]
        patience = timedelta(hours=settings.orphan_grace_hours) if grace is None else grace
        return len(swept) + blobs.sweep(conn, lambda blob: _delete(settings, blob), grace=patience)


def sweep_blobs(settings: Settings, names: Iterable[str]) -> int:
    """Delete those of these blobs that nobody names any more; the janitor sees to those that cannot be deleted now."""
    wanted = sorted(set(names))
    if not wanted:
        return 0
    with connect(settings) as conn:
        return blobs.sweep(conn, lambda blob: _delete(settings, blob), grace=timedelta(0), only=wanted, limit=len(wanted))


def _delete(settings: Settings, blob: str) -> bool:
    ref = BlobRef.parse(blob)
    try:
        open_container(settings, ref.alias, ref.container).delete(ref.path)
    except (GeoAssetsError, BaseError, OSError) as error:
        logging.getLogger(__name__).warning("%s could not be deleted; it is tried again: %s", blob, type(error).__name__)
        return False
    return True
