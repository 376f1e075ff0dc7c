"""Rebuilding: the database is lost, the containers are there: ledger and catalogue are made again from the receipts.

Here: in which order, what is left alone, what cannot be made again and why. Not here: statements
(`ledger/receipts.py`), reading receipts (`model.py`, `write.py`).

First, in one transaction a job, its rows of the ledger; then, a batch at a time, its tables, and its items together
with what makes them published. A job that was submitted to this database itself is newer than its receipts and is left
alone, unless one tells of more (`newer.py`): of each task, item and table the later one stays then. Of two jobs that
published one item the later has it; what was withdrawn later does not come back; an item whose blobs are gone is left
out and named. All may be repeated, also after a kill: what is there stays. A job of which something is missing stays
open: no receipt replaces the one that tells it, and a repeat tries again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import connect
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.file_stages import TABLES, Engine
from geo_assets.ledger import receipts as ledger
from geo_assets.ledger.models import Work
from geo_assets.outcomes import Outputs, TableEntry, TaskInput, read_outputs, read_receipt
from geo_assets.parameters import IngestContainer, Parameters, asked_of, stored_parameters
from geo_assets.receipts.model import (
    COLLECTIONS,
    DELTAS,
    LOADS,
    NAMES,
    PUBLISHED,
    RASTER_COLLECTIONS,
    TASKS,
    TOMBSTONES,
    UNREADABLE,
    Stored,
)
from geo_assets.receipts.newer import to_be_entered
from geo_assets.receipts.places import in_its_place
from geo_assets.receipts.stored import all_receipts, fetched
from geo_assets.receipts.verify import Fault, remedy_of
from geo_assets.receipts.write import write_due
from geo_assets.settings import Settings
from geo_assets.stac import pgstac
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.files import fetch
from geo_assets.stages.items_file import KEY as ITEMS_FILE
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.vector_load import LoadOptions, Origin, load_source
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import Container, existing_container, open_container
from geo_assets.text import batched, how_many
from geo_assets.vector.models import InspectRequest, LayerPlan

#: Rows of one insert; items of one load.
_ROWS, _ITEMS = 1000, 200

#: Blobs that are asked for at once.
_HEADS = 16

#: The run by which restored rows are entered anew where they need one.
_RUN = "rebuild"

#: What to do where a newer receipt cannot be read.
_OTHERWISE = "restore it as it was and repeat the command, or submit the job again"

#: What to do first about an item of an older receipt.
_FIRST = "restore the newer receipt of its job, which may tell that the item was withdrawn, and repeat the command"

#: Called with (jobs, items) that are done since the last call.
Tell = Callable[[int, int], None]


class _OvertakenError(Exception):
    """Something was published or withdrawn since it was asked what is wanted."""


class Rebuilt(BaseModel):
    """What was made again now."""

    model_config = ConfigDict(frozen=True)
    jobs: int
    incomplete: int = Field(description="jobs of which something is missing; a repeat tries again")
    left_alone: int = Field(description="jobs of which the database knows all that their receipts tell")
    items: int
    tables: int
    missing: tuple[Fault, ...] = Field(description="what could not be made again")


@dataclass
class _Work:
    settings: Settings
    context: StageContext
    tell: Tell
    items: int = 0
    tables: int = 0
    missing: list[Fault] = field(default_factory=list)
    collections: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    _containers: dict[tuple[str, str], Container] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)
    _open: set[str] = field(default_factory=set)
    _missed: dict[str, tuple[dict[str, str], Fault]] = field(default_factory=dict)

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def newest(self, container: Container, paths: Sequence[str], files: ExitStack) -> Stored | None:
        """The newest receipt of a job that is whole; those that are newer are named.

        Args:
            container: of the receipts.
            paths: of the job's, the newest first.
            files: keeps the file.
        """
        for path in paths:
            try:
                receipt = files.enter_context(fetched(container, path))
                receipt.check()
                _parameters(receipt)
            except GeoAssetsError as error:
                if error.code not in {*UNREADABLE, "SOURCE_GONE"}:
                    raise
                self._pass_over(container, path, error)
            else:
                return receipt
        return None

    def _pass_over(self, container: Container, path: str, error: GeoAssetsError) -> None:
        self._open.add(path.split("/")[1])
        told = ("RECEIPT_UNREADABLE", _OTHERWISE)
        code, remedy = (error.code, error.remedy) if error.code == "RECEIPT_OF_NEWER_RELEASE" else told
        self._name(code, f"{container}/{path}", error.message, remedy)

    def enter(self, receipt: Stored) -> bool:
        """Enter the rows of a job; false after naming why that cannot be."""
        try:
            self._ledger_of(receipt)
        except GeoAssetsError as error:
            if error.code not in {"REBUILD_CONFLICT", "STILL_AT_WORK"}:
                raise
            self._name(error.code, receipt.head.job_id, error.message, error.remedy)
            return False
        return True

    def _name(self, code: str, what: str, detail: str, remedy: str) -> None:
        self.missing.append(Fault(code=code, what=what, detail=detail, remedy=remedy))

    def _ledger_of(self, receipt: Stored) -> None:
        """The rows of a job, all or none.

        Raises:
            GeoAssetsError: REBUILD_CONFLICT, another source has one of its tables here; STILL_AT_WORK, a run has the
                job; RECEIPT_UNREADABLE.
        """
        job = receipt.head.job_id
        with connect(self.settings) as conn, conn.transaction():
            ledger.put_back(conn, "jobs", [receipt.head.job])
            ledger.hold(conn, job)
            if ledger.is_at_work(conn, job):
                raise GeoAssetsError(
                    "STILL_AT_WORK",
                    f"{receipt.label} tells of an attempt that this database does not know, and job {job[:12]} is at"
                    " work",
                    remedy="repeat the command when the job has ended",
                )
            ledger.put_back(conn, "attempts", [{**row, "job_id": job} for row in receipt.head.attempts])
            ledger.begin_rebuild(conn, job, receipt.label)
            for batch in batched(receipt.records(TASKS), _ROWS):
                ledger.forget_older_tasks(conn, job, batch)
                ledger.put_back(conn, "tasks", [{**row, "job_id": job} for row in batch])
            for batch in batched(receipt.records(NAMES), _ROWS):
                ledger.put_back(conn, "table_names", batch)
                if taken := ledger.foreign_names(conn, batch):
                    raise GeoAssetsError(
                        "REBUILD_CONFLICT",
                        f"in this database other sources have the tables {', '.join(taken[:5])} of job {job[:12]}",
                    )
            for batch in batched(receipt.records(TOMBSTONES), _ROWS):
                ledger.put_back(conn, TOMBSTONES, ledger.new_tombstones(conn, batch))
            for batch in batched(receipt.records(RASTER_COLLECTIONS), _ROWS):
                ledger.put_back(conn, RASTER_COLLECTIONS, batch)
            for batch in batched(receipt.records(DELTAS), _ROWS):
                ledger.put_back(conn, DELTAS, [{**row, "job_id": job} for row in batch])

    def note_collections(self, receipt: Stored) -> None:
        """Of each collection, what the receipt tells that was written last."""
        for row in receipt.records(COLLECTIONS):
            told = receipt.head.written_at, row
            identity = str(row["content"]["id"])
            self.collections[identity] = max(self.collections.get(identity, told), told, key=lambda t: t[0])

    # -- the catalogue -------------------------------------------------------------------------------------------------

    def publish(self, receipt: Stored) -> None:
        """The items of a job, with their tables."""
        loads = {str(row["table_name"]): row for row in receipt.records(LOADS)}
        parameters = _parameters(receipt)
        for batch in batched(receipt.records(PUBLISHED), _ITEMS):
            with connect(self.settings) as conn:
                wanted = ledger.still_wanted(conn, batch)
            rows = self._readable([row for row in batch if row["stac_item"] in wanted])
            rows = [row for row in rows if self._has_tables(receipt, parameters, row, loads)]
            for collection in sorted({str(row["stac_item"]).partition("/")[0] for row in rows}):
                own = [row for row in rows if str(row["stac_item"]).partition("/")[0] == collection]
                self._load(collection, own, receipt.head.job["parameters"])
        self.tell(1, 0)

    def _readable(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with an item whose blobs are there; the others are named."""
        blobs = sorted({blob for row in rows for blob in _outputs(row).all_blobs})
        with ThreadPoolExecutor(_HEADS) as threads:
            gone = {blob for blob, there in zip(blobs, threads.map(self._is_there, blobs), strict=True) if not there}
        good = []
        for row in rows:
            lost = sorted(_outputs(row).all_blobs & gone)
            if row.get("item") is None:
                self._miss("ITEM_GONE", row, "it was not in the catalogue any more when the receipt was written")
            elif lost:
                self._miss("BLOB_GONE", row, f"{', '.join(lost)} {'is' if len(lost) == 1 else 'are'} not there")
            else:
                good.append(row)
        return good

    def _is_there(self, blob: str) -> bool:
        ref = BlobRef.parse(blob)
        try:
            head = self._container(ref).head(ref.path)
        except GeoAssetsError as error:
            if error.code != "CONTAINER_NOT_FOUND":
                raise
            return False
        return head is not None and head.size > 0

    def _container(self, ref: BlobRef) -> Container:
        key = ref.alias, ref.container
        if key not in self._containers:
            self._containers.setdefault(key, open_container(self.settings, *key))
        return self._containers[key]

    def _miss(self, code: str, row: dict[str, Any], detail: str) -> None:
        name = str(row["stac_item"])
        self._changed.add(name.partition("/")[0])
        remedy = remedy_of(code, name, str(row["job_id"]))
        if row["job_id"] in self._open:
            remedy = f"{_FIRST}; if that is not so, {remedy}"
        fault = Fault(code=code, what=name, detail=f"of {row['task_key']}: {detail}", remedy=remedy)
        told = {key: str(row[key]) for key in ("stac_item", "at", "job_id")}
        other = self._missed.get(name)
        if other is None or datetime.fromisoformat(other[0]["at"]) < datetime.fromisoformat(told["at"]):
            self._missed[name] = told, fault  # of two jobs that published one item the later has it

    def settle(self) -> None:
        """Name what is missed: not what a later job has published, or somebody has withdrawn."""
        for batch in batched(self._missed.values(), _ROWS):
            with connect(self.settings) as conn:
                wanted = ledger.still_wanted(conn, [row for row, _ in batch])
            for row, fault in batch:
                if fault.what in wanted:
                    self.missing.append(fault)
                    if fault.code != "ITEM_GONE":  # no repeat can change that
                        self._open.add(row["job_id"])

    def _load(self, collection: str, rows: list[dict[str, Any]], parameters: dict[str, Any]) -> None:
        if collection in self.collections and pgstac.restore_collection(self.settings, self.collections[collection][1]):
            self._made.add(collection)
        if collection not in self._made:  # what it says of its items is without these
            self._changed.add(collection)
        loaded = []
        for row in rows:
            try:
                loaded.append((row, in_its_place(self.settings, row["item"], _outputs(row), parameters)))
            except GeoAssetsError as error:
                _insist_on_bad(error)
                self._miss(error.code, row, error.message)
        published = [{key: value for key, value in row.items() if key != "item"} for row, _ in loaded]
        if not loaded:
            return

        def unless_overtaken(conn: psycopg.Connection[Any]) -> None:
            if len(ledger.still_wanted(conn, published)) < len(published):
                raise _OvertakenError

        try:
            pgstac.load_items(
                self.settings,
                collection,
                [item for _, item in loaded],
                guard=unless_overtaken,
                record=lambda conn: ledger.publish_again(conn, published),
            )
        except _OvertakenError:  # a run of the job, or of another, has published one of them since
            with connect(self.settings) as conn:
                wanted = ledger.still_wanted(conn, published)
            self._load(collection, [row for row, _ in loaded if row["stac_item"] in wanted], parameters)
            return
        self.items += len(loaded)
        self.tell(0, len(loaded))

    def close(self) -> None:
        """Collections that hold other items than their receipt tells say what they hold now; those that named a file of
        their items have one of those that are there.
        """
        for collection in sorted(self._changed):
            with _passing("COLLECTION_NOT_FOUND"):
                pgstac.refresh_collection(self.settings, collection)
        for collection, (_, row) in sorted(self.collections.items()):
            if ITEMS_FILE in row["content"].get("assets", {}):
                with _passing("COLLECTION_NOT_FOUND"):
                    refresh_items_file(self.settings, collection, run=_RUN)

    def end(self, receipts: Sequence[Stored]) -> list[str]:
        """Record which jobs are there as a whole; returns them."""
        whole = [receipt.head.job_id for receipt in receipts if receipt.head.job_id not in self._open]
        with connect(self.settings) as conn, conn.transaction():
            for job_id in whole:
                ledger.end_rebuild(conn, job_id)
        return whole

    # -- tables --------------------------------------------------------------------------------------------------------

    def _has_tables(
        self, receipt: Stored, parameters: Parameters, row: dict[str, Any], loads: dict[str, dict[str, Any]]
    ) -> bool:
        """Whether the tables of a row are there, after loading those that are not; false after naming what is wrong."""
        tables = _outputs(row).all_tables
        with connect(self.settings) as conn:
            there = {
                table.table: ledger.loaded(conn, table.table, loads.get(table.table, {}).get("submitted_at"))
                for table in tables
            }
        try:
            if None not in there.values():  # of an earlier try
                for table in tables:
                    _insist_on_rows(table, there[table.table] or 0, loads)
                return True
            self._load_tables(receipt, parameters, row, {table.table: table for table in tables}, loads)
        except GeoAssetsError as error:
            _insist_on_bad(error)
            self._miss(error.code, row, error.message)
            return False
        self.tables += len(tables)
        return True

    def _load_tables(
        self,
        receipt: Stored,
        parameters: Parameters,
        row: dict[str, Any],
        tables: dict[str, TableEntry],
        loads: dict[str, dict[str, Any]],
    ) -> None:
        """Load the tables of a source again from the source, which must be the same.

        Raises:
            GeoAssetsError: SOURCE_CHANGED, ROWS_CHANGED; what a store or the engine raises.
        """
        job = JobRef.model_validate(
            {
                **{key: receipt.head.job[key] for key in ("job_id", "partition_key", "job_type")},
                "parameters": parameters,
                "run_id": _RUN,
                "owner_run_id": _RUN,
            }
        )
        asked, load = job.parameters_as(IngestContainer), loads.get(next(iter(tables)), {})
        with self.context.sandbox.workspace() as folder:
            source = self._same_source(job, row, Path(tempfile.mkdtemp(dir=folder)))
            loaded = load_source(
                self.context.load_database,
                self.context.sandbox,
                InspectRequest(source=str(source), **asked_of(job.parameters, Engine.VECTOR)),
                Origin(
                    source=str(load.get("source") or f"{asked.account}/{asked.container}/{row['task_key']}"),
                    suffix=hashlib.sha256(f"{_RUN}/{row['stac_item']}".encode()).hexdigest()[:8],
                    submitted_at=datetime.fromisoformat(str(load.get("submitted_at") or row["at"])),
                    load_keys=(str(load["load_key"]).rpartition("/")[0],) if load.get("load_key") else (),
                ),
                LoadOptions(mode=asked.mode, key=asked.key, schema_drift=asked.schema_drift),
                lambda layers: _names(layers, tables, str(row["task_key"])),
            )[1]
        for made in loaded:
            _insist_on_rows(tables[made.published.table], made.published.rows, loads)

    def _same_source(self, job: JobRef, row: dict[str, Any], folder: Path) -> Path:
        """Fetch a source and compare its bytes with those that were loaded."""
        with connect(self.settings) as conn:
            receipt = read_receipt(TABLES, ledger.receipt_of_task(conn, job.job_id, TABLES, str(row["task_key"])))
        members = tuple({"path": file.path, "size": file.size, "etag": ""} for file in receipt.input)
        work = Work(
            task_key=str(row["task_key"]),
            kind="vector",
            fingerprint=str(row["fingerprint"]),
            input=TaskInput.model_validate({"members": members}),
        )
        source, files = fetch(self.context, job, work, folder)
        for was, now in zip(receipt.input, files, strict=True):
            if was.sha256 != now.sha256:
                raise GeoAssetsError("SOURCE_CHANGED", f"{was.path} is not the file that was loaded: other bytes")
        return source


