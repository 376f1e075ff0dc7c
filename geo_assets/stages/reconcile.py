"""Reconcile: do containers, ledger, COGs, items, tables and runs agree?

Here: every difference between what the ledger says is published and what exists, by class; it only reads. Not here:
repairs (`repair.py`), the checks of one stage (`checks.py`).

Containers are listed first and the ledger is read after them, in one snapshot; what then seems to be missing is looked
for once more. A collection in which something was found is compared twice, and what the second look does not find was
a job's that publishes meanwhile: it is not reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import connect
from geo_assets.errors import ERRORS, GeoAssetsError, for_job
from geo_assets.file_stages import FILE_STAGES, TABLES
from geo_assets.ledger import collection_files, loose_tables
from geo_assets.ledger.inventory import stored_etag
from geo_assets.ledger.models import JobStatus, PublishedTask
from geo_assets.ledger.raster_collections import collections_of
from geo_assets.ledger.snapshot import JobNow, Snapshot, Unregistered
from geo_assets.ledger.vector_loads import loaded_over
from geo_assets.outcomes import INVENTORY, Outputs
from geo_assets.parameters import PublishContainer
from geo_assets.settings import Settings
from geo_assets.stac.pgstac import hrefs
from geo_assets.stages.container_inventory import REFUSALS, within
from geo_assets.stages.files import stages_of
from geo_assets.stages.scenes import scenes_of, sources_in
from geo_assets.storage.blobs import Blob, BlobRef
from geo_assets.storage.containers import Container, open_container
from geo_assets.storage.kinds import Kind, whole_folder
from geo_assets.storage.sources import Member, Source, is_taken, name_key
from geo_assets.task_status import DONE, ENDED
from geo_assets.text import how_many
from geo_assets.vector.tables.staging import staging_lock

#: A blob that is younger may be of a conversion under way: it is uploaded before the ledger names it.
GRACE = timedelta(hours=24)


class Class(StrEnum):
    """The kinds of difference; each is an error code, with a remedy (`errors.py`)."""

    NOT_INGESTED = "NOT_INGESTED"  # a source that its job's newest listing lacks, or has in another version
    MISSING_SOURCE = "MISSING_SOURCE"  # published, and its source is no longer there: kept until a job retires it
    LOOSE_TABLE = "LOOSE_TABLE"  # its source no longer has it; the janitor drops it as soon as nothing depends on it
    STAGING_LEFTOVER = "STAGING_LEFTOVER"  # a staged table that no process works on; the next load sweeps it
    UNACCOUNTED = (  # a completed job listed a source and has no task for it, or one that has not ended
        "UNACCOUNTED"
    )
    UNPUBLISHED = "UNPUBLISHED"  # a task is done, and its item is not published
    MISSING_ITEM = "MISSING_ITEM"
    ORPHAN_ITEM = "ORPHAN_ITEM"  # searchable, and in no row of the ledger
    DANGLING_HREF = "DANGLING_HREF"  # an href of an item differs from the ledger
    MISSING_COG = "MISSING_COG"  # or its thumbnail, the file of a table, that of a collection's items
    ORPHAN_COG = "ORPHAN_COG"  # or a thumbnail: no published item refers to it
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    MISSING_TABLE = "MISSING_TABLE"
    ROWCOUNT_MISMATCH = "ROWCOUNT_MISMATCH"
    ORPHAN_TABLE = "ORPHAN_TABLE"
    STUCK_JOB = "STUCK_JOB"  # processing, and no run renews its lease
    RUN_STATE_DRIFT = "RUN_STATE_DRIFT"  # the job has ended, and Dagster says that its run is active
    POISON_WITHOUT_RECORD = "POISON_WITHOUT_RECORD"

    @property
    def is_fault(self) -> bool:
        """Whether it must never occur; the others come and go in the life of a healthy job."""
        return self not in {Class.NOT_INGESTED, Class.MISSING_SOURCE, Class.LOOSE_TABLE, Class.STAGING_LEFTOVER}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a difference is: what a repair has to do with."""

    job_id: str = ""
    stage: str = ""  # and the key: of the task that made it
    task_key: str = ""
    run_id: str = ""  # Dagster's, of a job whose run goes on
    collection: str = ""  # of the file of its items

    @classmethod
    def of(cls, row: Unregistered | PublishedTask) -> Owner:
        """The task that made outputs."""
        return cls(row.job_id, row.stage, row.task_key)


#: Of what no job is known to have made.
NOBODY = Owner()


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing about which two parts of the system disagree."""

    kind: Class
    what: str  # the source, item, blob, table or job
    detail: str = ""
    owner: Owner = field(default=NOBODY, compare=False)

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}{f' ({self.detail})' if self.detail else ''}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return for_job(ERRORS[self.kind].remedy.replace("COLLECTION/ITEM", self.what), self.owner.job_id or "JOB_ID")


class Finding(BaseModel):
    """A difference as programs read it."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)
    kind: Class = Field(alias="class")
    what: str = Field(description="the source, item, blob, table or job")
    detail: str
    remedy: str


