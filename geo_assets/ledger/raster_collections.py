"""Which collection takes rasters of which bands: decided once for each collection that is asked for.

Here: statements on `geo.raster_collections`. Not here: what bands have in common (`stac/bands.py`), loading items
(`stages/catalogue.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying

#: The first bands take the collection itself. Two that are first at the same time: one of the rows is not inserted.
_DECIDE = """
insert into geo.raster_collections (asked, bands, collection)
select %(asked)s, %(bands)s,
       case when exists (select from geo.raster_collections where asked = %(asked)s and collection = asked)
            then %(asked)s || '-' || %(bands)s else %(asked)s end
    on conflict do nothing
"""

#: Tries: the second one sees what the first one collided with.
_TRIES = 3


class RasterCollections:
    """The collections of rasters, by what their bands have in common."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    def decided(self, asked: str, bands: Sequence[str]) -> dict[str, str]:
        """Bands -> their collection, decided now where it is new.

        Args:
            asked: the collection that a job was asked for.
            bands: those that have the first claim on it come first.
        """
        for _ in range(_TRIES):
            for each in bands:
                self._decide(asked, each)
            known = self.of(asked)
            if known.keys() >= set(bands):
                break
        return {each: known[each] for each in bands}

    @retrying
    def _decide(self, asked: str, bands: str) -> None:
        with self._pool.connection() as conn:
            conn.execute(_DECIDE, {"asked": asked, "bands": bands})

    @retrying
    def of(self, asked: str) -> dict[str, str]:
        """Bands -> collection, of a collection that jobs ask for; that collection itself first."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                "select bands, collection from geo.raster_collections where asked = %s"
                " order by collection <> asked, collection",
                (asked,),
            ).fetchall()
        return {str(row["bands"]): str(row["collection"]) for row in rows}


def collections_of(conn: psycopg.Connection[Any], asked: str) -> list[str]:
    """Every collection that takes rasters of jobs that asked for this one; itself first."""
    rows = conn.execute(
        "select collection from geo.raster_collections where asked = %s and collection <> asked order by collection",
        (asked,),
    )
    return [asked, *(row[0] for row in rows.fetchall())]


def forget(conn: psycopg.Connection[Any], collection: str) -> None:
    """Forget which bands a collection took, in the transaction that deletes it: the next ones decide anew."""
    conn.execute("delete from geo.raster_collections where collection = %s", (collection,))
