"""Tasks: planning a stage against finished work, executing it, and counting the results.

Here: the statements that keep the account true: each task that is listed ends with one of the statuses `ENDED`.
Not here: doing the work.

A run may only touch tasks that it planned itself (`run_id`) of a job that it still owns; a run that lost its job finds
no row to change and stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.errors import GeoAssetsError, for_job
from geo_assets.ledger import blobs, fatal
from geo_assets.ledger.deltas import forget_earlier
from geo_assets.ledger.lease import assert_lease, lease_lost
from geo_assets.ledger.messages import storable
from geo_assets.ledger.models import (
    Converted,
    JobStatus,
    PlannedTask,
    StageCounts,
    TaskRecord,
    WarnedTask,
    status_of,
)
from geo_assets.ledger.pending import PendingTasks
from geo_assets.ledger.successes import succeed_many
from geo_assets.ledger.warnings import of_kind
from geo_assets.ledger.warnings import of_tasks as warned_tasks
from geo_assets.outcomes import Outputs, Receipt, TaskInput, is_readable, read_outputs
from geo_assets.task_status import BAD_INPUT, MADE, TaskStatus
from geo_assets.text import batched

_PLAN_BATCH = 1000

#: Tasks that are read at once.
_PAGE = 100

#: The size of receipts as PostgreSQL stores them, compressed; in memory they are some ten times as large.
_PAGE_BYTES = 8 * 1024**2

#: The state left by an earlier run decides: done stays done, bad stays bad, converted will be registered, the rest is
#: redone. Of what was converted, and will not be registered now, the tables get loose as the blobs do.
_PLAN = """
with planned as (
    select * from jsonb_to_recordset(%(tasks)s) as t (task_key text, kind text, fingerprint text, input jsonb,
      cost_ms int, bytes bigint, error jsonb)
),
noted as (
    insert into geo.loose_tables (table_name)
    select distinct made->>'table'
      from planned p join geo.tasks old using (task_key), jsonb_path_query(old.outputs, '$.tables[*]') made
     where old.job_id = %(job)s and old.stage = %(stage)s and made ? 'table'
       and old.receipt is not null and old.status in ('pending', 'running', 'cancelled')
       and (p.error is not null or old.fingerprint <> p.fingerprint or %(force)s)
        on conflict do nothing)
insert into geo.tasks as old (job_id, stage, task_key, kind, fingerprint, input, cost_ms, bytes, run_id, status,
  error_code, error_message, remedy, finished_at)
select %(job)s, %(stage)s, task_key, kind, fingerprint, input, cost_ms, bytes, %(run)s,
       case when error is null then 'pending'::geo.task_status else %(bad_input)s::geo.task_status end,
       error->>'code', error->>'message', error->>'remedy', case when error is not null then now() end
  from planned
on conflict (job_id, stage, task_key) do update set
    kind = excluded.kind, input = excluded.input, cost_ms = excluded.cost_ms, bytes = excluded.bytes,
      run_id = excluded.run_id, listed = true, fingerprint = excluded.fingerprint,
    status = case
        when excluded.status = %(bad_input)s then excluded.status
        when old.fingerprint <> excluded.fingerprint or %(force)s then 'pending'
        when old.status in ('succeeded', 'skipped') and geo.still_published(old.outputs, old.fingerprint) then 'skipped'
        when old.status in ('succeeded', 'skipped') then 'pending'                    -- another job or load replaced it
        when old.status = %(bad_input)s then old.status
        when old.receipt is not null then 'running'
        else 'pending' end,
    outputs = case when old.fingerprint = excluded.fingerprint and not %(force)s
        and geo.still_published(old.outputs, old.fingerprint) then old.outputs else '{}' end,
    receipt = case when old.fingerprint = excluded.fingerprint and not %(force)s
        and geo.still_published(old.outputs, old.fingerprint) then old.receipt end,
    error_code = case when excluded.status = %(bad_input)s then excluded.error_code
        when old.status = %(bad_input)s and old.fingerprint = excluded.fingerprint and not %(force)s
          then old.error_code end,
    error_message = case when excluded.status = %(bad_input)s then excluded.error_message
        when old.status = %(bad_input)s and old.fingerprint = excluded.fingerprint and not %(force)s
          then old.error_message end,
    remedy = case when excluded.status = %(bad_input)s then excluded.remedy
        when old.status = %(bad_input)s and old.fingerprint = excluded.fingerprint and not %(force)s
          then old.remedy end,
    -- what is found bad now is news, as what `Tasks.fail` ends
    started_at = case when excluded.status <> %(bad_input)s then old.started_at end,
    finished_at = case when excluded.status <> %(bad_input)s
        or old.status = excluded.status and old.fingerprint = excluded.fingerprint and not %(force)s
          then old.finished_at else now() end
