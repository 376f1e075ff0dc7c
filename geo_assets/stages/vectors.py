"""The `vector_tables` stage: each vector source becomes PostGIS tables, one a layer, or is quarantined.

Here: fetch, inspect and stream in the sandbox, load, swap under the lease. Not here: reading and loading (`vector/`), the catalogue.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import psycopg

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import Work
from geo_assets.stages.chunks import work_through
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, JobRef, StagePlan
from geo_assets.stages.files import TABLES, fetch, plan_files, refuse_source
from geo_assets.vector.load import StagedTable, stage_table
from geo_assets.vector.models import InspectReport, InspectRequest, LayerPlan, StreamReport, StreamRequest
from geo_assets.vector.names import table_names
from geo_assets.vector.publish import discard, publish

STAGE = TABLES

#: Each is a table of its own; an archive with more is a collection, and should be uploaded as files.
_MAX_LAYERS = 200

#: What `vector.names` allows a table's name; room for `__rejects` and index suffixes.
_NAME_BYTES = 50


def plan(context: StageContext, inventory: InventoryRef) -> tuple[StagePlan, list[Chunk]]:
    """The vectors of the inventory and the zips that may hold some, as tasks and chunks."""
    return plan_files(context, inventory, STAGE, lambda s: refuse_source(context, s))


def load_chunk(context: StageContext, chunk: Chunk) -> ChunkReport:
    """Load the vectors of a chunk, as many at once as there are children."""
    return work_through(context, chunk, lambda work: _load(context, chunk.job, work), threads=context.settings.workers)


def _load(context: StageContext, job: JobRef, work: Work) -> None:
    crs = {key: job.parameters.get(key) for key in ("source_crs", "target_crs")}
    with context.sandbox.workspace() as folder, ExitStack() as undo:
        source, members = fetch(context, job, work, Path(tempfile.mkdtemp(dir=folder)))
        inspected = context.sandbox.call("geo_assets.vector.read:inspect", InspectRequest(source=str(source), **crs), InspectReport)
        if len(inspected.layers) > _MAX_LAYERS:
            raise GeoAssetsError("TOO_LARGE", f"{work.task_key} holds {len(inspected.layers):,} layers; {_MAX_LAYERS} are allowed")
        names = _names(context, job, work, inspected.layers)
        staged = []
        for layer, name in zip(inspected.layers, names, strict=True):
            staged.append(_stage_layer(context, job, work, source, layer, name))
            undo.callback(_discard, context, staged[-1])
        tables = [_publish(context, job, table) for table in staged]  # only when every layer is loaded
    outputs: dict[str, Any] = {"tables": tables}
    warnings = [*inspected.warnings, *(w for layer in inspected.layers for w in layer.warnings)]
    if warnings:
        outputs["warnings"] = warnings
    receipt = {"input": members, "layers": [layer.model_dump(mode="json") for layer in inspected.layers], "software": inspected.software}
    context.tasks.converted(job.job_id, job.run_id, STAGE, work.task_key, outputs=outputs, receipt=receipt)


def _stage_layer(context: StageContext, job: JobRef, work: Work, source: Path, layer: LayerPlan, name: str) -> StagedTable:
    settings = context.settings
    with context.sandbox.stream("geo_assets.vector.read:stream", StreamRequest(source=str(source), plan=layer)) as stream:
        return stage_table(
            settings.dsn("pipeline"),
            layer,
            name,
            stream.file,
            lambda: StreamReport.model_validate(stream.report()),
            staging_suffix=hashlib.sha256(f"{job.run_id}/{work.task_key}".encode()).hexdigest()[:8],
            source=f"{job.parameters['account']}/{job.parameters['container']}/{work.task_key}",
            reader_role=settings.reader_user,
        )


def _publish(context: StageContext, job: JobRef, staged: StagedTable) -> dict[str, Any]:
    """Swap a table in, under the lease; what is said of it to people."""

    def fence(conn: psycopg.Connection[Any]) -> None:
        conn.execute("select geo.assert_lease(%s, %s)", (job.job_id, job.run_id))

    with connect(context.settings) as conn:
        published = publish(conn, staged, before_commit=fence)
    entry: dict[str, Any] = {"table": published.table, "rows": published.rows}
    if staged.report.rejected:
        entry["rejected"] = staged.report.rejected
    if staged.report.repaired:
        entry["repaired"] = staged.report.repaired
    return entry


def _discard(context: StageContext, staged: StagedTable) -> None:
    """Drop what was staged and not published; nothing happens where it was."""
    with connect(context.settings) as conn:
        discard(conn, staged)


def _names(context: StageContext, job: JobRef, work: Work, layers: tuple[LayerPlan, ...]) -> list[str]:
    """The tables of a source's layers: readable where free, with a hash of the source where another source has the name."""
    p = job.parameters
    stem = PurePosixPath(work.task_key).name.partition(".")[0]
    own = hashlib.sha256(f"{p['account']}/{p['container']}/{work.task_key}".encode()).hexdigest()[:8]
    wanted = table_names(p["collection"], stem, [layer.label for layer in layers])
    return [
        context.table_names.allot(
            [name, f"{name[: _NAME_BYTES - 9]}_{own}", f"{name[: _NAME_BYTES - 12]}_{own}_{index}"],
            account=p["account"],
            container=p["container"],
            path=work.task_key,
            layer=layer.label or "",
            collection=p["collection"],
        )
        for index, (layer, name) in enumerate(zip(layers, wanted, strict=True))
    ]
