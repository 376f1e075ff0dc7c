"""Retire: withdraw the published results of sources that were deleted, and of no others.

Here: finding what is gone, the refusal to withdraw too much, withdrawing. Not here: what is replaced (`catalogue.py`).

A source is gone if this job's listing should have it and does not: it is below the job's prefix, passes its globs, and
is not in the inventory (which ignores the limit). It does not matter which job of the container and the collection
published it. A listing grows old while its job works: the store is asked again before anything is withdrawn, and what
was published since stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import FILE_STAGES
from geo_assets.ledger.inventory import stored_etag
from geo_assets.ledger.lease import assert_lease
from geo_assets.ledger.models import PublishedSource
from geo_assets.ledger.published import Published
from geo_assets.parameters import PublishContainer
from geo_assets.stac.locks import queue_up
from geo_assets.stac.pgstac import delete_items
from geo_assets.stages.abandoned_tables import drop_tables, names_of
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.files import stages_of
from geo_assets.stages.orphans import sweep_blobs
from geo_assets.storage.containers import Container
from geo_assets.storage.kinds import Kind, kind_of
from geo_assets.storage.sources import Member, Source, is_source_taken, is_taken
from geo_assets.text import how_many
from geo_assets.vector.tables.locks import retry_while_locked

#: Questions to the store at a time: each is a round trip.
_ASKED_AT_ONCE = 8


def refuse_mass_retire(context: StageContext, job: JobRef) -> None:
    """Stop before any work if the listing lacks so much that the container is more likely unreachable than emptied.

    Raises:
        GeoAssetsError: MASS_RETIRE.
    """
    if retires(job):
        _gone(context, job)


def retires(job: JobRef) -> bool:
    """Whether the job retires deleted sources."""
    asked = job.parameters
    return not job.stood_aside and isinstance(asked, PublishContainer) and asked.deleted == "retire"


def retire(context: StageContext, job: JobRef) -> tuple[int, int]:
    """With `deleted: retire`, withdraw what is gone; returns (retired, kept although their source is gone or bad).

    What is gone is recorded as such in any case (`ledger/deltas.py`).

    Items are published last and withdrawn first: so no search result refers to a deleted file.

    Raises:
        GeoAssetsError: MASS_RETIRE, nothing was withdrawn.
    """
    if job.stood_aside:
        return 0, 0
    p = job.parameters_as(PublishContainer)
    taken: list[PublishedSource] = []
    kept: list[PublishedSource] = []
    if retires(job):
        gone, others = (
            _gone(context, job),
            context.ledger.published.other_jobs(job.job_id, **_place(p)),
        )
        with connect(context.settings) as conn:
            for entry in _without_those_that_came(context.source_container(job), gone):
                try:
                    if retry_while_locked(
                        conn,
                        names_of(entry.tables),
                        partial(_take_back, conn, job, entry, others),
                    ):
                        taken.append(entry)
                except GeoAssetsError as error:
                    context.warn(job, error)
                    kept.append(entry)
        sweep_blobs(context.settings, (blob for entry in taken for blob in entry.outputs.all_blobs))
    else:
        kept = list(_proved(_published(context, job, doubtful_only=True)))
    context.ledger.deltas.settle(job.job_id, job.run_id, p.stages, kept)
    unwithdrawn = {entry.stac_item for entry in kept} if retires(job) else set()
    return len(taken), len(unwithdrawn.union(context.ledger.published.stale(job.job_id)))


def _place(asked: PublishContainer) -> dict[str, str]:
    """The place of a job's sources, and the collection that they go to."""
    return {"account": asked.account, "container": asked.container, "collection": asked.collection}


def _gone(context: StageContext, job: JobRef) -> list[PublishedSource]:
    p, within = job.parameters_as(PublishContainer), _published(context, job)
    gone = list(_proved(within))
    if len(gone) * 100 > p.max_retire_percent * len(within) and not job.allow_mass_retire:
        raise GeoAssetsError(
            "MASS_RETIRE",
            f"{len(gone):,} of {how_many(len(within), 'source')} published from {p.account}/{p.container} no longer"
            f" listed, more than {p.max_retire_percent:g} %; nothing was withdrawn",
        )
    return gone


def _is_within(entry: PublishedSource, asked: PublishContainer) -> bool:
    """Whether the job's listing should have a source; of a scene whose files it lists all, some of which it takes."""
    if entry.members:
        taken = any(is_taken(path, asked.include, asked.exclude) for path in entry.members)
        return taken and all(path.startswith(asked.prefix) for path in entry.members)
    return entry.task_key.startswith(asked.prefix) and is_source_taken(entry.task_key, asked.include, asked.exclude)


def _published(context: StageContext, job: JobRef, *, doubtful_only: bool = False) -> list[PublishedSource]:
    """What is published of the sources that the job's listing should have, if they are there."""
    p = job.parameters_as(PublishContainer)
    published = context.ledger.published.of_container(
        job.job_id, stages=p.stages, prefix=p.prefix, doubtful_only=doubtful_only, **_place(p)
    )
    return [entry for entry in published if _is_within(entry, p)]


def _proved(published: Sequence[PublishedSource]) -> Iterator[PublishedSource]:
    """Those that do not exist any more; for a file that could be opened, also the contents that it no longer has."""
    for entry in published:
        if not entry.is_there:
            yield entry
        elif entry.holds is not None:
            member = Member(path=entry.task_key, size=0, etag="", holds=tuple(map(Kind, entry.holds)))
            now = Source(path=entry.task_key, kind=kind_of(entry.task_key) or Kind.ZIP, members=(member,))
            if entry.stage not in stages_of(now, FILE_STAGES):
                yield entry


def _without_those_that_came(container: Container, gone: Sequence[PublishedSource]) -> list[PublishedSource]:
    """Those that are still missing now: a source may have come, or come back, since the listing."""
    with ThreadPoolExecutor(max_workers=_ASKED_AT_ONCE, thread_name_prefix="retire") as pool:
        came = list(pool.map(partial(_came, container), gone))
    return [entry for entry, there in zip(gone, came, strict=True) if not there]


def _came(container: Container, entry: PublishedSource) -> bool:
    key = entry.task_key
    if entry.members:
        return any(container.head(path) is not None for path in entry.members)
    if entry.is_folder:
        return any(container.list(key if key.endswith("=") else f"{key.rstrip('/')}/"))
    blob = container.head(key)
    return blob is not None and blob.etag != stored_etag(
        entry.etag or ""
    )  # a zip that was listed, and holds something else now, has its listed etag


def _take_back(conn: psycopg.Connection, job: JobRef, entry: PublishedSource, others: Sequence[str]) -> bool:
    """Withdraw, in the caller's transaction; false if it was published again since it was looked at."""
    collection, _, identity = entry.stac_item.partition("/")
    queue_up(conn, collection)
    assert_lease(conn, job.job_id, job.run_id)
    if not Published.take_back(conn, job.job_id, job.run_id, entry):
        return False
    delete_items(conn, collection, [identity])
    drop_tables(conn, entry.tables)
    Published.forget_source(conn, job.job_id, entry, others=others)
    return True
