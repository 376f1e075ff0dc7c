"""The `stac_items` stage: converted files become searchable; only then have their tasks succeeded.

Here: items of converted tasks, in batches. Not here: STAC itself (`stac/`), the check that each COG is where its item
says and what its item says (`read_back.py`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import psycopg

from geo_assets import plugins
from geo_assets.database.connections import KeptConnection, connect
from geo_assets.errors import GeoAssetsError, unforeseen
from geo_assets.file_stages import COGS, FILE_STAGES, TABLES
from geo_assets.ledger.lease import assert_lease
from geo_assets.ledger.models import Converted, PublishedTask
from geo_assets.ledger.outputs import warnings
from geo_assets.ledger.published import Published
from geo_assets.outcomes import Cog, CogReceipt, FetchedFile, FileReceipt, Outputs, TableOutputs
from geo_assets.parameters import IngestContainer, PublishContainer
from geo_assets.raster.models import ConvertReport
from geo_assets.stac.bands import in_words
from geo_assets.stac.collection import Described
from geo_assets.stac.item import (
    CogAsset,
    FileAsset,
    TableAsset,
    cog_item,
    file_item,
    former_item_id,
    item_id,
    table_item,
)
from geo_assets.stac.pgstac import load_items, refresh_collection
from geo_assets.stac.places import with_places
from geo_assets.stac.provenance import SourceFile, cog_steps, file_steps, table_steps, with_provenance
from geo_assets.stac.validation import validated
from geo_assets.stages.abandoned_tables import drop_abandoned
from geo_assets.stages.bad_files import end_badly, is_of_the_file
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import CatalogueReport, JobRef
from geo_assets.stages.files import content_hash
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.orphans import sweep_blobs
from geo_assets.stages.raster_collections import collections_for, holding_elsewhere, withdraw_elsewhere
from geo_assets.stages.read_back import Made, beginnings, disagreements
from geo_assets.stages.table_files import with_table_files
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.places import BlobPlace
from geo_assets.text import batched

#: Tasks whose items are loaded in one commit: each costs a widening and a tightening of pgstac's partitions. A run that
#: is killed loses no more than that.
BATCH = 2_000

#: Items that are compared with their COGs in one call of a child.
_COMPARED = 64

#: Of a task that has no item.
_NOTHING = Made({}, {})


def gate(context: StageContext, job: JobRef) -> None:
    """With `on_error: fail`, stop the job before anything of it can be seen if one file is bad.

    A file is bad if the account says so: also one of a kind that no stage takes. One whose item would not be valid, or
    would contradict its COG, is found here: each item but those of tables is made and compared now, and made anew where
    it is loaded.

    Raises:
        GeoAssetsError: BAD_FILES.
    """
    if job.stood_aside or job.parameters_as(PublishContainer).on_error != "fail":
        return
    for stage in job.parameters_as(PublishContainer).stages:
        _end_those_without_an_item(context, job, stage)
    bad = sum(stage.bad for stage in context.jobs.find(job.job_id).stages)
    if bad:
        context.tasks.cancel_rest(job.job_id, job.run_id)
        raise GeoAssetsError(
            "BAD_FILES", f"{bad} bad files, and the job was submitted with on_error=fail: nothing was published"
        )


def _end_those_without_an_item(context: StageContext, job: JobRef, stage: str) -> None:
    if stage == TABLES:  # which have no name before they are published
        return
    wanted = FILE_STAGES[stage].collection(job.parameters_as(PublishContainer).collection)
    for page in _awaiting(context, job, stage):
        for built in _built_of(context, job, [(task, wanted) for task in page], _now()):
            if built.error:
                end_badly(context, job, stage, built.task.task_key, built.error)


def refresh_collections(context: StageContext, report: CatalogueReport) -> dict[str, dict[str, Any]]:
    """Update the job's collections, also those from which it only withdrew items: what was submitted of them, and what
    their items say; collection id -> extent.
    """
    job = report.job
    if job.stood_aside:
        return {}
    asked = job.parameters_as(PublishContainer)
    said, extents = Described.of(asked), {}
    for collection, holds in _collections(context, asked):
        title = f"{said.title}: {holds}" if said.title and collection != asked.collection else said.title
        try:
            stored = refresh_collection(
                context.settings,
                collection,
                said.model_copy(update={"title": title}),
                title=f"{asked.account}/{asked.container}: {holds}",
                guard=partial(assert_lease, job_id=job.job_id, run_id=job.run_id),
            )
        except GeoAssetsError as error:
            if error.code != "COLLECTION_NOT_FOUND":
                raise
            continue  # nothing was ever made for it
        extents[collection] = stored["extent"]
        _refresh_items_file(context, job, collection)
    return extents


def _refresh_items_file(context: StageContext, job: JobRef, collection: str) -> None:
    """Make the file of the collection's items again; if that fails, the job goes on, and the next one does it."""
    guard = partial(assert_lease, job_id=job.job_id, run_id=job.run_id)
    try:
        refresh_items_file(context.settings, collection, run=job.run_id, guard=guard)
    except Exception as error:  # whatever it is: the job's own files are published
        ours = error if isinstance(error, GeoAssetsError) else unforeseen(error)
        if ours.code == "LEASE_LOST":
            raise
        context.warn(job, ours)


