"""The janitor: finds runs that died or hang, and is the only one that starts a job again by itself.

Here: the decision, as a pure function, and its application. Not here: when it is called (`defs/sensors.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.messages import Messages
from geo_assets.ledger.models import JobStatus, Patient

#: New attempts that follow one another without anybody asking for them.
MAX_RESCUES = 2

#: Run states that do not end by themselves where the worker is dead.
_LIVE = {"STARTED", "CANCELING"}

#: Tells Dagster that a run is over.
ReportDead = Callable[[str, str], None]


class Action(StrEnum):
    """What is done about a patient."""

    RESCUE = "rescue"  # its run is over: a new attempt
    BURY_AND_RESCUE = "bury_and_rescue"  # its run is silent: it is declared dead, then a new attempt
    GIVE_UP = "give_up"
    CANCEL = "cancel"  # somebody terminated the run in the UI
    COMPLETE = "complete"  # it did all it was asked to, and was not the whole job or died before it said so


def decide(patient: Patient) -> Action:
    """What to do about a job that is not in order."""
    if patient.run_status == "SUCCESS":
        return Action.COMPLETE
    if patient.terminated or patient.run_status in {"CANCELED", "CANCELING"}:
        return Action.CANCEL
    if patient.rescues >= MAX_RESCUES:
        return Action.GIVE_UP
    return Action.BURY_AND_RESCUE if patient.run_status == "STARTED" else Action.RESCUE


def make_rounds(jobs: Jobs, messages: Messages, report_dead: ReportDead) -> list[tuple[Patient, Action]]:
    """Look at every job that is not in order, once; returns what was done."""
    done = []
    for patient in jobs.patients():
        action = decide(patient)
        _apply(jobs, messages, report_dead, patient, action)
        done.append((patient, action))
    return done


def _apply(jobs: Jobs, messages: Messages, report_dead: ReportDead, patient: Patient, action: Action) -> None:
    if action is Action.COMPLETE:
        jobs.complete(patient.job_id, patient.run_id)
        return
    if action is Action.CANCEL:
        jobs.end_attempt(
            patient.job_id,
            JobStatus.CANCELLED,
            GeoAssetsError("CANCELLED", "its run was terminated"),
            attempt=patient.attempt,
        )
        if patient.run_status in _LIVE:
            report_dead(patient.run_id, "it was terminated, and is silent")
        return
    silent = (
        f", silent for {patient.silent_seconds:.0f} s"
        if patient.silent_seconds and patient.run_status == "STARTED"
        else ""
    )
    error = GeoAssetsError(
        "RUN_DIED", f"run {patient.run_id} of attempt {patient.attempt} died ({patient.run_status.lower()}{silent})"
    )
    if patient.run_status in _LIVE:
        report_dead(patient.run_id, error.message)
    if action is Action.GIVE_UP:
        if jobs.end_attempt(patient.job_id, JobStatus.FAILED, error, attempt=patient.attempt):
            messages.note(error, severity="alert", job_id=patient.job_id, run_id=patient.run_id)
    elif jobs.rescue(patient.job_id, patient.attempt):
        messages.note(error, severity="warning", job_id=patient.job_id, run_id=patient.run_id)
