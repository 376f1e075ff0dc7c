"""The `vector_tables` stage: each vector source becomes PostGIS tables, one per layer, or is quarantined.

Here: fetch, names of tables, what the job's parameters ask of the load. Not here: the load itself (`vector_load.py`),
the catalogue.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import psycopg

from geo_assets.file_stages import TABLES, Engine
from geo_assets.ledger.lease import assert_lease
from geo_assets.ledger.models import Work
from geo_assets.ledger.vector_loads import submitted_at
from geo_assets.outcomes import FetchedFile, TableOutputs, TableReceipt
from geo_assets.parameters import IngestContainer, asked_of
from geo_assets.stages.chunks import work_through
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, JobRef, StagePlan
from geo_assets.stages.files import fetch, fingerprint_of_bytes, fingerprint_of_members, plan_files, refuse_source
from geo_assets.stages.progress_log import LogLine, no_log
from geo_assets.stages.vector_load import (
    Loaded,
    LoadOptions,
    Origin,
    loaded_of,
    publish_parts,
    rehearse_parts,
    staged_source,
)
from geo_assets.stages.waiting_tables import publish_waiting_tables as publish_tables
from geo_assets.stages.waiting_tables import unreadable, wait
from geo_assets.vector.models import InspectReport, InspectRequest, LayerPlan
from geo_assets.vector.names import table_names
from geo_assets.vector.tables.publish import PublishedTable

STAGE = TABLES

#: What `vector.names` allows a table's name; room for `__rejects` and index suffixes.
_NAME_BYTES = 50


def plan(context: StageContext, inventory: InventoryRef) -> tuple[StagePlan, list[Chunk]]:
    """The vectors of the inventory and the zips that may hold some, as tasks and chunks."""
    return plan_files(
        context, inventory, STAGE, lambda s: refuse_source(context, s), lambda: unreadable(context, inventory.job)
    )


def load_chunk(context: StageContext, chunk: Chunk, log: LogLine = no_log) -> ChunkReport:
    """Load the vectors of a chunk, as many at once as there are children."""
    return work_through(
        context, chunk, lambda work: _load(context, chunk.job, work), threads=context.settings.workers, log=log
    )


def _load(context: StageContext, job: JobRef, work: Work) -> TableOutputs:
    with context.workspace() as folder:
        source, members = fetch(context, job, work, Path(tempfile.mkdtemp(dir=folder)))
        request = InspectRequest(source=str(source), **asked_of(job.parameters, Engine.VECTOR))
        origin, options = _origin(context, job, work, members), _options(job)
        names = partial(_names, context, job, work)
        # nothing is visible before the gate; a publication that cannot work is refused before it
        waits = job.parameters_as(IngestContainer).on_error == "fail"
        database = context.load_database
        with staged_source(database, context.sandbox, request, origin, options, names) as (inspected, parts):

            def convert(conn: psycopg.Connection[Any], done: Sequence[PublishedTable]) -> None:
                """In the publishing transaction: no table is without a task that names it."""
                made = loaded_of(parts, done)
                outputs, receipt = _outputs(inspected, made), _receipt(inspected, made, members)
                context.tasks.convert(
                    conn, job.job_id, job.run_id, STAGE, work.task_key, outputs=outputs, receipt=receipt
                )

            if waits:
                loaded = loaded_of(parts, rehearse_parts(database, origin, options, parts))
                outputs = _outputs(inspected, loaded).model_copy(update={"tables": ()})
                wait(context, job, work, parts, outputs=outputs, receipt=_receipt(inspected, loaded, members))
            else:
                loaded = loaded_of(parts, publish_parts(database, origin, options, parts, settle=convert))
            return _outputs(inspected, loaded)


def publish_waiting(context: StageContext, job: JobRef) -> int:
    """Publish the tables that waited for the gate; returns how many. A job type without tables has none.

    Raises:
        GeoAssetsError: what a publication raises.
    """
    if not isinstance(job.parameters, IngestContainer):
        return 0
    return publish_tables(context, job, _origin, _options(job))


def _outputs(inspected: InspectReport, loaded: Sequence[Loaded]) -> TableOutputs:
    warnings = [
        *inspected.warnings,
        *(w for table in loaded for w in (*table.plan.warnings, *table.staged.report.warnings)),
    ]
    warnings += [
        f"{table.published.table}: {'; '.join(table.published.drift)}" for table in loaded if table.published.drift
    ]
    return TableOutputs(tables=tuple(table.entry() for table in loaded), warnings=tuple(warnings))


def _receipt(inspected: InspectReport, loaded: Sequence[Loaded], members: tuple[FetchedFile, ...]) -> TableReceipt:
    return TableReceipt(input=members, layers=tuple(table.plan for table in loaded), software=inspected.software)


def _options(job: JobRef) -> LoadOptions:
    p = job.parameters_as(IngestContainer)
    return LoadOptions(mode=p.mode, key=p.key, schema_drift=p.schema_drift, keep_versions=p.keep_versions)


def _origin(context: StageContext, job: JobRef, work: Work, members: Sequence[FetchedFile]) -> Origin:
    with context.load_database.connection() as conn:
        submitted = submitted_at(conn, job.run_id)
    p = job.parameters_as(IngestContainer)
    return Origin(
        source=f"{p.account}/{p.container}/{work.task_key}",
        suffix=hashlib.sha256(f"{job.run_id}/{work.task_key}".encode()).hexdigest()[:8],
        submitted_at=submitted,
        load_keys=tuple(
            f"{job.job_id}/{of_input}"
            for of_input in (fingerprint_of_bytes(members), fingerprint_of_members(work.input))
        ),
        fence=partial(assert_lease, job_id=job.job_id, run_id=job.run_id),
    )


def _names(context: StageContext, job: JobRef, work: Work, layers: Sequence[LayerPlan]) -> list[str]:
    """The tables of a source's layers: readable where free, with a hash of the source where another source has the
    name.
    """
    p = job.parameters_as(IngestContainer)
    stem = PurePosixPath(work.task_key).name.partition(".")[0]
    own = hashlib.sha256(f"{p.account}/{p.container}/{work.task_key}".encode()).hexdigest()[:8]
    wanted = table_names(p.collection, stem, [layer.label for layer in layers])
    return [
        context.table_names.allot(
            [name, f"{name[: _NAME_BYTES - 9]}_{own}", f"{name[: _NAME_BYTES - 12]}_{own}_{index}"],
            account=p.account,
            container=p.container,
            path=work.task_key,
            layer=layer.label or "",
            collection=p.collection,
        )
        for index, (layer, name) in enumerate(zip(layers, wanted, strict=True))
    ]
