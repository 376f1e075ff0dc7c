"""Deltas: what a delivery changed, file by file.

Here: statements on `geo.deltas`, each in the transaction of the change that it tells. Not here: who finds what is gone
(`stages/retire.py`), the changes of the whole catalogue, whoever made them (`changes.py`).

A delivery is a submission with all that goes on with it: attempts after one that died, failed or was cancelled, and
retries. A file is compared with what was published of it, in the same collection, before the first of them: so a
delivery that takes three attempts tells the same as one that takes one. What is recorded stays until the job's next
delivery, whatever other jobs do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.ledger.lease import assert_lease
from geo_assets.ledger.models import DeltaCounts, PublishedSource
from geo_assets.outcomes import Outputs

#: Files that are read at once.
_PAGE = 1000


class Delta(StrEnum):
    """What became of a file; `geo.delta` in SQL."""

    NEW = "new"  # nothing was published of it
    CHANGED = "changed"  # other bytes, other parameters that shape its output, or another output
    GONE = "gone"  # it was published, and is not in the container any more
    UNCHANGED = "unchanged"  # skipped, or made again with the same result


class FileDelta(BaseModel):
    """What a delivery changed of one file."""

    model_config = ConfigDict(frozen=True)
    stage: str
    file: str = Field(description="the path of the source in its container")
    delta: Delta
    withdrawn: bool | None = Field(None, description="of what is gone: whether its results were withdrawn, or kept")


#: Rows of what is being published, beside what is published of the same files, in whichever collection of pgstac their
#: items are.
_PUBLISHED = """
with now as (select * from jsonb_to_recordset(%(rows)s) as r (stage text, task_key text, content text)),
     -- sets of their own, so that nothing is looked up for each row in an index that the planner takes for selective
     planned as materialized (
         select stage, task_key, 'fingerprint ' || fingerprint as fingerprint from geo.tasks
          where job_id = %(job)s and task_key = any(%(keys)s)),
     published as materialized (
         select distinct on (p.stage, p.task_key) p.stage, p.task_key, geo.content_of(p) as before
           from geo.published p join geo.jobs j on j.job_id = p.job_id join geo.jobs me on me.job_id = %(job)s
          where p.task_key = any(%(keys)s)
            and j.parameters->>'account' = me.parameters->>'account'
            and j.parameters->>'container' = me.parameters->>'container'
            and j.parameters->>'collection' = me.parameters->>'collection'
          order by p.stage, p.task_key, p.at desc),
     compared as materialized (
         select now.*, p.before, t.fingerprint
           from now join planned t using (stage, task_key) left join published p using (stage, task_key))
insert into geo.deltas as old (job_id, delivery, stage, task_key, what, before)
select %(job)s, geo.delivery_of(%(run)s), stage, task_key,
       (case when before is null then 'new' when before in (content, fingerprint) then 'unchanged' else 'changed' end)
           ::geo.delta, before
  from compared
    on conflict (job_id, delivery, stage, task_key) do update set withdrawn = null, what = (
       select case when old.before is null then 'new' when old.before in (c.content, c.fingerprint) then 'unchanged'
                   else 'changed' end::geo.delta
         from compared c where (c.stage, c.task_key) = (old.stage, old.task_key))
"""

#: What came and went within one delivery was never there.
_WITHDRAWN = """
with came as (delete from geo.deltas where job_id = %(job)s and delivery = geo.delivery_of(%(run)s)
                 and stage = %(stage)s and task_key = %(key)s and before is null returning 1)
insert into geo.deltas (job_id, delivery, stage, task_key, what, withdrawn, before)
select %(job)s, geo.delivery_of(%(run)s), %(stage)s, %(key)s, 'gone', true, %(content)s
 where not exists (select from came)
    on conflict (job_id, delivery, stage, task_key) do update set what = 'gone', withdrawn = true
"""

_SKIPPED = """
insert into geo.deltas as old (job_id, delivery, stage, task_key, what, before)
select t.job_id, geo.delivery_of(%(run)s), t.stage, t.task_key, 'unchanged',
       coalesce(geo.content_of(p), 'fingerprint ' || t.fingerprint)
  from geo.tasks t left join geo.published p on p.stac_item = t.outputs->>'stac_item'
 where t.job_id = %(job)s and t.run_id = %(run)s and t.listed and t.status = 'skipped' and t.stage = any(%(stages)s)
    on conflict (job_id, delivery, stage, task_key) do update
       set withdrawn = null,
           what = (case when old.before = excluded.before then 'unchanged' else 'changed' end)::geo.delta
     where old.what = 'gone'
"""

#: What was published after the run began may have come after its listing.
_KEPT = """
insert into geo.deltas as old (job_id, delivery, stage, task_key, what, withdrawn, before)
select %(job)s, geo.delivery_of(%(run)s), stage, task_key, 'gone', false, content
  from jsonb_to_recordset(%(rows)s) as r (stage text, task_key text, content text, at timestamptz)
 where at <= coalesce((select started_at from geo.attempts where run_id = %(run)s), now())
    on conflict (job_id, delivery, stage, task_key) do update set what = 'gone', withdrawn = false
 where old.before is not null and old.withdrawn is not true