def rebuild(settings: Settings, place: str, *, tell: Tell = lambda *_: None) -> Rebuilt:
    """Make ledger and catalogue again from the receipts in a container.

    Args:
        settings: the database, migrated, and the accounts.
        place: alias/container.
        tell: is told of the progress.

    Raises:
        GeoAssetsError: NO_RECEIPTS; INVALID_PARAMETERS, CONTAINER_NOT_FOUND, UNKNOWN_ACCOUNT; what does not answer now:
            to be repeated.
    """
    ref = BlobRef.of_container(place)
    container = existing_container(settings, ref.alias, ref.container)
    stored = all_receipts(container)
    if not stored:
        raise GeoAssetsError("NO_RECEIPTS", f"there are no receipts in {container}")
    with connect(settings) as conn:
        known, attempts = ledger.known_jobs(conn), ledger.ended_attempts(conn)
    begun = {job_id: rebuild.receipt for job_id, rebuild in known.items() if rebuild and not rebuild.is_done}
    todo = to_be_entered(container, stored, known, attempts)
    with StageContext(settings) as context, ExitStack() as files:
        work = _Work(settings, context, tell)
        found = [work.newest(container, paths, files) for _, paths in sorted(todo.items())]
        whole = [receipt for receipt in found if receipt is not None]
        whole.sort(key=lambda receipt: (str(receipt.head.job.get("created_at")), receipt.head.job_id))
        wanted = [
            receipt for receipt in whole if begun.get(receipt.head.job_id) == receipt.label or work.enter(receipt)
        ]
        for receipt in wanted:
            work.note_collections(receipt)
        for receipt in sorted(wanted, key=lambda receipt: receipt.head.written_at, reverse=True):
            work.publish(receipt)  # the newest first: nothing is loaded for an item that a later job has
        work.settle()
        work.close()
        ended = work.end(wanted)
    write_due(settings, only=ended)
    return Rebuilt(
        jobs=len(ended),
        incomplete=len(todo) - len(ended),
        left_alone=len(stored) - len(todo),
        items=work.items,
        tables=work.tables,
        missing=tuple(work.missing),
    )


