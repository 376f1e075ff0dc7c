"""Retire: take back what was published of sources that are gone, and of no other.

Here: what a listing proves to be gone, the refusal to take back too much, taking back. Not here: what is replaced (`catalogue.py`).

A source is gone where this job's listing would have it and has not: it lies below the job's prefix, passes its globs, and is not
in `geo.inventory` (which knows nothing of the limit). Whichever job of the container and the collection published it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.outputs import cogs_of
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.files import COGS, TABLES, stages_of
from geo_assets.stages.leftovers import sweep_blobs
from geo_assets.storage.sources import Kind, Member, Source, is_taken
from geo_assets.submissions.parameters import IngestContainer, parameters_type

#: What is published of the sources of a container in a collection, and what the job's listing says of each now.
_PUBLISHED = """
select p.stac_item, p.stage, p.task_key, p.outputs, i.holds,
       i.path is not null
           -- a folder that is one source; `year=` stands for all folders of that partition
           or exists (select from geo.inventory f where f.job_id = %(job)s and f.path ^@ regexp_replace(p.task_key, '/?$', '/'))
           or p.task_key ~ '^[^/]*=$' and exists (select from geo.inventory f where f.job_id = %(job)s and f.path ^@ p.task_key) as is_there
  from geo.published p
  join geo.jobs j using (job_id)
  left join geo.inventory i on i.job_id = %(job)s and i.path = p.task_key
 where p.stage = any(%(stages)s) and j.parameters->>'account' = %(account)s and j.parameters->>'container' = %(container)s
   and j.parameters->>'collection' = %(collection)s
 order by p.stac_item
"""


def refuse_mass_retire(context: StageContext, job: JobRef) -> None:
    """Stop before any work where the listing lacks so much that the container is rather away than emptied.

    Raises:
        GeoAssetsError: MASS_RETIRE.
    """
    if retires(job):
        with connect(context.settings) as conn:
            _gone(conn, job)


def retires(job: JobRef) -> bool:
    """Whether the job takes back what is gone."""
    return not job.stood_aside and job.parameters.get("deleted") == "retire"


def retire(context: StageContext, job: JobRef) -> tuple[int, int]:
    """With `deleted: retire`, take back what is gone; returns (retired, published and no longer stood behind, but kept).

    Found by search last, gone from search first: nobody is led to what is not there.

    Raises:
        GeoAssetsError: MASS_RETIRE, nothing was taken back.
    """
    if job.stood_aside:
        return 0, 0
    gone: list[dict[str, Any]] = []
    if retires(job):
        with connect(context.settings) as conn:
            gone = _gone(conn, job)
            conn.rollback()
            for entry in gone:
                with conn.transaction():
                    _take_back(conn, job, entry)
        sweep_blobs(context.settings, (blob for entry in gone for blob in files_of(entry["outputs"])))
    return len(gone), len(context.tasks.stale(job.job_id))


def files_of(outputs: dict[str, Any]) -> set[str]:
    """Every blob that a task put out."""
    return {cog[what] for cog in cogs_of(outputs) for what in ("cog", "thumbnail")}


def drop_tables(conn: psycopg.Connection, tables: Sequence[dict[str, Any]]) -> None:
    """Drop published tables with their rejects; their names are free again."""
    for table in tables:
        schema, _, name = table["table"].partition(".")
        both = sql.SQL(", ").join(sql.Identifier(schema, part) for part in (name, f"{name}__rejects"))
        conn.execute(sql.SQL("drop table if exists {}").format(both))
        conn.execute("delete from geo.table_names where table_name = %s", (name,))


def _gone(conn: psycopg.Connection, job: JobRef) -> list[dict[str, Any]]:
    p = job.parameters
    model = parameters_type(job.job_type)
    kinds = model.kinds if issubclass(model, IngestContainer) else frozenset[str]()
    stages = [stage for stage, kind in ((COGS, "raster"), (TABLES, "vector")) if kind in kinds]
    values = {"job": job.job_id, "stages": stages, **{key: p[key] for key in ("account", "container", "collection")}}
    with conn.cursor(row_factory=dict_row) as cursor:
        published = cursor.execute(_PUBLISHED, values).fetchall()
    within = [e for e in published if e["task_key"].startswith(p["prefix"]) and is_taken(e["task_key"], p["include"], p["exclude"])]
    gone = list(_proved(within))
    if len(gone) * 100 > p.get("max_retire_percent", 20) * len(within) and not job.allow_mass_retire:
        raise GeoAssetsError(
            "MASS_RETIRE",
            f"{len(gone):,} of the {len(within):,} sources that are published from {p['account']}/{p['container']} are no longer listed,"
            f" more than {p.get('max_retire_percent', 20):g} %; nothing was taken back",
        )
    return gone


def _proved(published: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that are not there; of a zip that could be listed also what it holds no longer."""
    for entry in published:
        if not entry["is_there"]:
            yield entry
        elif entry["holds"] is not None:
            member = Member(path=entry["task_key"], size=0, etag="", holds=tuple(map(Kind, entry["holds"])))
            now = Source(path=entry["task_key"], kind=Kind.ZIP, members=(member,))
            if entry["stage"] not in stages_of(now, IngestContainer.kinds):
                yield entry


def _take_back(conn: psycopg.Connection, job: JobRef, entry: dict[str, Any]) -> None:
    conn.execute("select geo.assert_lease(%s, %s)", (job.job_id, job.run_id))
    collection, _, identity = entry["stac_item"].partition("/")
    conn.execute("delete from pgstac.items where collection = %s and id = %s", (collection, identity))
    drop_tables(conn, entry["outputs"].get("tables", []))
    conn.execute("delete from geo.published where stac_item = %s", (entry["stac_item"],))
    conn.execute(
        "delete from geo.tasks where job_id = %s and stage = %s and task_key = %s and not listed",
        (job.job_id, entry["stage"], entry["task_key"]),
    )
    conn.execute(  # of other jobs that published it: their source is gone too
        """update geo.tasks set listed = false
            where job_id <> %s and stage = %s and task_key = %s and status in ('succeeded', 'skipped') and outputs->>'stac_item' = %s""",
        (job.job_id, entry["stage"], entry["task_key"], entry["stac_item"]),
    )
