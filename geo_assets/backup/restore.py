"""Restoring: the blobs first, then the database, which then says what it said when it was backed up.

Here: the order, what is refused, putting blobs in their places. Not here: the folder (`folder.py`), pg_restore
(`postgresql.py`).

Killed in the middle it is repeated: a blob that is there stays, the database is restored in one transaction, and what
comes after that is done if it was not. Runs that
were at work at the moment of the backup are dead; the janitor finds them, and starts new attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from geo_assets.backup import postgresql
from geo_assets.backup.folder import Folder, Manifest, StoredBlob, hash_of
from geo_assets.database.connections import connect
from geo_assets.database.migrate import migrate, migrations
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import backup as ledger
from geo_assets.local.stack import Stack
from geo_assets.settings import Settings
from geo_assets.storage.containers import FOR_EVER, Container, open_container
from geo_assets.text import batched
from geo_assets.vector.geoparquet import PARQUET

#: Blobs that are written at once, and how many are begun before the next are read from the list.
_COPIES, _BATCH = 8, 64

#: What a store tells browsers of a blob, by the end of its name.
_MEDIA_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".parquet": PARQUET,
    ".json": "application/json",
}

Log = Callable[[str], None]
Tell = Callable[[int, int], None]


def restore(settings: Settings, source: Path, *, blobs: bool = True, log: Log, tell: Callable[[int], Tell]) -> Manifest:
    """Restore a backup into a database that holds nothing, while nothing is connected that works.

    Args:
        settings: the database and the accounts.
        source: the folder of the backup.
        blobs: put those of the backup in their places; what is there and of the same size stays.
        log: what begins.
        tell: called with the number of blobs; what it returns is told the progress.

    Raises:
        GeoAssetsError: NO_BACKUP, BACKUP_DAMAGED, RELEASE_DIFFERS, DATABASE_NOT_EMPTY, STILL_CONNECTED,
            PG_DUMP_NOT_FOUND: nothing was changed; RESTORE_FAILED; those of a store.
    """
    folder = Folder(source)
    log("checking the backup")
    manifest = folder.read()
    _insist_on_known(manifest)
    name = hash_of(folder.manifest)
    with closing(connect(settings, "migrator", autocommit=True)) as conn:
        is_restored = _insist_on_rest(settings, conn, name)
    postgresql.insist(settings)
    if blobs:
        log("blobs")
        _put_back(settings, folder, tell(manifest.blobs))
    if not is_restored:
        log("database")
        with closing(connect(settings, "migrator")) as conn, conn.transaction():
            ledger.hold_still(conn)
            _insist_on_rest(settings, conn, name)  # once more: the blobs may have taken hours
            ledger.prepare(conn, name)
        postgresql.restore(settings, folder.database)
    log("migrations")
    migrate(settings)
    with connect(settings, "migrator") as conn:
        ledger.complete(conn)
    Stack(settings.home).forget_dagster()
    return manifest


def _insist_on_known(manifest: Manifest) -> None:
    """Raise unless this release knows all that the backup's has done to its database; what is new since is applied."""
    ours = {migration.name: migration.sha256 for migration in migrations()}
    unknown = sorted(name for name, digest in manifest.migrations.items() if ours.get(name) != digest)
    if unknown:
        raise GeoAssetsError(
            "RELEASE_DIFFERS",
            f"the backup is of release {manifest.release}, whose {unknown[-1]} this release does not have",
            remedy=f"install geo_assets {manifest.release}, or a later one, and restore with that",
        )


def _insist_on_rest(settings: Settings, conn: psycopg.Connection[Any], backup: str) -> bool:
    """Raise unless the database holds nothing, and nothing is connected that works; whether it was restored from this
    backup, by a restoration that was killed before it was complete.
    """
    held = ledger.held(conn)
    if held and ledger.unfinished(conn) != backup:
        raise GeoAssetsError(
            "DATABASE_NOT_EMPTY",
            f"the database {settings.pg_database} at {settings.pg_host}:{settings.pg_port} holds {' and '.join(held)}",
        )
    if sessions := ledger.sessions(conn, settings.credentials("pipeline")[0]):
        raise GeoAssetsError("STILL_CONNECTED", f"programs are connected that work: {', '.join(sessions)[:300]}")
    return bool(held)


def _put_back(settings: Settings, folder: Folder, tell: Tell) -> None:
    containers: dict[str, Container] = {}

    def put(blob: StoredBlob) -> int:
        return _put(containers[blob.container], folder, blob)

    with ThreadPoolExecutor(_COPIES) as threads:
        for batch in batched(folder.blobs(), _BATCH):
            for name in {blob.container for blob in batch} - containers.keys():
                containers[name] = open_container(settings, *name.split("/"))
                containers[name].ensure()
            tell(len(batch), sum(threads.map(put, batch)))


def _put(container: Container, folder: Folder, blob: StoredBlob) -> int:
    """Put a blob in its place, unless it is there; returns the bytes that were written."""
    there = container.head(blob.path)
    if there is not None and there.size == blob.size:
        return 0
    file = folder.file_of(blob.sha256)
    if not file.is_file() or hash_of(file) != blob.sha256:
        raise GeoAssetsError("BACKUP_DAMAGED", f"{file}, of {blob.container}/{blob.path}, is not as it was written")
    media_type = _MEDIA_TYPES.get(Path(blob.path).suffix)
    container.upload(file, blob.path, media_type=media_type, cache_control=FOR_EVER if media_type else None)
    return blob.size
