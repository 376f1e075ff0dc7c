"""What the database says of the service as a whole, as numbers: of the ledger, of PostgreSQL, of Dagster's storage.

Here: questions and the metrics that each answers, and asking all of them in one short transaction that only reads. The
numbers are of all processes, also of those that died. Not here: the questions to Dagster's storage
(`measurements_of_dagster.py`), how metrics are written, and how often they are asked for (`api/metrics.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from geo_assets.ledger.lease import LEASE_SECONDS
from geo_assets.ledger.measurements_of_dagster import DAEMON_SECONDS, OF_DAGSTER
from geo_assets.ledger.messages import POISON_WITHOUT_RECORD
from geo_assets.ledger.questions import Metric, Question

#: A statement that takes longer ends the scrape: the database has better things to do.
_STATEMENT_SECONDS = 3

#: One or two bad files alone are no news of their container.
_FEW_FILES = "3"


@dataclass(frozen=True, slots=True)
class Answer:
    """A question with its rows."""

    question: Question
    rows: list[dict[str, Any]]


_TALLIED = "Counted as they end; rows that are deleted later stay counted."

#: What the view `geo.job_status` says, but of the jobs whose newest attempt has ended without asking Dagster for each.
_JOBS: LiteralString = """
with newest as materialized (
    select distinct on (job_id) job_id, outcome from geo.attempts order by job_id, attempt desc)
select job_type as type, status, count(*) as n from (
    select s.job_type, s.status from newest n join geo.job_status s using (job_id) where n.outcome is null
    union all
    select j.job_type, case when n.outcome <> 'completed' then n.outcome
                            when exists (
                                select from geo.tasks t where t.job_id = j.job_id and t.listed
                                   and t.status in ('failed', 'quarantined', 'pending', 'running', 'cancelled'))
                            then 'completed_with_errors' else 'completed' end
      from newest n join geo.jobs j using (job_id) where n.outcome is not null) as s
 group by 1, 2
"""

_OLDEST_JOBS: LiteralString = """
select status, coalesce(extract(epoch from now() - min(requested_at)), 0) as age
  from (values ('queued'), ('processing')) as open (status)
  left join (select s.status, a.requested_at from geo.attempts a join geo.job_status s using (job_id, attempt)
              where a.outcome is null) as at_work using (status)
 group by 1
"""

#: The lease of a run that stopped in order is given up, without an outcome: its job has nobody, too.
_LEASES: LiteralString = """
select count(lease_run_id) as held, count(*) filter (where silent is not false) as expired,
       coalesce(max(age), 0) as age
  from (
    select j.lease_run_id, j.lease_heartbeat < now() - make_interval(secs => %(lease)s) as silent,
           extract(epoch from now() - coalesce(j.lease_heartbeat, a.started_at)) as age
      from geo.attempts a join geo.jobs j using (job_id)
     where a.outcome is null and a.run_id is not null
       and a.attempt = (select max(attempt) from geo.attempts b where b.job_id = a.job_id)) as claimed
"""

_CIRCUITS: LiteralString = """
select name as dependency, case state when 'closed' then 0 when 'half-open' then 1 else 2 end as state, failures
  from geo.circuits
"""

#: All channels: one by which nothing came is there too, and an increase is seen from the first message on.
_CHANNELS: LiteralString = "(values ('http'), ('blob'), ('queue')) as every (channel)"

_WAITING: LiteralString = f"""
select channel, count(m.source) as n, coalesce(extract(epoch from now() - min(received_at)), 0) as age
  from {_CHANNELS}
  left join geo.messages m on m.state = 'received' and split_part(m.source, ':', 1) = channel
 group by 1
"""  # noqa: S608

_MESSAGES: LiteralString = f"""
select channel, outcome, error_code, sum(n) as n from (
    select name as channel, outcome, error_code, n from geo.tallies where what = 'message'
    union all
    select channel, 'accepted', '', 0 from {_CHANNELS}) as told
 group by 1, 2, 3
"""  # noqa: S608

_LEFT_BEHIND: LiteralString = """
select (select count(*) from geo.loose_blobs) as blobs,
       (select coalesce(extract(epoch from now() - min(since)), 0) from geo.loose_blobs) as blob_age,
       (select count(*) from geo.loose_tables) as tables,
       (select count(*) from geo.tombstones where data_gone_at is null) as withdrawn,
       (select coalesce(extract(epoch from now() - min(at)), 0) from geo.receipt_changes) as receipt_age
