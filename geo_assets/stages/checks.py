"""Checks, after a stage, that the outputs recorded in the ledger exist.

Here: one function per check; each looks at the outputs themselves, not at the records of the stage that made them.
Not here: Dagster's side (`defs/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict

from geo_assets.database.connections import connect
from geo_assets.ledger.models import StageCounts
from geo_assets.ledger.vector_loads import account
from geo_assets.outcomes import TableEntry
from geo_assets.parameters import ListContainer
from geo_assets.stac.pgstac import count_found
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.files import first_bytes
from geo_assets.storage.blobs import BlobRef
from geo_assets.task_status import BAD, DONE, ENDED, LIST_BAD, MADE, TaskStatus
from geo_assets.text import batched, how_many, one_line

#: Number of problems that are shown; the count includes all.
_SHOWN = 20

#: COGs that are looked at before the ledger is asked for more.
_CHECKED = 1_000

_TIFF_MAGIC = (b"II", b"MM")

#: Bad files named in a sentence.
_NAMED = 3


class Verdict(BaseModel):
    """The result of a check."""

    model_config = ConfigDict(frozen=True)
    passed: bool
    metadata: dict[str, Any]
    description: str
    serious: bool = True  # an output is not as it should be (an error); otherwise a warning


def accounted_for(counts: StageCounts) -> Verdict:
    """Every listed task has a final status, or waits only for the catalogue."""
    parts = counts.sum_of((*ENDED, TaskStatus.RUNNING))
    passed = counts.total == parts and not counts[TaskStatus.PENDING]
    return Verdict(
        passed=passed,
        metadata=counts.model_dump(),
        description=f"{parts:,} of {how_many(counts.total, 'file')} came to an end",
    )


def whole_account(stages: Sequence[StageCounts]) -> Verdict:
    """Every file of the job has a final status."""
    ended, total = sum(s.ended for s in stages), sum(s.total for s in stages)
    counts = {s.stage: s.model_dump(exclude={"stage"}) for s in stages}
    return Verdict(
        passed=ended == total, metadata=counts, description=f"{ended:,} of {how_many(total, 'file')} came to an end"
    )


def no_bad_files(context: StageContext, job: JobRef, stage: str | None = None) -> Verdict:
    """No file is quarantined or failed. A bad file is a warning, not an error: the run has done its work."""
    codes = context.tasks.bad_by_code(job.job_id, stage)
    bad = sum(codes.values())
    if not bad:
        return Verdict(passed=True, metadata={"bad files": 0}, description="no file is bad", serious=False)
    first = context.tasks.records(job.job_id, stage=stage, statuses=BAD, limit=_NAMED)
    names = ", ".join(f"{one_line(task.task_key)} ({task.error_code})" for task in first)
    more = f" and {bad - len(first):,} more" if bad > len(first) else ""
    command = f"geo-assets tasks {job.job_id[:12]} {LIST_BAD}"
    return Verdict(
        passed=False,
        metadata={"bad files": bad, "first": names, **codes},
        description=f"bad: {names}{more}; why, and what to do: {command}",
        serious=False,
    )


def nothing_looked_at(context: StageContext, job: JobRef) -> Verdict | None:
    """The verdict of every check of a run that had nothing to check; None if there was something."""
    if job.stood_aside:
        why = f"run {job.owner_run_id} owns the job; this one checked nothing"
    elif not context.inventory.totals(job.job_id)[0]:
        p = job.parameters_as(ListContainer)
        why = f"{p.account}/{p.container} holds no file that the submission selects; nothing was checked"
    else:
        return None
    return Verdict(passed=False, metadata={}, description=why, serious=False)


def cogs_readable(context: StageContext, job: JobRef, stage: str) -> Verdict:
    """Every COG is at the place that its task recorded, with a TIFF header."""
    problems, count = [], 0
    for some in batched(_cogs(context, job, stage), _CHECKED):
        count += len(some)
        begun = first_bytes(context, (ref for _, ref in some), len(_TIFF_MAGIC[0]))
        problems += [
            f"{source}: {ref} is not readable"
            for (source, ref), first in zip(some, begun, strict=True)
            if first is None or first.data not in _TIFF_MAGIC
        ]
    return verdict_of("COG", count, problems)


def _cogs(context: StageContext, job: JobRef, stage: str) -> Iterator[tuple[str, BlobRef]]:
    """Source and place of each COG of a stage."""
    for task in context.tasks.iterate(job.job_id, stage):
        for made in task.outputs.all_cogs if task.status in MADE else ():
            yield task.task_key, BlobRef.parse(made.cog)


def outputs_in_place(context: StageContext, job: JobRef, stage: str) -> Verdict:
    """Every file is at the place that its task recorded, and holds something."""
    problems, count = [], 0
    for some in batched(_files(context, job, stage), _CHECKED):
        count += len(some)
        begun = first_bytes(context, (ref for _, ref in some), 1)
        problems += [
            f"{source}: {ref} is not readable"
            for (source, ref), first in zip(some, begun, strict=True)
            if first is None or not first.data
        ]
    return verdict_of("file", count, problems)


def _files(context: StageContext, job: JobRef, stage: str) -> Iterator[tuple[str, BlobRef]]:
    """Source and place of each file of a stage."""
    for task in context.tasks.iterate(job.job_id, stage):
        for blob in sorted(task.outputs.all_blobs) if task.status in MADE else ():
            yield task.task_key, BlobRef.parse(blob)


def tables_sound(context: StageContext, job: JobRef, stage: str) -> Verdict:
    """Every table has the number of rows that its task recorded, a primary key, and, if it has geometry, a declared
    type, an SRID and a GiST index.
    """
    problems, count = [], 0
    with connect(context.settings, autocommit=True) as conn:
        for task in context.tasks.iterate(job.job_id, stage):
            for entry in task.outputs.all_tables if task.status in MADE else ():
                count += 1
                problem = _problem_of_table(conn, entry)
                if problem is not None:
                    problems.append(f"{entry.table}: {problem}")
    return verdict_of("table", count, problems)


def _problem_of_table(conn: psycopg.Connection, entry: TableEntry) -> str | None:
    schema, _, name = entry.table.partition(".")
    found = conn.execute(
        """select count(*) filter (where am.amname = 'gist'), count(*) filter (where i.indisprimary)
             from pg_class t left join pg_index i on i.indrelid = t.oid
             left join pg_class c on c.oid = i.indexrelid left join pg_am am on am.oid = c.relam
            where t.oid = to_regclass(format('%%I.%%I', %s::text, %s::text)) group by t.oid""",
        (schema, name),
    ).fetchone()
    if found is None:
        return "is not there"
    typed = conn.execute(
        "select type, srid from public.geometry_columns where f_table_schema = %s and f_table_name = %s", (schema, name)
    ).fetchone()
    kind = entry.geometry_type
    if kind is not None and (typed is None or typed[0] != kind or typed[1] == 0 or not found[0]):
        return f"its geometry is {typed}, with {found[0]} GiST indexes; {kind} was loaded"
    if not found[1]:
        return "has no primary key"
    rows = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, name))).fetchone()
    return None if rows and rows[0] == entry.rows else f"has {rows[0] if rows else 0} of {how_many(entry.rows, 'row')}"


def features_accounted_for(context: StageContext, job: JobRef, stage: str) -> Verdict:
    """The account of every table adds up: features in = loaded + rejected + filtered, by its task, by the record of its
    load, and by its rejects.
    """
    problems, features = [], 0
    with connect(context.settings, autocommit=True) as conn:
        for task in context.tasks.iterate(job.job_id, stage):
            for entry in task.outputs.all_tables if task.status in MADE else ():
                features += entry.features
                rejected = sum(entry.rejected.values())
                recorded = account(conn, entry.table)
                parts = {
                    "features": entry.features,
                    "loaded": entry.loaded,
                    "rejected": rejected,
                    "filtered": entry.filtered,
                }
                if entry.features != entry.loaded + rejected + entry.filtered:
                    problems.append(f"{entry.table}: {parts} do not add up")
                elif recorded is None or (recorded["table_rows"] == entry.rows and parts.items() - recorded.items()):
                    problems.append(f"{entry.table}: {parts}, but its load was recorded as {recorded}")
                elif rejected and _stored_rejects(conn, entry.table) < rejected:
                    problems.append(f"{entry.table}: rejected features: {rejected:,}; its rejects hold fewer")
    return verdict_of("feature", features, problems)


def _stored_rejects(conn: psycopg.Connection, table: str) -> int:
    schema, _, name = table.partition(".")
    row = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(schema, f"{name}__rejects"))).fetchone()
    return row[0] if row else 0


def items_found(context: StageContext, job: JobRef, stages: tuple[str, ...]) -> Verdict:
    """The search of pgstac returns the item of every task that has one."""
    by_collection: dict[str, list[str]] = {}
    problems = []
    for stage in stages:
        for task in context.tasks.iterate(job.job_id, stage):
            if task.status not in DONE:
                continue
            if task.outputs.stac_item is None:
                problems.append(f"{task.task_key}: its task names no item")
                continue
            collection, _, identity = task.outputs.stac_item.partition("/")
            by_collection.setdefault(collection, []).append(identity)
    for collection, ids in by_collection.items():
        found = count_found(context.settings, collection, ids)
        if found != len(ids):
            problems.append(f"{collection}: search finds {found} of {how_many(len(ids), 'item')}")
    return verdict_of("item", sum(map(len, by_collection.values())), problems)


def verdict_of(what: str, count: int, problems: list[str]) -> Verdict:
    """The verdict of a check that looked at each output and found these problems."""
    said = (
        f"{how_many(len(problems), 'problem')} with {how_many(count, what)}; the first: {problems[0]}"
        if problems
        else f"{how_many(count, what)}, all as {'it' if count == 1 else 'they'} should be"
    )
    metadata: dict[str, Any] = {f"{what}s": count, "problems": len(problems)}
    if problems:
        metadata["first"] = "\n".join(problems[:_SHOWN])
    return Verdict(
        passed=not problems, metadata=metadata, description=said if count else f"there are no {what}s to look at"
    )
