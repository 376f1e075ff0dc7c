"""Claims: taking a job, keeping it, giving it back, and recording how its attempt ended.

Here: statements that change who holds the lease of a job, the steps that work under it, and outcomes. Not here: asking
for attempts (`attempts.py`), the proof of a lease inside another transaction (`lease.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import lease
from geo_assets.ledger.at_work import Seen
from geo_assets.ledger.attempts import OPTIONS, add_attempt, status_of
from geo_assets.ledger.fatal import bury, note_in_work
from geo_assets.ledger.models import Claim, JobLife, JobStatus
from geo_assets.ledger.pause import current
from geo_assets.ledger.receipts import give_up_rebuild
from geo_assets.parameters import stored_parameters

#: Run states in which an owner has stopped working. A run that Dagster does not know was deleted there; its worker may
#: still be working.
_OVER = ["SUCCESS", "FAILURE", "CANCELED"]


class Claims:
    """Statements on the lease of a job and on outcomes of attempts; a part of `Jobs`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

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
        again: bool = False,
    ) -> Claim:
        """Make `run_id` the owner of its job, unless another live run is, or another run had the same attempt.

        Args:
            partition_key: of the job.
            run_id: who claims it.
            attempt: the one that the run was launched for; None: somebody launched it by hand.
            job_types: those that the run can execute; nothing is written for a job of another type.
            requested_by: who asked, where the run is an attempt that nobody recorded.
            options: force, allow_mass_retire, verify_sources: what the run itself asks for, beside its attempt.
            again: somebody asked Dagster to execute the run of the attempt once more; that is an attempt of its own.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND, nobody submitted a job with this partition key; PARTITION_MISMATCH;
                LAUNCHES_PAUSED, and the run has not begun; CANCELLED, the attempt was ended before its run came to
                this; INVALID_PARAMETERS, this release does not take what another took, and the attempt has failed.
        """
        with self._pool.connection() as conn:
            job = _locked(conn, partition_key)
            if job_types and job["job_type"] not in job_types:
                raise GeoAssetsError(
                    "PARTITION_MISMATCH",
                    f"partition {partition_key} is a {job['job_type']}, not a {' or '.join(sorted(job_types))}",
                )
            _insist_on_no_pause(conn, run_id)
            owner = _live_owner(conn, job, run_id) or (None if again else _twin(conn, job, run_id, attempt))
            if owner:
                conn.execute(
                    "insert into geo.stood_aside (run_id, job_id, owner_run_id) values (%s, %s, %s) on conflict do"
                    " nothing",
                    (run_id, job["job_id"], owner),
                )
                return _claim_of(job, run_id, owner=owner, flags={"force": False})
            conn.execute(
                "update geo.jobs set lease_run_id = %s, lease_heartbeat = now() where job_id = %s",
                (run_id, job["job_id"]),
            )
            _clear(conn, str(job["job_id"]), run_id)
            flags = _bind_attempt(conn, str(job["job_id"]), run_id, attempt, requested_by, options or {})
            try:
                return _claim_of(job, run_id, owner=run_id, flags=flags)
            except GeoAssetsError as error:  # another release accepted the submission, and this one would not
                _end(conn, str(job["job_id"]), JobStatus.FAILED, error, run_id)
                refused = error
        raise refused

    @retrying
    def heartbeat(self, job_id: str, run_id: str, step: int | None = None, seen: Seen | None = None) -> bool:
        """Renew the lease, and say that a step is alive and what it does; false if the lease was lost."""
        with self._pool.connection() as conn:
            conn.execute(
                "update geo.steps set heartbeat = now(), seen = coalesce(%s, seen) where step = %s",
                (seen and Jsonb(seen.model_dump(mode="json")), step),
            )
            return _renew(conn, job_id, run_id)

    @retrying
    def begin_step(self, job_id: str, run_id: str, process: str, doing: str = "", workers: int = 0) -> int | None:
        """Renew the lease, and record that a process works on a step of the run; None if the lease was lost.

        Args:
            job_id: of the run.
            run_id: whose step it is.
            process: host/pid.
            doing: what the step does, for people.
            workers: children that it may have at a time; 0 if it works on no file.

        Returns:
            The number of the step, for `heartbeat` and `end_step`. If its process falls silent, the run counts as dead.
        """
        with self._pool.connection() as conn:
            if not _renew(conn, job_id, run_id):
                return None
            # a process works on one step at a time
            conn.execute(
                "delete from geo.steps where job_id = %s and process = %s and in_work is null", (job_id, process)
            )
            row = conn.execute(
                "insert into geo.steps (job_id, run_id, process, doing, workers) values (%s, %s, %s, %s, %s)"
                " returning step",
                (job_id, run_id, process, doing, workers),
            ).fetchone()
        return int(str(row["step"])) if row else None

    @retrying
    def end_step(self, step: int) -> None:
        """Record that a step is not worked on any more, whatever it came to."""
        with self._pool.connection() as conn:
            conn.execute("delete from geo.steps where step = %s", (step,))

    @retrying
    def bury(self, job_id: str) -> bool:
        """Count what dead processes of earlier runs had in work (`fatal.py`); false if some may still end in order."""
        with self._pool.connection() as conn:
            return bury(conn, job_id)

    @retrying
    def keeps(self, run_id: str) -> bool:
        """Renew the lease of the job that a run works on, if it has one; false if it was lost."""
        with self._pool.connection() as conn:
            return lease.keep(conn, run_id) is not lease.Renewal.LOST

    @retrying
    def give_sign(self, run_id: str) -> None:
        """Record that a run is alive that holds no lease."""
        with self._pool.connection() as conn:
            lease.give_sign(conn, run_id)

    @retrying
    def job_of(self, run_id: str) -> str | None:
        """The id of the job that a run claimed; None if it claimed none, or stood aside."""
        with self._pool.connection() as conn:
            row = conn.execute("select job_id from geo.attempts where run_id = %s", (run_id,)).fetchone()
        return str(row["job_id"]) if row else None

    @retrying
    def life(self, job_id: str) -> JobLife | None:
        """Status and lease of a job, or None."""
        with self._pool.connection() as conn:
            row = conn.execute(
                """select s.job_id, s.status, s.run_id, s.attempt,
                          coalesce(j.lease_heartbeat > now() - make_interval(secs => %s), false)
                              and s.status = 'processing' as lease_is_live
                     from geo.job_status s join geo.jobs j using (job_id) where s.job_id = %s""",
                (lease.LEASE_SECONDS, job_id),
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
        in_transaction: Callable[[DictConnection], None] | None = None,
    ) -> bool:
        """Record how the newest attempt ended, take the lease away, and end its open tasks; false if there was nothing
        to end.

        A run that still works on it can publish nothing afterwards. With `run_id` or `attempt`, only if the newest
        attempt is that one: another may have been requested since the caller looked. If it was ended, `in_transaction`
        is called before the commit.
        """
        with self._pool.connection() as conn:
            conn.execute("select from geo.jobs where job_id = %s for update", (job_id,))
            if unowned_only:
                row = conn.execute(
                    "select coalesce(lease_heartbeat > now() - make_interval(secs => %s), false) as live from geo.jobs"
                    " where job_id = %s",
                    (lease.LEASE_SECONDS, job_id),
                ).fetchone()
                if row and row["live"] and status_of(conn, job_id) is JobStatus.PROCESSING:
                    return False
            ended = _end(conn, job_id, outcome, error, run_id, attempt)
            if ended and in_transaction:
                in_transaction(conn)
        return ended

    @retrying
    def complete(self, job_id: str, run_id: str) -> bool:
        """Record that the work of a run is done, and give up its lease; false if its attempt has an outcome already."""
        with self._pool.connection() as conn:
            conn.execute("select from geo.jobs where job_id = %s for update", (job_id,))
            conn.execute("delete from geo.steps where job_id = %s and in_work is not null", (job_id,))
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
    def let_go(self, run_id: str) -> None:
        """Give up the lease of a run that stops before its work is done: it can publish nothing afterwards.

        Where somebody asked Dagster to end it, its attempt is cancelled; otherwise (the machine shuts down) the janitor
        decides.
        """
        with self._pool.connection() as conn:
            job = conn.execute("select job_id from geo.jobs where lease_run_id = %s for update", (run_id,)).fetchone()
            if job is None:
                return
            job_id = str(job["job_id"])
            asked = conn.execute("select geo.was_terminated(%s) as asked", (run_id,)).fetchone()
            if asked and asked["asked"]:
                _end(conn, job_id, JobStatus.CANCELLED, GeoAssetsError("CANCELLED", "its run was terminated"), run_id)
            conn.execute("update geo.jobs set lease_run_id = null, lease_heartbeat = null where job_id = %s", (job_id,))

    def fail_unowned(
        self, job_id: str, error: GeoAssetsError, in_transaction: Callable[[DictConnection], None] | None = None
    ) -> bool:
        """Fail a job that no run works on; false if one does, or the job has ended. See `end_attempt`."""
        life = self.life(job_id)
        return (
            life is not None
            and not life.status.is_final
            and self.end_attempt(job_id, JobStatus.FAILED, error, unowned_only=True, in_transaction=in_transaction)
        )


