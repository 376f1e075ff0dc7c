"""Receipts in a container: which there are, and one of them as a file of our own.

Here: their names and paths. Not here: what stands in them (`model.py`), writing them (`write.py`), what they tell that
the ledger does not know (`newer.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geo_assets.receipts.model import FOLDER, Stored, number_of
from geo_assets.storage.containers import Container


def stored_receipts(container: Container, job_id: str) -> dict[int, str]:
    """Number -> path of the receipts of a job in a container."""
    found = {}
    for page in container.list(f"{FOLDER}/{job_id}/"):
        for blob in page:
            number = number_of(blob.path.rpartition("/")[2])
            if number is not None:
                found[number] = blob.path
    return found


def all_receipts(container: Container) -> dict[str, list[str]]:
    """Job -> paths of its receipts in a container, the newest first."""
    found: dict[str, dict[int, str]] = {}
    for page in container.list(f"{FOLDER}/"):
        for blob in page:
            parts = blob.path.split("/")
            number = number_of(parts[-1])
            if len(parts) == 3 and number is not None:
                found.setdefault(parts[1], {})[number] = blob.path
    return {job_id: [paths[number] for number in sorted(paths, reverse=True)] for job_id, paths in found.items()}


def newest_receipt(container: Container, job_id: str) -> str | None:
    """The path of a job's newest receipt in a container; None if it has none."""
    found = stored_receipts(container, job_id)
    return found[max(found)] if found else None


@contextmanager
def fetched(container: Container, path: str) -> Iterator[Stored]:
    """A receipt of a store, as a file of our own.

    Raises:
        GeoAssetsError: RECEIPT_UNREADABLE; SOURCE_GONE.
    """
    with tempfile.TemporaryDirectory(prefix="geo_assets_receipt_") as folder:
        copy = Path(folder) / "receipt"
        container.download(path, copy)
        yield Stored(copy, f"{container}/{path}")
