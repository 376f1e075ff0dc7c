"""Verifying: whether all that was published is still as it was published, at any later time.

Here: what is compared with what, in which order, and each fault in words. Not here: statements (`ledger/receipts.py`),
making anything again (`rebuild.py`), whether ledger and stores contradict each other while jobs work
(`stages/reconcile.py`).

Every byte of every blob is hashed, every item's row is hashed, every table's rows are counted. `deep` also compares
each item with the one in the receipt of its job, and each COG's header with its item; a COG whose bytes have changed is
decoded in the sandbox, to say whether its pixels are still those of its stamp. One whose bytes are the same has the
pixels that it was validated with: decoding it again would prove nothing.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import connect
from geo_assets.errors import ERRORS, GeoAssetsError, for_job
from geo_assets.ledger import collection_files
from geo_assets.ledger import receipts as ledger
from geo_assets.ledger.vector_loads import loaded_over
from geo_assets.outcomes import Outputs, read_outputs
from geo_assets.raster.models import ValidateReport, ValidateRequest
from geo_assets.receipts.model import PUBLISHED, UNREADABLE
from geo_assets.receipts.stored import fetched, newest_receipt
from geo_assets.settings import Settings
from geo_assets.stac import pgstac, reading
from geo_assets.stages.context import StageContext
from geo_assets.stages.read_back import insist_on_agreement
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import Container, open_container
from geo_assets.text import batched, how_many

#: Called with (items, bytes) that were verified since the last call; from several threads.
Tell = Callable[[int, int], None]

_BATCH = 500

#: How often two counts that differ are asked for again.
_TRIES = 3

#: What makes the file of a collection's items again.
_ITEMS_FILE = "delete it where it is still there: it is made again when the next job of its collection ends"

#: What is said of a COG whose bytes have changed.
_PIXELS = {
    True: "its pixels are still those of its stamp",
    False: "its pixels are not those of its stamp",
    None: "it cannot be told whether its pixels are those of its stamp",
}

#: What a store says of a blob that is not there.
_GONE = {"SOURCE_GONE", "CONTAINER_NOT_FOUND"}


class Fault(BaseModel):
    """One thing that is not as it was published."""

    model_config = ConfigDict(frozen=True)
    code: str
    what: str = Field(description="the blob, item, table or job")
    detail: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.code}: {self.what}: {self.detail}"


def remedy_of(code: str, what: str, job_id: str) -> str:
    """What to do about a fault, with commands that name its item and its job."""
    return for_job(ERRORS[code].remedy.replace("COLLECTION/ITEM", what), job_id)


class Verification(BaseModel):
    """What was verified, and what was found."""

    model_config = ConfigDict(frozen=True)
    jobs: int
    items: int
    files: int
    bytes: int
    tables: int
    superseded: int = Field(description="items that the job made and that are another job's now")
    withdrawn: int = Field(description="items that the job made and that were unpublished since")
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """What is verified: what a job has in the catalogue now, or some collections, or all."""

    job_id: str | None = None
    collections: tuple[str, ...] | None = None

    @classmethod
    def of_collection(cls, settings: Settings, name: str) -> Scope:
        """A collection, with the others of the jobs that were submitted for it: those of its tables and of other bands.

        Raises:
            GeoAssetsError: COLLECTION_NOT_FOUND.
        """
        with connect(settings) as conn:
            family = ledger.family(conn, name)
            if not family and not pgstac.has_collection(conn, name):
                raise GeoAssetsError("COLLECTION_NOT_FOUND", f"there is no collection {name[:200]}")
        return cls(collections=tuple(sorted({name, *family})))


@dataclass
class _Findings:
    """What the threads have found so far."""

    tell: Tell
    items: int = 0
    files: int = 0
    bytes: int = 0
    tables: int = 0
    superseded: int = 0
    withdrawn: int = 0
    faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, count: int) -> None:
        with self._lock:
            self.bytes += count
        self.tell(0, count)

    def fault(self, code: str, what: str, detail: str, *, job: str = "", remedy: str = "") -> None:
        remedy = remedy or remedy_of(code, what, job)
        with self._lock:
            self.faults.append(Fault(code=code, what=what, detail=detail, remedy=remedy))


def count(settings: Settings, scope: Scope) -> int:
    """How many items are to be verified."""
    with connect(settings) as conn:
        return ledger.count_published(conn, job_id=scope.job_id, collections=_listed(scope))


def verify(settings: Settings, scope: Scope, *, deep: bool = False, tell: Tell = lambda *_: None) -> Verification:
    """Verify what is published.

    Args:
        settings: the database and the accounts.
        scope: what of it.
        deep: see above.
        tell: is told of the progress.

    Raises:
        GeoAssetsError: a store does not answer.
    """
    found = _Findings(tell)
    with connect(settings, autocommit=True) as conn, StageContext(settings) as context:
        jobs = [scope.job_id] if scope.job_id else ledger.jobs_of(conn, _listed(scope))
        work = _Work(settings, conn, context, found, deep=deep)
        work.published(scope)
        if scope.job_id is None:
            work.items_files(scope)
        for job_id in jobs:
            work.account(job_id, whole=scope.collections is None)
    faults = sorted(found.faults, key=lambda fault: (fault.code, fault.what))
    return Verification(
        jobs=len(jobs),
        items=found.items,
        files=found.files,
        bytes=found.bytes,
        tables=found.tables,
        superseded=found.superseded,
        withdrawn=found.withdrawn,
        faults=tuple(faults),
    )


def _listed(scope: Scope) -> list[str] | None:
    return None if scope.collections is None else list(scope.collections)


@dataclass
class _Work:
    settings: Settings
    conn: psycopg.Connection[Any]
    context: StageContext
    found: _Findings
    deep: bool
    _containers: dict[tuple[str, str], Container] = field(default_factory=dict)

    # -- items, blobs, tables ------------------------------------------------------------------------------------------

    def published(self, scope: Scope) -> None:
        """Everything that the published rows name; blobs on as many threads as there are cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        pages = ledger.published(self.conn, job_id=scope.job_id, collections=_listed(scope))
        with ThreadPoolExecutor(cores, thread_name_prefix="verify") as threads:
            pending: list[Future[None]] = []
            for page in pages:
                outputs = [(row, read_outputs(row["stage"], row["outputs"])) for row in page]
                pending += [
                    threads.submit(self.blob, blob, made.all_checksums.get(blob), row)
                    for row, made in outputs
                    for blob in sorted(made.all_blobs)
                ]
                self.items(page)
                for row, made in outputs:
                    self.tables(row, made)
                while len(pending) > _BATCH:
                    pending.pop(0).result()
                self.found.items += len(page)
                self.found.tell(len(page), 0)
            for future in pending:
                future.result()

    def fault(self, row: dict[str, Any], code: str, what: str, detail: str) -> None:
        """Note a fault of a published row, unless it was published again, or withdrawn, since it was read."""
        with connect(self.settings) as conn:  # of its own: threads note faults, too
            if ledger.still_published(conn, [row]):
                self.found.fault(code, what, detail, job=row["job_id"])

    def items(self, rows: Sequence[dict[str, Any]]) -> None:
        """Each item is there, and its row is the one that was loaded."""
        now = ledger.item_hashes(self.conn, [row["stac_item"] for row in rows])
        for row in rows:
            name = row["stac_item"]
            if name not in now:
                self.fault(row, "ITEM_GONE", name, f"of {row['task_key']}: it is not in the catalogue")
            elif row.get("item_hash") not in {None, now[name]}:
                self.fault(row, "ITEM_CHANGED", name, f"of {row['task_key']}: it is not as it was loaded")

    def tables(self, row: dict[str, Any], made: Outputs) -> None:
        """Each table is there, with as many rows as its newest load left, and that load is its job's."""
        for entry in made.all_tables:
            self.found.tables += 1
            try:
                for _ in range(_TRIES):  # a load may have come between the two counts
                    expected, rows = ledger.loaded(self.conn, entry.table), self.rows_of(entry.table)
                    expected = entry.rows if expected is None else expected
                    if rows == expected:
                        break
            except psycopg.errors.UndefinedTable:
                self.fault(row, "TABLE_GONE", entry.table, f"of {row['task_key']}: there is no such table")
                continue
            if rows != expected:
                detail = f"of {row['task_key']}: {how_many(rows, 'row')}, loaded: {expected:,}"
                self.fault(row, "ROWS_CHANGED", entry.table, detail)
            elif other := loaded_over(self.conn, entry.table, row["job_id"], row["task_key"]):
                self.fault(row, "ROWS_CHANGED", entry.table, f"of {row['task_key']}: it holds {other}")

    def rows_of(self, table: str) -> int:
        """How many rows a table has.

        Raises:
            psycopg.errors.UndefinedTable: there is none.
        """
        name = sql.Identifier(*table.split(".", 1))
        ((rows,),) = self.conn.execute(sql.SQL("select count(*) from {}").format(name)).fetchall()
        return int(rows)

    def blob(self, blob: str, sha256: str | None, row: dict[str, Any]) -> None:
        """A blob is there, and its bytes are those that were put out; one without a recorded hash is not empty."""
        ref = BlobRef.parse(blob)
        container, item = self.container(ref), row["stac_item"]
        self.found.files += 1
        try:
            if sha256 is None:
                head = container.head(ref.path)
                if head is None or not head.size:
                    self.fault(row, "BLOB_GONE", blob, f"of {item}: it is not there, or empty")
                return
            now = container.sha256(ref.path, self.found.read)
        except GeoAssetsError as error:
            if error.code not in _GONE:
                raise
            self.fault(row, "BLOB_GONE", blob, f"of {item}: it is not there")
            return
        if now != sha256:
            more = f"; {self.damage(container, ref)}" if self.deep and ref.path.endswith(".tif") else ""
            self.fault(row, "BLOB_CHANGED", blob, f"of {item}: its SHA-256 is {now}, not {sha256}{more}")

    def items_files(self, scope: Scope) -> None:
        """The files of collections' items are those that were written: each is named after its bytes."""
        for collection, file in collection_files.listed(self.conn, _listed(scope)).items():
            ref = BlobRef.parse(file.blob)
            self.found.files += 1
            try:
                now = self.container(ref).sha256(ref.path, self.found.read)
                code, why = "BLOB_CHANGED", f"its SHA-256 is {now}"
            except GeoAssetsError as error:
                if error.code not in _GONE:
                    raise
                code, why, now = "BLOB_GONE", "it is not there", ""
            named = ref.path.split("/")[-2]
            if not now.startswith(named) and collection_files.find(self.conn, collection) == file:
                self.found.fault(code, file.blob, f"the items of collection {collection}: {why}", remedy=_ITEMS_FILE)

    def damage(self, container: Container, ref: BlobRef) -> str:
        """Whether the pixels of a COG are still those of its stamp, and what is wrong with it."""
        with self.context.sandbox.workspace() as folder:
            copy = Path(tempfile.mkdtemp(dir=folder)) / "changed.tif"
            container.download(ref.path, copy)
            try:
                told = self.context.sandbox.call(
                    "geo_assets.raster.validate:validate", ValidateRequest(source=str(copy)), ValidateReport
                )
            except GeoAssetsError as error:
                return error.message
        return "; ".join((_PIXELS[told.pixels_kept], *told.problems))

    def container(self, ref: BlobRef) -> Container:
        """One object per container: it keeps its connections."""
        key = ref.alias, ref.container
        if key not in self._containers:
            self._containers.setdefault(key, open_container(self.settings, *key))
        return self._containers[key]

    # -- the account ---------------------------------------------------------------------------------------------------

    def account(self, job_id: str, *, whole: bool) -> None:
        """What the job counts as done is published, or somebody else's now; its receipt is there and tells the same.
        Of a job that is at work nothing is asked: its account changes, and its receipt comes when it ends.
        """
        superseded, withdrawn = ledger.elsewhere(self.conn, job_id)
        self.found.superseded += superseded
        self.found.withdrawn += withdrawn
        if ledger.is_at_work(self.conn, job_id):
            return
        faults = [
            *(self.unpublished(job_id) if whole else ()),
            *self.against_account(job_id),
        ]
        if faults and not ledger.is_at_work(self.conn, job_id):  # it may have begun since
            for code, what, detail in faults:
                self.found.fault(code, what, detail, job=job_id)

    def unpublished(self, job_id: str) -> Iterator[tuple[str, str, str]]:
        """Faults: what the job counts as done, and nobody has published."""
        for task, item in ledger.unpublished(self.conn, job_id):
            yield "ITEM_NOT_PUBLISHED", item, f"of {task}: the job counts it as done"

    def against_account(self, job_id: str) -> Iterator[tuple[str, str, str]]:
        """Faults: the job's receipt is not there, is damaged, or tells another account."""
        changes = ledger.pending_changes(self.conn, job_id)
        settings = self.settings
        container = open_container(settings, settings.output_account, settings.cog_container)
        path = newest_receipt(container, job_id) if container.exists() else None
        if path is None:
            if not changes:
                yield "RECEIPT_GONE", job_id, f"it has no receipt in {container}"
            return
        try:
            with fetched(container, path) as receipt:
                receipt.check()
                if not changes:
                    yield from self.counts(job_id, receipt.head.counts, receipt.label)
                if self.deep:
                    self.as_loaded(receipt.records(PUBLISHED))
        except GeoAssetsError as error:
            # SOURCE_GONE: another was written since it was listed
            if error.code not in {*UNREADABLE, "SOURCE_GONE"}:
                raise
            if error.code in UNREADABLE:
                yield error.code, f"{container}/{path}", error.message

    def counts(self, job_id: str, told: dict[str, dict[str, int]], label: str) -> Iterator[tuple[str, str, str]]:
        """Faults: the ledger counts otherwise than the receipt, and no change waits to be told."""
        now = ledger.counts(self.conn, job_id)
        if now == told or ledger.pending_changes(self.conn, job_id):
            return
        for stage in sorted({*told, *now}):
            if told.get(stage) != now.get(stage):
                detail = f"{stage}: the ledger has {_said(now.get(stage))}, {label} tells {_said(told.get(stage))}"
                yield "ACCOUNT_CHANGED", job_id, detail

    def as_loaded(self, records: Iterator[dict[str, Any]]) -> None:
        """Each item is the one in the receipt, unless it was published again since; and it says of its COGs what their
        headers say.
        """
        for batch in batched((record for record in records if record.get("item")), _BATCH):
            for collection in sorted({record["stac_item"].partition("/")[0] for record in batch}):
                own = [record for record in batch if record["stac_item"].partition("/")[0] == collection]
                with self.conn.transaction():
                    items = reading.items_by_id(self.conn, collection, [record["item"]["id"] for record in own])
                current = ledger.still_published(self.conn, own)
                for record in own:
                    item = items.get(record["item"]["id"])
                    if item is not None and record["stac_item"] in current:
                        self.against_receipt(record, item)

    def against_receipt(self, record: dict[str, Any], item: dict[str, Any]) -> None:
        """One item, as it is now."""
        name = record["stac_item"]
        known = {fault.what for fault in self.found.faults if fault.code == "ITEM_CHANGED"}
        if name not in known and not pgstac.is_same(item, record["item"]):
            self.fault(record, "ITEM_CHANGED", name, f"of {record['task_key']}: it is not the one in the receipt")
        made = read_outputs(record["stage"], record["outputs"])
        refs = [BlobRef.parse(cog.cog) for cog in made.all_cogs]
        changed = {fault.what for fault in self.found.faults if fault.code in {"BLOB_CHANGED", "BLOB_GONE"}}
        sound = {self.container(ref).href(ref.path): ref for ref in refs if str(ref) not in changed}
        try:
            insist_on_agreement(self.context, item, sound)
        except GeoAssetsError as error:
            if error.code not in {"STAC_CONTRADICTS_ASSET", "OUTPUT_GONE"}:
                raise
            self.fault(record, "ITEM_CHANGED", name, error.message)


def _said(counts: dict[str, int] | None) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in sorted((counts or {}).items())) or "none"