class ReconcileReport(BaseModel):
    """What was found, as programs read it."""

    model_config = ConfigDict(frozen=True)
    faults: int = Field(description="differences that must never occur; the others come and go in the life of a job")
    counts: dict[Class, int] = Field(description="class -> differences; zero where there is none")
    differences: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The differences that were found."""

    differences: tuple[Difference, ...]

    @property
    def faults(self) -> tuple[Difference, ...]:
        """The differences that must never occur."""
        return tuple(d for d in self.differences if d.kind.is_fault)

    @property
    def counts(self) -> dict[Class, int]:
        """Class -> number of differences; all classes, zero where there is none."""
        found = Counter(d.kind for d in self.differences)
        return {kind: found[kind] for kind in Class}

    def report(self) -> ReconcileReport:
        """The same, as programs read it."""
        found = [Finding(kind=d.kind, what=d.what, detail=d.detail, remedy=d.remedy) for d in self.differences]
        return ReconcileReport(faults=len(self.faults), counts=self.counts, differences=tuple(found))


#: Called with (published items, bytes) that were compared since the last call.
Tell = Callable[[int, int], None]


def collections_asked(settings: Settings, collection: str | None) -> list[str]:
    """The collections that are compared: one, as jobs name it, or those of all jobs.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND, no job names it.
    """
    with connect(settings) as conn:
        known = Snapshot(conn).collections()
    if collection is None:
        return known
    if collection not in known:
        raise GeoAssetsError(
            "COLLECTION_NOT_FOUND",
            f"no job was submitted for a collection {collection[:200]}",
            remedy=f"name it as jobs do: {', '.join(known[:20]) or 'there is none yet'}",
        )
    return [collection]


def count_published(settings: Settings, collections: Sequence[str]) -> int:
    """How many items are to be compared."""
    with connect(settings) as conn:
        return Snapshot(conn).count_published(collections)


def reconcile(
    settings: Settings,
    *,
    collections: Sequence[str] | None = None,
    grace: timedelta | None = None,
    deep: bool = False,
    tell: Tell = lambda *_: None,
) -> Reconciliation:
    """Compare everything that jobs of these collections have made.

    Args:
        settings: the database and the accounts.
        collections: as jobs name them, without the suffix of those of tables; None: of all jobs.
        grace: a blob is an orphan only if it is older, and not recorded as one for less than that; zero if nothing is
            at work; None: `GRACE`, or what the janitor grants if that is longer.
        deep: also read every COG and compare its SHA-256.
        tell: is told of the progress.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE, or what an account answers.
    """
    wanted = list(collections) if collections is not None else collections_asked(settings, None)
    patience = max(GRACE, timedelta(hours=settings.orphan_grace_hours)) if grace is None else grace
    look = _Look(settings, patience, deep, tell)
    with connect(settings) as conn:
        found = [difference for collection in wanted for difference in look.twice(conn, collection)]
        if collections is None:
            found += [Difference(Class.POISON_WITHOUT_RECORD, *m) for m in Snapshot(conn).poison_without_record()]
    return Reconciliation(tuple(sorted(set(found))))


@dataclass(frozen=True, slots=True)
class _Look:
    """One reconciliation."""

    settings: Settings
    grace: timedelta
    deep: bool
    tell: Tell

    def twice(self, conn: psycopg.Connection, collection: str) -> set[Difference]:
        """The differences of a collection that are there at two moments. Bytes are read once: nobody changes those of
        a COG.
        """
        found = self.once(conn, collection)
        if not found:
            return found
        again = replace(self, deep=False, tell=lambda *_: None).once(conn, collection)
        still = {(d.kind, d.what) for d in again}
        return {d for d in found if (d.kind, d.what) in still or d.kind is Class.CHECKSUM_MISMATCH}

    def once(self, conn: psycopg.Connection, collection: str) -> set[Difference]:
        """The differences of a collection, the ledger and the catalogue being read at one moment. Blobs are read after
        it: that may take hours, in which the database would keep all that was deleted since.
        """
        listed = self.listed(collection)
        conn.execute("set transaction isolation level repeatable read read only")
        try:
            snapshot = Snapshot(conn)
            jobs = snapshot.jobs(collection)
            job_ids = [job.job_id for job in jobs]
            published = snapshot.published(job_ids, _collections(conn, collection))
            waiting = snapshot.unregistered(job_ids)
            found = set(self.rows(conn, collection, jobs, published, waiting))
            leaving = snapshot.leaving_blobs(self.grace)
        finally:
            conn.rollback()
        found.update(self.blobs(published, waiting, listed))
        return {d for d in found if d.kind is not Class.ORPHAN_COG or d.what not in leaving}

    def output(self, name: str) -> Container:
        return open_container(self.settings, self.settings.output_account, name)

    def listed(self, collection: str) -> dict[str, Blob]:
        """Blob reference -> blob, of the COGs and thumbnails of a collection."""
        found: dict[str, Blob] = {}
        for name in self.settings.output_containers:
            container = self.output(name)
            for page in container.list(f"{collection}/") if container.exists() else ():
                found |= {str(BlobRef(container.alias, name, blob.path)): blob for blob in page}
        return found

    def rows(
        self,
        conn: psycopg.Connection,
        collection: str,
        jobs: list[JobNow],
        published: list[PublishedTask],
        waiting: list[Unregistered],
    ) -> Iterator[Difference]:
        """Compare everything of the jobs of one collection, but the bytes that they put out."""
        snapshot = Snapshot(conn)
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
        named: dict[str, Unregistered | PublishedTask] = {}
        rows: list[Unregistered | PublishedTask] = [*waiting, *published]
        for row in rows:
            named |= dict.fromkeys(row.outputs.all_blobs, row)
        for row in rows:
            for reference in sorted(row.outputs.all_blobs):
                if named[reference] is row and (kind := self.blob(row, BlobRef.parse(reference), listed)):
                    yield Difference(kind, reference, f"of {row.task_key}", Owner.of(row))
            self.tell(int(isinstance(row, PublishedTask)), 0)
        newest = datetime.now(UTC) - self.grace
        for reference, blob in listed.items():
            if reference not in named and blob.last_modified <= newest:
                yield Difference(Class.ORPHAN_COG, reference)

    def blob(self, row: Unregistered | PublishedTask, ref: BlobRef, listed: dict[str, Blob]) -> Class | None:
        """Compare one blob with what its task says of it."""
        blob = listed.get(str(ref)) or self.output(ref.container).head(ref.path)
        if blob is None or not blob.size:
            return Class.MISSING_COG
        sha256 = row.outputs.all_checksums.get(str(ref))
        if not self.deep or sha256 is None:
            return None
        try:
            now = self.output(ref.container).sha256(ref.path, lambda count: self.tell(0, count))
        except GeoAssetsError as error:
            if error.code != "SOURCE_GONE":
                raise
            return Class.MISSING_COG
        return None if now == sha256 else Class.CHECKSUM_MISMATCH

    def items_files(self, conn: psycopg.Connection, collection: str) -> Iterator[Difference]:
        """Check that the files of the collections' items are there."""
        for name in _collections(conn, collection):
            file = collection_files.find(conn, name)
            ref = BlobRef.parse(file.blob) if file else None
            if ref is not None and self.output(ref.container).head(ref.path) is None:
                yield Difference(Class.MISSING_COG, str(ref), f"the items of {name}", Owner(collection=name))

    def items(self, conn: psycopg.Connection, collection: str, published: list[PublishedTask]) -> Iterator[Difference]:
        """Compare items with those that the ledger knows, and each item's hrefs with its outputs."""
        found = hrefs(conn, _collections(conn, collection))
        for row in published:
            led = found.get(row.stac_item)
            if led is None:
                yield Difference(Class.MISSING_ITEM, row.stac_item, f"of {row.task_key}", Owner.of(row))
                continue
            there = {href.rpartition("?table=")[2] for href in led}
            said = self.hrefs(row.outputs) | {table.table for table in row.outputs.all_tables}
            if there != said:
                yield Difference(
                    Class.DANGLING_HREF,
                    row.stac_item,
                    f"leads to {sorted(there - said)}, not to {sorted(said - there)}",
                    Owner.of(row),
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
        """Compare tables with those that the ledger names, their rows with those of their newest loads, and whose these
        are.
        """
        snapshot = Snapshot(conn)
        made: list[Unregistered | PublishedTask] = [*waiting, *published]
        owners = {table.table: row for row in made for table in row.outputs.all_tables}
        for table, row in sorted(owners.items()):
            schema, _, name = table.partition(".")
            if conn.execute("select to_regclass(format('%%I.%%I', %s::text, %s::text))", (schema, name)).fetchone() == (
                None,
            ):
                yield Difference(Class.MISSING_TABLE, table, f"of {row.task_key}", Owner.of(row))
                continue
            ((rows,),) = conn.execute(
                sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name))
            ).fetchall()
            loaded = snapshot.rows_loaded(table)
            if loaded is not None and rows != loaded:
                detail = f"has {how_many(rows, 'row')}, loaded: {loaded:,}"
                yield Difference(Class.ROWCOUNT_MISMATCH, table, detail, Owner.of(row))
            elif other := loaded_over(conn, table, row.job_id, row.task_key):
                yield Difference(Class.ROWCOUNT_MISMATCH, table, f"holds {other}", Owner.of(row))
        names = snapshot.table_names(collection)
        yield from _unowned(conn, names, owners.keys())
        yield from _staged(conn, names)
        yield from _waiting(conn, names)

    def sources(self, snapshot: Snapshot, jobs: list[JobNow], published: list[PublishedTask]) -> Iterator[Difference]:
        """Compare what the containers hold now with what was listed and what was published."""
        last = {(j.asked.account, j.asked.container): (j, j.asked) for j in jobs if j.is_over and j.asked}
        for (account, name), (job, asked) in last.items():
            if account not in self.settings.storage_accounts:
                continue  # it is no longer defined: what was made of it stays, and nobody can look
            container = open_container(self.settings, account, name)
            there = (
                {b.path: b.etag for page in container.list(asked.prefix) for b in page} if container.exists() else {}
            )
            known = snapshot.etags(job.job_id)
            if not known:  # a rebuild left no listing
                known = _companions(there, asked) | snapshot.taken(job.job_id)
            for path, etag in there.items():
                if is_taken(path, asked.include, asked.exclude) and stored_etag(known.get(path, "")) != etag:
                    yield Difference(Class.NOT_INGESTED, f"{account}/{name}/{path}")
            sources = {(whole_folder(path) or path) for path in there} | _scenes(there, asked)
            for row in published:
                if row.job_id == job.job_id and row.task_key.rstrip("/") not in sources:
                    yield Difference(Class.MISSING_SOURCE, f"{account}/{name}/{row.task_key}", row.stac_item)