"""

#: What an earlier attempt of the delivery said, and is not so any more: a file that was gone is back, one that was the
#: same is bad now.
_OVER = """
delete from geo.deltas d
 where job_id = %(job)s and delivery = geo.delivery_of(%(run)s)
   and (what = 'gone' and not withdrawn and not exists (
            select from jsonb_to_recordset(%(rows)s) as r (stage text, task_key text)
             where (r.stage, r.task_key) = (d.stage, d.task_key))
     or what = 'unchanged' and not exists (
            select from geo.tasks t where (t.job_id, t.stage, t.task_key) = (d.job_id, d.stage, d.task_key)
               and t.listed and t.status in ('succeeded', 'skipped')))
"""

#: The newest delivery of a job that a run has begun.
_NEWEST = "(select max(delivery) from geo.attempts where job_id = %(job)s and started_at is not null)"


class Deltas:
    """Statements on `geo.deltas`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def settle(self, job_id: str, run_id: str, stages: Sequence[str], kept: Sequence[PublishedSource]) -> None:
        """Record the rest, after a run has published and withdrawn: what it skipped, and what is gone and was kept.

        Raises:
            GeoAssetsError: LEASE_LOST.
        """
        rows = Jsonb([entry.model_dump(mode="json", include={"stage", "task_key", "content", "at"}) for entry in kept])
        values = {"job": job_id, "run": run_id, "stages": list(stages), "rows": rows}
        with self._pool.connection() as conn:
            assert_lease(conn, job_id, run_id)
            for statement in (_SKIPPED, _KEPT, _OVER):
                conn.execute(statement, values)

    @retrying
    def files(
        self,
        job_id: str,
        *,
        only: Sequence[str] = (),
        after: tuple[str, str] = ("", ""),
        limit: int | None = None,
    ) -> list[FileDelta]:
        """What the newest delivery of a job changed, in (stage, file) order.

        Args:
            job_id: whole.
            only: these deltas; all if empty.
            after: the (stage, file) after which to begin.
            limit: most that are returned; None: there is no limit.
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                f"""select stage, task_key as file, what::text as delta, withdrawn from geo.deltas
                     where job_id = %(job)s and delivery = {_NEWEST}
                       and (%(only)s::text[] = '{{}}' or what::text = any(%(only)s))
                       and (stage, task_key) > (%(stage)s, %(file)s)
                     order by stage, task_key limit %(limit)s""",  # noqa: S608 - a constant
                {"job": job_id, "only": list(only), "stage": after[0], "file": after[1], "limit": limit},
            ).fetchall()
        return [FileDelta.model_validate(row) for row in rows]

    def iterate(self, job_id: str, *, only: Sequence[str] = ()) -> Iterator[FileDelta]:
        """As `files`, all of them without holding them all."""
        after = ("", "")
        while page := self.files(job_id, only=only, after=after, limit=_PAGE):
            yield from page
            after = (page[-1].stage, page[-1].file)


def counts(conn: DictConnection, job_id: str) -> DeltaCounts | None:
    """How many files the newest delivery of a job changed so far; None if it is of an older release, or never began."""
    of_each = ", ".join(f"count(*) filter (where what = '{delta}')::int as {delta}" for delta in Delta)
    (row,) = conn.execute(
        f"""select {_NEWEST} as delivery, {of_each}
              from geo.deltas where job_id = %(job)s and delivery = {_NEWEST}""",  # noqa: S608 - constants
        {"job": job_id},
    ).fetchall()
    return DeltaCounts.model_validate(row) if row["delivery"] is not None else None


def forget_earlier(conn: DictConnection, job_id: str, run_id: str) -> None:
    """Delete what earlier deliveries of a job changed: a new one begins."""
    conn.execute("delete from geo.deltas where job_id = %s and delivery <> geo.delivery_of(%s)", (job_id, run_id))


def note_published(
    conn: psycopg.Cursor[Any],
    job_id: str,
    run_id: str,
    done: Sequence[tuple[str, str, Outputs]],
    contents: Mapping[str, str],
) -> None:
    """Record what is about to be published, in the transaction that does, and before it.

    Args:
        conn: of the transaction.
        job_id: whose tasks.
        run_id: who has done them.
        done: (stage, task key, outputs) of each.
        contents: item -> hash of its content.
    """
    rows = [
        {"stage": stage, "task_key": key, "content": contents[str(outputs.stac_item)]} for stage, key, outputs in done
    ]
    keys = [key for _, key, _ in done]
    values = {"job": job_id, "run": run_id, "rows": Jsonb(rows), "keys": keys}
    conn.execute(_PUBLISHED, values, prepare=False)  # planned anew, `any` of known keys is a hash, not a list


def note_withdrawn(conn: psycopg.Connection[Any], job_id: str, run_id: str, entry: PublishedSource) -> None:
    """Record that the results of a source that is gone are withdrawn, in the transaction that does."""
    conn.execute(
        _WITHDRAWN,
        {"job": job_id, "run": run_id, "stage": entry.stage, "key": entry.task_key, "content": entry.content},
    )