"""

#: Tasks that were converted, never registered, and have no source any more: nothing refers to their blobs and tables
#: then, and the janitor deletes them.
_GIVE_UP = """
with given_up as (
    select task_key, outputs from geo.tasks
     where job_id = %(job)s and stage = %(stage)s and not listed and receipt is not null
       and status in ('pending', 'running', 'cancelled')
       for update),
noted as (
    insert into geo.loose_tables (table_name)
    select distinct made->>'table' from given_up, jsonb_path_query(outputs, '$.tables[*]') made where made ? 'table'
        on conflict do nothing)
update geo.tasks t set outputs = '{}', receipt = null from given_up g
 where t.job_id = %(job)s and t.stage = %(stage)s and t.task_key = g.task_key
"""


#: A done or converted task whose outputs or receipt cannot be used is done again.
_REDO = """
with noted as (
    insert into geo.loose_tables (table_name)
    select distinct made->>'table' from geo.tasks, jsonb_path_query(outputs, '$.tables[*]') made
     where job_id = %(job)s and stage = %(stage)s and task_key = any(%(keys)s) and made ? 'table'
        on conflict do nothing)
update geo.tasks set status = 'pending', outputs = '{}', receipt = null
 where job_id = %(job)s and stage = %(stage)s and task_key = any(%(keys)s)