def _collections(context: StageContext, asked: PublishContainer) -> list[tuple[str, str]]:
    """The collections of a job's items, each with what it holds, in words."""
    found = [(FILE_STAGES[name].collection(asked.collection), FILE_STAGES[name].made) for name in asked.stages]
    if COGS in asked.stages:
        by_bands = context.ledger.raster_collections.of(asked.collection)
        found += [(name, in_words(bands)) for bands, name in by_bands.items() if name != asked.collection]
    return found


def _clear_superseded(
    context: StageContext, job: JobRef, before: Sequence[PublishedTask], now: Sequence[tuple[str, Outputs]]
) -> None:
    """Delete the files and tables that the item of a source (task key, outputs) referred to before and no longer does.
    After a crash the janitor deletes them, and also a table on which a view depends, once the view is gone.
    """
    current = dict(now)
    sweep_blobs(
        context.settings, (blob for old in before for blob in old.outputs.all_blobs - current[old.task_key].all_blobs)
    )
    for old in before:
        kept = {table.table for table in current[old.task_key].all_tables}
        for label in sorted({table.table for table in old.outputs.all_tables} - kept):
            with connect(context.settings) as conn:
                try:
                    drop_abandoned(conn, label)
                except GeoAssetsError as error:
                    context.warn(job, error)


