"""Unpublish: withdraw what was published on request, by job, item or collection.

Here: first the items leave the catalogue and the ledger, in one commit that leaves their tombstones; then the files and
tables that they led to are deleted; last the tombstones say so. Not here: what a job retires because its source is gone
(`retire.py`).

All may be repeated, also after a kill: what is withdrawn stays so, and what it led to is deleted by the next call, or
by the janitor, whose lists have it from the first commit on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import psycopg
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import connect, retrying
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import blobs, collection_files, raster_collections, tombstones
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.tombstones import Tombstone
from geo_assets.settings import Settings
from geo_assets.stac import pgstac
from geo_assets.stac.locks import queue_up
from geo_assets.stages.abandoned_tables import drop_abandoned
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.orphans import sweep_blobs
from geo_assets.text import batched

#: Items that are withdrawn in one commit.
_BATCH = 500

#: How often a collection to which others write meanwhile is emptied.
_ROUNDS = 3


class Unpublished(BaseModel):
    """What was withdrawn now; nothing where it was withdrawn before."""

    model_config = ConfigDict(frozen=True)
    items: int = Field(description="that left the catalogue")
    collections: tuple[str, ...] = Field((), description="that were deleted")
    files: int = Field(0, description="that were deleted")
    tables: int = Field(0, description="that were dropped")
    left: tuple[str, ...] = Field((), description="what could not be deleted, and why; the janitor tries it again")


#: What there is to withdraw next, collection/id of each, of one collection; at most `_BATCH`.
Next = Callable[[psycopg.Connection[Any]], list[str]]

#: Those of them that may be withdrawn, under the collection's lock.
Still = Callable[[psycopg.Connection[Any], Sequence[str]], list[str]]


@dataclass
class _Work:
    settings: Settings
    by: str
    items: int = 0
    files: int = 0
    tables: int = 0
    left: list[str] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)

    def withdraw(self, find: Next, still: Still = lambda _, names: list(names)) -> None:
        """Withdraw all that `find` finds, a batch in each commit."""
        while names := self._names(find):
            self._withdraw(names, still)

    @retrying
    def _names(self, find: Next) -> list[str]:
        with connect(self.settings) as conn:
            return find(conn)

    @retrying
    def _withdraw(self, names: Sequence[str], still: Still) -> None:
        collection = names[0].partition("/")[0]
        with connect(self.settings) as conn, conn.transaction():
            queue_up(conn, collection)
            names = still(conn, names)
            pgstac.delete_items(conn, collection, [name.partition("/")[2] for name in names])
            tombstones.bury_items(conn, names, self.by)
        self.items += len(names)
        self.touched.add(collection)

    def clear(self, which: dict[str, str]) -> None:
        """Delete what the tombstones led to, and record it."""
        with connect(self.settings) as conn:
            open_ones = tombstones.unsettled(conn, **which)
            conn.rollback()
            for label in sorted({t.table for stone in open_ones for t in stone.outputs.all_tables}):
                try:
                    self.tables += drop_abandoned(conn, label)
                except GeoAssetsError as error:
                    self.left.append(f"{error.message}; {error.remedy}")
        for batch in batched(open_ones, _BATCH):
            self.files += sweep_blobs(self.settings, _blobs(batch))
        with connect(self.settings) as conn, conn.transaction():
            tombstones.settle(conn)
            rest = tombstones.unsettled(conn, **which)
            loose = blobs.loose_among(conn, sorted(_blobs(rest)))
        self.left += [f"{blob} could not be deleted now" for blob in loose]

    def result(self, collections: Sequence[str] = ()) -> Unpublished:
        """What was done, after the collections that remain say what they hold now."""
        for collection in sorted(self.touched.difference(collections)):
            try:
                pgstac.refresh_collection(self.settings, collection)
            except GeoAssetsError as error:
                if error.code != "COLLECTION_NOT_FOUND":
                    raise
                continue
            try:
                refresh_items_file(self.settings, collection, run=f"unpublish by {self.by}")
            except GeoAssetsError as error:
                self.left.append(f"the items of {collection} as a file, which the next job renews: {error.message}")
        return Unpublished(
            items=self.items,
            collections=tuple(collections),
            files=self.files,
            tables=self.tables,
            left=tuple(self.left),
        )


def unpublish_job(settings: Settings, jobs: Jobs, job_id: str, *, by: str) -> Unpublished:
    """Withdraw what a job published and no later one replaced.

    Args:
        settings: the database and the accounts.
        jobs: of the ledger.
        job_id: or its first characters.
        by: through which door it was requested.

    Raises:
        GeoAssetsError: JOB_NOT_FOUND, STILL_AT_WORK.
    """
    job = jobs.find(job_id)
    if not job.status.is_final:
        raise GeoAssetsError("STILL_AT_WORK", f"job {job.job_id[:12]} is {job.status}")
    work = _Work(settings, by)
    work.withdraw(
        lambda conn: tombstones.published_by(conn, job.job_id, limit=_BATCH),
        lambda conn, names: tombstones.still_of(conn, job.job_id, names),
    )
    work.clear({"job_id": job.job_id})
    return work.result()


def unpublish_item(settings: Settings, name: str, *, by: str) -> Unpublished:
    """Withdraw one item, collection/id.

    Raises:
        GeoAssetsError: ITEM_NOT_FOUND, it is not in the catalogue, and never was withdrawn.
    """
    collection, _, identity = name.partition("/")
    work = _Work(settings, by)
    with connect(settings) as conn:
        there = pgstac.has_item(conn, collection, identity) or tombstones.is_published(conn, name)
        if not there and not tombstones.was_buried(conn, collection, identity):
            raise GeoAssetsError("ITEM_NOT_FOUND", f"there is no item {name[:200]}")
    if there:
        left = [name]
        work.withdraw(lambda _: [left.pop()] if left else [])
    work.clear({"collection": collection, "item": identity})
    return work.result()


def withdraw_unknown(settings: Settings, names: Sequence[str], *, by: str) -> Unpublished:
    """Withdraw items, collection/id of each, that no row of the ledger names; those that were published since stay."""
    work = _Work(settings, by)
    families = groupby(sorted(names), lambda name: name.partition("/")[0])
    batches = (batch for _, family in families for batch in batched(family, _BATCH))
    work.withdraw(lambda _: next(batches, []), tombstones.unnamed)
    return work.result()


def unpublish_collection(settings: Settings, collection: str, *, by: str) -> Unpublished:
    """Withdraw all items of a collection, then the collection.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND, it is not in the catalogue, and never was withdrawn; COLLECTION_NOT_EMPTY,
            others keep writing to it.
    """

    def find(conn: psycopg.Connection[Any]) -> list[str]:
        found = [f"{collection}/{i}" for i in pgstac.item_ids(conn, collection, limit=_BATCH)]
        return found or tombstones.published_in(conn, collection, limit=_BATCH)

    work = _Work(settings, by)
    with connect(settings) as conn:
        there = pgstac.has_collection(conn, collection) or bool(find(conn))
        if not there and not tombstones.was_buried(conn, collection):
            raise GeoAssetsError("COLLECTION_NOT_FOUND", f"there is no collection {collection[:200]}")
    for round_ in range(_ROUNDS):
        work.withdraw(find)
        work.clear({"collection": collection})
        if not there:
            return work.result([])
        try:
            delete_collection(settings, collection, by=by)
            break
        except GeoAssetsError as error:
            if error.code != "COLLECTION_NOT_EMPTY" or round_ == _ROUNDS - 1:
                raise
    return work.result([collection])


def remove_collection(settings: Settings, collection: str, *, cascade: bool, by: str) -> Unpublished:
    """Delete a collection: only an empty one, or with its items and all that they led to.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND, COLLECTION_NOT_EMPTY.
    """
    if cascade:
        return unpublish_collection(settings, collection, by=by)
    delete_collection(settings, collection, by=by)
    return Unpublished(items=0, collections=(collection,))


@retrying
def delete_collection(settings: Settings, collection: str, *, by: str) -> None:
    """Delete a collection without items.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND, COLLECTION_NOT_EMPTY.
    """
    with connect(settings) as conn, conn.transaction():
        queue_up(conn, collection)
        pgstac.delete_collection(conn, collection)
        file = collection_files.find(conn, collection)
        collection_files.withdraw(conn, collection)
        raster_collections.forget(conn, collection)
        tombstones.bury_collection(conn, collection, by)
    if file is not None:
        sweep_blobs(settings, [file.blob])


def _blobs(stones: Sequence[Tombstone]) -> set[str]:
    return {blob for stone in stones for blob in stone.outputs.all_blobs}
