"""Writing receipts: the state of a job as one document, for a person or into the container of COGs.

Here: the document as of now, its file in a store, which jobs need a new one. Not here: its form (`model.py`),
checking and reading it (`verify.py`, `newer.py`, `rebuild.py`).

A receipt is never overwritten: one that is newer has a higher number, and the last few are kept, and those that tell of
what the ledger does not know. If it cannot be written now, its job stays due, and the janitor writes it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import psycopg

from geo_assets import __version__
from geo_assets.database.connections import TRANSIENT, connect
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.ledger import receipts as ledger
from geo_assets.receipts.model import COLLECTIONS, FOLDER, PUBLISHED, ROWS, Head, lines_of
from geo_assets.receipts.newer import tells_of_more
from geo_assets.receipts.stored import stored_receipts
from geo_assets.settings import Settings
from geo_assets.stac import reading
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import open_container

#: Seconds for `write_due` where a person waits for its end; the janitor writes the rest.
AT_A_DOOR = 5.0

#: Receipts of a job that stay.
_KEPT = 3

#: Errors of the container, not of a job.
_REFUSED = frozenset({"STORAGE_FORBIDDEN", "CONTAINER_NOT_FOUND", "UNKNOWN_ACCOUNT", "INVALID_SETTINGS", "DISK_FULL"})

#: Tasks from which on a receipt is compressed.
_LARGE = 500


def receipt_lines(conn: psycopg.Connection[Any], job_id: str, *, number: int = 0) -> Iterator[str]:
    """The receipt of a job, line by line; memory does not grow with the job.

    The ledger is told as of one moment, that of the first line. Its items follow in short transactions, because whoever
    adds a partition to pgstac waits for all readers, and all others then wait for that. What is replaced or withdrawn
    meanwhile is left out: a later receipt tells it.

    Args:
        conn: in no transaction; in none at the end.
        job_id: the whole id.
        number: of the receipt.

    Raises:
        GeoAssetsError: JOB_NOT_FOUND.
    """
    with tempfile.TemporaryFile() as published:
        conn.execute("set transaction isolation level repeatable read read only")
        conn.execute("set local statement_timeout = 0")
        yield from lines_of(_head(conn, job_id, number), _lists(conn, job_id, published))


def _head(conn: psycopg.Connection[Any], job_id: str, number: int) -> Head:
    return Head.model_validate(
        {**ledger.head_of(conn, job_id), "number": number, "software": {"geo_assets": __version__}}
    )


def _lists(conn: psycopg.Connection[Any], job_id: str, published: IO[bytes]) -> Iterator[tuple[str, Iterator[str]]]:
    for kind in ROWS:
        yield kind, ledger.records(conn, kind, job_id)
    collections = ledger.collections_of(conn, job_id)
    for page in ledger.published(conn, job_id=job_id):
        published.write(f"{_json(page)}\n".encode())
    conn.rollback()  # of pgstac nothing was read yet
    yield COLLECTIONS, _collections(conn, collections)
    published.seek(0)
    yield PUBLISHED, _published(conn, published)


def _collections(conn: psycopg.Connection[Any], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        row = reading.collection_row(conn, name)
        conn.rollback()
        if row:
            yield _json(row)


def _published(conn: psycopg.Connection[Any], pages: IO[bytes]) -> Iterator[str]:
    """Each published row of the ledger with its item; without one that somebody else deleted."""
    for line in pages:
        page = json.loads(line)
        by_collection: dict[str, list[str]] = {}
        for row in page:
            collection, _, identity = row["stac_item"].partition("/")
            by_collection.setdefault(collection, []).append(identity)
        with reading.at_one_moment(conn):
            current = ledger.still_published(conn, page)
            items = {
                f"{collection}/{identity}": item
                for collection, ids in by_collection.items()
                for identity, item in reading.items_by_id(conn, collection, ids).items()
            }
        for row in page:
            if row["stac_item"] in current:
                yield _json({**row, "item": items.get(row["stac_item"])})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def print_receipt(settings: Settings, job_id: str) -> Iterator[str]:
    """The receipt of a job as it is now. It is whole when this returns: no reader keeps a transaction open.

    Raises:
        GeoAssetsError: JOB_NOT_FOUND.
    """
    with tempfile.TemporaryDirectory(prefix="geo_assets_receipt_") as folder, connect(settings) as conn:
        file, _ = _document(conn, job_id, 0, Path(folder))
        opened = gzip.open(file) if file.suffix else file.open("rb")  # noqa: SIM115 - `_lines_of` closes it
    return _lines_of(opened)  # the file has no name any more, and is gone when it is closed


def _lines_of(opened: BufferedIOBase) -> Iterator[str]:
    with opened:
        for line in opened:
            yield line.decode()


def write_due(
    settings: Settings, *, only: Sequence[str] | None = None, limit: int | None = None, seconds: float | None = None
) -> int:
    """Write the receipts of ended jobs that changed since their last one; returns how many. What cannot be written now
    stays due: this raises nothing that a store or the database causes.

    Args:
        settings: the database and the accounts.
        only: these jobs.
        limit: most jobs.
        seconds: no other is begun after this time.
    """
    until, written = time.monotonic() + seconds if seconds is not None else None, 0
    said = logging.getLogger(__name__)
    try:
        with connect(settings) as conn:
            waiting = ledger.due(conn, only=only, limit=limit)
        for job_id in waiting:
            if until is not None and time.monotonic() > until:
                break
            try:
                written += _write(settings, job_id) is not None
            except (GeoAssetsError, OSError, psycopg.Error) as error:
                if _concerns_all(error):
                    raise
                said.warning("the receipt of job %s is written later: %s", job_id[:12], error)
    except (GeoAssetsError, OSError, *TRANSIENT) as error:
        said.warning("receipts are written later: %s", error)
    return written


def _concerns_all(error: Exception) -> bool:
    """Whether the next job's receipt would meet the same: the store or the database does not answer, or refuses us."""
    if isinstance(error, GeoAssetsError):
        return error.error_class is ErrorClass.TRANSIENT or error.code in _REFUSED
    return isinstance(error, TRANSIENT)


