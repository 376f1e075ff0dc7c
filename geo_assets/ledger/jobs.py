"""Jobs, their attempts and their lease.

Here: submitting, launching at most once, claiming, heartbeats, reading. Not here: tasks (`tasks.py`); starting a run
(`defs/sensors.py`, `submissions/launch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.lease import LEASE_SECONDS
from geo_assets.ledger.models import Attempt, Claim, JobRecord, JobStatus, StageCounts, Submitted
from geo_assets.ledger.warnings import counted, of_tasks
from geo_assets.parameters import Job, validate_parameters

#: Whoever said it would launch an attempt and did not within this time has died; the sensor launches it instead.
LAUNCH_GRACE_SECONDS = 20

#: Run states in which an owner is at work no more. A run that Dagster does not know was deleted there; its worker may
#: still be at it.
_OVER = ["SUCCESS", "FAILURE", "CANCELED"]


@dataclass(frozen=True, slots=True)
class JobLife:
    """What decides about a job: its status, and whether a run holds it now."""

    job_id: str
    status: JobStatus
    run_id: str | None
    attempt: int
    lease_is_live: bool


#: What is said of a run that is not in Dagster any more.
DELETED = "DELETED"

#: Who asks for the attempts that follow a death.
JANITOR = "janitor"


@dataclass(frozen=True, slots=True)
class Patient:
    """A job that the janitor looks at."""

    job_id: str
    job_type: str
    partition_key: str
    attempt: int
    run_id: str
    run_status: str  # Dagster's, or DELETED
    terminated: bool  # somebody asked Dagster to end it
    silent_seconds: float | None
    rescues: int


#: What may be asked of one attempt, beside the parameters of its job.
_OPTIONS = ("force", "allow_mass_retire", "verify_sources")


class Jobs:
    """Statements on `geo.jobs`, `geo.attempts` and `geo.job_status`."""

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
    ) -> Submitted:
        """Record a submission; asks for an attempt where there is something to do.

        `in_transaction` is called before the commit: the message that brought the submission is accepted with it.

        A new job gets its first attempt. While one is queued or processing, nothing is asked for. A failed or cancelled
        job gets another attempt; a completed one only where its input may have changed since (`rerun_completed`) or by
        `force`.
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
            status = JobStatus.QUEUED if created else self._status(conn, job.job_id)
            completed = status in {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}
            open_again = status.is_final and (force or rerun_completed or not completed)
            wanted = bool(created) or open_again or self._died(conn, job.job_id)
            flags = {"force": force, "allow_mass_retire": allow_mass_retire, "verify_sources": verify_sources}
            attempt = self._add_attempt(conn, job.job_id, submitted_by, **flags) if wanted else None
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

    def _status(self, conn: DictConnection, job_id: str) -> JobStatus:
        row = conn.execute("select status from geo.job_status where job_id = %s", (job_id,)).fetchone()
        return JobStatus(str(row["status"])) if row else JobStatus.QUEUED

    def _died(self, conn: DictConnection, job_id: str) -> bool:
        """Whether the run of the newest attempt ended without a word: it was killed, or deleted and is silent."""
        row = conn.execute(
            """select a.outcome is null and case
                          when r.run_id is null then a.run_id is not null
                               and coalesce(j.lease_heartbeat, '-infinity') < now() - make_interval(secs => %s)
                          else r.run_status = 'FAILURE' and r.run_id = coalesce(a.run_id, r.run_id) end as died
                 from geo.jobs j
                 join lateral (select * from geo.attempts a where a.job_id = j.job_id order by attempt desc limit 1) a on true
                 left join lateral (
                      select n.* from geo.newest_run(j.partition_key) n where n.run_id = a.run_id or n.created_at >= a.requested_at) r on true
                where j.job_id = %s""",
            (LEASE_SECONDS, job_id),
        ).fetchone()
        return bool(row and row["died"])

    @retrying
    def retry(
        self, job_id: str, *, requested_by: str, statuses: Sequence[str] = (), error_code: str | None = None
    ) -> Submitted:
        """Ask for another attempt of a job that has ended; the tasks chosen are done anew.

        Args:
            job_id: whole.
            requested_by: who asks.
            statuses: tasks in these states are done anew, those that did not come to an end always.
            error_code: only tasks that ended with this code.

        Raises:
            GeoAssetsError: STILL_AT_WORK where the job is still at work.
        """
        with self._pool.connection() as conn:
            job = conn.execute("select * from geo.jobs where job_id = %s for no key update", (job_id,)).fetchone()
            if job is None:
                raise GeoAssetsError("JOB_NOT_FOUND", f"there is no job {job_id}")
            status = self._status(conn, job_id)
            if not status.is_final and not self._died(conn, job_id):
                raise GeoAssetsError(
                    "STILL_AT_WORK",
                    f"job {job_id[:12]} is {status}",
                    remedy=f"wait for its end, or cancel it first: geo-assets cancel {job_id[:12]}",
                )
            conn.execute(
                """update geo.tasks set fingerprint = ''
                    where job_id = %(job)s and listed and status::text = any(%(statuses)s) and (%(code)s::text is null or error_code = %(code)s)""",
                {"job": job_id, "statuses": list(statuses), "code": error_code},
            )
            attempt = self._add_attempt(conn, job_id, requested_by)
        return Submitted(
            job_id=job_id,
            job_type=str(job["job_type"]),
            partition_key=str(job["partition_key"]),
            status=JobStatus.QUEUED,
            duplicate=True,
            attempt=attempt,
        )

    @retrying
    def patients(self) -> list[Patient]:
        """Jobs whose attempt has no outcome though its run is over, was deleted, or does not renew its lease."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select j.job_id, j.job_type, j.partition_key, a.attempt, coalesce(r.run_id, a.run_id) as run_id,
                          coalesce(r.run_status, %(deleted)s) as run_status,
                          geo.was_terminated(coalesce(r.run_id, a.run_id)) as terminated,
                          extract(epoch from now() - greatest(j.lease_heartbeat, r.started_at))::float as silent_seconds,
                          (select count(*) from geo.attempts b where b.job_id = j.job_id and b.requested_by = %(janitor)s
                              and b.attempt > coalesce((select max(c.attempt) from geo.attempts c where c.job_id = j.job_id and c.requested_by <> %(janitor)s), 0)
                          )::int as rescues
                     from geo.jobs j
                     join lateral (select * from geo.attempts a where a.job_id = j.job_id order by attempt desc limit 1) a on true
                     left join lateral (
                          select n.* from geo.newest_run(j.partition_key) n where n.run_id = a.run_id or n.created_at >= a.requested_at) r on true
                    where a.outcome is null and a.requested_at > now() - interval '30 days'
                      and case
                          when r.run_id is null then a.run_id is not null
                               and coalesce(j.lease_heartbeat, a.started_at, a.launched_at) < now() - make_interval(secs => %(lease)s)
                          when r.run_id <> a.run_id then false          -- launched again already
                          when r.run_status in ('STARTED', 'CANCELING')
                               then coalesce(greatest(j.lease_heartbeat, r.started_at), r.created_at) < now() - make_interval(secs => %(lease)s)
                          else r.run_status in ('FAILURE', 'CANCELED') or r.run_status = 'SUCCESS' and a.run_id is not null end""",
                {"lease": LEASE_SECONDS, "janitor": JANITOR, "deleted": DELETED},
            ).fetchall()
        return [Patient(**row) for row in rows]  # type: ignore[arg-type]

    @retrying
    def rescue(self, job_id: str, attempt: int) -> bool:
        """Ask for a new attempt in the janitor's name, with what was asked of the one that died, unless somebody has
        since.
        """
        with self._pool.connection() as conn:
            conn.execute("select from geo.jobs where job_id = %s for no key update", (job_id,))
            row = conn.execute(
                "select attempt, force, allow_mass_retire, verify_sources from geo.attempts where job_id = %s order by"
                " attempt desc limit 1",
                (job_id,),
            ).fetchone()
            if row is None or row["attempt"] != attempt:
                return False
            flags = {name: bool(row[name]) for name in _OPTIONS}
            self._add_attempt(conn, job_id, JANITOR, **flags)
        return True

    @retrying
    def verifies_sources(self, run_id: str) -> bool:
        """Whether the attempt of a run was asked to hash what counts as unchanged."""
        with self._pool.connection() as conn:
            row = conn.execute("select verify_sources from geo.attempts where run_id = %s", (run_id,)).fetchone()
        return bool(row and row["verify_sources"])

    def _add_attempt(
        self,
        conn: DictConnection,
        job_id: str,
        requested_by: str,
        *,
        force: bool = False,
        allow_mass_retire: bool = False,
        verify_sources: bool = False,
    ) -> int:
        row = conn.execute(
            """insert into geo.attempts (job_id, attempt, requested_by, force, allow_mass_retire, verify_sources)
               select %(job)s, coalesce(max(attempt), 0) + 1, %(by)s, %(force)s, %(mass)s, %(verify)s from geo.attempts where job_id = %(job)s
               returning attempt""",
            {"job": job_id, "by": requested_by, "force": force, "mass": allow_mass_retire, "verify": verify_sources},
        ).fetchone()
        return int(str(row["attempt"])) if row else 1

    @retrying
    def take_launch(self, job_id: str, attempt: int) -> bool:
        """Whether the caller is the one to launch this attempt; true for exactly one."""
        with self._pool.connection() as conn:
            return bool(
                conn.execute(
                    "update geo.attempts set launched_at = now() where job_id = %s and attempt = %s and launched_at is"
                    " null and run_id is null",
                    (job_id, attempt),
                ).rowcount
            )

    @retrying
    def give_back_launch(self, job_id: str, attempt: int) -> None:
        """The launch did not happen: the next one to look may try."""
        with self._pool.connection() as conn:
            conn.execute(
                "update geo.attempts set launched_at = null where job_id = %s and attempt = %s and run_id is null",
                (job_id, attempt),
            )

    @retrying
    def take_launches(self, limit: int, job_types: Sequence[str]) -> list[Attempt]:
        """Attempts that nobody has launched, or whose launcher died; the caller launches them.

        An attempt for whose partition Dagster already has a newer run was launched, whatever became of its launcher.
        """
        with self._pool.connection() as conn:
            rows = conn.execute(
                """update geo.attempts a set launched_at = now()
                     from geo.jobs j
                    where j.job_id = a.job_id and (a.job_id, a.attempt) in (
                        select c.job_id, c.attempt
                          from geo.attempts c
                          join geo.jobs cj using (job_id)
                          left join lateral geo.newest_run(cj.partition_key) r on true
                         where c.run_id is null and c.outcome is null and cj.job_type = any(%(types)s)
                           and (c.launched_at is null and c.requested_at < now() - interval '2 seconds'
                                or c.launched_at < now() - make_interval(secs => %(grace)s))
                           and (r.run_id is null or r.created_at < c.requested_at)
                         order by c.requested_at
                         limit %(limit)s
                           for update of c skip locked)
                returning a.job_id, j.job_type, j.partition_key, a.attempt""",
                {"grace": LAUNCH_GRACE_SECONDS, "limit": limit, "types": list(job_types)},
            ).fetchall()
        return [Attempt.model_validate(row) for row in rows]

    @retrying
    def claim(
        self,
        partition_key: str,
        run_id: str,
        attempt: int | None,
        *,
        job_types: Collection[str] = (),
        requested_by: str = "dagster",
        options: Mapping[str, bool] | None = None,
    ) -> Claim:
        """Make `run_id` the owner of its job, unless another live run is.

        Args:
            partition_key: of the job.
            run_id: who claims it.
            attempt: the one that the run was launched for; None: somebody launched it by hand.
            job_types: what the run can do; nothing is written for a job of another type.
            requested_by: who asked, where the run is an attempt that nobody recorded.
            options: force, allow_mass_retire, verify_sources: what the run itself asks for, beside what was recorded of
                its attempt.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND, nobody submitted a job with this partition key; PARTITION_MISMATCH;
                CANCELLED, the attempt was ended before its run came to this.
        """
        with self._pool.connection() as conn:
            job = conn.execute(
                "select * from geo.jobs where partition_key = %s for update", (partition_key,)
            ).fetchone()
            if job is None:
                raise GeoAssetsError(
                    "JOB_NOT_FOUND",
                    f"no submission is recorded for partition {partition_key!r}",
                    remedy="submit it: geo-assets submit JOB_TYPE …",
                )
            if job_types and job["job_type"] not in job_types:
                raise GeoAssetsError(
                    "PARTITION_MISMATCH",
                    f"partition {partition_key} is a {job['job_type']}, not a {' or '.join(sorted(job_types))}",
                )
            owner = job["lease_run_id"]
            if owner not in {None, run_id} and self._is_live(conn, str(job["job_id"]), str(owner)):
                conn.execute(
                    "insert into geo.stood_aside (run_id, job_id, owner_run_id) values (%s, %s, %s) on conflict do"
                    " nothing",
                    (run_id, job["job_id"], owner),
                )
                return self._claim_of(job, run_id, owner=str(owner), flags={"force": False})
            conn.execute(
                "update geo.jobs set lease_run_id = %s, lease_heartbeat = now() where job_id = %s",
                (run_id, job["job_id"]),
            )
            flags = self._bind_attempt(conn, str(job["job_id"]), run_id, attempt, requested_by, options or {})
            return self._claim_of(job, run_id, owner=run_id, flags=flags)

    def _is_live(self, conn: DictConnection, job_id: str, run_id: str) -> bool:
        row = conn.execute(
            """select from geo.jobs j
                where j.job_id = %s and j.lease_heartbeat > now() - make_interval(secs => %s)
                  and not exists (select from dagster.runs r where r.run_id = %s and r.status = any(%s))""",
            (job_id, LEASE_SECONDS, run_id, _OVER),
        ).fetchone()
        return row is not None

    def _bind_attempt(
        self,
        conn: DictConnection,
        job_id: str,
        run_id: str,
        attempt: int | None,
        requested_by: str,
        options: Mapping[str, bool],
    ) -> dict[str, object]:
        asked = {name: options.get(name, False) for name in _OPTIONS}
        bound = conn.execute(
            """update geo.attempts set run_id = %(run)s, launched_at = coalesce(launched_at, now()), started_at = coalesce(started_at, now()),
                      force = force or %(force)s, allow_mass_retire = allow_mass_retire or %(allow_mass_retire)s,
                      verify_sources = verify_sources or %(verify_sources)s
                where job_id = %(job)s and (run_id = %(run)s or (attempt = %(attempt)s and run_id is null)) returning force, allow_mass_retire, outcome, attempt""",
            {"run": run_id, "job": job_id, "attempt": attempt, **asked},
        ).fetchone()
        if bound and bound["outcome"] is not None:  # rolled back: the run never owns the job
            raise GeoAssetsError(
                "CANCELLED", f"attempt {bound['attempt']} had ended ({bound['outcome']}) before its run could claim it"
            )
        if bound:
            return {flag: bound[flag] for flag in ("force", "allow_mass_retire")}
        added = self._add_attempt(
            conn, job_id, requested_by, **asked
        )  # launched from the UI, by a backfill or a re-execution
        conn.execute(
            "update geo.attempts set run_id = %s, launched_at = now(), started_at = now() where job_id = %s and attempt"
            " = %s",
            (run_id, job_id, added),
        )
        return {flag: asked[flag] for flag in ("force", "allow_mass_retire")}

    @staticmethod
    def _claim_of(job: dict[str, object], run_id: str, *, owner: str, flags: dict[str, object]) -> Claim:
        return Claim.model_validate(
            {
                "job_id": job["job_id"],
                "job_type": job["job_type"],
                "parameters": validate_parameters(str(job["job_type"]), dict(job["parameters"])),  # type: ignore[call-overload]
                "submitted_by": job["submitted_by"],
                "run_id": run_id,
                "owner_run_id": owner,
                **flags,
            }
        )

    @retrying
    def life(self, job_id: str) -> JobLife | None:
        """Status and lease of a job, or None."""
        with self._pool.connection() as conn:
            row = conn.execute(
                """select s.job_id, s.status, s.run_id, s.attempt,
                          coalesce(j.lease_heartbeat > now() - make_interval(secs => %s), false) and s.status = 'processing' as lease_is_live
                     from geo.job_status s join geo.jobs j using (job_id) where s.job_id = %s""",
                (LEASE_SECONDS, job_id),
            ).fetchone()
        return JobLife(**{**row, "status": JobStatus(str(row["status"]))}) if row else None  # type: ignore[arg-type]

    @retrying
    def end_attempt(
        self,
        job_id: str,
        outcome: JobStatus,
        error: GeoAssetsError,
        *,
        run_id: str | None = None,
        attempt: int | None = None,
        unowned_only: bool = False,
    ) -> bool:
        """Write down how the newest attempt ended, take the lease away, and end its open tasks; false where there was
        nothing to end.

        Whoever still works on it can publish nothing from here on. With `run_id` or `attempt` only where the newest
        attempt is that one: somebody may have asked for another since the caller looked.
        """
        with self._pool.connection() as conn:
            conn.execute("select from geo.jobs where job_id = %s for update", (job_id,))
            if unowned_only:
                row = conn.execute(
                    "select coalesce(lease_heartbeat > now() - make_interval(secs => %s), false) as live from geo.jobs"
                    " where job_id = %s",
                    (LEASE_SECONDS, job_id),
                ).fetchone()
                if row and row["live"] and self._status(conn, job_id) is JobStatus.PROCESSING:
                    return False
            return self._end(conn, job_id, outcome, error, run_id, attempt)

    def _end(
        self,
        conn: DictConnection,
        job_id: str,
        outcome: JobStatus,
        error: GeoAssetsError,
        run_id: str | None,
        attempt: int | None = None,
    ) -> bool:
        """As `end_attempt`, where the job's row is locked."""
        ended = conn.execute(
            """update geo.attempts set outcome = %(outcome)s, error_code = %(code)s, error_message = %(message)s, ended_at = now()
                where job_id = %(job)s and outcome is null and (%(run)s::text is null or run_id = %(run)s)
                  and (%(attempt)s::int is null or attempt = %(attempt)s)
                  and attempt = (select max(attempt) from geo.attempts where job_id = %(job)s)""",
            {
                "outcome": outcome,
                "code": error.code,
                "message": error.message[:2000],
                "job": job_id,
                "run": run_id,
                "attempt": attempt,
            },
        ).rowcount
        if ended:
            conn.execute("update geo.jobs set lease_run_id = null, lease_heartbeat = null where job_id = %s", (job_id,))
            conn.execute(
                "update geo.tasks set status = 'cancelled', finished_at = now() where job_id = %s and listed and status"
                " in ('pending', 'running')",
                (job_id,),
            )
        return bool(ended)

    @retrying
    def complete(self, job_id: str, run_id: str) -> bool:
        """Write down that the work of a run is done, and give its lease up; false where its attempt has an outcome
        already.
        """
        with self._pool.connection() as conn:
            conn.execute("select from geo.jobs where job_id = %s for update", (job_id,))
            done = conn.execute(
                "update geo.attempts set outcome = 'completed', ended_at = now() where job_id = %s and run_id = %s and"
                " outcome is null",
                (job_id, run_id),
            ).rowcount
            conn.execute(
                "update geo.jobs set lease_run_id = null, lease_heartbeat = null where job_id = %s and lease_run_id"
                " = %s",
                (job_id, run_id),
            )
        return bool(done)

    @retrying
    def let_go(self, job_id: str, run_id: str) -> None:
        """A run stops before its work is done: it gives its lease up and can publish nothing from here on.

        Where somebody asked Dagster to end it, its attempt is cancelled; otherwise (the machine shuts down) the janitor
        decides.
        """
        with self._pool.connection() as conn:
            job = conn.execute("select lease_run_id from geo.jobs where job_id = %s for update", (job_id,)).fetchone()
            if job is None or job["lease_run_id"] != run_id:
                return
            asked = conn.execute("select geo.was_terminated(%s) as asked", (run_id,)).fetchone()
            if asked and asked["asked"]:
                self._end(
                    conn, job_id, JobStatus.CANCELLED, GeoAssetsError("CANCELLED", "its run was terminated"), run_id
                )
            conn.execute("update geo.jobs set lease_run_id = null, lease_heartbeat = null where job_id = %s", (job_id,))

    def fail_unowned(self, job_id: str, error: GeoAssetsError) -> bool:
        """Fail a job that nobody works on; false where somebody does, or it has ended."""
        life = self.life(job_id)
        return (
            life is not None
            and not life.status.is_final
            and self.end_attempt(job_id, JobStatus.FAILED, error, unowned_only=True)
        )

    @retrying
    def heartbeat(self, job_id: str, run_id: str) -> bool:
        """Renew the lease; false where it was lost."""
        with self._pool.connection() as conn:
            return bool(
                conn.execute(
                    "update geo.jobs set lease_heartbeat = now() where job_id = %s and lease_run_id = %s",
                    (job_id, run_id),
                ).rowcount
            )

    @retrying
    def find(self, job_id: str) -> JobRecord:
        """One job by its id, or by the first characters of it (at least 6).

        Raises:
            GeoAssetsError: JOB_NOT_FOUND, none or several.
        """
        with self._pool.connection() as conn:
            rows = (
                conn.execute("select * from geo.job_status where job_id ^@ %s limit 2", (job_id,)).fetchall()
                if len(job_id) >= 6
                else []
            )
            if len(rows) != 1:
                raise GeoAssetsError(
                    "JOB_NOT_FOUND",
                    f"{'no job' if not rows else 'more than one job'} has an id that starts with {job_id!r}",
                )
            stages = conn.execute(
                "select * from geo.stage_counts where job_id = %s order by first_started_at nulls last, stage",
                (rows[0]["job_id"],),
            ).fetchall()
            record = _record(rows[0], stages)
            if record.status.is_final:  # who waits for the end asks every second
                record = record.model_copy(
                    update={"warnings": counted(said for _, said in of_tasks(conn, record.job_id))}
                )
        return record

    @retrying
    def newest(
        self,
        *,
        limit: int = 50,
        status: JobStatus | None = None,
        job_type: str | None = None,
        before: datetime | None = None,
    ) -> list[JobRecord]:
        """The newest jobs first."""
        where: LiteralString = (
            "where (%(status)s::text is null or status = %(status)s) and (%(type)s::text is null or job_type ="
            " %(type)s) and (%(before)s::timestamptz is null or created_at < %(before)s)"
        )
        with self._pool.connection() as conn:
            rows = conn.execute(
                "select * from geo.job_status " + where + " order by created_at desc limit %(limit)s",  # noqa: S608 - two constants
                {"status": status, "type": job_type, "limit": limit, "before": before},
            ).fetchall()
            counts = conn.execute(
                "select * from geo.stage_counts where job_id = any(%s) order by first_started_at nulls last, stage",
                ([r["job_id"] for r in rows],),
            ).fetchall()
        by_job: dict[object, list[dict[str, Any]]] = {}
        for count in counts:
            by_job.setdefault(count["job_id"], []).append(count)
        return [_record(row, by_job.get(row["job_id"], [])) for row in rows]


def _record(row: dict[str, Any], stages: list[dict[str, Any]]) -> JobRecord:
    counts = tuple(StageCounts.model_validate(stage) for stage in stages)
    return JobRecord.model_validate({**row, "stages": counts})
