"""Reconcile: do containers, ledger, COGs, items, tables and runs agree?

Here: every difference between what the ledger says is published and what exists, by class; it only reads. Not here:
repairs, the checks of one stage (`checks.py`).

Containers are listed first and the ledger is read after them, in one snapshot; what then seems to be missing is looked
for once more. So a job that publishes meanwhile is not reported.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import psycopg
from psycopg import sql

from geo_assets.database.connections import connect
from geo_assets.ledger import collection_files
from geo_assets.ledger.models import JobStatus, PublishedTask
from geo_assets.ledger.raster_collections import collections_of
from geo_assets.ledger.snapshot import JobNow, Snapshot, Unregistered
from geo_assets.outcomes import INVENTORY, Outputs, TableOutputs
from geo_assets.parameters import FILE_STAGES, IngestContainer
from geo_assets.settings import Settings
from geo_assets.stac.pgstac import hrefs
from geo_assets.stages.container_inventory import REFUSALS, within
from geo_assets.stages.files import stages_of
from geo_assets.stages.scenes import scenes_of, sources_in
from geo_assets.storage.blobs import Blob, BlobRef
from geo_assets.storage.containers import Container, open_container
from geo_assets.storage.sources import Kind, Member, is_taken, name_key, whole_folder
from geo_assets.task_status import DONE, ENDED
from geo_assets.text import how_many
from geo_assets.vector.tables.staging import staging_lock

#: A blob that is younger may be of a conversion under way: it is uploaded before the ledger names it.
GRACE = timedelta(hours=24)


class Class(StrEnum):
    """The kinds of difference."""

    NOT_INGESTED = "not_ingested"  # a source that its job's newest listing lacks, or has in another version
    MISSING_SOURCE = "missing_source"  # published, and its source is no longer there: kept until a job retires it
    LOOSE_TABLE = "loose_table"  # its source no longer has it; the janitor drops it as soon as nothing depends on it
    STAGING_LEFTOVER = "staging_leftover"  # a staged table that no process works on; the next load sweeps it
    UNACCOUNTED = (  # a completed job listed a source and has no task for it, or one that has not ended
        "unaccounted"
    )
    UNPUBLISHED = "unpublished"  # a task is done, and its item is not published
    MISSING_ITEM = "missing_item"
    ORPHAN_ITEM = "orphan_item"  # searchable, and in no row of the ledger
    DANGLING_HREF = "dangling_href"  # an href of an item differs from the ledger
    MISSING_COG = "missing_cog"  # or its thumbnail, the file of a table, that of a collection's items
    ORPHAN_COG = "orphan_cog"  # or a thumbnail: no published item refers to it
    CHECKSUM_MISMATCH = "checksum_mismatch"
    MISSING_TABLE = "missing_table"
    ROWCOUNT_MISMATCH = "rowcount_mismatch"
    ORPHAN_TABLE = "orphan_table"
    STUCK_JOB = "stuck_job"  # processing, and no run renews its lease
    RUN_STATE_DRIFT = "run_state_drift"  # the job has ended, and Dagster says that its run is active
    POISON_WITHOUT_RECORD = "poison_without_record"

    @property
    def is_fault(self) -> bool:
        """Whether it must never occur; the others come and go in the life of a healthy job."""
        return self not in {Class.NOT_INGESTED, Class.MISSING_SOURCE, Class.LOOSE_TABLE, Class.STAGING_LEFTOVER}


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing about which two parts of the system disagree."""

    kind: Class
    what: str  # the source, item, blob, table or job
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The differences that were found."""

    differences: tuple[Difference, ...]

    @property
    def faults(self) -> tuple[Difference, ...]:
        """The differences that must never occur."""
        return tuple(d for d in self.differences if d.kind.is_fault)

    @property
    def counts(self) -> dict[str, int]:
        """Class -> number of differences; all classes, zero where there is none."""
        found = Counter(d.kind for d in self.differences)
        return {kind.value: found[kind] for kind in Class}


def reconcile(
    settings: Settings, *, collections: Sequence[str] | None = None, grace: timedelta = GRACE, deep: bool = False
) -> Reconciliation:
    """Compare everything that jobs of these collections have made.

    Args:
        settings: the database and the accounts.
        collections: as jobs name them, without the suffix of those of tables; None: of all jobs.
        grace: an unreferenced blob is an orphan only if it is older; zero if nothing is at work.
        deep: also read every COG and compare its SHA-256.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE, or what an account answers.
    """
    look = _Look(settings, grace, deep)
    with connect(settings) as conn:
        conn.execute("set transaction isolation level repeatable read read only")
        wanted = list(collections) if collections is not None else Snapshot(conn).collections()
        conn.rollback()
        found: list[Difference] = []
        for collection in wanted:
            listed = look.listed(collection)
            conn.execute("set transaction isolation level repeatable read read only")
            found += look.collection(conn, collection, listed)
            conn.rollback()
        if collections is None:
            found += [Difference(Class.POISON_WITHOUT_RECORD, *m) for m in Snapshot(conn).poison_without_record()]
    return Reconciliation(tuple(sorted(set(found))))


@dataclass(frozen=True, slots=True)
class _Look:
    """One reconciliation."""

    settings: Settings
    grace: timedelta
    deep: bool

    def output(self, name: str) -> Container:
        return open_container(self.settings, self.settings.output_account, name)

    def listed(self, collection: str) -> dict[str, Blob]:
        """Blob reference -> blob, of the COGs and thumbnails of a collection."""
        found: dict[str, Blob] = {}
        for name in {self.settings.cog_container, self.settings.thumbnail_container}:
            container = self.output(name)
            for page in container.list(f"{collection}/") if container.exists() else ():
                found |= {str(BlobRef(container.alias, name, blob.path)): blob for blob in page}
        return found

    def collection(self, conn: psycopg.Connection, collection: str, listed: dict[str, Blob]) -> Iterator[Difference]:
        """Compare everything of the jobs of one collection."""
        snapshot = Snapshot(conn)
        jobs = snapshot.jobs(collection)
        job_ids = [job.job_id for job in jobs]
        published = snapshot.published(job_ids, _collections(conn, collection))
        waiting = snapshot.unregistered(job_ids)
        yield from self.blobs(published, waiting, listed)
        yield from self.items_files(conn, collection)
        yield from self.items(conn, collection, published)
        yield from self.tables(conn, collection, published, waiting)
        yield from self.sources(snapshot, jobs, published)
        yield from _tasks(snapshot, jobs)
        for job in jobs:
            yield from _runs(job)

    def blobs(
        self, published: list[PublishedTask], waiting: list[Unregistered], listed: dict[str, Blob]
    ) -> Iterator[Difference]:
        """Compare COGs and thumbnails with those that the ledger names."""
        named: dict[str, tuple[str, str | None]] = {}
        rows: list[Unregistered | PublishedTask] = [*waiting, *published]
        for row in rows:
            named |= dict.fromkeys(row.outputs.all_blobs, (row.task_key, None))
            named |= {cog.cog: (row.task_key, cog.sha256) for cog in row.outputs.all_cogs}
            if isinstance(row.outputs, TableOutputs):
                named |= {file.blob: (row.task_key, file.sha256) for file in row.outputs.geoparquet}
        for reference, (source, sha256) in sorted(named.items()):
            ref = BlobRef.parse(reference)
            blob = listed.get(reference) or self.output(ref.container).head(ref.path)
            if blob is None or not blob.size:
                yield Difference(Class.MISSING_COG, reference, f"of {source}")
            elif self.deep and sha256 is not None and self.sha256(ref, blob) != sha256:
                yield Difference(Class.CHECKSUM_MISMATCH, reference, f"of {source}")
        newest = datetime.now(UTC) - self.grace
        for reference, blob in listed.items():
            if reference not in named and blob.last_modified <= newest:
                yield Difference(Class.ORPHAN_COG, reference)

    def items_files(self, conn: psycopg.Connection, collection: str) -> Iterator[Difference]:
        """Check that the files of the collections' items are there."""
        for name in _collections(conn, collection):
            file = collection_files.find(conn, name)
            ref = BlobRef.parse(file.blob) if file else None
            if ref is not None and self.output(ref.container).head(ref.path) is None:
                yield Difference(Class.MISSING_COG, str(ref), f"the items of {name}")

    def sha256(self, ref: BlobRef, blob: Blob) -> str:
        """The SHA-256 of a blob, read a piece at a time."""
        digest, step = hashlib.sha256(), 8 * 1024**2
        for start in range(0, blob.size, step):
            digest.update(self.output(ref.container).read_range(ref.path, start, min(step, blob.size - start)))
        return digest.hexdigest()

    def items(self, conn: psycopg.Connection, collection: str, published: list[PublishedTask]) -> Iterator[Difference]:
        """Compare items with those that the ledger knows, and each item's hrefs with its outputs."""
        found = hrefs(conn, _collections(conn, collection))
        for row in published:
            led = found.get(row.stac_item)
            if led is None:
                yield Difference(Class.MISSING_ITEM, row.stac_item, f"of {row.task_key}")
                continue
            there = {href.rpartition("?table=")[2] for href in led}
            said = self.hrefs(row.outputs) | {table.table for table in row.outputs.all_tables}
            if there != said:
                yield Difference(
                    Class.DANGLING_HREF,
                    row.stac_item,
                    f"leads to {sorted(there - said)}, not to {sorted(said - there)}",
                )
        unknown = found.keys() - {row.stac_item for row in published}
        for item in unknown - Snapshot(conn).published_among(list(unknown)):
            yield Difference(Class.ORPHAN_ITEM, item)

    def hrefs(self, outputs: Outputs) -> set[str]:
        """The hrefs that the item of these outputs should have."""
        refs = [BlobRef.parse(blob) for blob in outputs.all_blobs]
        return {self.output(ref.container).href(ref.path) for ref in refs}

    def tables(
        self, conn: psycopg.Connection, collection: str, published: list[PublishedTask], waiting: list[Unregistered]
    ) -> Iterator[Difference]:
        """Compare tables with those that the ledger names, and their rows with those of their newest loads."""
        snapshot = Snapshot(conn)
        made: list[Unregistered | PublishedTask] = [*waiting, *published]
        owners = {table.table: row.task_key for row in made for table in row.outputs.all_tables}
        for table, source in sorted(owners.items()):
            schema, _, name = table.partition(".")
            if conn.execute("select to_regclass(format('%%I.%%I', %s::text, %s::text))", (schema, name)).fetchone() == (
                None,
            ):
                yield Difference(Class.MISSING_TABLE, table, f"of {source}")
                continue
            ((rows,),) = conn.execute(
                sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name))
            ).fetchall()
            loaded = snapshot.rows_loaded(table)
            if loaded is not None and rows != loaded:
                yield Difference(Class.ROWCOUNT_MISMATCH, table, f"has {how_many(rows, 'row')}, loaded: {loaded:,}")
        names, loose = snapshot.table_names(collection), snapshot.loose_tables()
        there = conn.execute("select tablename from pg_tables where schemaname = 'vector'").fetchall()
        for (table,) in there:
            base = table.removesuffix("__rejects")
            if base in names and f"vector.{base}" not in owners:
                yield Difference(
                    Class.LOOSE_TABLE if f"vector.{base}" in loose else Class.ORPHAN_TABLE, f"vector.{table}"
                )
        yield from _staged(conn, names)
        yield from _waiting(conn, names)

    def sources(self, snapshot: Snapshot, jobs: list[JobNow], published: list[PublishedTask]) -> Iterator[Difference]:
        """Compare what the containers hold now with what was listed and what was published."""
        last = {(j.asked.account, j.asked.container): (j, j.asked) for j in jobs if j.is_over and j.asked}
        for (account, name), (job, asked) in last.items():
            container = open_container(self.settings, account, name)
            known = snapshot.etags(job.job_id)
            there = (
                {b.path: b.etag for page in container.list(asked.prefix) for b in page} if container.exists() else {}
            )
            for path, etag in there.items():
                if is_taken(path, asked.include, asked.exclude) and known.get(path) != etag:
                    yield Difference(Class.NOT_INGESTED, f"{account}/{name}/{path}")
            sources = {(whole_folder(path) or path) for path in there} | _scenes(there, asked)
            for row in published:
                if row.job_id == job.job_id and row.task_key.rstrip("/") not in sources:
                    yield Difference(Class.MISSING_SOURCE, f"{account}/{name}/{row.task_key}", row.stac_item)