def register(context: StageContext, job: JobRef) -> CatalogueReport:
    """Register every converted task of the job; a task that cannot be registered fails, the others go on."""
    stages = () if job.stood_aside else job.parameters_as(PublishContainer).stages
    now = _now()
    done = [_register_stage(context, job, stage, now) for stage in stages]
    return CatalogueReport(
        job=job,
        items=sum(r.items for r in done),
        collections=tuple(dict.fromkeys(name for r in done for name in r.collections)),
        failed=sum(r.failed for r in done),
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _register_stage(context: StageContext, job: JobRef, stage: str, now: datetime) -> CatalogueReport:
    counts: Counter[str] = Counter()
    failed = 0
    with KeptConnection(context.settings) as kept:
        for page in _awaiting(context, job, stage):
            good: dict[str, list[_Built]] = {}
            placed = zip(page, collections_for(context, job, stage, page), strict=True)
            for built in _built_of(context, job, list(placed), now):
                if built.error:
                    end_badly(context, job, built.task.stage, built.task.task_key, built.error)
                    failed += 1
                else:
                    good.setdefault(built.collection, []).append(built)
            for collection, found in good.items():
                _load(context, job, collection, found, kept)
                counts[collection] += len(found)
    return CatalogueReport(job=job, items=counts.total(), collections=tuple(counts), failed=failed)


def _awaiting(context: StageContext, job: JobRef, stage: str) -> Iterator[Sequence[Converted]]:
    """The tasks of a stage that have no item yet, some at a time."""
    after = ("", "")
    while page := context.tasks.awaiting_registration(job.job_id, job.run_id, [stage], after=after, limit=BATCH):
        after = (page[-1].stage, page[-1].task_key)
        yield page


@dataclass(frozen=True, slots=True)
class _Built:
    """The item of a task and where it goes, or what is wrong with it."""

    task: Converted
    collection: str
    made: Made
    error: GeoAssetsError | None = None


def _built_of(
    context: StageContext, job: JobRef, placed: Sequence[tuple[Converted, str]], now: datetime
) -> Iterator[_Built]:
    """The items of tasks, compared with their COGs. While children read some headers, the next items are built and what
    their COGs begin with is fetched: here, as a thread that only waits for a child takes nothing from this one.
    """
    identified = _identified(context, job.parameters_as(PublishContainer), placed)
    with ThreadPoolExecutor(context.settings.workers, thread_name_prefix="read-back") as readers:
        under_way = deque[Future[list[_Built]]]()
        for some in batched(identified, _COMPARED):
            built = [_build(context, job, *each, now) for each in some]
            begun = beginnings(context, [each.made for each in built if not each.error])
            under_way.append(readers.submit(_compared, context, built, begun))
            if len(under_way) > context.settings.workers:
                yield from under_way.popleft().result()
        for each in under_way:
            yield from each.result()


def _identified(
    context: StageContext, p: PublishContainer, placed: Sequence[tuple[Converted, str]]
) -> list[tuple[Converted, str, str]]:
    """Tasks and their collections, each with the id of its item: the one that it has, if it is published."""
    former = [former_item_id(p.account, p.container, task.task_key) for task, _ in placed]
    names = [f"{collection}/{old}" for (_, collection), old in zip(placed, former, strict=True)]
    sources = context.ledger.published.sources_of(names)

    def identity(task: Converted, old: str, name: str) -> str:
        return old if sources.get(name) == task.task_key else item_id(p.account, p.container, task.task_key)

    return [(*each, identity(each[0], *ids)) for each, *ids in zip(placed, former, names, strict=True)]


def _build(
    context: StageContext, job: JobRef, task: Converted, collection: str, identity: str, now: datetime
) -> _Built:
    try:
        whole = with_table_files(context, job, task)
        return _Built(whole, collection, _item(context, job, whole, collection, identity, now))
    except GeoAssetsError as error:
        if not is_of_the_file(error):
            raise
        return _Built(task, collection, _NOTHING, error)


def _compared(context: StageContext, built: Sequence[_Built], begun: Sequence[bytes]) -> list[_Built]:
    """The same, with what is wrong with items that contradict their COGs."""
    wrong = iter(disagreements(context, [each.made for each in built if not each.error], begun))
    return [each if each.error else replace(each, error=next(wrong)) for each in built]


def _load(
    context: StageContext,
    job: JobRef,
    collection: str,
    built: Sequence[_Built],
    kept: KeptConnection,
) -> None:
    """Load the items of tasks into one collection, and withdraw in the same commit what these sources had in another
    collection of rasters of the same name.
    """
    asked = job.parameters_as(PublishContainer)
    items = [(each.task, each.made.item) for each in built]
    done = [
        (t.stage, t.task_key, t.outputs.model_copy(update={"stac_item": f"{collection}/{item['id']}"}))
        for t, item in items
    ]
    contents = {f"{collection}/{item['id']}": content_hash(job, t) for t, item in items}
    rasters = [item["id"] for task, item in items if task.stage == COGS]  # tables of the same zip have the same id

    def record(conn: psycopg.Connection[Any]) -> list[PublishedTask]:
        before = Published.publish_many(conn, job.job_id, job.run_id, done, contents)
        return before + withdraw_elsewhere(conn, asked, collection, rasters)

    before = load_items(
        context.settings,
        collection,
        [item for _, item in items],
        guard=partial(assert_lease, job_id=job.job_id, run_id=job.run_id),
        record=record,
        beside=lambda conn: holding_elsewhere(conn, asked, collection, rasters),
        kept=kept,
    )
    _clear_superseded(context, job, before, [(key, outputs) for _, key, outputs in done])


def _item(context: StageContext, job: JobRef, task: Converted, collection: str, identity: str, now: datetime) -> Made:
    p = job.parameters_as(PublishContainer)
    common: dict[str, Any] = {
        "identity": identity,
        "collection": collection,
        "title": task.task_key,
        "modified": now,
        "warnings": warnings(task.outputs),
    }
    made, steps, software = _made(context, p, task, common)
    sources = _sources(context, job, task.receipt.input)
    steps = "; ".join(part for part in (FILE_STAGES[task.stage].how, steps) if part)
    name, _, version = plugins.distribution_of(plugins.STAGES, task.stage).partition(" ")
    software = {**software, name: version} if name else software  # of whoever added the stage
    item = with_provenance(made.item, sources=sources, steps=steps, software=software)
    return replace(made, item=validated(with_places(item, _places(context, task.outputs))))


def _made(
    context: StageContext, p: PublishContainer, task: Converted, common: dict[str, Any]
) -> tuple[Made, str, dict[str, str]]:
    """The item of what was made of a source, how it was made, and the software."""
    outputs, receipt = task.outputs, task.receipt
    if isinstance(receipt, CogReceipt):
        cogs = _cogs(context, outputs, receipt)
        reports = [cog.report for cog in cogs]
        warped = isinstance(p, IngestContainer) and bool(p.target_crs or p.web_tiles)
        steps = cog_steps(reports, reprojected=warped)
        refs = {cog.href: BlobRef.parse(made.cog) for cog, made in zip(cogs, outputs.all_cogs, strict=True)}
        return Made(cog_item(**common, cogs=cogs), refs), steps, reports[0].software
    if isinstance(receipt, FileReceipt):
        files = _files(context, task, receipt)
        item = file_item(**common, files=files, box=receipt.bbox_4326, when=receipt.datetime)
        return Made(item, {}), file_steps(len(files)), receipt.software
    s = context.settings
    href, tables = f"postgresql://{s.pg_host}:{s.pg_port}/{s.pg_database}", outputs.all_tables
    item = table_item(
        **common,
        layers=receipt.layers,
        when=p.datetime if isinstance(p, IngestContainer) else None,
        href=href,
        tables=[(table.table, table.rows) for table in tables],
        files=[
            TableAsset(file.table, _file(context, task.task_key, file.blob), file.bytes, file.sha256)
            for file in (outputs.geoparquet if isinstance(outputs, TableOutputs) else ())
        ],
    )
    return Made(item, {}), table_steps(len(tables)), receipt.software


def _sources(context: StageContext, job: JobRef, files: Sequence[FetchedFile]) -> list[SourceFile]:
    container = context.source_container(job)
    return [
        SourceFile(path=file.path, href=as_link(container.href(file.path)), size=file.size, sha256=file.sha256)
        for file in files
    ]


def as_link(href: str) -> str:
    """An href of a local file as a link: percent-encoded, because it is followed, not given to GDAL."""
    return f"file://{quote(href.removeprefix('file://'))}" if href.startswith("file://") else href


def _places(context: StageContext, outputs: Outputs) -> dict[str, BlobPlace]:
    """Href -> blob, of the outputs that are in a service."""
    places = {}
    for blob in outputs.all_blobs:
        ref = BlobRef.parse(blob)
        container = context.output_container(ref.container)
        if place := container.place(ref.path):
            places[container.href(ref.path)] = place
    return places


def _files(context: StageContext, task: Converted, receipt: FileReceipt) -> list[FileAsset]:
    """The files of a task, as its item names them."""
    hashes = task.outputs.all_checksums
    return [
        FileAsset(_file(context, task.task_key, blob), media_type, hashes.get(blob))
        for blob, media_type in zip(task.outputs.all_files, receipt.media_types, strict=True)
    ]


def _file(context: StageContext, source: str, blob: str) -> str:
    """Where a file that was made can be read.

    Raises:
        GeoAssetsError: OUTPUT_GONE.
    """
    ref = BlobRef.parse(blob)
    container = context.output_container(ref.container)
    if container.head(ref.path) is None:
        raise GeoAssetsError("OUTPUT_GONE", f"what was made of {source} is not readable at {ref}")
    return container.href(ref.path)


def _cogs(context: StageContext, outputs: Outputs, receipt: CogReceipt) -> list[CogAsset]:
    """The COGs of a task."""
    if receipt.report is not None:
        (made,) = outputs.all_cogs
        return [_cog(context, made, receipt.report)]
    return [
        replace(_cog(context, made, part.report, key=part.stem, title=part.title), named=part.named)
        for made, part in zip(outputs.all_cogs, receipt.parts, strict=True)
    ]


def _cog(
    context: StageContext, made: Cog, report: ConvertReport, *, key: str = "", title: str | None = None
) -> CogAsset:
    ref, thumbnail = BlobRef.parse(made.cog), BlobRef.parse(made.thumbnail) if made.thumbnail else None
    container = context.output_container(ref.container)
    return CogAsset(
        key=key,
        title=title,
        href=container.href(ref.path),
        thumbnail=context.output_container(thumbnail.container).href(thumbnail.path) if thumbnail else None,
        report=report,
    )
