"""Backing up: the database as of one moment, then the blobs that its rows name.

Here: the order, and copying blobs. Not here: the folder (`folder.py`), pg_dump (`postgresql.py`), why it is safe beside
jobs at work (docs/backup.md).

A blob is written before the row that names it, and never overwritten. So of what is copied after the database every row
finds its blob, if none is deleted in between: deletions wait until the copy is complete.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from geo_assets import __version__
from geo_assets.backup import postgresql
from geo_assets.backup.folder import Folder, Manifest, StoredBlob, hash_of
from geo_assets.database.connections import connect
from geo_assets.database.migrate import PGSTAC_VERSION, insist_on_release, migrations
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import backup as ledger
from geo_assets.settings import Settings
from geo_assets.storage.blobs import Blob, BlobRef, blob_path
from geo_assets.storage.containers import Container, existing_container, open_container
from geo_assets.text import batched, how_many, one_line

#: Blobs that are copied at once, and how many are begun before the first of them is written down.
_COPIES, _BATCH = 8, 64

#: Missing blobs that are named, one a line.
_NAMED = 20

#: Called with what begins now, in words.
Log = Callable[[str], None]

#: Called with (blobs, bytes) that were copied since the last call.
Tell = Callable[[int, int], None]


def back_up(
    settings: Settings, destination: Path, *, containers: Sequence[str] = (), blobs: bool = True, log: Log, tell: Tell
) -> Manifest:
    """Write a backup into a folder that is not there yet, or empty. Others may go on working.

    Args:
        settings: the database and the accounts.
        destination: the folder.
        containers: others to be copied too, as alias/container.
        blobs: copy those that rows name, and what is beside them.
        log: what begins.
        tell: progress of the copies.

    Raises:
        GeoAssetsError: FOLDER_NOT_EMPTY, PG_DUMP_NOT_FOUND, RELEASE_DIFFERS, DATABASE_UNAVAILABLE, DISK_FULL, and those
            of a store that does not answer; INVALID_PARAMETERS, CONTAINER_NOT_FOUND; BLOB_GONE, of a container nothing
            is there that rows name. Nothing is left then.
    """
    insist_on_release(settings)
    postgresql.insist(settings)
    chosen = [BlobRef.of_container(name) for name in containers]
    for ref in chosen:
        existing_container(settings, ref.alias, ref.container)
    folder = Folder(destination)
    with folder.begun():
        return _filled(settings, folder, chosen, blobs=blobs, log=log, tell=tell)


def _filled(
    settings: Settings, folder: Folder, chosen: Sequence[BlobRef], *, blobs: bool, log: Log, tell: Tell
) -> Manifest:
    made_at = datetime.now(UTC)
    with _without_deletions(settings) as conn:
        at_work = ledger.jobs_at_work(conn)
        log("database")
        postgresql.dump(settings, folder.database)
        named = ledger.note_named(conn) if blobs else {}
        places = sorted({*named, *(_outputs(settings) if blobs else ()), *(str(ref).rstrip("/") for ref in chosen)})
        copied = list(_copy_all(settings, folder, places, log, tell, partial(ledger.strike_out, conn)))
        missing = _missing(conn, named, log) if blobs else 0
    manifest = Manifest(
        made_at=made_at.isoformat(timespec="seconds"),
        release=__version__,
        migrations={migration.name: migration.sha256 for migration in migrations()},
        pgstac=PGSTAC_VERSION,
        postgresql=postgresql.server_version(settings),
        database_bytes=folder.database.stat().st_size,
        database_sha256=hash_of(folder.database),
        index_sha256=hash_of(folder.index),
        containers=tuple(places),
        blobs=sum(number for number, _, _ in copied),
        blob_bytes=sum(size for _, size, _ in copied),
        left_out=sum(odd for _, _, odd in copied),
        missing=missing,
        jobs_at_work=at_work,
    )
    _write_last(folder.manifest, manifest.model_dump_json(indent=2))
    return manifest


@contextmanager
def _without_deletions(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection while which no blob is deleted.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE, it did not last: some may have been deleted.
    """
    with closing(connect(settings, "migrator", autocommit=True)) as conn:
        ledger.hold_deletions(conn)
        yield conn
        try:
            conn.execute("select 1")
        except psycopg.Error as error:
            raise GeoAssetsError(
                "DATABASE_UNAVAILABLE",
                f"the connection that held back deletions was lost: {one_line(str(error))[:200]}",
                remedy="make the backup again",
            ) from error