"""


class Tasks(PendingTasks):
    """Statements on `geo.tasks`; those on what is still to be done are inherited (`pending.py`)."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    def plan(self, job_id: str, run_id: str, stage: str, tasks: Iterable[PlannedTask], *, force: bool = False) -> int:
        """Enter a stage's tasks; returns how many. One transaction: a stage is planned whole or not at all."""
        count = 0
        with self._pool.connection() as conn:
            assert_lease(conn, job_id, run_id)
            forget_earlier(conn, job_id, run_id)
            conn.execute("update geo.tasks set listed = false where job_id = %s and stage = %s", (job_id, stage))
            for batch in batched(tasks, _PLAN_BATCH):
                rows = Jsonb([_planned(task, job_id) for task in batch])
                values = {"tasks": rows, "job": job_id, "stage": stage, "run": run_id, "force": force}
                conn.execute(_PLAN, {**values, "bad_input": BAD_INPUT})
                count += len(batch)
            conn.execute(_GIVE_UP, {"job": job_id, "stage": stage})
            _redo(conn, job_id, stage, _unreadable(conn, job_id, stage))
        return count

    @retrying
    def redo(self, job_id: str, run_id: str, stage: str, keys: Sequence[str]) -> None:
        """Reset tasks of a planned stage, so that they are done again, whatever an earlier run left of them."""
        if keys:
            with self._pool.connection() as conn:
                assert_lease(conn, job_id, run_id)
                _redo(conn, job_id, stage, keys)

    @retrying
    def outputs(self, job_id: str, stage: str, first: str, last: str) -> dict[str, Outputs]:
        """The outputs of the finished tasks from `first` to `last`."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select task_key, outputs from geo.tasks
                    where job_id = %s and stage = %s and listed and status in ('succeeded', 'skipped')
                      and task_key between %s and %s""",
                (job_id, stage, first, last),
            ).fetchall()
        return {str(row["task_key"]): read_outputs(stage, row["outputs"]) for row in rows}  # type: ignore[arg-type]

    @retrying
    def made(self, job_id: str, stage: str, task_key: str) -> Outputs:
        """What a task has made; empty if that is nothing."""
        with self._pool.connection() as conn:
            row = conn.execute(
                """select outputs from geo.tasks
                    where job_id = %s and stage = %s and task_key = %s and listed and status::text = any(%s)""",
                (job_id, stage, task_key, [str(status) for status in MADE]),
            ).fetchone()
        return read_outputs(stage, row["outputs"] if row else {})  # type: ignore[arg-type]

    @retrying
    def awaiting_registration(
        self, job_id: str, run_id: str, stages: Sequence[str], *, after: tuple[str, str], limit: int
    ) -> list[Converted]:
        """Converted tasks that are not in the catalogue yet, a page at a time in (stage, key) order.

        A page ends before its receipts exceed `_PAGE_BYTES`: a file with a hundred variables, each with a year of days,
        has a long one.
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                """with page as (
                       select stage, task_key, outputs, receipt from geo.tasks
                        where job_id = %s and run_id = %s and stage = any(%s) and listed and status = 'running'
                          and receipt is not null
                          and (stage, task_key) > (%s, %s)
                        order by stage, task_key limit %s),
                   measured as (
                       select *, sum(pg_column_size(receipt)) over (order by stage, task_key)
                                 - pg_column_size(receipt) as before from page)
                   select stage, task_key, outputs, receipt from measured where before < %s order by stage, task_key""",
                (job_id, run_id, list(stages), *after, limit, _PAGE_BYTES),
            ).fetchall()
        return [Converted.model_validate(row) for row in rows]

    @retrying
    def fingerprints(
        self, job_id: str, stages: Sequence[str], keys: Sequence[str]
    ) -> dict[tuple[str, str], tuple[str, TaskStatus, bool]]:
        """(stage, task key) -> (fingerprint, status, whether what it put out is still what is published) of those of
        these tasks of a job that there are.
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select stage, task_key, fingerprint, status::text, geo.still_published(outputs, fingerprint) as still
                     from geo.tasks
                    where job_id = %s and stage = any(%s) and task_key = any(%s) and listed""",
                (job_id, list(stages), list(keys)),
            ).fetchall()
        return {
            (str(row["stage"]), str(row["task_key"])): (
                str(row["fingerprint"]),
                TaskStatus(str(row["status"])),
                bool(row["still"]),
            )
            for row in rows
        }

    @retrying
    def inputs(self, job_id: str, tasks: Sequence[tuple[str, str]]) -> dict[tuple[str, str], TaskInput]:
        """(stage, key) -> the input of those of these tasks of a job that there are."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select stage, task_key, input from geo.tasks
                    where job_id = %s and (stage, task_key) in (select * from unnest(%s::text[], %s::text[]))""",
                (job_id, [stage for stage, _ in tasks], [key for _, key in tasks]),
            ).fetchall()
        return {(str(row["stage"]), str(row["task_key"])): TaskInput.model_validate(row["input"]) for row in rows}

    @retrying
    def rewritten(self, account: str, container: str) -> dict[tuple[str, str], str]:
        """(path, etag) -> the etag that stands for its bytes, of files that were rewritten behind theirs
        (`ledger/inventory.py`).
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                "select path, etag, etag || '+' || left(sha256, 16) as marked from geo.rewritten where (account,"
                " container) = (%s, %s)",
                (account, container),
            ).fetchall()
        return {(str(row["path"]), str(row["etag"])): str(row["marked"]) for row in rows}

    @retrying
    def start(self, job_id: str, run_id: str, stage: str, task_key: str, process: str | None = None) -> None:
        """Mark a task as running: as in work of a process, if its death is to count."""
        self._change(
            job_id,
            run_id,
            stage,
            task_key,
            "status = 'running', started_at = now(), finished_at = null, took_ms = null, process = %(process)s",
            process=process,
        )

    @retrying
    def survived(self, job_id: str, stage: str, task_key: str) -> None:
        """Forget that processes died while this file was in work: one has finished it."""
        with self._pool.connection() as conn:
            fatal.survive(conn, job_id, stage, task_key)

    @retrying
    def uploading(self, run_id: str, names: Sequence[str]) -> None:
        """Record blobs that are about to be uploaded; until a task refers to them they are orphans."""
        with self._pool.connection() as conn:
            blobs.announce(conn, names, run_id)

    @retrying
    def converted(
        self, job_id: str, run_id: str, stage: str, task_key: str, *, outputs: Outputs, receipt: Receipt
    ) -> None:
        """Mark a task as converted: its output exists under its final name, but is not shown before it is in the
        catalogue.
        """
        with self._pool.connection() as conn:
            self.convert(conn, job_id, run_id, stage, task_key, outputs=outputs, receipt=receipt)

    @staticmethod
    def convert(
        conn: psycopg.Connection[Any],
        job_id: str,
        run_id: str,
        stage: str,
        task_key: str,
        *,
        outputs: Outputs,
        receipt: Receipt,
    ) -> None:
        """As `converted`, in the caller's transaction."""
        changed = conn.execute(
            """with named as (delete from geo.loose_blobs where blob = any(geo.blobs_of(%(outputs)s)))
               update geo.tasks set outputs = %(outputs)s, receipt = %(receipt)s,
                      took_ms = least(1000 * extract(epoch from clock_timestamp() - started_at), 2147483647)
                where job_id = %(job)s and run_id = %(run)s and stage = %(stage)s and task_key = %(key)s""",
            {
                "outputs": Jsonb(outputs.stored()),
                "receipt": Jsonb(receipt.stored()),
                "job": job_id,
                "run": run_id,
                "stage": stage,
                "key": task_key,
            },
        ).rowcount
        if changed != 1:
            raise lease_lost(job_id, run_id)

    @retrying
    def succeed(self, job_id: str, run_id: str, stage: str, task_key: str, *, outputs: Outputs) -> None:
        """Mark a task as done, with its outputs."""
        self._change(
            job_id,
            run_id,
            stage,
            task_key,
            "status = 'succeeded', outputs = outputs || %(outputs)s, finished_at = now()",
            outputs=Jsonb(outputs.stored()),
        )

    @retrying
    def succeed_many(self, job_id: str, run_id: str, done: Sequence[tuple[str, str, Outputs]]) -> None:
        """As `succeed`, for (stage, task_key, outputs) at once."""
        with self._pool.connection() as conn:
            succeed_many(conn, job_id, run_id, done)

    @retrying
    def fail(self, job_id: str, run_id: str, stage: str, task_key: str, error: GeoAssetsError) -> None:
        """End a task as `status_of` says of the error. Its receipt is deleted, so that it is redone; the janitor
        deletes the blobs and tables to which nothing refers then.
        """
        self._change(
            job_id,
            run_id,
            stage,
            task_key,
            """status = %(status)s::geo.task_status, error_code = %(code)s, error_message = %(message)s,
              remedy = %(remedy)s,
               outputs = '{}', receipt = null, finished_at = now()""",
            status=status_of(error),
            code=error.code,
            message=storable(error.message)[:2000],
            remedy=for_job(error.remedy, job_id),
            gives_up=True,
        )

    @retrying
    def cancel_rest(self, job_id: str, run_id: str) -> int:
        """Cancel what was planned and will not be done; returns how many."""
        with self._pool.connection() as conn:
            return conn.execute(
                "update geo.tasks set status = 'cancelled', finished_at = now() where job_id = %s and run_id = %s and"
                " listed and status in ('pending', 'running')",
                (job_id, run_id),
            ).rowcount

    def _change(
        self,
        job_id: str,
        run_id: str,
        stage: str,
        task_key: str,
        assignments: Any,
        *,
        gives_up: bool = False,
        **values: Any,
    ) -> None:
        query = sql.SQL(
            """with owned as materialized (  -- waits for whoever takes the job away, then sees that it is gone
                   select from geo.jobs where job_id = %(job)s and lease_run_id = %(run)s for key share),
               noted as (
                   insert into geo.loose_tables (table_name)
                   select distinct made->>'table' from geo.tasks, jsonb_path_query(outputs, '$.tables[*]') made
                    where %(gives_up)s and exists (select from owned) and made ? 'table'
                      and job_id = %(job)s and run_id = %(run)s and stage = %(stage)s and task_key = %(key)s
                       on conflict do nothing)
               update geo.tasks set {} where exists (select from owned)
                  and job_id = %(job)s and run_id = %(run)s and stage = %(stage)s and task_key = %(key)s"""
        )
        query_of_change = query.format(sql.SQL(assignments))
        with self._pool.connection() as conn:
            changed = conn.execute(
                query_of_change,
                {"job": job_id, "run": run_id, "stage": stage, "key": task_key, "gives_up": gives_up, **values},
            ).rowcount
        if changed != 1:
            raise lease_lost(job_id, run_id)

    @retrying
    def counts(self, job_id: str, stage: str) -> StageCounts:
        """The account of one stage; all zero if it has no task."""
        with self._pool.connection() as conn:
            row = conn.execute(
                "select * from geo.stage_counts where job_id = %s and stage = %s", (job_id, stage)
            ).fetchone()
        return StageCounts.model_validate(row) if row else StageCounts.none(stage)

    @retrying
    def records(
        self,
        job_id: str,
        *,
        stage: str | None = None,
        statuses: Sequence[str] = (),
        after: tuple[str, str] = ("", ""),
        limit: int | None = None,
    ) -> list[TaskRecord]:
        """Tasks of a job in (stage, key) order, all or so many. Unfinished tasks of an ended job are shown as
        cancelled.
        """
        with self._pool.connection() as conn:
            job = conn.execute("select status from geo.job_status where job_id = %s", (job_id,)).fetchone()
            rows = conn.execute(
                """select stage, task_key, kind, status::text, error_code, error_message, remedy, outputs,
                  started_at, finished_at, (select p.job_id from geo.published p
                                             where p.stac_item = tasks.outputs->>'stac_item'
                                               and p.job_id <> tasks.job_id) as superseded_by
                     from geo.tasks
                    where job_id = %(job)s and listed and (%(stage)s::text is null or stage = %(stage)s)
                      and (%(statuses)s::text[] = '{}' or status::text = any(%(statuses)s))
                      and (stage, task_key) > (%(after_stage)s, %(after)s)
                    order by stage, task_key limit %(limit)s""",
                {
                    "job": job_id,
                    "stage": stage,
                    "statuses": list(statuses),
                    "after_stage": after[0],
                    "after": after[1],
                    "limit": limit,
                },
            ).fetchall()
        ended = job is not None and JobStatus(str(job["status"])).is_final
        return [_record(row, ended=ended) for row in rows]

    @retrying
    def bad_by_code(
        self, job_id: str, stage: str | None = None, statuses: Sequence[TaskStatus] | None = None
    ) -> dict[str, int]:
        """Count the tasks of a job, or of one of its stages, or those in some states, by the error code with which they
        ended.
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select error_code, count(*)::int as n from geo.tasks
                    where job_id = %(job)s and listed and error_code is not null
                      and (%(stage)s::text is null or stage = %(stage)s)
                      and (%(statuses)s::text[] is null or status::text = any(%(statuses)s))
                    group by 1 order by 1""",
                {"job": job_id, "stage": stage, "statuses": None if statuses is None else list(map(str, statuses))},
            ).fetchall()
        return {str(row["error_code"]): int(str(row["n"])) for row in rows}

    @retrying
    def warned(self, job_id: str, stage: str | None = None) -> list[tuple[str, list[str]]]:
        """(task key, warnings) of the tasks of a job, or of one of its stages, that have some."""
        with self._pool.connection() as conn:
            return list(warned_tasks(conn, job_id, stage))

    @retrying
    def warned_of_kind(
        self, job_id: str, kind: str, *, after: tuple[str, str] = ("", ""), limit: int | None = None
    ) -> list[WarnedTask]:
        """The tasks of a job with a warning of a kind, in (stage, key) order, each with its warnings of that kind."""
        with self._pool.connection() as conn:
            return of_kind(conn, job_id, kind, after=after, limit=limit)

    def iterate(self, job_id: str, stage: str | None = None) -> Iterator[TaskRecord]:
        """As `records`, all tasks of a job or of a stage without holding them all. Between two pages no transaction is
        open: the caller may wait for a store.
        """
        after = ("", "")
        while page := self.records(job_id, stage=stage, after=after, limit=_PAGE):
            yield from page
            after = (page[-1].stage, page[-1].task_key)


