"""Receipts beside the COGs that tell of more than the ledger: the database was lost, an older backup of it was
restored, or another database writes there too.

Here: finding them, and whether they forbid to delete what the ledger does not know. Not here: entering what they tell
(`rebuild.py`).

A receipt of a known job tells of more if an attempt in it has ended, and not so in the ledger. All receipts of a job
are looked at, because a restored ledger may have written the newest since. What a rebuild has taken up is known, also
where it could not be entered word by word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import receipts as ledger
from geo_assets.receipts.model import UNREADABLE, Head, number_of
from geo_assets.receipts.stored import all_receipts, fetched
from geo_assets.settings import Settings
from geo_assets.storage.containers import Container, open_container
from geo_assets.text import how_many

#: Receipts that are read at once.
_READS = 8


def to_be_entered(
    container: Container,
    stored: Mapping[str, list[str]],
    known: Mapping[str, ledger.Rebuild | None],
    ended: Mapping[str, set[ledger.Ended]],
) -> dict[str, list[str]]:
    """Job -> paths of its receipts, the newest first, of the jobs that a rebuild has to do with: those that are not
    known, or whose rebuild is open, and of others the receipts that tell of more than the ledger.

    Args:
        container: of the receipts.
        stored: job -> paths of its receipts, the newest first.
        known: job -> its rebuild, as the ledger has it.
        ended: job -> its attempts that have ended.
    """
    found: dict[str, list[str]] = {}
    rest: dict[str, list[str]] = {}
    for job_id, paths in stored.items():
        begun = known.get(job_id)
        is_open = job_id not in known or (begun is not None and not begun.is_done)
        (found if is_open else rest)[job_id] = paths
    for job_id, path, error in _newer(container, rest, known, ended):
        if error is None:
            found.setdefault(job_id, []).append(path)
    return found


def _newer(
    container: Container,
    stored: Mapping[str, Sequence[str]],
    known: Mapping[str, ledger.Rebuild | None],
    ended: Mapping[str, set[ledger.Ended]],
) -> Iterator[tuple[str, str, GeoAssetsError | None]]:
    """(job, path, None) of the receipts of known jobs that tell of more than the ledger, each job's newest first; with
    the error of one that cannot be read: nobody knows what it tells.
    """
    asked = [
        (job_id, path)
        for job_id, paths in sorted(stored.items())
        if job_id in known
        for path in paths
        if not _is_taken_up(container, path, known[job_id])
    ]

    def look(one: tuple[str, str]) -> tuple[bool, GeoAssetsError | None]:
        job_id, path = one
        try:
            with fetched(container, path) as receipt:
                return not _ended(receipt.head) <= ended.get(job_id, set()), None
        except GeoAssetsError as error:
            if error.code not in {*UNREADABLE, "SOURCE_GONE"}:
                raise
            return error.code in UNREADABLE, error  # gone: a newer one took its place

    with ThreadPoolExecutor(_READS, thread_name_prefix="receipts") as pool:
        for (job_id, path), (is_newer, error) in zip(asked, pool.map(look, asked), strict=True):
            if is_newer:
                yield job_id, path, error


def tells_of_more(conn: psycopg.Connection[Any], container: Container, job_id: str, path: str) -> bool:
    """Whether a receipt of a known job tells of more than the ledger, or nobody knows what it tells."""
    known, ended = ledger.known_jobs(conn, job_id), ledger.ended_attempts(conn, job_id)
    return any(_newer(container, {job_id: [path]}, known, ended))


def _is_taken_up(container: Container, path: str, begun: ledger.Rebuild | None) -> bool:
    """Whether a rebuild has entered a receipt, or one that is newer, as a whole."""
    if begun is None or not begun.is_done or not begun.receipt.startswith(f"{container}/"):
        return False
    taken, this = (number_of(name.rpartition("/")[2]) for name in (begun.receipt, path))
    return taken is not None and this is not None and this <= taken


def _ended(head: Head) -> set[ledger.Ended]:
    return {(int(row["attempt"]), _moment(row)) for row in head.attempts if row.get("outcome") is not None}


def _moment(row: Mapping[str, Any]) -> datetime | None:
    at = row.get("ended_at")
    return datetime.fromisoformat(str(at)) if at else None


def why_orphans_stay(settings: Settings) -> str:
    """Why what the ledger does not know may not be deleted: receipts beside the COGs tell of what it has not, or may;
    empty where nothing forbids it.

    Raises:
        GeoAssetsError: what the store answers.
    """
    container = open_container(settings, settings.output_account, settings.cog_container)
    if not container.exists():
        return ""
    with connect(settings) as conn:
        known, ended = ledger.known_jobs(conn), ledger.ended_attempts(conn)
    stored, again = all_receipts(container), f"geo-assets rebuild --from {container}"
    if strangers := sorted(stored.keys() - known.keys()):
        return (
            f"beside the COGs are receipts of {how_many(len(strangers), 'job')} that this database does not know"
            f" ({strangers[0][:12]}); make them known first: {again}"
        )
    if begun := sorted(job_id for job_id, rebuild in known.items() if rebuild is not None and not rebuild.is_done):
        return (
            f"of {how_many(len(begun), 'job')} not all is made again from the receipts ({begun[0][:12]}); mend what"
            f" this names: {again}"
        )
    newer = list(_newer(container, stored, known, ended))
    for _, _, error in newer:
        if error is not None:
            unless = "restore it, or delete it if nobody can: what only it names is an orphan then"
            return f"{error.message}; {unless if error.code == 'RECEIPT_UNREADABLE' else error.remedy}"
    if newer:
        return (
            f"the receipt {container}/{newer[0][1]} tells of an attempt that this database does not know; take up"
            f" what it tells first: {again}"
        )
    return ""