def _scenes(paths: Iterable[str], asked: IngestContainer) -> set[str]:
    """The scenes that the files of a container make now."""
    if scenes_of(asked) is None:
        return set()
    members = [Member(path=path, size=0, etag="") for path in sorted(paths, key=lambda path: (*name_key(path), path))]
    return {source.path.rstrip("/") for source in sources_in(members, asked) if source.kind is Kind.SCENE}


def _collections(conn: psycopg.Connection, collection: str) -> list[str]:
    """The collections of pgstac that hold what jobs of a collection put out."""
    stages = {stage.collection(collection) for stage in FILE_STAGES.values()}
    return sorted(stages.union(collections_of(conn, collection)))


def _staged(conn: psycopg.Connection, names: set[str]) -> Iterator[Difference]:
    for (table,) in conn.execute("select tablename from pg_tables where schemaname = 'vector_staging'").fetchall():
        base, _, suffix = table.rpartition("__")
        locks = sql.SQL(" and ").join(
            sql.SQL("pg_try_advisory_xact_lock({})").format(staging_lock(s)) for s in {suffix, suffix.removesuffix("r")}
        )
        if base in names and conn.execute(sql.SQL("select {}").format(locks)).fetchone() == (True,):
            yield Difference(Class.STAGING_LEFTOVER, f"vector_staging.{table}")


