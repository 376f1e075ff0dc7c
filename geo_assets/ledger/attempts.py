"""Attempts: requests to run a job, and which of them are stalled.

Here: submitting, asking again, launching at most once, finding attempts whose run died. Not here: what a run does with
its attempt (`claims.py`), starting a run (`defs/sensors.py`, `submissions/launch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import LiteralString

from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from geo_assets.correlation import Trace
from geo_assets.database.connections import DictConnection, retrying
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import lease
from geo_assets.ledger.fatal import MOST_DEATHS, forgive
from geo_assets.ledger.models import Attempt, JobStatus, RunAtWork, StalledJob, Submitted
from geo_assets.parameters import Job
from geo_assets.task_status import BAD_INPUT

#: How long Dagster's webserver has for an answer.
DAGSTER_ANSWER_SECONDS = 20

#: A process that took the launch of an attempt and did not launch it within this time has died; the sensor does it. It
#: looks how large the job is, and asks the webserver twice.
LAUNCH_GRACE_SECONDS = 3 * DAGSTER_ANSWER_SECONDS

#: A run that is left behind is dead if it was silent for so long: after its last sign of life it has a word to say to
#: Dagster.
_LEFT_SECONDS = 1.5 * lease.LEASE_SECONDS

#: The status of a run that is not in Dagster any more.
DELETED = "DELETED"

#: The name under which the janitor requests attempts.
JANITOR = "janitor"

#: Files of a job that may kill the processes that work on it before the job is given up.
MOST_FATAL_FILES = 5

#: The options of one attempt, which are not parameters of its job.
OPTIONS = ("force", "allow_mass_retire", "verify_sources")

#: A job `j`, its newest attempt `a`, and the run `r` in Dagster that belongs to it or is newer, if there is one.
_NEWEST_ATTEMPT: LiteralString = """
 from geo.jobs j
 join lateral (select * from geo.attempts a where a.job_id = j.job_id order by attempt desc limit 1) a on true
 left join lateral (select n.* from geo.newest_run(j.partition_key) n
                     where n.run_id = a.run_id or n.created_at >= a.requested_at) r on true"""

#: What is known of a job whose newest attempt has no outcome.
_WITHOUT_OUTCOME: LiteralString = (
    """select j.job_id, j.job_type, j.partition_key, a.attempt, a.requested_at, a.correlation_id,
              coalesce(r.run_id, a.run_id, '') as run_id,
              coalesce(r.run_status, %(deleted)s) as run_status,
              geo.was_terminated(coalesce(r.run_id, a.run_id)) as terminated,
              extract(epoch from now() - least(greatest(j.lease_heartbeat, r.started_at, s.beat), s.heartbeat))::float
                as silent_seconds,
              (select count(*) from geo.attempts b where b.job_id = j.job_id and b.requested_by = %(janitor)s
                  and b.attempt > coalesce((select max(c.attempt) from geo.attempts c
                          where c.job_id = j.job_id and c.requested_by <> %(janitor)s),
                         0))::int
                -- two deaths that found a file that kills are no reason to give the others up
                - 2 * (select least(count(*), %(files)s) from geo.fatal_files f
                        where f.job_id = j.job_id and f.deaths >= %(deaths)s)::int as rescues"""  # noqa: S608
    + _NEWEST_ATTEMPT
    + """
 left join lateral (select min(w.heartbeat) as heartbeat,
                           (select beat from geo.beats b where b.run_id = r.run_id and r.run_status = 'STARTED') as beat
                      from geo.steps w where w.job_id = j.job_id and w.run_id = a.run_id) s on true
        where a.outcome is null and a.requested_at > now() - interval '30 days'"""
)

#: Its run is over, was deleted, or gives no sign of life; or one of its steps is silent: an engine may call a task
#: running whose worker is dead, and would wait for it for ever.
_STALLED_JOBS: LiteralString = (
    _WITHOUT_OUTCOME
    + """
          and case
              when r.run_id is null then a.run_id is not null
                   and coalesce(j.lease_heartbeat, a.started_at, a.launched_at)
                       < now() - make_interval(secs => %(lease)s)
              when r.run_id <> a.run_id then false          -- launched again already
              when r.run_status in ('STARTED', 'CANCELING')
                   then coalesce(least(greatest(j.lease_heartbeat, r.started_at, s.beat), s.heartbeat), r.created_at)
                        < now() - make_interval(secs => %(lease)s)
              else r.run_status in ('FAILURE', 'CANCELED')
                   or r.run_status = 'SUCCESS' and a.run_id is not null end"""
)

#: It was launched, and no run has claimed it, nor does our database know of one: Dagster keeps its runs elsewhere.
_UNCLAIMED_JOBS: LiteralString = (
    _WITHOUT_OUTCOME
    + """
          and r.run_id is null and a.run_id is null and a.launched_at is not null
          and a.requested_at < now() - make_interval(secs => %(lease)s)
          and coalesce(j.lease_heartbeat, '-infinity') < now() - make_interval(secs => %(lease)s)"""
)

#: Runs of ours that are silent and that the statements above do not look at, which see the newest run of a job's newest
#: attempt, while that has no outcome. Runs of another installation may have our partitions, but not our attempts; one
#: that somebody launched by hand has no attempt before it claims its job.
_LEFT_BEHIND: LiteralString = """
    select w.run_id
      from unnest(%(runs)s::text[], %(partitions)s::text[], %(attempts)s::int[], %(correlations)s::text[],
                  %(by_hand)s::bool[], %(started)s::timestamptz[])
             as w (run_id, partition_key, attempt, correlation_id, is_by_hand, started_at)
      join geo.jobs j using (partition_key)
      join lateral (select * from geo.attempts a where a.job_id = j.job_id order by attempt desc limit 1) a on true
      left join lateral (select * from geo.attempts b
                     where b.job_id = j.job_id and (b.run_id = w.run_id or b.attempt = w.attempt
                                                    and b.correlation_id = w.correlation_id)
                     order by b.run_id = w.run_id desc nulls last limit 1) own on true
      left join lateral geo.newest_run(j.partition_key) r on true
     where (own.job_id is not null or w.is_by_hand)
       and (a.outcome is not null or own.attempt <> a.attempt or a.run_id <> w.run_id or r.run_id <> w.run_id)
       and least(greatest(w.started_at, case when j.lease_run_id = w.run_id then j.lease_heartbeat end, own.ended_at,
                          (select beat from geo.beats b where b.run_id = w.run_id)),
                 (select min(s.heartbeat) from geo.steps s where s.run_id = w.run_id and j.lease_run_id = w.run_id))
           < now() - make_interval(secs => %(silent)s)"""

#: No other attempt of the job of an attempt `a` was asked for since: a run of `a` would stand in the way of that one's.
_IS_NEWEST: LiteralString = (
    "not exists (select from geo.attempts newer where newer.job_id = a.job_id and newer.attempt > a.attempt)"
)

#: What a statement that takes attempts `a` of jobs `j` answers.
_TAKEN: LiteralString = "returning a.job_id, j.job_type, j.partition_key, a.attempt, a.correlation_id, a.traceparent"


class Attempts:
    """Statements on `geo.attempts` before a run has them; a part of `Jobs`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def submit(
        self,
        job: Job,
        *,
        submitted_by: str,
        rerun_completed: bool,
        force: bool = False,
        allow_mass_retire: bool = False,
        verify_sources: bool = False,
        in_transaction: Callable[[DictConnection], None] | None = None,
        trace: Trace | None = None,
    ) -> Submitted:
        """Record a submission; requests an attempt if there is something to do.

        `in_transaction` is called before the commit: the message that brought the submission is accepted with it.

        A new job gets its first attempt. While one is queued or processing, nothing is asked for. A failed or cancelled
        job gets another attempt; a completed one only where its input may have changed since (`rerun_completed`) or by
        `force`. The attempt has the ids of `trace`.
        """
        with self._pool.connection() as conn:
            created = conn.execute(
                """insert into geo.jobs (job_id, job_type, parameters, partition_key, submitted_by)
                   values (%s, %s, %s, %s, %s) on conflict (job_id) do nothing""",
                (job.job_id, job.job_type, Jsonb(job.parameters.stored()), job.partition_key, submitted_by),
            ).rowcount
            conn.execute(
                "select from geo.jobs where job_id = %s for no key update", (job.job_id,)
            )  # one submitter at a time from here
            status = JobStatus.QUEUED if created else status_of(conn, job.job_id)
            completed = status in {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}
            open_again = status.is_final and (force or rerun_completed or not completed)
            wanted = bool(created) or open_again or _died(conn, job.job_id)
            flags = {"force": force, "allow_mass_retire": allow_mass_retire, "verify_sources": verify_sources}
            if force:
                forgive(conn, job.job_id)
            attempt = add_attempt(conn, job.job_id, submitted_by, trace=trace, **flags) if wanted else None
            if in_transaction:
                in_transaction(conn)
        return Submitted(
            job_id=job.job_id,
            job_type=job.job_type,
            partition_key=job.partition_key,
            status=JobStatus.QUEUED if wanted else status,
            duplicate=not created,
            attempt=attempt,
        )

    @retrying
    def retry(
        self,
        job_id: str,
        *,
        requested_by: str,
        statuses: Sequence[str] = (),
        error_code: str | None = None,
        tasks: Sequence[tuple[str, str]] = (),
        force: bool = False,
    ) -> Submitted:
        """Request another attempt of a job that has ended; the chosen tasks are redone.

        Args:
            job_id: whole.
            requested_by: who asks.
            statuses: tasks in these states are redone; unfinished tasks always are.
            error_code: only tasks that ended with this code.
            tasks: (stage, key) of others that are redone, whatever they came to.
            force: all tasks are redone.

        Raises:
            GeoAssetsError: STILL_AT_WORK where the job is still at work.
        """
        with self._pool.connection() as conn:
            job = conn.execute("select * from geo.jobs where job_id = %s for no key update", (job_id,)).fetchone()
            if job is None:
                raise GeoAssetsError("JOB_NOT_FOUND", f"there is no job {job_id}")
            status = status_of(conn, job_id)
            if not status.is_final and not _died(conn, job_id):
                raise GeoAssetsError(
                    "STILL_AT_WORK",
                    f"job {job_id[:12]} is {status}",
                    remedy=f"wait for its end, or cancel it first: geo-assets cancel {job_id[:12]}",
                )
            if force or BAD_INPUT in statuses:
                forgive(conn, job_id)
            conn.execute(
                """update geo.tasks set fingerprint = ''
                    where job_id = %(job)s
                      and (listed and status::text = any(%(statuses)s)
                           and (%(code)s::text is null or error_code = %(code)s)
                           or (stage, task_key) in (select * from unnest(%(stages)s::text[], %(keys)s::text[])))""",
                {
                    "job": job_id,
                    "statuses": list(map(str, statuses)),
                    "code": error_code,
                    "stages": [stage for stage, _ in tasks],
                    "keys": [key for _, key in tasks],
                },
            )
            is_new = force or bool(tasks)  # done again whatever they came to, as if submitted now
            attempt = add_attempt(conn, job_id, requested_by, force=force, goes_on=True, keeps_time=not is_new)
        return Submitted(
            job_id=job_id,
            job_type=str(job["job_type"]),
            partition_key=str(job["partition_key"]),
            status=JobStatus.QUEUED,
            duplicate=True,
            attempt=attempt,
        )

    @retrying
    def stalled_jobs(self) -> list[StalledJob]:
        """Jobs whose attempt has no outcome though its run is over, was deleted, or does not renew its lease."""
        return self._without_outcome(_STALLED_JOBS)

    @retrying
    def unclaimed_jobs(self) -> list[StalledJob]:
        """Jobs whose attempt was launched some time ago and whose run our database does not know."""
        return self._without_outcome(_UNCLAIMED_JOBS)

    @retrying
    def gives_signs(self, run_id: str) -> bool:
        """Whether a run that holds no lease gave a sign of life lately."""
        query = "select from geo.beats where run_id = %s and beat > now() - make_interval(secs => %s)"
        with self._pool.connection() as conn:
            return conn.execute(query, (run_id, lease.LEASE_SECONDS)).fetchone() is not None

    @retrying
    def forget_signs(self, older_than: timedelta) -> None:
        """Forget runs that have given no sign of life for so long."""
        with self._pool.connection() as conn:
            conn.execute("delete from geo.beats where beat < now() - %s", (older_than,))

    @retrying
    def left_behind(self, runs: Sequence[RunAtWork]) -> list[str]:
        """Those of the runs at work that are silent, and whose job has ended or goes on without them.

        Dagster calls a run whose process was killed started for ever, and would start no other of its partition.
        """
        asked = {
            "runs": [run.run_id for run in runs],
            "partitions": [run.partition_key for run in runs],
            "attempts": [run.attempt for run in runs],
            "correlations": [run.correlation_id for run in runs],
            "by_hand": [run.is_by_hand for run in runs],
            "started": [run.started_at for run in runs],
            "silent": _LEFT_SECONDS,
        }
        with self._pool.connection() as conn:
            return [str(row["run_id"]) for row in conn.execute(_LEFT_BEHIND, asked).fetchall()]

    def _without_outcome(self, query: LiteralString) -> list[StalledJob]:
        numbers = {
            "lease": lease.LEASE_SECONDS,
            "janitor": JANITOR,
            "deleted": DELETED,
            "files": MOST_FATAL_FILES,
            "deaths": MOST_DEATHS,
        }
        with self._pool.connection() as conn:
            rows = conn.execute(query, numbers).fetchall()
        return [StalledJob(**row) for row in rows]  # type: ignore[arg-type]

    @retrying
    def rescue(self, job_id: str, attempt: int) -> bool:
        """Request a new attempt for the janitor with the options and ids of the dead one, unless another was requested
        or that one has ended since the janitor looked.
        """
        with self._pool.connection() as conn:
            conn.execute("select from geo.jobs where job_id = %s for no key update", (job_id,))
            row = conn.execute(
                """select attempt, outcome, force, allow_mass_retire, verify_sources, correlation_id, traceparent
                     from geo.attempts where job_id = %s order by attempt desc limit 1""",
                (job_id,),
            ).fetchone()
            if row is None or row["attempt"] != attempt or row["outcome"] is not None:
                return False
            flags = {name: bool(row[name]) for name in OPTIONS}
            trace = Trace(str(row["correlation_id"]), row["traceparent"])  # type: ignore[arg-type]
            add_attempt(conn, job_id, JANITOR, goes_on=True, keeps_time=True, trace=trace, **flags)
        return True

    @retrying
    def verifies_sources(self, run_id: str) -> bool:
        """Whether the attempt of a run was asked to hash what counts as unchanged."""
        with self._pool.connection() as conn:
            row = conn.execute("select verify_sources from geo.attempts where run_id = %s", (run_id,)).fetchone()
        return bool(row and row["verify_sources"])

    @retrying
    def take_launch(self, job_id: str, attempt: int) -> Attempt | None:
        """The attempt, if the caller is the one to launch it: exactly one is, nobody once it was ended, another attempt
        was asked for, or while launches are paused.
        """
        with self._pool.connection() as conn:
            row = conn.execute(
                f"""update geo.attempts a set launched_at = now() from geo.jobs j
                    where j.job_id = a.job_id and a.job_id = %s and attempt = %s and launched_at is null
                      and run_id is null and outcome is null and not geo.paused() and {_IS_NEWEST}
                {_TAKEN}""",  # noqa: S608
                (job_id, attempt),
            ).fetchone()
        return Attempt.model_validate(row) if row else None

    @retrying
    def take_next_launch(self, last: Attempt | None = None) -> Attempt | None:
        """The oldest attempt that nobody has launched, for the caller to launch; None if there is none, and while an
        older one is being launched by somebody else: runs are made in the order of the submissions.

        Args:
            last: that the caller launched itself, before this one.
        """
        with self._pool.connection() as conn:
            row = conn.execute(
                f"""with next as (
                     select job_id, attempt, requested_at from geo.attempts a
                      where run_id is null and outcome is null and launched_at is null and not geo.paused()
                        and {_IS_NEWEST}
                      order by requested_at limit 1 for update skip locked),
                   older as (
                     select a.job_id, a.attempt, a.requested_at from geo.attempts a, next
                      where a.requested_at < next.requested_at and a.run_id is null and a.outcome is null
                        and a.launched_at > now() - make_interval(secs => %(grace)s)
                      order by a.requested_at desc limit 1),
                   launching as (
                     select from older o join geo.jobs j using (job_id)
                       left join lateral geo.newest_run(j.partition_key) r on true
                      where (r.run_id is null or r.created_at < o.requested_at)
                        and (o.job_id, o.attempt) is distinct from (%(job)s, %(attempt)s))
                   update geo.attempts a set launched_at = now() from geo.jobs j, next
                    where (a.job_id, a.attempt) = (next.job_id, next.attempt) and j.job_id = a.job_id
                      and not exists (select from launching)
                {_TAKEN}""",  # noqa: S608
                {
                    "grace": LAUNCH_GRACE_SECONDS,
                    "job": last.job_id if last else None,
                    "attempt": last.attempt if last else None,
                },
            ).fetchone()
        return Attempt.model_validate(row) if row else None

    @retrying
    def give_back_launch(self, job_id: str, attempt: int) -> None:
        """Record that the launch did not happen, so that another process can try."""
        with self._pool.connection() as conn:
            conn.execute(
                "update geo.attempts set launched_at = null where job_id = %s and attempt = %s and run_id is null",
                (job_id, attempt),
            )

    @retrying
    def take_launches(self, limit: int, job_types: Sequence[str]) -> list[Attempt]:
        """Attempts that nobody has launched, or whose launcher died, the oldest first; the caller launches them.

        An attempt for whose partition Dagster already has a newer run was launched, whatever became of its launcher.
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                f"""with next as (
                     select a.job_id, a.attempt
                       from geo.attempts a
                       join geo.jobs j using (job_id)
                       left join lateral geo.newest_run(j.partition_key) r on true
                      where a.run_id is null and a.outcome is null and j.job_type = any(%(types)s)
                        and not geo.paused() and {_IS_NEWEST}
                        and (a.launched_at is null and a.requested_at < now() - interval '2 seconds'
                             or a.launched_at < now() - make_interval(secs => %(grace)s))
                        and (r.run_id is null or r.created_at < a.requested_at)
                      order by a.requested_at
                      limit %(limit)s
                        for update of a skip locked),
                   taken as (
                     update geo.attempts a set launched_at = now() from geo.jobs j, next
                      where (a.job_id, a.attempt) = (next.job_id, next.attempt) and j.job_id = a.job_id
                      {_TAKEN}, a.requested_at)
                   select * from taken order by requested_at, job_id""",  # noqa: S608
                {"grace": LAUNCH_GRACE_SECONDS, "limit": limit, "types": list(job_types)},
            ).fetchall()
        return [Attempt.model_validate(row) for row in rows]


def status_of(conn: DictConnection, job_id: str) -> JobStatus:
    """The state of a job, in a transaction of the caller's."""
    row = conn.execute("select status from geo.job_status where job_id = %s", (job_id,)).fetchone()
    return JobStatus(str(row["status"])) if row else JobStatus.QUEUED