"""

_POISON: LiteralString = f"""
select (select count(*) from geo.messages where state = 'poison') as n,
       ({POISON_WITHOUT_RECORD}) as unrecorded,
       (select coalesce(sum(n), 0) from geo.tallies where what = 'attempt' and error_code = 'UNHANDLED_POISON')
           as unhandled
"""  # noqa: S608

_SIZES: LiteralString = f"""
select channel, bound.up_to as size_le, coalesce(sum(t.n) filter (where t.up_to <= bound.up_to), 0) as size_count,
       coalesce(sum(t.bytes), 0) as size_sum
  from {_CHANNELS} cross join unnest(geo.size_bounds()) as bound (up_to)
  left join geo.tallies t on t.what = 'message size' and t.name = channel
 group by 1, 2 order by 1, 2
"""  # noqa: S608

#: Known reasons are there from nought on.
_RETRIES: LiteralString = """
select dependency, reason, sum(n) as n from (
    select name as dependency, error_code as reason, n from geo.tallies where what = 'retry'
    union all
    values ('run', 'RUN_DIED', 0), ('storage', 'STORAGE_UNAVAILABLE', 0), ('storage', 'CIRCUIT_OPEN', 0)) as told
 group by 1, 2
"""

_PAUSE: LiteralString = """
select geo.paused()::int as paused,
       coalesce((select extract(epoch from until - now()) from geo.pause where until > now()), 0) as remaining
"""

#: Of jobs that ended within a day: whoever looks after it has seen to it by then. A new attempt takes its job out, and
#: puts it in again if it does not help.
_SUPPLIERS: LiteralString = f"""
with ended as (
    select job_id, error_code from geo.attempts a
     where outcome in ('completed', 'failed') and ended_at > now() - interval '1 day'
       and not exists (select from geo.attempts b where b.job_id = a.job_id and b.attempt > a.attempt))
select (select count(*) from ended e where error_code = 'STORAGE_FORBIDDEN' or exists (
            select from geo.tasks t where t.job_id = e.job_id and t.error_code = 'STORAGE_FORBIDDEN' and t.listed))
       + (select count(*) from geo.messages where state = 'poison' and error_code = 'STORAGE_FORBIDDEN') as refused,
       (select count(*) from ended e
         where case when exists (  -- as of nearly all jobs: then nothing is counted
                        select from geo.tasks t where t.job_id = e.job_id and t.listed and t.status <> 'quarantined')
                    then false
                    else (select count(*) from geo.tasks t where t.job_id = e.job_id and t.listed
                             and t.error_code <> 'STORAGE_FORBIDDEN') >= {_FEW_FILES} end) as all_bad
"""  # noqa: S608

#: Sessions of other roles hide their state, but not that they are there.
_SESSIONS: LiteralString = """
select coalesce(state, 'hidden') as state, count(*) as n from pg_stat_activity where datid is not null group by 1
"""

_POSTGRESQL: LiteralString = """
select current_setting('max_connections')::int as most, pg_database_size(current_database()) as bytes,
       pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, '0/0')
           as wal,
       (select coalesce(max(extract(epoch from now() - state_change)), 0) from pg_stat_activity
         where state like 'idle in transaction%%' and datname = current_database()) as idle
