"""Dagster's own account of runs, wherever its storage is.

The ledger reads run states from Dagster's tables in the same database, in one statement with its own. Somebody's own
Dagster may keep them elsewhere (docs/bring-your-own-dagster.md): what is asked here, through the instance, is then all
that is known of a run beside its lease. Not here: what follows from it (`stages/janitor.py`).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from geo_assets.ledger.lease import LEASE_SECONDS
from geo_assets.ledger.models import Attempt, RunAtWork, StalledJob
from geo_assets.parameters import JOB_TYPES
from geo_assets.stages.janitor import RunSeen
from geo_assets.submissions.launch import ATTEMPT_TAG, CORRELATION_TAG, attempt_of

_PARTITION_TAG = "dagster/partition"

#: How the names of jobs begin that Dagster makes of assets.
_ASSET_JOB = "__ASSET_JOB"

#: After this time a run whose process does not come never begins: Dagster's own monitoring of runs, where somebody has
#: switched it on, says so earlier (its `start_timeout_seconds`).
_START_SECONDS = 600.0

#: How much the clocks of Dagster's storage and of our database may differ.
_CLOCKS_DIFFER = timedelta(seconds=60)

#: What Dagster tells of a step when its code begins, and when nobody works on it any more. Not when its process begins,
#: which may import for long where processors are few: Dagster itself looks after a process that dies then.
_BEGUN = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
_OVER = {
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_UP_FOR_RETRY,
    DagsterEventType.STEP_SKIPPED,
}

_TO_END = {DagsterEventType.PIPELINE_CANCELING, DagsterEventType.PIPELINE_CANCELED}


class Runs:
    """Runs of an instance of Dagster."""

    def __init__(self, instance: DagsterInstance, location: str = "") -> None:
        """`location`: our code location in this instance; empty where it is not known."""
        self._instance, self._location = instance, location

    def look(self, job: StalledJob) -> RunSeen | None:
        """What Dagster says of the run of a stalled job: of the one that claimed it, or the one that was launched."""
        asked = (
            RunsFilter(run_ids=[job.run_id])
            if job.run_id
            else RunsFilter(
                tags={_PARTITION_TAG: job.partition_key, ATTEMPT_TAG: str(job.attempt)},
                created_after=_just_before(job.requested_at),
            )
        )
        records = self._instance.get_run_records(asked, limit=1)
        return self._seen(records[0]) if records else None

    def at_work(self) -> list[RunAtWork]:
        """The runs of partitions that are started, or are told to end."""
        asked = RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])
        records = self._instance.get_run_records(asked)
        return [self._at_work(each) for each in records if _PARTITION_TAG in each.dagster_run.tags]

    def waits(self, run_id: str) -> bool:
        """Whether a run waits for a process that begins with one of its steps: none is at a step of it."""
        begun: set[str] = set()
        for entry in self._instance.all_logs(run_id, of_type=_BEGUN | _OVER):
            (begun.add if entry.dagster_event_type in _BEGUN else begun.discard)(entry.step_key or "")
        return not begun

    def not_launched(self, attempts: list[Attempt]) -> list[Attempt]:
        """Those of some attempts for which there is no run, whoever launched it and whatever became of it."""
        if not attempts:
            return []
        asked = RunsFilter(
            tags={_PARTITION_TAG: [attempt.partition_key for attempt in attempts]},
            created_after=_just_before(min(filter(None, (each.requested_at for each in attempts)), default=None)),
        )
        tags = [record.dagster_run.tags for record in self._instance.get_run_records(asked)]
        launched = {(each[_PARTITION_TAG], each.get(ATTEMPT_TAG)) for each in tags}
        return [each for each in attempts if (each.partition_key, str(each.attempt)) not in launched]

    def report_dead(self, run_id: str, reason: str) -> None:
        """Tell Dagster that a run is over, unless it is."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return
        if run.status is dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run, reason)
        else:
            self._instance.report_run_failed(run, reason)

    def _at_work(self, record: RunRecord) -> RunAtWork:
        run, began = record.dagster_run, record.start_time or record.update_timestamp.timestamp()
        attempt = attempt_of(run.tags)
        return RunAtWork(
            run_id=run.run_id,
            partition_key=run.tags[_PARTITION_TAG],
            attempt=attempt,
            correlation_id=run.tags.get(CORRELATION_TAG, ""),
            is_by_hand=attempt is None and self._is_of_our_location(run),
            started_at=datetime.fromtimestamp(began, UTC),
        )

    def _is_of_our_location(self, run: dg.DagsterRun) -> bool:
        """Whether our code executes a run; Dagster names jobs of its own for assets that somebody materializes."""
        origin = run.remote_job_origin
        is_job_of_ours = run.job_name in JOB_TYPES or run.job_name.startswith(_ASSET_JOB)
        return is_job_of_ours and origin is not None and origin.location_name == self._location

    def _seen(self, record: RunRecord) -> RunSeen:
        run = record.dagster_run
        told = self._instance.get_records_for_run(run.run_id, of_type=_TO_END, limit=1).records
        return RunSeen(run.run_id, run.status.value, terminated=bool(told), may_begin=_may_begin(record))


def _just_before(requested: datetime | None) -> datetime | None:
    """Runs of an older database of ours do not count, whose attempts had the same numbers; the clocks may differ."""
    return requested - _CLOCKS_DIFFER if requested else None


def _may_begin(record: RunRecord) -> bool:
    """Whether a run that has claimed nothing may still do so."""
    status, now = record.dagster_run.status, time.time()
    if status in {DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING}:
        return now - (record.start_time or record.update_timestamp.timestamp()) < LEASE_SECONDS
    if status in {DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING}:
        return now - record.update_timestamp.timestamp() < _START_SECONDS
    return not record.dagster_run.is_finished