def add_attempt(
    conn: DictConnection,
    job_id: str,
    requested_by: str,
    *,
    force: bool = False,
    allow_mass_retire: bool = False,
    verify_sources: bool = False,
    goes_on: bool = False,
    keeps_time: bool = False,
    trace: Trace | None = None,
) -> int:
    """Request one more attempt, while the job's row is locked; returns its number. Without `trace` it gets an id.

    It begins a new delivery (`deltas.py`) if the one before it is completed, unless it goes on with that one. It is a
    submission of this moment, unless it keeps the time of that one (`vector_loads.py`).
    """
    flags = {"force": force, "mass": allow_mass_retire, "verify": verify_sources}
    ids = {"correlation": trace and trace.correlation_id, "parent": trace and trace.traceparent}
    row = conn.execute(
        """with last as (select attempt, delivery, outcome, coalesce(submitted_at, requested_at) as submitted_at
                          from geo.attempts where job_id = %(job)s order by attempt desc limit 1)
           insert into geo.attempts
             (job_id, attempt, requested_by, force, allow_mass_retire, verify_sources, correlation_id, traceparent,
              delivery, submitted_at)
           select %(job)s, coalesce(attempt, 0) + 1, %(by)s, %(force)s, %(mass)s, %(verify)s,
                  coalesce(%(correlation)s, gen_random_uuid()::text), %(parent)s::text,
                  case when outcome = 'completed' and not %(goes_on)s then coalesce(delivery, 0) + 1
                       else coalesce(delivery, 1) end,
                  case when %(keeps_time)s then submitted_at end
             from (select) as one left join last on true
           returning attempt""",
        {"job": job_id, "by": requested_by, "goes_on": goes_on, "keeps_time": keeps_time, **flags, **ids},
    ).fetchone()
    return int(str(row["attempt"])) if row else 1


def _died(conn: DictConnection, job_id: str) -> bool:
    """Whether the run of the newest attempt ended without an outcome: it was killed, or deleted and is silent."""
    row = conn.execute(
        """select a.outcome is null and case
                      when r.run_id is null then a.run_id is not null
                           and coalesce(j.lease_heartbeat, '-infinity') < now() - make_interval(secs => %s)
                      else r.run_status = 'FAILURE' and r.run_id = coalesce(a.run_id, r.run_id) end as died"""
        + _NEWEST_ATTEMPT
        + " where j.job_id = %s",
        (lease.LEASE_SECONDS, job_id),
    ).fetchone()
    return bool(row and row["died"])