"""


def _ended(what: LiteralString, label: LiteralString) -> LiteralString:
    """How many came to which end."""
    return f"""select name as {label}, outcome, error_code, sum(n) as n, sum(bytes) as bytes
                 from geo.tallies where what = '{what}' group by 1, 2, 3"""  # noqa: S608


def _outcomes(what: LiteralString, outcomes: LiteralString) -> LiteralString:
    """How many came to each of these ends, also where that is none: an increase is seen from the first one on."""
    return f"""select outcome, coalesce(sum(n), 0) as n from unnest('{{{outcomes}}}'::text[]) as every (outcome)
                 left join (select outcome, n from geo.tallies where what = '{what}') as t using (outcome)
                group by 1"""  # noqa: S608


def _durations(what: LiteralString, label: LiteralString) -> LiteralString:
    """How many took up to so many seconds, and how long they took together."""
    return f"""
    with sums as (
        select name, up_to, sum(n) as n, sum(seconds) as seconds from geo.tallies
         where what = '{what}' and up_to is not null and outcome <> 'cancelled' group by 1, 2)
    select name as {label}, le as took_le, coalesce(sum(n) filter (where up_to <= le), 0) as took_count,
           sum(seconds) as took_sum
      from sums cross join unnest(geo.duration_bounds()) as bound (le) group by 1, 2 order by 1, 2"""  # noqa: S608


QUESTIONS: tuple[Question, ...] = (
    Question(
        (Metric("geo_assets_jobs", "gauge", "n", "Jobs by type and status, as the ledger has them now."),),
        _JOBS,
        ("type", "status"),
    ),
    Question(
        (
            Metric(
                "geo_assets_oldest_job_age_seconds",
                "gauge",
                "age",
                "Time since the oldest attempt was asked for whose job has this status; 0 where there is none.",
            ),
        ),
        _OLDEST_JOBS,
        ("status",),
    ),
    Question(
        (
            Metric(
                "geo_assets_attempts",
                "counter",
                "n",
                f"Attempts of jobs by how they ended; died: with their run. {_TALLIED}",
            ),
        ),
        _ended("attempt", "type"),
        ("type", "outcome", "error_code"),
    ),
    Question(
        (Metric("geo_assets_attempts_ended", "counter", "n", f"Attempts of jobs by how they ended alone. {_TALLIED}"),),
        _outcomes("attempt", "completed,failed,cancelled,died"),
        ("outcome",),
    ),
    Question(
        (
            Metric(
                "geo_assets_job_duration_seconds",
                "histogram",
                "took",
                f"From the request of an attempt to its end. {_TALLIED}",
            ),
        ),
        _durations("attempt", "type"),
        ("type",),
    ),
    Question(
        (
            Metric("geo_assets_leases", "gauge", "held", "Jobs that a run owns."),
            Metric(
                "geo_assets_leases_expired",
                "gauge",
                "expired",
                f"Jobs that a run began and none has looked after for {LEASE_SECONDS} s; the janitor asks for another.",
            ),
            Metric(
                "geo_assets_oldest_lease_age_seconds",
                "gauge",
                "age",
                "Time since the last sign of life of a run at work, of the one that is silent for longest.",
            ),
        ),
        _LEASES,
    ),
    Question(
        (
            Metric(
                "geo_assets_files",
                "counter",
                "n",
                f"Files of a stage by how their work ended, each time. {_TALLIED}",
            ),
            Metric("geo_assets_file_bytes", "counter", "bytes", f"Bytes of the sources of these files. {_TALLIED}"),
        ),
        _ended("task", "stage"),
        ("stage", "outcome", "error_code"),
    ),
    Question(
        (Metric("geo_assets_files_ended", "counter", "n", f"Files by how their work ended alone. {_TALLIED}"),),
        _outcomes("task", "succeeded,quarantined,failed,cancelled"),
        ("outcome",),
    ),
    Question(
        (
            Metric(
                "geo_assets_stage_duration_seconds",
                "histogram",
                "took",
                f"From the begin of a file's work in a stage to its end, with waiting for its publication. {_TALLIED}",
            ),
        ),
        _durations("task", "stage"),
        ("stage",),
    ),
    Question(
        (Metric("geo_assets_messages", "counter", "n", f"Messages by what was first decided of them. {_TALLIED}"),),
        _MESSAGES,
        ("channel", "outcome", "error_code"),
    ),
    Question(
        (
            Metric(
                "geo_assets_message_size_bytes",
                "histogram",
                "size",
                "Bytes of messages, also of what was more than is kept. Counted as they come.",
            ),
        ),
        _SIZES,
        ("channel",),
    ),
    Question(
        (
            Metric(
                "geo_assets_retries",
                "counter",
                "n",
                "What is tried again: runs that died, and, once for each run, stores that are waited for.",
            ),
        ),
        _RETRIES,
        ("dependency", "reason"),
    ),
    Question(
        (
            Metric("geo_assets_paused", "gauge", "paused", "Whether launches are held back on request: 0 or 1."),
            Metric("geo_assets_pause_remaining_seconds", "gauge", "remaining", "Until that ends by itself."),
        ),
        _PAUSE,
    ),
    Question(
        (
            Metric(
                "geo_assets_storage_refused",
                "gauge",
                "refused",
                "Jobs that ended within a day, and messages in poison, to which a store refuses access.",
            ),
            Metric(
                "geo_assets_jobs_all_bad",
                "gauge",
                "all_bad",
                f"Jobs that ended within a day and of whose files, {_FEW_FILES} or more, none is good.",
            ),
        ),
        _SUPPLIERS,
    ),
    Question(
        (
            Metric("geo_assets_messages_waiting", "gauge", "n", "Messages that were recorded and are not decided yet."),
            Metric("geo_assets_oldest_message_age_seconds", "gauge", "age", "Time since the oldest of these came."),
        ),
        _WAITING,
        ("channel",),
    ),
    Question(
        (
            Metric(
                "geo_assets_poison_messages",
                "gauge",
                "n",
                "Messages in poison: somebody replays or discards them.",
            ),
            Metric(
                "geo_assets_poison_without_record",
                "gauge",
                "unrecorded",
                "Messages that were refused without a record of the reason; always 0.",
            ),
            Metric(
                "geo_assets_unhandled_poison",
                "counter",
                "unhandled",
                f"Jobs that failed because a message for them could not be handled. {_TALLIED}",
            ),
        ),
        _POISON,
    ),
    Question(
        (
            Metric("geo_assets_circuit_state", "gauge", "state", "Circuit breakers: 0 closed, 1 half-open, 2 open."),
            Metric("geo_assets_circuit_failures", "gauge", "failures", "Failures in a row of what a breaker guards."),
        ),
        _CIRCUITS,
        ("dependency",),
    ),
    Question(
        (
            Metric("geo_assets_loose_blobs", "gauge", "blobs", "Blobs that nothing refers to, or not yet."),
            Metric(
                "geo_assets_oldest_loose_blob_age_seconds",
                "gauge",
                "blob_age",
                "Time since the oldest became loose.",
            ),
            Metric("geo_assets_loose_tables", "gauge", "tables", "Tables that nothing refers to, or not yet."),
            Metric(
                "geo_assets_withdrawn_not_gone",
                "gauge",
                "withdrawn",
                "Withdrawn items whose files may be there yet.",
            ),
            Metric(
                "geo_assets_oldest_due_receipt_age_seconds",
                "gauge",
                "receipt_age",
                "Time since the oldest change that no receipt tells yet; 0 where there is none.",
            ),
        ),
        _LEFT_BEHIND,
    ),
    Question(
        (Metric("geo_assets_db_connections", "gauge", "n", "Sessions of PostgreSQL, of all databases."),),
        _SESSIONS,
        ("state",),
    ),
    Question(
        (
            Metric("geo_assets_db_connections_max", "gauge", "most", "Sessions that PostgreSQL allows."),
            Metric("geo_assets_db_size_bytes", "gauge", "bytes", "Size of the database on disk."),
            Metric("geo_assets_db_wal_bytes", "counter", "wal", "Bytes that were written to the WAL, by its position."),
            Metric(
                "geo_assets_db_longest_idle_transaction_seconds",
                "gauge",
                "idle",
                "How long a session of the pipeline's role has held a transaction open without a statement.",
            ),
        ),
        _POSTGRESQL,
    ),
    *OF_DAGSTER,
)


def ask(conn: psycopg.Connection[Any]) -> Iterator[Answer]:
    """Ask all questions, of one moment. The transaction is rolled back at the end.

    Args:
        conn: outside of a transaction.

    Raises:
        psycopg.Error: one of them could not be answered.
    """
    values = {"lease": LEASE_SECONDS, "daemon": DAEMON_SECONDS}
    try:
        with conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
            cursor.execute(f"set local statement_timeout = '{_STATEMENT_SECONDS}s'")
            for question in QUESTIONS:
                if _is_there(cursor, question.needs):
                    yield Answer(question, cursor.execute(question.sql, values).fetchall())
    finally:
        conn.rollback()


def _is_there(cursor: psycopg.Cursor[dict[str, Any]], tables: tuple[str, ...]) -> bool:
    query = "select bool_and(to_regclass(name) is not null) as there from unnest(%s::text[]) as name"
    row = cursor.execute(query, (list(tables),)).fetchone() if tables else {"there": True}
    return bool(row and row["there"])
