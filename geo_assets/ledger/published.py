"""What is published: one row per STAC item, with its outputs and the task that made it.

Here: statements on `geo.published`. Not here: pgstac (`stac/pgstac.py`), the tasks themselves (`tasks.py`), who decides
that something is withdrawn (`stages/retire.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import dict_row, scalar_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from pydantic import ValidationError

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.file_stages import COGS
from geo_assets.ledger.deltas import note_published, note_withdrawn
from geo_assets.ledger.models import PublishedSource, PublishedTask
from geo_assets.ledger.successes import succeed_many
from geo_assets.outcomes import CogReceipt, Outputs, read_outputs

#: The published sources of a container in a collection, each with its state in a job's listing.
_OF_CONTAINER = """
with mine as materialized (
    select array_agg(job_id) as ids from geo.jobs
     where parameters->>'account' = %(account)s and parameters->>'container' = %(container)s
       and parameters->>'collection' = %(collection)s)
select p.stac_item, p.job_id, p.stage, p.task_key, p.outputs, p.at, geo.content_of(p) as content, i.holds, i.etag,
       coalesce(t.input #>> '{members,0,path}' <> p.task_key, false) as is_folder,
       case when t.kind = 'scene'
            then array(select m->>'path' from jsonb_array_elements(t.input->'members') m) else '{}' end as members,
       i.path is not null
           or t.kind = 'scene' and exists (
               select from geo.inventory f where f.job_id = %(job)s
                  and f.path = any(array(select m->>'path' from jsonb_array_elements(t.input->'members') m)))
           -- a folder that is one source; `year=` stands for all folders of that partition. What lies in it is a
           -- range of an index: in byte order '0' follows '/', and '>' follows '='
           or coalesce(t.input #>> '{members,0,path}' <> p.task_key, true) and exists (
               select from geo.inventory f
                where f.job_id = %(job)s and f.path collate "C" >= rtrim(p.task_key, '/') || '/'
                  and f.path collate "C" < rtrim(p.task_key, '/') || '0')
           or p.task_key ~ '^[^/]*=$' and exists (
               select from geo.inventory f
                where f.job_id = %(job)s and f.path collate "C" >= p.task_key
                  and f.path collate "C" < rtrim(p.task_key, '=') || '>') as is_there
  from geo.published p
  left join geo.tasks t on (t.job_id, t.stage, t.task_key) = (p.job_id, p.stage, p.task_key)
                       and t.job_id = any((select ids from mine)::text[])
  left join geo.inventory i on i.job_id = %(job)s and i.path = p.task_key
 where (i.path is null or i.holds is not null or not %(doubtful_only)s)
   and (t.kind = 'scene' or p.task_key ^@ %(prefix)s)
   and p.stage = any(%(stages)s) and p.job_id = any((select ids from mine)::text[])
 order by p.stac_item
"""


#: Enters the tasks that have these items, with a hash of each item as it was loaded. The hashes are one value, not rows
#: to join: without statistics the planner takes both sides for few, and hashes every item anew for every task.
_PUBLISH = """insert into geo.published (stac_item, job_id, stage, task_key, fingerprint, outputs, content, item_hash)
   select outputs->>'stac_item', job_id, stage, task_key, fingerprint, outputs,
          %s::jsonb->>(outputs->>'stac_item'),
          (select jsonb_object_agg(stac_item, item_hash) from geo.item_hashes(%s, %s))->>(outputs->>'stac_item')
     from geo.tasks
    where job_id = %s and run_id = %s and outputs->>'stac_item' = any(%s)
   on conflict (stac_item) do update set job_id = excluded.job_id, stage = excluded.stage,
       task_key = excluded.task_key, fingerprint = excluded.fingerprint, outputs = excluded.outputs,
       content = excluded.content, item_hash = excluded.item_hash, at = now()"""


class Published:
    """Statements on `geo.published`; those that publish or withdraw run in the caller's transaction, together with the
    changes to items and tables.
    """

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @staticmethod
    def publish_many(
        conn: psycopg.Connection[Any],
        job_id: str,
        run_id: str,
        done: Sequence[tuple[str, str, Outputs]],
        contents: Mapping[str, str],
    ) -> list[PublishedTask]:
        """Mark tasks with a STAC item as succeeded, in the transaction that loads the items: no item is searchable that
        the ledger does not know.

        Args:
            conn: of the transaction.
            job_id: whose tasks.
            run_id: who has done them.
            done: (stage, task key, outputs) of each.
            contents: item -> hash of its content.

        Returns:
            What these replace, of whichever job; tables among them that no item names any more are noted as
            loose.

        Raises:
            GeoAssetsError: LEASE_LOST.
        """
        items = [outputs.stac_item for _, _, outputs in done]
        names = [str(item).partition("/") for item in items]
        with conn.cursor(row_factory=dict_row) as cursor:
            before = cursor.execute(
                """select stac_item, job_id, stage, task_key, outputs, at
                     from geo.published where stac_item = any(%s) for update""",
                (items,),
            ).fetchall()
            succeed_many(cursor, job_id, run_id, done)
            cursor.execute(  # what was announced for the item alone has a name now
                "delete from geo.loose_blobs where blob = any(%s)",
                (sorted(blob for _, _, outputs in done for blob in outputs.all_blobs),),
            )
            note_published(cursor, job_id, run_id, done, contents)
            cursor.execute(
                _PUBLISH,
                (
                    Jsonb(dict(contents)),
                    sorted({name[0] for name in names}),
                    [name[2] for name in names],
                    job_id,
                    run_id,
                    items,
                ),
            )
            replaced = [PublishedTask.model_validate(row) for row in before]
            cursor.execute(  # the janitor drops those that a crash or a dependent object leaves
                """insert into geo.loose_tables (table_name)
                   select distinct name from unnest(%s::text[]) name
                    where not exists (select from geo.published p where p.stac_item = any(%s)
                                         and p.outputs->'tables' @>
                                           jsonb_build_array(jsonb_build_object('table', name)))
                       on conflict do nothing""",
                ([table.table for old in replaced for table in old.outputs.all_tables], items),
            )
        return replaced

    @staticmethod
    def collections_among(conn: psycopg.Connection[Any], names: Sequence[str], stage: str) -> list[str]:
        """The collections of those of these items, collection/id, that are published in a stage, in order."""
        with conn.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(
                """select distinct split_part(stac_item, '/', 1) from geo.published
                    where stac_item = any(%s) and stage = %s order by 1""",
                (list(names), stage),
            ).fetchall()

    @retrying
    def sources_of(self, names: Sequence[str]) -> dict[str, str]:
        """The task keys of those of these items, collection/id, that are published."""
        with self._pool.connection() as conn:
            found = conn.execute(
                "select stac_item, task_key from geo.published where stac_item = any(%s)", (list(names),)
            )
            return {str(row["stac_item"]): str(row["task_key"]) for row in found}

    @staticmethod
    def taken_elsewhere(
        conn: psycopg.Connection[Any],
        names: Sequence[str],
        stage: str,
        *,
        account: str,
        container: str,
        collection: str,
    ) -> list[PublishedTask]:
        """Delete the rows of those of these items, collection/id, that jobs of a container and a collection published
        in a stage; returns them. Other jobs that made them no longer list their sources, and do them again when they
        are submitted again.
        """
        place = {"account": account, "container": container, "collection": collection}
        with conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(
                """delete from geo.published p using geo.jobs j
                    where p.stac_item = any(%(names)s) and p.stage = %(stage)s and j.job_id = p.job_id
                      and j.parameters->>'account' = %(account)s and j.parameters->>'container' = %(container)s
                      and j.parameters->>'collection' = %(collection)s
                   returning p.stac_item, p.job_id, p.stage, p.task_key, p.outputs, p.at""",
                {"names": list(names), "stage": stage, **place},
            ).fetchall()
            cursor.execute(
                """with unlisted as (
                       update geo.tasks t set listed = false from geo.jobs j
                        where t.job_id = j.job_id and j.parameters->>'account' = %(account)s
                          and j.parameters->>'container' = %(container)s
                          and j.parameters->>'collection' = %(collection)s
                          and t.stage = %(stage)s and t.task_key = any(%(keys)s)
                          and t.status in ('succeeded', 'skipped') and t.outputs->>'stac_item' = any(%(gone)s)
                       returning t.job_id)
                   insert into geo.receipt_changes (job_id) select distinct job_id from unlisted""",
                {
                    "keys": [row["task_key"] for row in rows],
                    "gone": [row["stac_item"] for row in rows],
                    "stage": stage,
                    **place,
                },
            )
        return [PublishedTask.model_validate(row) for row in rows]

    @contextmanager
    def _hashing(self) -> Iterator[DictConnection]:
        """Open a transaction in which whole tables of a job are joined by hashes. Without statistics, as after the
        first job of many files, the planner takes all for few rows, and walks over every task for every item.
        """
        with self._pool.connection() as conn, conn.transaction():
            conn.execute("set local enable_nestloop = off")
            yield conn

    @retrying
    def cog_receipts(self, collection: str, *, limit: int = 100) -> list[CogReceipt]:
        """The receipts of some rasters that are published in a collection, as far as this release can read them."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select t.receipt from geo.published p join geo.tasks t using (job_id, stage, task_key)
                    where p.stac_item ^@ %s and p.stage = %s and t.receipt is not null
                    order by p.stac_item limit %s""",
                (f"{collection}/", COGS, limit),
            ).fetchall()
        found = []
        for row in rows:
            with suppress(ValidationError):
                found.append(CogReceipt.model_validate(row["receipt"]))
        return found

    @retrying
    def stale(self, job_id: str) -> list[str]:
        """Items that this job published and whose source is gone or bad now."""
        with self._hashing() as conn:
            rows = conn.execute(
                """select p.stac_item from geo.published p
                    where p.job_id = %s and not exists (
                        select from geo.tasks t where t.job_id = p.job_id and t.listed
                           and t.status in ('succeeded', 'skipped', 'running', 'pending')
                           and t.stage = p.stage and t.task_key = p.task_key)
                    order by p.stac_item""",
                (job_id,),
            ).fetchall()
        return [str(row["stac_item"]) for row in rows]

    @retrying
    def of_container(
        self,
        job_id: str,
        *,
        stages: Sequence[str],
        account: str,
        container: str,
        collection: str,
        prefix: str = "",
        doubtful_only: bool = False,
    ) -> list[PublishedSource]:
        """The published outputs of a container's sources in a collection, each with its state in a job's newest
        listing.

        Args:
            job_id: whose listing.
            stages: of the tasks that published.
            account: of the container.
            container: its name.
            collection: as jobs name it.
            prefix: of the sources; scenes are returned in any case, because their files tell where they are.
            doubtful_only: without those that are plainly there.
        """
        place = {"account": account, "container": container, "collection": collection, "prefix": prefix}
        values = {"job": job_id, "stages": list(stages), "doubtful_only": doubtful_only, **place}
        with self._hashing() as conn:
            rows = conn.execute(_OF_CONTAINER, values).fetchall()
        return [PublishedSource.model_validate(row) for row in rows]

    @retrying
    def other_jobs(self, job_id: str, *, account: str, container: str, collection: str) -> list[str]:
        """The other jobs of a container and a collection."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select job_id from geo.jobs where job_id <> %s and parameters->>'account' = %s
                      and parameters->>'container' = %s and parameters->>'collection' = %s""",
                (job_id, account, container, collection),
            ).fetchall()
        return [str(row["job_id"]) for row in rows]

    @staticmethod
    def outputs_of(conn: psycopg.Connection[Any], names: Sequence[str]) -> dict[str, Outputs]:
        """The outputs of published items, by their names; in the caller's transaction."""
        with conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(
                "select stac_item, stage, outputs from geo.published where stac_item = any(%s)", (list(names),)
            ).fetchall()
        return {row["stac_item"]: read_outputs(row["stage"], row["outputs"]) for row in rows}

    @staticmethod
    def job_of(conn: psycopg.Connection[Any], name: str) -> str | None:
        """The job that published an item."""
        with conn.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute("select job_id from geo.published where stac_item = %s", (name,)).fetchone()

    @staticmethod
    def collections_of(conn: psycopg.Connection[Any], asked: str) -> list[str]:
        """The collections of what jobs published that were asked for this one; in the caller's transaction."""
        with conn.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(
                """select distinct split_part(p.stac_item, '/', 1) as name
                     from geo.jobs j join geo.published p using (job_id)
                    where j.parameters->>'collection' = %s order by name""",
                (asked,),
            ).fetchall()

    @staticmethod
    def take_back(conn: psycopg.Connection[Any], job_id: str, run_id: str, entry: PublishedSource) -> bool:
        """Delete the row of a published source as `of_container` returned, for a run of a job; false if it was
        published again since.
        """
        deleted = conn.execute(
            "delete from geo.published where stac_item = %s and at = %s", (entry.stac_item, entry.at)
        ).rowcount
        if deleted:
            note_withdrawn(conn, job_id, run_id, entry)
        return bool(deleted)

    @staticmethod
    def forget_source(
        conn: psycopg.Connection[Any], job_id: str, entry: PublishedTask, *, others: Sequence[str]
    ) -> None:
        """Remove a withdrawn source from the account of every job."""
        conn.execute(
            "delete from geo.tasks where job_id = %s and stage = %s and task_key = %s and not listed",
            (job_id, entry.stage, entry.task_key),
        )
        conn.execute(
            """with unlisted as (
                   update geo.tasks set listed = false
                    where job_id = any(%s) and stage = %s and task_key = %s and status in ('succeeded', 'skipped')
                      and outputs->>'stac_item' = %s returning job_id)
               insert into geo.receipt_changes (job_id) select distinct job_id from unlisted""",
            (list(others), entry.stage, entry.task_key, entry.stac_item),
        )


def superseding(conn: DictConnection, job_id: str) -> dict[str, int]:
    """Job -> how many items of listed tasks of this one it has published since, in their place."""
    rows = conn.execute(
        """select p.job_id, count(*) as items
             from geo.tasks t join geo.published p on p.stac_item = t.outputs->>'stac_item'
            where t.job_id = %s and t.listed and p.job_id <> t.job_id group by 1 order by max(p.at) desc""",
        (job_id,),
    ).fetchall()
    return {str(row["job_id"]): int(str(row["items"])) for row in rows}