def _unreadable(conn: DictConnection, job_id: str, stage: str) -> list[str]:
    """The done or converted tasks of a stage whose outputs or receipt this release cannot read."""
    with conn.cursor("planned") as cursor:
        cursor.itersize = _PAGE
        cursor.execute(
            """select task_key, outputs, case when status = 'running' then receipt end as receipt from geo.tasks
                where job_id = %s and stage = %s and listed and status in ('skipped', 'running')""",
            (job_id, stage),
        )
        return [
            str(row["task_key"])
            for row in cursor
            if not is_readable(stage, row["outputs"], row["receipt"])  # type: ignore[arg-type]
        ]


def _planned(task: PlannedTask, job_id: str) -> dict[str, Any]:
    """A task as `_PLAN` reads it."""
    row = task.model_dump(mode="json")
    if task.error:
        row["error"]["remedy"] = for_job(task.error["remedy"], job_id)
    return row


def _redo(conn: DictConnection, job_id: str, stage: str, keys: Sequence[str]) -> None:
    if keys:
        conn.execute(_REDO, {"job": job_id, "stage": stage, "keys": list(keys)})


def _record(row: dict[str, Any], *, ended: bool) -> TaskRecord:
    undone = row["status"] in {TaskStatus.PENDING, TaskStatus.RUNNING}
    return TaskRecord.model_validate({**row, "status": TaskStatus.CANCELLED if ended and undone else row["status"]})