def _insist_on_rows(table: TableEntry, rows: int, loads: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a table that has not the rows that it had.

    Raises:
        GeoAssetsError: ROWS_CHANGED.
    """
    expected = int(loads[table.table]["table_rows"]) if table.table in loads else table.rows
    if rows != expected:
        raise GeoAssetsError(
            "ROWS_CHANGED",
            f"{table.table} has {how_many(rows, 'row')} after loading it again, and had {expected:,}: it held earlier"
            " loads too",
        )


def _insist_on_bad(error: GeoAssetsError) -> None:
    """Raise the error again unless it is of this one item: what does not answer may answer later."""
    if error.error_class is ErrorClass.TRANSIENT:
        raise error


@contextmanager
def _passing(code: str) -> Iterator[None]:
    """Pass over an error."""
    try:
        yield
    except GeoAssetsError as error:
        if error.code != code:
            raise


def _parameters(receipt: Stored) -> Parameters:
    """The job's parameters.

    Raises:
        GeoAssetsError: RECEIPT_UNREADABLE, this release does not take them.
    """
    job = receipt.head.job
    try:
        return stored_parameters(str(job["job_type"]), dict(job["parameters"]))
    except (GeoAssetsError, KeyError, TypeError) as error:
        raise GeoAssetsError(
            "RECEIPT_UNREADABLE",
            f"the receipt {receipt.label}, of geo_assets {receipt.head.software.get('geo_assets')}: {error}",
        ) from error


def _outputs(row: dict[str, Any]) -> Outputs:
    return read_outputs(str(row["stage"]), row["outputs"])


def _names(layers: Sequence[LayerPlan], tables: dict[str, TableEntry], source: str) -> list[str]:
    """The names that the tables of these layers had."""
    by_layer = {table.layer or "": table.table.partition(".")[2] for table in tables.values()}
    try:
        return [by_layer[layer.label or ""] for layer in layers]
    except KeyError as error:
        raise GeoAssetsError("SOURCE_CHANGED", f"{source} is read with other layers than it was: {error}") from error