def _clear(conn: DictConnection, job_id: str, run_id: str) -> None:
    """Note and forget what others had begun for a job that a run has taken over."""
    note_in_work(conn, job_id, run_id)
    give_up_rebuild(conn, job_id)


def _renew(conn: DictConnection, job_id: str, run_id: str) -> bool:
    renewed = conn.execute(
        "update geo.jobs set lease_heartbeat = now() where job_id = %s and lease_run_id = %s", (job_id, run_id)
    )
    return bool(renewed.rowcount)


def _locked(conn: DictConnection, partition_key: str) -> dict[str, Any]:
    """The row of the job of a partition, which nobody else claims meanwhile."""
    job = conn.execute("select * from geo.jobs where partition_key = %s for update", (partition_key,)).fetchone()
    if job is None:
        raise GeoAssetsError(
            "JOB_NOT_FOUND",
            f"no submission is recorded for partition {partition_key!r}",
            remedy="submit it; an example of each way: geo-assets submit --help",
        )
    return job


def _insist_on_no_pause(conn: DictConnection, run_id: str) -> None:
    """A run that has claimed its job goes on in a pause; one that waited in Dagster's queue does not begin in it."""
    if conn.execute("select from geo.attempts where run_id = %s", (run_id,)).fetchone() is not None:
        return
    conn.execute("lock table geo.pause in share mode")  # whoever begins one sees this claim, or this claim sees it
    if now := current(conn):
        raise GeoAssetsError("LAUNCHES_PAUSED", f"no job is launched until {now.until:%F %TZ}: {now.reason}")


