"""The janitor: finds runs that died or hang, and starts new attempts of their jobs. Nothing else does so automatically.

Here: the decision, as a pure function, and its application. Not here: when it is called (`defs/sensors.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.attempts import DELETED
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.messages import Messages
from geo_assets.ledger.models import JobStatus, RunAtWork, StalledJob

_log = logging.getLogger(__name__)

#: Consecutive new attempts that the janitor starts before it gives a job up.
MAX_RESCUES = 2

#: Run states in which a run stays if its worker is dead, or never began.
_LIVE = {"NOT_STARTED", "STARTING", "STARTED", "CANCELING"}

#: Tells Dagster that a run is over.
ReportDead = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class RunSeen:
    """What Dagster itself says of a run that our database does not know: its storage may be elsewhere."""

    run_id: str
    status: str
    terminated: bool  # somebody asked Dagster to end it
    may_begin: bool  # it waits for its turn, or for its process


#: Asks Dagster for the run of a stalled job; None: it knows of none.
Look = Callable[[StalledJob], RunSeen | None]


#: Asks Dagster for the runs of partitions that it calls started.
AtWork = Callable[[], Sequence[RunAtWork]]


def _knows_no_more(_: StalledJob) -> RunSeen | None:
    return None


class Action(StrEnum):
    """The janitor's actions for a stalled job."""

    RESCUE = "rescue"  # its run has ended: start a new attempt
    MARK_DEAD_AND_RESCUE = "mark_dead_and_rescue"  # its run does not respond: report it dead, then start a new attempt
    GIVE_UP = "give_up"
    CANCEL = "cancel"  # somebody terminated the run in the UI
    COMPLETE = (
        "complete"  # its run succeeded: it covered a part of the job only, or died before it could record its end
    )


def decide(job: StalledJob) -> Action:
    """Choose the action for a stalled job."""
    if job.run_status == "SUCCESS":
        return Action.COMPLETE
    if job.terminated or job.run_status in {"CANCELED", "CANCELING"}:
        return Action.CANCEL
    if job.rescues >= MAX_RESCUES:
        return Action.GIVE_UP
    return Action.MARK_DEAD_AND_RESCUE if job.run_status == "STARTED" else Action.RESCUE


def run_janitor(
    jobs: Jobs, messages: Messages, report_dead: ReportDead, look: Look = _knows_no_more, at_work: AtWork = tuple
) -> list[tuple[StalledJob, Action]]:
    """Handle every stalled job once, after ending the dead runs that jobs have left behind; returns what was done."""
    for run_id in jobs.left_behind(at_work()):
        report_dead(run_id, "it is silent, and its job has ended or gone on without it")
        _log.info("dead run ended", extra={"run_id": run_id})
    done = []
    for job in _stalled(jobs, look):
        action = decide(job)
        _apply(jobs, messages, report_dead, job, action)
        ids = {"correlation_id": job.correlation_id, "job_id": job.job_id, "run_id": job.run_id}
        _log.info("stalled job looked after", extra={**ids, "action": action, "run_status": job.run_status})
        done.append((job, action))
    return done


def _stalled(jobs: Jobs, look: Look) -> Iterator[StalledJob]:
    """The stalled jobs, with what Dagster says of those whose runs our database does not know."""
    for job in jobs.stalled_jobs():
        seen = look(job) if job.run_status == DELETED else None
        yield replace(job, run_status=seen.status, terminated=seen.terminated) if seen else job
    for job in jobs.unclaimed_jobs():
        seen = look(job)
        # launched again where Dagster knows of no run; not yet late; or it waits for a worker
        if seen is None or seen.may_begin or (seen.status == "STARTED" and jobs.gives_signs(seen.run_id)):
            continue
        # a run that succeeded without the job stood aside for another
        status = DELETED if seen.status == "SUCCESS" else seen.status
        yield replace(job, run_id=seen.run_id, run_status=status, terminated=seen.terminated)


def _apply(jobs: Jobs, messages: Messages, report_dead: ReportDead, job: StalledJob, action: Action) -> None:
    if action is Action.COMPLETE:
        jobs.complete(job.job_id, job.run_id)
        return
    if action is Action.CANCEL:
        jobs.end_attempt(
            job.job_id,
            JobStatus.CANCELLED,
            GeoAssetsError("CANCELLED", "its run was terminated"),
            attempt=job.attempt,
        )
        if job.run_status in _LIVE:
            report_dead(job.run_id, "it was terminated, and is silent")
        return
    silent = f", silent for {job.silent_seconds:.0f} s" if job.silent_seconds and job.run_status == "STARTED" else ""
    error = GeoAssetsError(
        "RUN_DIED", f"run {job.run_id} of attempt {job.attempt} died ({job.run_status.lower()}{silent})"
    )
    if job.run_status in _LIVE:
        report_dead(job.run_id, error.message)
    if action is Action.GIVE_UP:
        if jobs.end_attempt(job.job_id, JobStatus.FAILED, error, attempt=job.attempt):
            messages.note(error, severity="alert", job_id=job.job_id, run_id=job.run_id)
    elif jobs.rescue(job.job_id, job.attempt):
        messages.note(error, severity="warning", job_id=job.job_id, run_id=job.run_id)
