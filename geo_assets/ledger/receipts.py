"""What receipts tell of the ledger: which jobs need a new one, the rows of one as JSON, and putting such rows back.

Here: statements on `geo.receipt_changes` and `geo.rebuilds`, and rows of the other tables as JSON of all their
columns, so that a column that is added later is in the next receipt. Not here: the form of the document, items
(`receipts/`, `stac/pgstac.py`). All work on a connection of the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.lease import LEASE_SECONDS

#: Rows that are fetched at a time.
_PAGE = 500

#: Jobs that have ended, and that nobody is making again. While another job of its place is at work, which may replace
#: an item of it every second, a job waits: it would get a receipt of each moment.
_DUE = """
with at_work as (
    select job_id, parameters->>'account' as account, parameters->>'container' as container,
           parameters->>'collection' as collection
      from geo.jobs where lease_heartbeat > now() - make_interval(secs => %(lease)s))
select c.job_id from geo.receipt_changes c
  join geo.jobs j using (job_id)
  join lateral (select outcome from geo.attempts a where a.job_id = c.job_id
                 order by attempt desc limit 1) newest on true
 where newest.outcome is not null
   and not exists (select from geo.rebuilds r where r.job_id = c.job_id and r.done_at is null)
   and (%(only)s::text[] is null or c.job_id = any(%(only)s))
 group by c.job_id, j.parameters
having %(only)s::text[] is not null or min(c.at) < now() - make_interval(secs => %(longest)s)
    or not exists (select from at_work w where w.job_id <> c.job_id
                      and (w.account, w.container, w.collection) = (j.parameters->>'account',
                           j.parameters->>'container', j.parameters->>'collection'))
 order by min(c.change) limit %(limit)s
"""

#: Seconds that a job waits at most for the end of the others of its place.
_LONGEST_WAIT = 600

#: List of a receipt -> its records, each with all columns but what a task was expected to cost, and what it
#: did: that changes without the job.
_RECORDS: dict[str, LiteralString] = {
    "tasks": """
        select (to_jsonb(t) - 'job_id' - 'cost_ms' - 'bytes' - 'took_ms')::text from geo.tasks t
         where t.job_id = %(job)s order by t.stage, t.task_key""",
    "table_names": """
        select to_jsonb(n)::text from geo.table_names n join geo.jobs j
            on (j.parameters->>'account', j.parameters->>'container', j.parameters->>'collection')
             = (n.account, n.container, n.collection) where j.job_id = %(job)s order by n.table_name""",
    # the newest load of each table that the job has in the catalogue
    "vector_loads": """
        select (to_jsonb(l) - 'load_id')::text from (
            select distinct made->>'table' as name
              from geo.published p, jsonb_path_query(p.outputs, '$.tables[*]') as made where p.job_id = %(job)s) as own
          join lateral (select * from geo.vector_loads v where v.table_name = own.name
                         order by load_id desc limit 1) l on true
         order by l.table_name""",
    "tombstones": """
        select (to_jsonb(s) - 'tombstone_id')::text from geo.tombstones s where s.job_id = %(job)s
         order by s.tombstone_id""",
    "raster_collections": """
        select to_jsonb(r)::text from geo.raster_collections r join geo.jobs j on j.parameters->>'collection' = r.asked
         where j.job_id = %(job)s order by r.collection""",
    "deltas": """
        select (to_jsonb(d) - 'job_id')::text from geo.deltas d where d.job_id = %(job)s
         order by d.delivery, d.stage, d.task_key""",
}

_SUPERSEDED = """
select count(*) filter (where now.job_id is not null), count(*) filter (where now.job_id is null and buried.is_so)
  from geo.tasks t
  left join geo.published now on now.stac_item = t.outputs->>'stac_item'
  cross join lateral (select exists (
        select from geo.tombstones s where s.collection || '/' || s.item = t.outputs->>'stac_item') as is_so) buried
 where t.job_id = %(job)s and t.outputs ? 'stac_item' and now.job_id is distinct from t.job_id
"""

_UNPUBLISHED = """
select t.task_key, t.outputs->>'stac_item' from geo.tasks t
 where t.job_id = %(job)s and t.listed and t.status in ('succeeded', 'skipped') and t.outputs ? 'stac_item'
   and not exists (select from geo.published p where p.stac_item = t.outputs->>'stac_item')
 order by t.task_key