def _live_owner(conn: DictConnection, job: Mapping[str, Any], run_id: str) -> str | None:
    """The other run that owns the job and lives."""
    owner = job["lease_run_id"]
    if owner in {None, run_id}:
        return None
    row = conn.execute(
        """select from geo.jobs j
            where j.job_id = %s and j.lease_heartbeat > now() - make_interval(secs => %s)""",
        (job["job_id"], lease.LEASE_SECONDS),
    ).fetchone()
    return str(owner) if row is not None and not _is_over(conn, str(owner)) else None


def _twin(conn: DictConnection, job: Mapping[str, Any], run_id: str, attempt: int | None) -> str | None:
    """The other run that had the attempt for which this one was launched, too: whoever launched it gave up too early.
    What it did is not done once more.
    """
    row = conn.execute(
        """select run_id from geo.attempts where job_id = %(job)s and attempt = %(attempt)s and run_id <> %(run)s
              and not exists (select from geo.attempts where run_id = %(run)s)""",
        {"job": job["job_id"], "attempt": attempt, "run": run_id},
    ).fetchone()
    return str(row["run_id"]) if row else None


def _is_over(conn: DictConnection, run_id: str) -> bool:
    """Whether Dagster's tables say that a run is over. Where it keeps them elsewhere, the lease alone decides."""
    here = conn.execute("select to_regclass('dagster.runs') is not null as are").fetchone()
    if not here or not here["are"]:
        return False
    query = "select from dagster.runs r where r.run_id = %s and r.status = any(%s)"
    return conn.execute(query, (run_id, _OVER)).fetchone() is not None