def _waiting(conn: psycopg.Connection, names: set[str]) -> Iterator[Difference]:
    """Compare the tables that wait for their job's gate with those that the ledger knows."""
    there = {
        str(n)
        for (n,) in conn.execute("select tablename from pg_tables where schemaname = 'vector_waiting'").fetchall()
    }
    known = Snapshot(conn).waiting_tables()
    for kind, tables in (
        (Class.MISSING_TABLE, known - there),
        (Class.ORPHAN_TABLE, there - known - {f"{n}r" for n in known}),
    ):
        yield from (
            Difference(kind, f"vector_waiting.{table}")
            for table in sorted(tables)
            if table.rpartition("__")[0] in names
        )


def _tasks(snapshot: Snapshot, jobs: list[JobNow]) -> Iterator[Difference]:
    """Check that every source that a completed job listed came to an end, and that what is said to be done is
    published.
    """
    for job in jobs:
        tasks = snapshot.tasks(job.job_id)
        items = {task.stac_item for task in tasks if task.stac_item and task.listed and task.status in DONE}
        for item in items - snapshot.published_among(list(items)):
            yield Difference(Class.UNPUBLISHED, item, f"job {job.job_id[:12]}")
        if job.status not in {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}:
            continue
        ended = {(task.stage, task.task_key) for task in tasks if task.status in ENDED}
        for wanted in sorted(_expected(snapshot, job) - ended):
            yield Difference(Class.UNACCOUNTED, "/".join(wanted), f"job {job.job_id[:12]}")


def _expected(snapshot: Snapshot, job: JobNow) -> set[tuple[str, str]]:
    """(stage, task key) of every source of a job's newest listing."""
    asked = job.asked
    if asked is None:
        return set()
    found = within(sources_in(snapshot.members(job.job_id), asked), asked.limit)
    return {
        (stage, source.path)
        for source in found
        for stage in ((INVENTORY,) if Kind(source.kind) in REFUSALS else stages_of(source, asked.stages))
    }


def _runs(job: JobNow) -> Iterator[Difference]:
    short = job.job_id[:12]
    if job.status is JobStatus.PROCESSING and job.is_old and not job.is_live:
        yield Difference(Class.STUCK_JOB, short, f"run {job.run_id} does not renew its lease")
    if job.is_over and job.is_old and job.run_status in {"STARTED", "CANCELING"}:
        yield Difference(
            Class.RUN_STATE_DRIFT, short, f"is {job.status}, and run {job.run_id} is {job.run_status.lower()}"
        )
