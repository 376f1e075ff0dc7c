"""`items.parquet` of a collection: all its items as one file in the output account, an asset of the collection.

Here: when it is made, where it lies, how it becomes visible. Not here: its format (`stac/geoparquet.py`).

It is named after its bytes: a file that is visible is never overwritten, and the same items are not written twice. The
collection names it in the commit in which the ledger does; what it replaces is swept as any blob without a name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import psycopg

from geo_assets.database.connections import connect
from geo_assets.ledger import blobs, collection_files
from geo_assets.ledger.collection_files import CollectionFile
from geo_assets.sandbox.scratch import held_folder
from geo_assets.settings import Settings
from geo_assets.stac import pgstac, reading
from geo_assets.stac.pgstac import Guard, anybody
from geo_assets.stac.validation import validated
from geo_assets.stages.orphans import sweep_blobs
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import FOR_EVER, open_container
from geo_assets.storage.local import sha256_of
from geo_assets.vector.geoparquet import PARQUET

#: The key of the collection's asset.
KEY = "geoparquet-items"

#: Where the files of all collections lie, in the container of COGs; no collection is called so.
FOLDER = "_collections"

#: Part of the state: raised when the same items give another file.
_FORMAT = 1

#: How often it is made again because others wrote to the collection meanwhile. The last of them makes it in the end.
_ROUNDS = 3

_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"


class _ChangedError(Exception):
    """Others wrote to the collection since its items were read."""


def refresh_items_file(settings: Settings, collection: str, *, run: str, guard: Guard = anybody) -> bool:
    """Make the file of a collection's items again if they changed; returns whether it did. Without items there is none.

    Args:
        settings: the database and the accounts.
        collection: its id.
        run: who makes it, for the record of uploads.
        guard: called in the transaction that makes it visible, under the collection's lock.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND; what the store answers, what `guard` raises.
    """
    for _ in range(_ROUNDS):
        try:
            return _refreshed(settings, collection, run, guard)
        except _ChangedError:
            continue
    return False


def _refreshed(settings: Settings, collection: str, run: str, guard: Guard) -> bool:
    from geo_assets.stac.geoparquet import write_items  # Arrow starts a thread; run workers are forks of what has none

    with held_folder(settings.home / "scratch") as folder:
        file = folder / "items.parquet"
        with reading.at_any_moment(settings) as conn:  # whether it all is of one moment is asked before it is shown
            before = collection_files.find(conn, collection)
            state = _state(conn, collection)
            if state == (before.state if before else None) and (before is None or _is_there(settings, before)):
                return False
            # orjson makes floats of integers beyond 64 bits, as a column of numbers does
            write_items(reading.items_of(conn, collection, orjson.loads), file)
        if state is None:
            _show(settings, collection, None, {}, guard)
        else:
            blob, asset = _uploaded(settings, collection, file, run)
            _show(settings, collection, CollectionFile(blob, state), asset, guard)
    if before is not None:
        sweep_blobs(settings, [before.blob])
    return True


def _is_there(settings: Settings, file: CollectionFile) -> bool:
    ref = BlobRef.parse(file.blob)
    container = open_container(settings, ref.alias, ref.container)
    return container.exists() and container.head(ref.path) is not None


def _state(conn: psycopg.Connection[Any], collection: str) -> str | None:
    found = reading.state_of_items(conn, collection)
    return f"{_FORMAT}:{found}" if found else None


def _uploaded(settings: Settings, collection: str, file: Path, run: str) -> tuple[str, dict[str, Any]]:
    """Upload the file under the name of its bytes; returns the blob and the collection's asset."""
    sha256 = sha256_of(file)
    ref = BlobRef(settings.output_account, settings.cog_container, f"{FOLDER}/{collection}/{sha256[:16]}/items.parquet")
    with connect(settings) as conn:
        blobs.announce(conn, [str(ref)], run)
    container = open_container(settings, ref.alias, ref.container)
    container.ensure()
    container.upload(file, ref.path, media_type=PARQUET, cache_control=FOR_EVER)
    return str(ref), {
        "href": container.href(ref.path),
        "type": PARQUET,
        "title": "All items",
        "roles": ["stac-items"],
        "file:size": file.stat().st_size,
        "file:checksum": f"1220{sha256}",
    }


def _show(
    settings: Settings, collection: str, file: CollectionFile | None, asset: dict[str, Any], guard: Guard
) -> None:
    """Make the file that of the collection, or none, if its items are still those that were read."""

    def change(conn: psycopg.Connection[Any], stored: dict[str, Any]) -> dict[str, Any]:
        if _state(conn, collection) != (file.state if file else None):
            raise _ChangedError
        if file is None:
            collection_files.withdraw(conn, collection)
        else:
            collection_files.publish(conn, collection, file)
        others = {key: other for key, other in stored.get("assets", {}).items() if key != KEY}
        assets = others | ({KEY: asset} if asset else {})
        # first: where a collection is renewed, it puts its own ones last
        extensions = [_FILE] * bool(asset) + [url for url in stored.get("stac_extensions", []) if url != _FILE]
        whole = {key: value for key, value in stored.items() if key not in {"assets", "stac_extensions"}}
        told = {"assets": assets, "stac_extensions": extensions}
        return validated(whole | {key: value for key, value in told.items() if value})

    pgstac.change_collection(settings, collection, change, guard=guard)