"""


def due(conn: psycopg.Connection[Any], *, only: Sequence[str] | None = None, limit: int | None = None) -> list[str]:
    """The ended jobs whose receipt does not tell what they are now, those first that wait for longest. Of jobs that are
    named, also those whose items another job may be replacing now.
    """
    values = {"lease": LEASE_SECONDS, "longest": _LONGEST_WAIT, "only": only and list(only), "limit": limit}
    return [row[0] for row in conn.execute(_DUE, values).fetchall()]


def is_at_work(conn: psycopg.Connection[Any], job_id: str) -> bool:
    """Whether the newest attempt of a job has not ended."""
    row = conn.execute(
        "select outcome is null from geo.attempts where job_id = %s order by attempt desc limit 1", (job_id,)
    ).fetchone()
    return bool(row and row[0])


def pending_changes(conn: psycopg.Connection[Any], job_id: str) -> list[int]:
    """The changes of a job that no receipt tells yet."""
    rows = conn.execute("select change from geo.receipt_changes where job_id = %s", (job_id,))
    return [row[0] for row in rows.fetchall()]


def told(conn: psycopg.Connection[Any], changes: Sequence[int]) -> None:
    """Forget changes that a receipt tells."""
    conn.execute("delete from geo.receipt_changes where change = any(%s)", (list(changes),))


def lock(conn: psycopg.Connection[Any], job_id: str) -> bool:
    """Lock a job's receipts for this session, unless another has them locked; whether it is locked now."""
    row = conn.execute(
        "select pg_try_advisory_lock(hashtextextended('geo_assets:receipt:' || %s, 0))", (job_id,)
    ).fetchone()
    return bool(row and row[0])


def head_of(conn: psycopg.Connection[Any], job_id: str) -> dict[str, Any]:
    """The job, its attempts, its account and its status, as the head of a receipt has them."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            """select case newest.outcome
                           when 'completed' then geo.status_of('SUCCESS', exists (
                               select from geo.tasks t where t.job_id = j.job_id and t.listed
                                  and t.status not in ('succeeded', 'skipped')))
                           else coalesce(newest.outcome, s.status) end as status,
                      to_jsonb(j) - 'lease_run_id' - 'lease_heartbeat' as job, to_jsonb(now())#>>'{}' as written_at,
                      (select jsonb_agg(to_jsonb(a) - 'job_id' order by a.attempt) from geo.attempts a
                        where a.job_id = j.job_id) as attempts
                 from geo.jobs j join geo.job_status s using (job_id)
                 left join lateral (select outcome from geo.attempts a where a.job_id = j.job_id
                                     order by attempt desc limit 1) newest on true
                where j.job_id = %s""",
            (job_id,),
        ).fetchone()
    if row is None:
        raise GeoAssetsError("JOB_NOT_FOUND", f"there is no job {job_id}")
    return {**row, "counts": counts(conn, job_id)}


def count_tasks(conn: psycopg.Connection[Any], job_id: str) -> int:
    """How many tasks a job has, also those that are not listed any more."""
    ((count,),) = conn.execute("select count(*) from geo.tasks where job_id = %s", (job_id,)).fetchall()
    return int(count)


def counts(conn: psycopg.Connection[Any], job_id: str) -> dict[str, dict[str, int]]:
    """Stage -> status -> listed tasks."""
    rows = conn.execute(
        "select stage, status::text, count(*) from geo.tasks where job_id = %s and listed group by 1, 2 order by 1, 2",
        (job_id,),
    )
    found: dict[str, dict[str, int]] = {}
    for stage, status, count in rows.fetchall():
        found.setdefault(stage, {})[status] = count
    return found


def records(conn: psycopg.Connection[Any], kind: str, job_id: str) -> Iterator[str]:
    """The records of a list, as JSON, within the caller's transaction."""
    with conn.cursor(f"receipt_{kind}") as cursor:
        cursor.itersize = _PAGE
        cursor.execute(_RECORDS[kind], {"job": job_id})
        for (record,) in cursor:
            yield record


