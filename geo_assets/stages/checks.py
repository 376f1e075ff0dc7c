"""Proof, after a stage, that what the ledger says is there is there.

Here: one function a check; each looks at the outputs themselves, not at what made them. Not here: Dagster's side (`defs/`).
"""

from __future__ import annotations

from typing import Any

from psycopg import sql
from pydantic import BaseModel, ConfigDict

from geo_assets.database.connections import connect
from geo_assets.ledger.models import StageCounts, TaskStatus
from geo_assets.stac.pgstac import count_found
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.files import cogs_of
from geo_assets.storage.containers import BlobRef

_DONE = (TaskStatus.SUCCEEDED, TaskStatus.SKIPPED, TaskStatus.RUNNING)  # running: converted, not registered yet

#: Problems shown; the count is of all.
_SHOWN = 20


class Verdict(BaseModel):
    """What a check found."""

    model_config = ConfigDict(frozen=True)
    passed: bool
    metadata: dict[str, Any]


def accounted_for(counts: StageCounts) -> Verdict:
    """Every listed task has come to an end, or waits for the catalogue alone."""
    parts = counts.succeeded + counts.skipped + counts.quarantined + counts.failed + counts.running
    return Verdict(passed=counts.total == parts and not counts.pending, metadata=counts.model_dump())


def cogs_readable(context: StageContext, job: JobRef, stage: str) -> Verdict:
    """Every COG lies where its task says, with a TIFF header, and as long as it was written."""
    problems, count = [], 0
    for task in context.tasks.iterate(job.job_id, stage):
        for made in cogs_of(task.outputs) if task.status in _DONE else []:
            count += 1
            ref = BlobRef.parse(made["cog"])
            container = context.output_container(ref.container)
            blob = container.head(ref.path)
            if blob is None or not blob.size or container.read_range(ref.path, 0, 2) not in {b"II", b"MM"}:
                problems.append(f"{task.task_key}: {ref} is not readable")
    return _verdict("COGs", count, problems)


def tables_sound(context: StageContext, job: JobRef, stage: str) -> Verdict:
    """Every table has the rows that its task says, a typed geometry column with an SRID, a primary key and a GiST index."""
    problems, count = [], 0
    with connect(context.settings, autocommit=True) as conn:
        for task in context.tasks.iterate(job.job_id, stage):
            for entry in task.outputs.get("tables", []) if task.status in _DONE else []:
                count += 1
                schema, _, name = entry["table"].partition(".")
                typed = conn.execute(
                    "select srid, type from public.geometry_columns where f_table_schema = %s and f_table_name = %s", (schema, name)
                ).fetchone()
                if typed is None:
                    problems.append(f"{entry['table']}: is not there, or has no geometry column")
                    continue
                rows = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name))).fetchone()
                kinds = conn.execute(
                    """select count(*) filter (where am.amname = 'gist'), count(*) filter (where i.indisprimary)
                         from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam
                        where i.indrelid = format('%%I.%%I', %s::text, %s::text)::regclass""",
                    (schema, name),
                ).fetchone()
                if typed[0] == 0 or typed[1] == "GEOMETRY" or rows is None or rows[0] != entry["rows"] or not kinds or not all(kinds):
                    problems.append(
                        f"{entry['table']}: {rows[0] if rows else 0} of {entry['rows']} rows, {typed[1]} in SRID {typed[0]}, indexes {kinds}"
                    )
    return _verdict("tables", count, problems)


def items_found(context: StageContext, job: JobRef, stages: tuple[str, ...]) -> Verdict:
    """The search of pgstac gives back the item of every task that says it has one."""
    by_collection: dict[str, list[str]] = {}
    for stage in stages:
        for task in context.tasks.iterate(job.job_id, stage):
            if task.status in {TaskStatus.SUCCEEDED, TaskStatus.SKIPPED}:
                collection, _, identity = task.outputs["stac_item"].partition("/")
                by_collection.setdefault(collection, []).append(identity)
    problems = []
    for collection, ids in by_collection.items():
        found = count_found(context.settings, collection, ids)
        if found != len(ids):
            problems.append(f"{collection}: search finds {found} of {len(ids)} items")
    return _verdict("items", sum(map(len, by_collection.values())), problems)


def _verdict(what: str, count: int, problems: list[str]) -> Verdict:
    return Verdict(passed=not problems, metadata={what: count, "problems": len(problems), "first": "\n".join(problems[:_SHOWN])})
