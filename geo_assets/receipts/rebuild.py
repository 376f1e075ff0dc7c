"""Rebuilding: the database is lost, the containers are there: ledger and catalogue are made again from the receipts.

Here: in which order, what is left alone, what cannot be made again and why. Not here: statements
(`ledger/receipts.py`), reading receipts (`model.py`, `write.py`).

First, in one transaction a job, its rows of the ledger; then, a batch at a time, its tables, and its items together
with what makes them published. A job that was submitted to this database itself is newer than its receipts and is left
alone. Of two jobs that published one item the later has it; what was withdrawn later does not come back; an item whose
blobs are gone is left out and named. All may be repeated, also after a kill: what is there stays.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import receipts as ledger
from geo_assets.ledger.models import Work
from geo_assets.outcomes import Outputs, TableEntry, TaskInput, read_outputs, read_receipt
from geo_assets.parameters import TABLES, Engine, IngestContainer, Parameters, asked_of, validate_parameters
from geo_assets.receipts.model import (
    COLLECTIONS,
    DELTAS,
    LOADS,
    NAMES,
    PUBLISHED,
    RASTER_COLLECTIONS,
    TASKS,
    TOMBSTONES,
    Stored,
)
from geo_assets.receipts.verify import Fault
from geo_assets.receipts.write import fetched, newest_receipts, write_due
from geo_assets.settings import Settings
from geo_assets.stac import pgstac
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.files import fetch
from geo_assets.stages.vector_load import LoadOptions, Origin, load_source
from geo_assets.storage.containers import BlobRef, Container, existing_container, open_container
from geo_assets.text import batched
from geo_assets.vector.models import InspectRequest, LayerPlan

#: Rows of one insert; items of one load.
_ROWS, _ITEMS = 1000, 200

#: Blobs that are asked for at once.
_HEADS = 16

#: The run by which restored rows are entered anew where they need one.
_RUN = "rebuild"

#: Called with (jobs, items) that are done since the last call.
Tell = Callable[[int, int], None]


class Rebuilt(BaseModel):
    """What was made again now."""

    model_config = ConfigDict(frozen=True)
    jobs: int
    left_alone: int = Field(description="jobs that were submitted to this database itself, or were complete already")
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
    _incomplete: set[str] = field(default_factory=set)

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def ledger_of(self, receipt: Stored) -> None:
        """The rows of a job, all or none.

        Raises:
            GeoAssetsError: REBUILD_CONFLICT, another source has one of its tables here; RECEIPT_UNREADABLE.
        """
        job = receipt.head.job_id
        with connect(self.settings) as conn, conn.transaction():
            ledger.put_back(conn, "jobs", [receipt.head.job])
            ledger.put_back(conn, "attempts", [{**row, "job_id": job} for row in receipt.head.attempts])
            ledger.begin_rebuild(conn, job, receipt.label)
            for batch in batched(receipt.records(TASKS), _ROWS):
                ledger.put_back(conn, "tasks", [{**row, "job_id": job} for row in batch])
            for batch in batched(receipt.records(NAMES), _ROWS):
                ledger.put_back(conn, "table_names", batch)
                if taken := ledger.foreign_names(conn, batch):
                    raise GeoAssetsError(
                        "REBUILD_CONFLICT",
                        f"in this database other sources have the tables {', '.join(taken[:5])} of job {job[:12]}",
                    )
            for kind in (TOMBSTONES, RASTER_COLLECTIONS):
                for batch in batched(receipt.records(kind), _ROWS):
                    ledger.put_back(conn, kind, batch)
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
                self._load(collection, [r for r in rows if str(r["stac_item"]).partition("/")[0] == collection])
        with connect(self.settings) as conn, conn.transaction():
            ledger.end_rebuild(conn, receipt.head.job_id)
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
        error = GeoAssetsError(code, detail)
        name = str(row["stac_item"])
        self._incomplete.add(name.partition("/")[0])
        self.missing.append(Fault(code=code, what=name, detail=f"of {row['task_key']}: {detail}", remedy=error.remedy))

    def _load(self, collection: str, rows: list[dict[str, Any]]) -> None:
        if collection in self.collections:
            pgstac.restore_collection(self.settings, self.collections[collection][1])
        items = [self._in_its_place(row) for row in rows]
        published = [{key: value for key, value in row.items() if key != "item"} for row in rows]
        pgstac.load_items(
            self.settings,
            collection,
            items,
            guard=pgstac.anybody,
            record=lambda conn: ledger.publish_again(conn, published),
        )
        self.items += len(items)
        self.tell(0, len(items))

    def _in_its_place(self, row: dict[str, Any]) -> dict[str, Any]:
        """The item, with the hrefs that its blobs and tables have here: containers may have been moved."""
        item, made = row["item"], _outputs(row)
        refs = [BlobRef.parse(blob) for blob in made.all_blobs]
        ends = {
            f"/{ref.container}/{path}": self._container(ref).href(ref.path)
            for ref in refs
            for path in (ref.path, quote(ref.path))
        }
        s = self.settings
        database = f"postgresql://{s.pg_host}:{s.pg_port}/{s.pg_database}"
        for asset in item["assets"].values():
            href = str(asset["href"])
            here = next((now for end, now in ends.items() if href.endswith(end)), href)
            if made.all_tables and href.startswith("postgresql://") and "?table=" in href:
                here = f"{database}?table={href.partition('?table=')[2]}"
            asset["href"] = here
        return dict(item)

    def close(self) -> None:
        """Collections whose items are not all there say what they hold now."""
        for collection in sorted(self._incomplete):
            try:
                pgstac.refresh_collection(self.settings, collection)
            except GeoAssetsError as error:
                if error.code != "COLLECTION_NOT_FOUND":
                    raise

    # -- tables --------------------------------------------------------------------------------------------------------

    def _has_tables(
        self, receipt: Stored, parameters: Parameters, row: dict[str, Any], loads: dict[str, dict[str, Any]]
    ) -> bool:
        """Whether the tables of a row are there, after loading those that are not; false after naming what is wrong."""
        tables = _outputs(row).all_tables
        with connect(self.settings) as conn:
            if all(ledger.loaded(conn, table.table) is not None for table in tables):
                return True
        try:
            self._load_tables(receipt, parameters, row, {table.table: table for table in tables}, loads)
        except GeoAssetsError as error:
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
                self.settings,
                self.context.sandbox,
                InspectRequest(source=str(source), **asked_of(job.parameters, Engine.VECTOR)),
                Origin(
                    source=str(load.get("source") or f"{asked.account}/{asked.container}/{row['task_key']}"),
                    suffix=hashlib.sha256(f"{_RUN}/{row['stac_item']}".encode()).hexdigest()[:8],
                    submitted_at=datetime.fromisoformat(str(load.get("submitted_at") or row["at"])),
                    load_key=str(load["load_key"]).rpartition("/")[0] if load.get("load_key") else None,
                ),
                LoadOptions(mode=asked.mode, key=asked.key, schema_drift=asked.schema_drift),
                lambda layers: _names(layers, tables, str(row["task_key"])),
            )[1]
        for made in loaded:
            name = made.published.table
            expected = int(loads[name]["table_rows"]) if name in loads else tables[name].rows
            if made.published.rows != expected:
                raise GeoAssetsError(
                    "ROWS_CHANGED",
                    f"{name} has {made.published.rows:,} rows after loading it again, and had {expected:,}: it held"
                    " earlier loads too",
                )

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
        GeoAssetsError: NO_RECEIPTS, REBUILD_CONFLICT, RECEIPT_UNREADABLE; CONTAINER_NOT_FOUND, UNKNOWN_ACCOUNT.
    """
    ref = BlobRef.parse(place.rstrip("/"), path_required=False)
    container = existing_container(settings, ref.alias, ref.container)
    newest = newest_receipts(container)
    if not newest:
        raise GeoAssetsError("NO_RECEIPTS", f"there are no receipts in {container}")
    with connect(settings) as conn:
        known = ledger.known_jobs(conn)
    with StageContext(settings) as context, ExitStack() as files:
        work = _Work(settings, context, tell)
        wanted = []
        for job_id, path in sorted(newest.items()):
            if job_id not in known:
                wanted.append(files.enter_context(fetched(container, path)))
            elif (begun := known[job_id]) is not None and not begun.is_done:
                begun_with = BlobRef.parse(begun.receipt)
                wanted.append(files.enter_context(fetched(container, begun_with.path)))
        wanted.sort(key=lambda receipt: (str(receipt.head.job.get("created_at")), receipt.head.job_id))
        for receipt in wanted:
            _parameters(receipt)  # before the first is entered
        for receipt in wanted:
            if receipt.head.job_id not in known:
                work.ledger_of(receipt)
            work.note_collections(receipt)
        for receipt in wanted:
            work.publish(receipt)
        work.close()
    write_due(settings, only=[receipt.head.job_id for receipt in wanted])
    return Rebuilt(
        jobs=len(wanted),
        left_alone=len(newest) - len(wanted),
        items=work.items,
        tables=work.tables,
        missing=tuple(work.missing),
    )


def _parameters(receipt: Stored) -> Parameters:
    """The job's parameters.

    Raises:
        GeoAssetsError: RECEIPT_UNREADABLE, this release does not take them.
    """
    job = receipt.head.job
    try:
        return validate_parameters(str(job["job_type"]), dict(job["parameters"]))
    except (GeoAssetsError, KeyError, TypeError) as error:
        raise GeoAssetsError("RECEIPT_UNREADABLE", f"the receipt {receipt.label}: {error}") from error


def _outputs(row: dict[str, Any]) -> Outputs:
    return read_outputs(str(row["stage"]), row["outputs"])


def _names(layers: Sequence[LayerPlan], tables: dict[str, TableEntry], source: str) -> list[str]:
    """The names that the tables of these layers had."""
    by_layer = {table.layer or "": table.table.partition(".")[2] for table in tables.values()}
    try:
        return [by_layer[layer.label or ""] for layer in layers]
    except KeyError as error:
        raise GeoAssetsError("SOURCE_CHANGED", f"{source} is read with other layers than it was: {error}") from error