def collections_of(conn: psycopg.Connection[Any], job_id: str) -> list[str]:
    """The collections in which a job has published items."""
    rows = conn.execute(
        "select distinct split_part(stac_item, '/', 1) from geo.published where job_id = %s order by 1", (job_id,)
    )
    return [row[0] for row in rows.fetchall()]


def published(
    conn: psycopg.Connection[Any], *, job_id: str | None = None, collections: Sequence[str] | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Pages of rows of what is published, by name: of a job, of one collection after the other, or all. Between two
    pages no cursor is open.
    """
    ranges = [("", None)] if collections is None else [(f"{name}/", f"{name}0") for name in collections]  # "0" is next
    of_job = sql.SQL("and job_id = %(job)s" if job_id is not None else "")
    until = sql.SQL('and stac_item collate "C" < %(end)s' if collections is not None else "")
    query = sql.SQL(
        """select to_jsonb(p) as row from geo.published p where stac_item collate "C" > %(after)s {} {}
            order by stac_item collate "C" limit %(page)s"""
    ).format(until, of_job)
    for after, end in ranges:
        while True:
            with conn.cursor(row_factory=dict_row) as cursor:
                rows = cursor.execute(query, {"after": after, "end": end, "job": job_id, "page": _PAGE}).fetchall()
            if not rows:
                break
            yield [row["row"] for row in rows]
            after = rows[-1]["row"]["stac_item"]  # noqa: PLW2901


def count_published(
    conn: psycopg.Connection[Any], *, job_id: str | None = None, collections: Sequence[str] | None = None
) -> int:
    """How many items `published` gives."""
    ((count,),) = conn.execute(
        """select count(*) from geo.published where (%(job)s::text is null or job_id = %(job)s)
              and (%(of)s::text[] is null or split_part(stac_item, '/', 1) = any(%(of)s))""",
        {"job": job_id, "of": collections},
    ).fetchall()
    return int(count)


def family(conn: psycopg.Connection[Any], collection: str) -> list[str]:
    """The collections in which the jobs that were submitted for a collection have published."""
    rows = conn.execute(
        """select distinct split_part(stac_item, '/', 1) from geo.published join geo.jobs using (job_id)
            where parameters->>'collection' = %s order by 1""",
        (collection,),
    )
    return [row[0] for row in rows.fetchall()]


def jobs_of(conn: psycopg.Connection[Any], collections: Sequence[str] | None = None) -> list[str]:
    """The jobs that process files, the oldest first: all, or those that published in some collections."""
    rows = conn.execute(
        """select job_id from geo.jobs j where parameters ? 'collection'
              and (%(of)s::text[] is null or exists (select from geo.published p
                    where p.job_id = j.job_id and split_part(p.stac_item, '/', 1) = any(%(of)s)))
            order by created_at, job_id""",
        {"of": collections},
    )
    return [row[0] for row in rows.fetchall()]


def item_hashes(conn: psycopg.Connection[Any], names: Sequence[str]) -> dict[str, str]:
    """Name, collection/id -> hash of the item as it is now; those that are gone are left out."""
    pairs = [name.partition("/") for name in names]
    rows = conn.execute(
        "select stac_item, item_hash from geo.item_hashes(%s, %s)",
        (sorted({p[0] for p in pairs}), [p[2] for p in pairs]),
    )
    wanted = set(names)
    return {name: item_hash for name, item_hash in rows.fetchall() if name in wanted}


def still_published(conn: psycopg.Connection[Any], rows: Sequence[dict[str, Any]]) -> set[str]:
    """The names of those published rows that are what is published now."""
    found = conn.execute(
        """select p.stac_item from geo.published p
             join jsonb_to_recordset(%s) as w (stac_item text, at timestamptz) using (stac_item, at)""",
        (Jsonb([{"stac_item": row["stac_item"], "at": row["at"]} for row in rows]),),
    )
    return {row[0] for row in found.fetchall()}


def elsewhere(conn: psycopg.Connection[Any], job_id: str) -> tuple[int, int]:
    """(superseded, withdrawn): how many items that a job made are another job's now, or nobody's any more."""
    row = conn.execute(_SUPERSEDED, {"job": job_id}).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def unpublished(conn: psycopg.Connection[Any], job_id: str) -> list[tuple[str, str]]:
    """(task, item) of what a job counts as done and nobody has published."""
    return list(conn.execute(_UNPUBLISHED, {"job": job_id}).fetchall())


# -- putting back ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A job that is made again from its receipt, or was."""

    job_id: str
    receipt: str
    is_done: bool


def known_jobs(conn: psycopg.Connection[Any], job_id: str | None = None) -> dict[str, Rebuild | None]:
    """Job -> its rebuild; None for a job that was submitted to this database. All, or one."""
    with conn.cursor(row_factory=class_row(Rebuild)) as cursor:
        made = cursor.execute(
            """select job_id, receipt, done_at is not null as is_done from geo.rebuilds
                where %(job)s::text is null or job_id = %(job)s""",
            {"job": job_id},
        ).fetchall()
    jobs = conn.execute("select job_id from geo.jobs where %(job)s::text is null or job_id = %(job)s", {"job": job_id})
    found: dict[str, Rebuild | None] = {known: None for (known,) in jobs}
    return {**found, **{rebuild.job_id: rebuild for rebuild in made}}


#: An attempt that has ended, and when; an older release noted no time.
Ended = tuple[int, datetime | None]


def ended_attempts(conn: psycopg.Connection[Any], job_id: str | None = None) -> dict[str, set[Ended]]:
    """Job -> its attempts that have ended; of all jobs, or of one."""
    found: dict[str, set[Ended]] = {}
    rows = conn.execute(
        """select job_id, attempt, ended_at from geo.attempts
            where outcome is not null and (%(job)s::text is null or job_id = %(job)s)""",
        {"job": job_id},
    )
    for known, attempt, ended_at in rows.fetchall():
        found.setdefault(known, set()).add((attempt, ended_at))
    return found


def begin_rebuild(conn: psycopg.Connection[Any], job_id: str, receipt: str) -> None:
    """Record that a job is being made again from a receipt, in the transaction that puts its rows back."""
    conn.execute(
        """insert into geo.rebuilds (job_id, receipt) values (%s, %s)
           on conflict (job_id) do update set receipt = excluded.receipt, begun_at = now(), done_at = null""",
        (job_id, receipt),
    )


def forget_older_tasks(conn: psycopg.Connection[Any], job_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Delete the tasks of a job of which rows of a receipt tell something later, before those are put back. They are
    not updated: that would count as an event of now.
    """
    conn.execute(
        """delete from geo.tasks t using jsonb_populate_recordset(null::geo.tasks, %s) as told
            where t.job_id = %s and (t.stage, t.task_key) = (told.stage, told.task_key)
              and (t.finished_at is null or t.finished_at <= told.finished_at)""",
        (Jsonb(list(rows)), job_id),
    )


def new_tombstones(conn: psycopg.Connection[Any], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of these tombstones that the ledger does not have."""
    found = conn.execute(
        """select n - 1 from rows from (jsonb_populate_recordset(null::geo.tombstones, %s)) with ordinality
                  as told (tombstone_id, collection, item, withdrawn_at, withdrawn_by, job_id, stage, task_key, outputs,
                           data_gone_at, n)
            where not exists (select from geo.tombstones s where s.collection = told.collection
                                and s.item is not distinct from told.item and s.withdrawn_at = told.withdrawn_at)""",
        (Jsonb(list(rows)),),
    )
    return [rows[number] for (number,) in found.fetchall()]


def hold(conn: psycopg.Connection[Any], job_id: str) -> None:
    """Let no run claim a job until the transaction ends."""
    conn.execute("select from geo.jobs where job_id = %s for update", (job_id,))


def end_rebuild(conn: psycopg.Connection[Any], job_id: str) -> None:
    """Record that all of a job is there again that can be."""
    conn.execute("update geo.rebuilds set done_at = now() where job_id = %s", (job_id,))
    conn.execute("insert into geo.receipt_changes (job_id) values (%s)", (job_id,))


def give_up_rebuild(conn: psycopg.Connection[Any], job_id: str) -> None:
    """Record that a job is a run's now, whatever of its receipt was not made again: the run does what is missing."""
    conn.execute("update geo.rebuilds set done_at = now() where job_id = %s and done_at is null", (job_id,))


def put_back(conn: psycopg.Connection[Any], table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows of a receipt into a table of schema geo; those that are there stay. Columns that the table does not
    have any more are left out, those that it has since take their defaults. No row that is inserted until the
    transaction ends is told to anybody, or counted as an event of now.
    """
    if not rows:
        return
    conn.execute("select set_config('geo_assets.putting_back', 'on', true)")
    known = conn.execute(
        """select attname from pg_attribute where attrelid = to_regclass('geo.' || %s) and attnum > 0
              and not attisdropped and attidentity = ''""",
        (table,),
    ).fetchall()
    there = set().union(*(row.keys() for row in rows))
    columns = [sql.Identifier(name) for (name,) in known if name in there]
    name = sql.Identifier("geo", table)
    conn.execute(
        sql.SQL(
            "insert into {0} ({1}) select {1} from jsonb_populate_recordset(null::{0}, %s) on conflict do nothing"
        ).format(name, sql.SQL(", ").join(columns)),
        (Jsonb(list(rows)),),
    )


def foreign_names(conn: psycopg.Connection[Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Those of these table names that another source has in this database."""
    found = conn.execute(
        """select n.table_name from geo.table_names n
             join jsonb_populate_recordset(null::geo.table_names, %s) as wanted using (table_name)
            where (n.account, n.container, n.path, n.layer, n.collection)
                  is distinct from (wanted.account, wanted.container, wanted.path, wanted.layer, wanted.collection)
            order by 1""",
        (Jsonb(list(rows)),),
    )
    return [row[0] for row in found.fetchall()]


def still_wanted(conn: psycopg.Connection[Any], rows: Sequence[dict[str, Any]]) -> set[str]:
    """The names of those published rows that this database does not have as new, and that nobody withdrew later."""
    found = conn.execute(
        """select w.stac_item from jsonb_to_recordset(%s) as w (stac_item text, at timestamptz)
            where not exists (select from geo.published p where p.stac_item = w.stac_item and p.at >= w.at)
              and not exists (select from geo.tombstones s
                               where s.collection = split_part(w.stac_item, '/', 1) and s.withdrawn_at >= w.at
                                 and s.item = substr(w.stac_item, strpos(w.stac_item, '/') + 1))""",
        (Jsonb([{"stac_item": row["stac_item"], "at": row["at"]} for row in rows]),),
    )
    return {row[0] for row in found.fetchall()}


def publish_again(conn: psycopg.Connection[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Enter published rows again, in the transaction that loads their items; one that is newer here stays.

    The hashes are one value, not rows to join: a planner without statistics hashes every item anew for every row.
    """
    names = [str(row["stac_item"]).partition("/") for row in rows]
    conn.execute(
        """insert into geo.published (stac_item, job_id, stage, task_key, fingerprint, outputs, at, content, item_hash)
           select p.stac_item, p.job_id, p.stage, p.task_key, p.fingerprint, p.outputs, p.at, p.content,
                  (select jsonb_object_agg(stac_item, item_hash) from geo.item_hashes(%s, %s))->>p.stac_item
             from jsonb_populate_recordset(null::geo.published, %s) p
           on conflict (stac_item) do update set job_id = excluded.job_id, stage = excluded.stage,
               task_key = excluded.task_key, fingerprint = excluded.fingerprint, outputs = excluded.outputs,
               at = excluded.at, content = excluded.content, item_hash = excluded.item_hash
            where published.at < excluded.at""",
        (sorted({name[0] for name in names}), [name[2] for name in names], Jsonb(list(rows))),
    )


def receipt_of_task(conn: psycopg.Connection[Any], job_id: str, stage: str, task_key: str) -> dict[str, Any]:
    """The record that a task kept of its input; empty if there is none."""
    row = conn.execute(
        "select receipt from geo.tasks where job_id = %s and stage = %s and task_key = %s and receipt is not null",
        (job_id, stage, task_key),
    ).fetchone()
    return dict(row[0]) if row else {}


def loaded(conn: psycopg.Connection[Any], table: str, submitted_at: str | None = None) -> int | None:
    """The rows that the newest load left in a table; None if no load is recorded, or only one that was submitted
    before this time.
    """
    row = conn.execute(
        """select case when submitted_at >= coalesce(%(at)s::timestamptz, '-infinity') then table_rows end
             from geo.vector_loads where table_name = %(table)s order by load_id desc limit 1""",
        {"table": table, "at": submitted_at},
    ).fetchone()
    return row[0] if row else None