def write_now(settings: Settings, job_id: str) -> str:
    """Write the receipt of an ended job; returns where it is.

    Raises:
        GeoAssetsError: what the store answers; STILL_AT_WORK, another process writes it now, or a rebuild has not
            made again all that the one before it tells.
    """
    with connect(settings) as conn:
        rebuild = ledger.known_jobs(conn, job_id).get(job_id)
    if rebuild is not None and not rebuild.is_done:
        raise GeoAssetsError(
            "STILL_AT_WORK",
            f"not all of job {job_id[:12]} is made again from {rebuild.receipt}: another receipt would lose the rest",
            remedy="mend what rebuild names and repeat it, or submit the job again",
        )
    ref = _write(settings, job_id)
    if ref is None:
        raise GeoAssetsError("STILL_AT_WORK", f"the receipt of job {job_id[:12]} is being written", remedy="try again")
    return str(ref)


def _write(settings: Settings, job_id: str) -> BlobRef | None:
    """Write a receipt; None where another process writes it now.

    Raises:
        GeoAssetsError: what the store answers.
    """
    place = settings.output_account, settings.cog_container
    container = open_container(settings, *place, hasty=True)
    with connect(settings) as conn, tempfile.TemporaryDirectory(prefix="geo_assets_receipt_") as folder:
        if not ledger.lock(conn, job_id):
            return None
        conn.commit()  # the lock is the session's
        container.ensure()
        earlier = stored_receipts(container, job_id)
        number = max(earlier, default=0) + 1
        changes = ledger.pending_changes(conn, job_id)  # what comes after this may be told, and is told again
        conn.rollback()
        file, digest = _document(conn, job_id, number, Path(folder))
        ref = BlobRef(*place, f"{FOLDER}/{job_id}/{number:06d}-{digest[:12]}.json{file.suffix}")
        patient = open_container(settings, *place)  # a large one takes minutes
        patient.upload(file, ref.path, media_type="application/gzip" if file.suffix else "application/json")
        ledger.told(conn, changes)
        conn.commit()
        for old in sorted(earlier, reverse=True)[_KEPT - 1 :]:
            if not tells_of_more(conn, container, job_id, earlier[old]):
                container.delete(earlier[old])
    return ref


def _document(conn: psycopg.Connection[Any], job_id: str, number: int, folder: Path) -> tuple[Path, str]:
    """Write a receipt into a folder; returns its file, whose suffix is `.gz` or empty, and its SHA-256."""
    large = ledger.count_tasks(conn, job_id) > _LARGE
    conn.rollback()
    file, digest = folder / ("receipt.gz" if large else "receipt"), hashlib.sha256()
    with gzip.GzipFile(file, "wb", compresslevel=1, mtime=0) if large else file.open("wb") as out:
        for line in receipt_lines(conn, job_id, number=number):
            data = line.encode()
            digest.update(data)
            out.write(data)
    return file, digest.hexdigest()