def _bind_attempt(
    conn: DictConnection,
    job_id: str,
    run_id: str,
    attempt: int | None,
    requested_by: str,
    options: Mapping[str, bool],
) -> dict[str, object]:
    asked = {name: options.get(name, False) for name in OPTIONS}
    if attempt is None:
        attempt = _not_launched(conn, job_id, run_id)
    bound = conn.execute(
        """update geo.attempts set run_id = %(run)s, launched_at = coalesce(launched_at, now()),
                  started_at = coalesce(started_at, now()), force = force or %(force)s,
                    allow_mass_retire = allow_mass_retire or %(allow_mass_retire)s,
                  verify_sources = verify_sources or %(verify_sources)s
            where job_id = %(job)s and (run_id = %(run)s or (attempt = %(attempt)s and run_id is null))
            returning force, allow_mass_retire, outcome, attempt, correlation_id, traceparent""",
        {"run": run_id, "job": job_id, "attempt": attempt, **asked},
    ).fetchone()
    if bound and bound["outcome"] is not None:  # rolled back: the run never owns the job
        raise GeoAssetsError(
            "CANCELLED", f"attempt {bound['attempt']} had ended ({bound['outcome']}) before its run could claim it"
        )
    if bound:
        return {name: bound[name] for name in ("force", "allow_mass_retire", "correlation_id", "traceparent")}
    added = add_attempt(
        conn, job_id, requested_by, trace=None, **asked
    )  # launched from the UI, by a backfill or a re-execution
    row = conn.execute(
        "update geo.attempts set run_id = %s, launched_at = now(), started_at = now() where job_id = %s and attempt"
        " = %s returning correlation_id",
        (run_id, job_id, added),
    ).fetchone()
    return {**{flag: asked[flag] for flag in ("force", "allow_mass_retire")}, **(row or {})}


def _not_launched(conn: DictConnection, job_id: str, run_id: str) -> int | None:
    """The newest attempt, if nobody has launched it yet: who launches a run by hand does what it asks for. None for a
    run that has an attempt already.
    """
    row = conn.execute(
        """select attempt from geo.attempts a where job_id = %s and launched_at is null and run_id is null
              and outcome is null and attempt = (select max(attempt) from geo.attempts b where b.job_id = a.job_id)
              and not exists (select from geo.attempts where run_id = %s)""",
        (job_id, run_id),
    ).fetchone()
    return int(str(row["attempt"])) if row else None


def _claim_of(job: dict[str, object], run_id: str, *, owner: str, flags: dict[str, object]) -> Claim:
    return Claim.model_validate(
        {
            "job_id": job["job_id"],
            "job_type": job["job_type"],
            "parameters": stored_parameters(
                str(job["job_type"]),
                dict(job["parameters"]),  # type: ignore[call-overload]
            ),
            "submitted_by": job["submitted_by"],
            "run_id": run_id,
            "owner_run_id": owner,
            **flags,
        }
    )


def _end(
    conn: DictConnection,
    job_id: str,
    outcome: JobStatus,
    error: GeoAssetsError,
    run_id: str | None,
    attempt: int | None = None,
) -> bool:
    """As `end_attempt`, while the job's row is locked."""
    if error.code == "RUN_DIED":
        note_in_work(conn, job_id, None)
    ended = conn.execute(
        """update geo.attempts set outcome = %(outcome)s, error_code = %(code)s, error_message = %(message)s,
                  ended_at = now()
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