def _scenes(paths: Iterable[str], asked: PublishContainer) -> set[str]:
    """The scenes that the files of a container make now."""
    if scenes_of(asked) is None:
        return set()
    return {source.path.rstrip("/") for source in _sources(paths, asked) if source.kind is Kind.SCENE}


def _companions(there: Mapping[str, str], asked: PublishContainer) -> dict[str, str]:
    """Those of these files, with their etags, that no task takes."""
    companions = [source for source in _sources(there, asked) if source.kind is Kind.COMPANION]
    return {member.path: there[member.path] for source in companions for member in source.members}


def _sources(paths: Iterable[str], asked: PublishContainer) -> Iterable[Source]:
    members = [Member(path=path, size=0, etag="") for path in sorted(paths, key=lambda path: (*name_key(path), path))]
    return sources_in(members, asked)


def _collections(conn: psycopg.Connection, collection: str) -> list[str]:
    """The collections of pgstac that hold what jobs of a collection put out."""
    stages = {stage.collection(collection) for stage in FILE_STAGES.values()}
    return sorted(stages.union(collections_of(conn, collection), Snapshot(conn).holding(collection)))


def _unowned(conn: psycopg.Connection, names: set[str], owned: AbstractSet[str]) -> Iterator[Difference]:
    """The published tables that no task names, and none that is being loaded will."""
    loose = Snapshot(conn).loose_tables()
    for (table,) in conn.execute("select tablename from pg_tables where schemaname = 'vector'").fetchall():
        label = f"vector.{table.removesuffix('__rejects')}"
        if label.partition(".")[2] not in names or label in owned:
            continue
        if label in loose:
            yield Difference(Class.LOOSE_TABLE, f"vector.{table}")
        elif not loose_tables.standing(conn, label, stage=TABLES).is_unfinished:
            yield Difference(Class.ORPHAN_TABLE, f"vector.{table}")


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
        items = {t.stac_item: t for t in tasks if t.stac_item and t.listed and t.status in DONE}
        for item in items.keys() - snapshot.published_among(list(items)):
            owner = Owner(job.job_id, items[item].stage, items[item].task_key)
            yield Difference(Class.UNPUBLISHED, item, f"job {job.job_id[:12]}", owner)
        if job.status not in {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}:
            continue
        ended = {(task.stage, task.task_key) for task in tasks if task.status in ENDED}
        for wanted in sorted(_expected(snapshot, job) - ended):
            yield Difference(Class.UNACCOUNTED, "/".join(wanted), f"job {job.job_id[:12]}", Owner(job.job_id, *wanted))


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
    short, run = job.job_id[:12], job.newest_run_id or ""
    if job.status is JobStatus.PROCESSING and job.is_old and not job.is_live:
        yield Difference(
            Class.STUCK_JOB, short, f"run {job.run_id} does not renew its lease", Owner(job.job_id, run_id=run)
        )
    if job.is_over and job.is_old and job.run_status in {"STARTED", "CANCELING"}:
        detail = f"is {job.status}, and run {run} is {job.run_status.lower()}"
        yield Difference(Class.RUN_STATE_DRIFT, short, detail, Owner(job.job_id, run_id=run))
