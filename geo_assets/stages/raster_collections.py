"""The collection of each item: rasters that differ in bands go to collections of their own.

Here: which collection takes what a task made, and the withdrawal of what a source had in another one. Not here: what
bands have in common (`stac/bands.py`), loading items (`catalogue.py`). The reasons are in
docs/decisions/0033-a-collection-for-each-kind-of-bands.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg

from geo_assets.file_stages import COGS, FILE_STAGES
from geo_assets.ledger.models import Converted, PublishedTask
from geo_assets.ledger.published import Published
from geo_assets.ledger.raster_collections import collections_of
from geo_assets.outcomes import CogReceipt
from geo_assets.parameters import IngestContainer, PublishContainer
from geo_assets.stac.bands import SEVERAL, bands_of
from geo_assets.stac.locks import queue_up_now
from geo_assets.stac.pgstac import delete_items
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef


def collections_for(context: StageContext, job: JobRef, stage: str, tasks: Sequence[Converted]) -> list[str]:
    """The collection of each task's item. The collection that was asked for takes the bands that are most frequent,
    among what it holds already and these tasks; that is decided once.
    """
    asked = job.parameters_as(PublishContainer)
    wanted = FILE_STAGES[stage].collection(asked.collection)
    if stage != COGS or job.parameters_as(IngestContainer).one_collection:
        return [wanted for _ in tasks]
    bands = [_bands(task.receipt) if isinstance(task.receipt, CogReceipt) else "" for task in tasks]
    counts = Counter(bands)
    if not context.ledger.raster_collections.of(asked.collection):
        counts.update(_bands(receipt) for receipt in context.ledger.published.cog_receipts(asked.collection))
    ranked = sorted(counts, key=lambda each: (-counts[each], each))
    places = context.ledger.raster_collections.decided(asked.collection, ranked)
    return [places[each] for each in bands]


def _bands(receipt: CogReceipt) -> str:
    if any(part.named for part in receipt.parts):
        return SEVERAL  # a scene, of however many files
    return bands_of([receipt.report] if receipt.report else [part.report for part in receipt.parts])


def holding_elsewhere(
    conn: psycopg.Connection[Any], asked: PublishContainer, collection: str, ids: Sequence[str]
) -> list[str]:
    """The other collections of rasters in which items of these ids are published now."""
    return Published.collections_among(conn, _elsewhere(conn, asked, collection, ids), COGS)


def _elsewhere(
    conn: psycopg.Connection[Any], asked: PublishContainer, collection: str, ids: Sequence[str]
) -> list[str]:
    others = [name for name in collections_of(conn, asked.collection) if name != collection]
    return [f"{name}/{each}" for name in others for each in ids]


def withdraw_elsewhere(
    conn: psycopg.Connection[Any], asked: PublishContainer, collection: str, ids: Sequence[str]
) -> list[PublishedTask]:
    """Withdraw the items of the same sources in the other collections of rasters, in the caller's transaction: what was
    published before its bands were told apart, or before they changed. Returns what they led to.

    The caller holds the locks of the collections that `holding_elsewhere` tells. That of one to which an item came
    since is not waited for, because whoever holds it may wait for ours.

    Raises:
        psycopg.errors.LockNotAvailable: of such a one; try again.
    """
    names = _elsewhere(conn, asked, collection, ids)
    for name in Published.collections_among(conn, names, COGS):
        queue_up_now(conn, name)
    place = {"account": asked.account, "container": asked.container, "collection": asked.collection}
    gone = Published.taken_elsewhere(conn, names, COGS, **place)
    leaving: dict[str, list[str]] = {}
    for old in gone:
        name, _, identity = old.stac_item.partition("/")
        leaving.setdefault(name, []).append(identity)
    for name, identities in sorted(leaving.items()):
        delete_items(conn, name, identities)
    return gone
