"""Typed rows of the ledger. Not here: statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geo_assets.errors import ErrorClass
from geo_assets.outcomes import AnyOutputs, CogReceipt, Outputs, TableReceipt, TaskInput, read_outputs, read_receipt
from geo_assets.parameters import OfJobType


class TaskStatus(StrEnum):
    """The states of a task; `geo.task_status` in SQL."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"  # already done for the same input and parameters; carries the earlier outputs
    QUARANTINED = "quarantined"  # the input is bad: reason and remedy recorded, never retried by itself
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def of_error(cls, kind: ErrorClass) -> TaskStatus:
        """The status of a task that ended with an error: quarantined if its input is at fault."""
        return cls.QUARANTINED if kind is ErrorClass.INVALID else cls.FAILED


#: How a task of a good file ends.
DONE = (TaskStatus.SUCCEEDED, TaskStatus.SKIPPED)

#: The tasks that have outputs; one that is converted and waits for the catalogue still counts as running.
MADE = (*DONE, TaskStatus.RUNNING)

#: How a task of a bad file ends.
BAD = (TaskStatus.FAILED, TaskStatus.QUARANTINED)

#: How a task ends that was worked on.
ENDED = (*DONE, *BAD)


class JobStatus(StrEnum):
    """The states of a job; derived in `sql/0003_status.sql`."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INVALID = "invalid"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self not in {JobStatus.QUEUED, JobStatus.PROCESSING}


class MessageState(StrEnum):
    """The states of a message; `geo.message_state` in SQL."""

    RECEIVED = "received"
    ACCEPTED = "accepted"
    REJECTED = "rejected"  # HTTP: its sender got the error
    POISON = "poison"
    REPLAYED = "replayed"  # out of poison: accepted later
    DISCARDED = "discarded"  # out of poison for good


class StageCounts(BaseModel):
    """The account of one stage: total = the sum of the rest."""

    model_config = ConfigDict(frozen=True)
    stage: str
    total: int
    succeeded: int
    skipped: int
    quarantined: int
    failed: int
    running: int = 0
    pending: int = 0
    cancelled: int = 0

    @property
    def done(self) -> int:
        """Tasks that have come to an end."""
        return self.total - self.running - self.pending


class JobRecord(BaseModel):
    """A job as people see it."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    job_type: str
    status: JobStatus
    partition_key: str
    parameters: dict[str, Any]
    submitted_by: str
    created_at: datetime
    attempt: int
    run_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error_code: str | None = None
    error_message: str | None = None
    stages: tuple[StageCounts, ...] = ()
    #: How many files have a warning of each kind (`warnings.py`), once the job has ended; None before, and in lists of
    #: jobs.
    warnings: dict[str, int] | None = None


class _OfStage(BaseModel):
    """A row with a stage, and the outputs of its task."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_by_stage(cls, row: Any) -> Any:
        if isinstance(row, dict) and isinstance(row.get("outputs"), dict):
            return {**row, "outputs": read_outputs(str(row.get("stage")), row["outputs"])}
        return row


class TaskRecord(_OfStage):
    """A task as people see it."""

    stage: str
    task_key: str
    kind: str
    status: TaskStatus
    error_code: str | None = None
    error_message: str | None = None
    remedy: str | None = None
    outputs: AnyOutputs = Outputs()
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Converted(_OfStage):
    """A task whose outputs exist and are not in the catalogue yet."""

    stage: str
    task_key: str
    outputs: AnyOutputs
    receipt: CogReceipt | TableReceipt

    @model_validator(mode="before")
    @classmethod
    def _receipt_of_stage(cls, row: Any) -> Any:
        if isinstance(row, dict) and isinstance(row.get("receipt"), dict):
            return {**row, "receipt": read_receipt(str(row.get("stage")), row["receipt"])}
        return row


class PublishedTask(_OfStage):
    """The published outputs of a task."""

    stac_item: str
    job_id: str
    stage: str
    task_key: str
    outputs: AnyOutputs
    at: datetime


class PublishedSource(PublishedTask):
    """The published outputs of a source, and its state in a listing."""

    is_there: bool  # the source, or something within it
    is_folder: bool
    holds: tuple[str, ...] | None
    etag: str | None

    @property
    def tables(self) -> list[str]:
        """schema.name of each table."""
        return [table.table for table in self.outputs.all_tables]


class PlannedTask(BaseModel):
    """A planned unit of work: its source, and the fingerprint that tells whether it is done already."""

    model_config = ConfigDict(frozen=True)
    task_key: str
    kind: str
    fingerprint: str
    input: TaskInput = Field(default_factory=TaskInput)
    #: Set for a source that cannot be worked on at all: it is quarantined when it is planned.
    error: dict[str, str] | None = None


class Work(BaseModel):
    """A planned task as a worker gets it."""

    model_config = ConfigDict(frozen=True)
    task_key: str
    kind: str
    fingerprint: str
    input: TaskInput


class Attempt(BaseModel):
    """One request to run a job."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    job_type: str
    partition_key: str
    attempt: int


@dataclass(frozen=True, slots=True)
class JobLife:
    """The state that decides about a job: its status, and whether a run holds it now."""

    job_id: str
    status: JobStatus
    run_id: str | None
    attempt: int
    lease_is_live: bool


@dataclass(frozen=True, slots=True)
class StalledJob:
    """A job whose attempt has no outcome, though its run has ended, was deleted, or no longer renews its lease."""

    job_id: str
    job_type: str
    partition_key: str
    attempt: int
    run_id: str
    run_status: str  # Dagster's, or DELETED (`attempts.py`)
    terminated: bool  # somebody asked Dagster to end it
    silent_seconds: float | None
    rescues: int


class Submitted(BaseModel):
    """The answer to a submission."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    job_type: str
    partition_key: str
    status: JobStatus
    duplicate: bool
    attempt: int | None  # the attempt that this submission asked for; None: nothing new was asked for


class Claim(OfJobType):
    """A run's hold of its job, or the run that holds it instead."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    submitted_by: str
    run_id: str
    force: bool
    allow_mass_retire: bool = False
    owner_run_id: str

    @property
    def won(self) -> bool:
        """Whether this run owns the job."""
        return self.owner_run_id == self.run_id
