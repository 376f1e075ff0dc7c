"""Loading items into pgstac in batches, under a lock per collection, and reading them back.

Here: pypgstac's loader and the two queries around it. Not here: building items (`item.py`).

Unlocked, concurrent loaders of one collection have lost writes; batched, 20,000 items load in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.stac.item import UNKNOWN_TIME


def load_items(settings: Settings, collection: str, items: Sequence[dict[str, Any]], *, guard: tuple[str, str]) -> None:
    """Insert or replace items, then prove that each can be found.

    Args:
        settings: where the database is.
        collection: the collection of all of them; made if it is not there.
        items: validated items.
        guard: (job id, run id): nothing is loaded where the run lost its lease, and none takes over while loading.

    Raises:
        GeoAssetsError: STAC_NOT_FOUND_AFTER_LOAD.
        psycopg.Error: the lease was lost (SQLSTATE GA001), or the database was.
    """
    from pypgstac.db import PgstacDB
    from pypgstac.load import Loader, Methods

    with connect(settings) as lock, lock.transaction():
        lock.execute("select pg_advisory_xact_lock(hashtextextended('geo_assets:stac:' || %s, 0))", (collection,))
        lock.execute("select geo.assert_lease(%s, %s)", guard)
        with PgstacDB(dsn=settings.dsn("pipeline")) as db:
            loader = Loader(db=db)
            if lock.execute("select from pgstac.collections where id = %s", (collection,)).fetchone() is None:
                loader.load_collections(iter([new_collection(collection)]), insert_mode=Methods.ignore)
            loader.load_items(iter(items), insert_mode=Methods.upsert)
        _prove_found(lock, collection, [item["id"] for item in items])


def new_collection(identity: str) -> dict[str, Any]:
    """An empty collection; its extents come from its items."""
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": identity,
        "description": f"Files ingested from {identity}.",
        "license": "other",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }


def _prove_found(conn: psycopg.Connection, collection: str, ids: list[str]) -> None:
    row = conn.execute("select count(*) from pgstac.items where collection = %s and id = any(%s)", (collection, ids)).fetchone()
    if row is None or row[0] != len(set(ids)):
        raise GeoAssetsError(
            "STAC_NOT_FOUND_AFTER_LOAD", f"{collection}: {row[0] if row else 0} of {len(set(ids))} items are found after the load"
        )


def refresh_collection(settings: Settings, collection: str, *, title: str, guard: tuple[str, str]) -> dict[str, Any]:
    """Bring a collection's title and extents up to date with its items; returns it as stored. Items of unknown time do not count in time.

    Raises:
        psycopg.Error: the lease was lost (SQLSTATE GA001), or the database was.
    """
    with connect(settings) as conn, conn.transaction():
        conn.execute("set local search_path to pgstac, public")
        conn.execute("select pg_advisory_xact_lock(hashtextextended('geo_assets:stac:' || %s, 0))", (collection,))
        conn.execute("select geo.assert_lease(%s, %s)", guard)
        row = conn.execute(
            """update pgstac.collections
                  set content = content || jsonb_build_object('title', %s::text, 'extent',
                          coalesce(pgstac.collection_extent(id, true), content->'extent') || jsonb_build_object('temporal',
                              (select jsonb_build_object('interval', jsonb_build_array(jsonb_build_array(min(i.datetime), max(i.end_datetime))))
                                 from pgstac.items i where i.collection = collections.id and i.end_datetime > %s)))
                where id = %s returning content""",
            (title, UNKNOWN_TIME, collection),
        ).fetchone()
    return dict(row[0]) if row else {}


def count_found(settings: Settings, collection: str, ids: Sequence[str]) -> int:
    """How many of these items pgstac's search gives back."""
    found, asked = 0, list(ids)
    with connect(settings, autocommit=True) as conn:
        conn.execute("set search_path to pgstac, public")  # its functions name their tables without a schema
        for start in range(0, len(asked), 500):
            body = {"collections": [collection], "ids": asked[start : start + 500], "limit": 500, "fields": {"include": ["id"]}}
            row = conn.execute("select pgstac.search(%s)", (Jsonb(body),)).fetchone()
            found += len(row[0]["features"]) if row else 0
    return found


def footprints(settings: Settings, collections: Sequence[str], *, limit: int = 500) -> list[dict[str, Any]]:
    """Geometries of a few items, as GeoJSON in EPSG:4326; for a map."""
    with connect(settings, autocommit=True) as conn:
        rows = conn.execute(
            "select st_asgeojson(geometry)::jsonb from pgstac.items where collection = any(%s) limit %s", (list(collections), limit)
        ).fetchall()
    return [row[0] for row in rows]