def _outputs(settings: Settings) -> set[str]:
    return {f"{settings.output_account}/{name}" for name in settings.output_containers}


def _copy_all(
    settings: Settings,
    folder: Folder,
    places: Iterable[str],
    log: Log,
    tell: Tell,
    done_with: Callable[[Sequence[str]], None],
) -> Iterator[tuple[int, int, int]]:
    """Copy the blobs of those containers that are there; yields how many, their bytes, and how many have a name that no
    store takes.
    """
    numbers = count()
    with folder.index.open("w", encoding="utf-8") as index, ThreadPoolExecutor(_COPIES) as threads:
        for place in places:
            alias, _, name = place.partition("/")
            container = open_container(settings, alias, name)
            if not container.exists():
                continue
            log(place)

            def copy(blob: Blob, container: Container = container) -> StoredBlob | GeoAssetsError | None:
                return _copy(folder, container, blob, next(numbers))

            pages = container.list(exact=True, whole_names=True)
            for batch in batched((blob for page in pages for blob in page), _BATCH):
                results = list(threads.map(copy, batch))
                done = [stored for stored in results if isinstance(stored, StoredBlob)]
                odd = [error for error in results if isinstance(error, GeoAssetsError)]
                for error in odd:
                    log(f"left out: {error.message}")
                index.writelines(f"{stored.model_dump_json()}\n" for stored in done)
                done_with([f"{stored.container}/{stored.path}" for stored in done])
                size = sum(stored.size for stored in done)
                tell(len(done), size)
                yield len(done), size, len(odd)


def _missing(conn: psycopg.Connection[Any], named: Mapping[str, int], log: Log) -> int:
    """How many blobs that rows name were not there to be copied; the first of them are named.

    Raises:
        GeoAssetsError: BLOB_GONE, of a container all: it is away, and the backup would be of nothing.
    """
    missing = ledger.missing(conn)
    for place, number in Counter(place for place, _ in missing).items():
        if number == named[place]:
            raise GeoAssetsError(
                "BLOB_GONE",
                f"{place} has none of the {how_many(number, 'blob')} that rows of the database name there",
                remedy="see whether its share is mounted and its account the right one, then make the backup again; for"
                " the database alone: --no-blobs",
            )
    for _, blob in missing[:_NAMED]:
        log(f"missing: {blob}")
    return len(missing)


def _copy(folder: Folder, container: Container, blob: Blob, number: int) -> StoredBlob | GeoAssetsError | None:
    """Copy one blob; None if it is gone: of one that a row names `_missing` tells. The error if no store takes its
    name, as it may be of a file in a directory that somebody put there.
    """
    part = folder.path / "blobs" / f"{number}.part"
    try:
        digest = container.download(blob_path(blob.path), part)
    except GeoAssetsError as error:
        part.unlink(missing_ok=True)
        if error.code == "SOURCE_GONE":
            return None
        if error.code == "UNSAFE_PATH":
            return error
        raise
    file = folder.file_of(digest)
    file.parent.mkdir(exist_ok=True)
    size = part.stat().st_size
    part.rename(file)
    return StoredBlob(container=str(container), path=blob.path, size=size, sha256=digest)


def _write_last(path: Path, text: str) -> None:
    """Write what makes the folder a backup, when all else is on the disk."""
    os.sync()
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.rename(path)
