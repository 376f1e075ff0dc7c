"""Typed rows of the ledger. Not here: statements, the statuses of a task (`geo_assets/task_status.py`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.outcomes import (
    AnyOutputs,
    CogReceipt,
    FileReceipt,
    Outputs,
    TableReceipt,
    TaskInput,
    read_outputs,
    read_receipt,
)
from geo_assets.parameters import OfJobType
from geo_assets.task_status import BAD, BAD_INPUT, DONE, ENDED, TaskStatus
from geo_assets.text import how_many, human_bytes, human_seconds

M = TypeVar("M", bound=BaseModel)

#: The statuses of tasks that have not been worked on to their end.
_UNENDED = (TaskStatus.RUNNING, TaskStatus.PENDING, TaskStatus.CANCELLED)


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
    def is_completed(self) -> bool:
        """Whether the whole delivery was worked on, and what is good of it is published."""
        return self in {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}

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


def status_of(error: GeoAssetsError) -> TaskStatus:
    """How a task ends that met this error."""
    return BAD_INPUT if error.error_class is ErrorClass.INVALID else TaskStatus.FAILED


def with_counts(*statuses: TaskStatus, optional: Collection[TaskStatus] = ()) -> Callable[[type[M]], type[M]]:
    """A decorator: the model below it gets a field for each status, with its name: how many tasks have it, 0 or more.

    Args:
        statuses: the fields, in their order.
        optional: those that are 0 where not given.
    """

    def decorate(model: type[M]) -> type[M]:
        fields: dict[str, Any] = {
            str(status): (int, Field(0 if status in optional else ..., ge=0)) for status in statuses
        }
        return create_model(
            model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **fields
        )

    return decorate


class StageWork(BaseModel):
    """How busy the children of a stage were in the newest run in which it had something to do; None where none has
    worked for it.
    """

    model_config = ConfigDict(frozen=True)
    busy_seconds: float | None = Field(None, description="of all children together")
    files_seconds: float | None = Field(
        None, description="that its files took together, with fetching them and putting outputs in place"
    )
    longest_seconds: float | None = Field(None, description="that one of them took")
    wall_seconds: float | None = Field(None, description="from the begin of the first step to the end of the last")
    workers: int | None = Field(None, description="the most children that its steps had at a time")
    efficiency: float | None = Field(None, description="busy_seconds / (wall_seconds x workers)")


@with_counts(*ENDED, *_UNENDED, optional=_UNENDED)
class StageCounts(StageWork):
    """The account of one stage: total = the sum of the counts. In lists of jobs it does not tell how busy it was."""

    stage: str
    total: int

    @classmethod
    def none(cls, stage: str) -> Self:
        """The account of a stage without a task."""
        return cls.model_validate({"stage": stage, "total": 0, **dict.fromkeys(ENDED, 0)})

    def __getitem__(self, status: TaskStatus) -> int:
        """How many tasks have this status."""
        return int(getattr(self, status))

    def sum_of(self, statuses: Iterable[TaskStatus]) -> int:
        """How many tasks have one of these statuses."""
        return sum(self[status] for status in statuses)

    @property
    def good(self) -> int:
        """Tasks that have come to a good end."""
        return self.sum_of(DONE)

    @property
    def bad(self) -> int:
        """Tasks of bad files."""
        return self.sum_of(BAD)

    @property
    def ended(self) -> int:
        """Tasks that have come to an end, whatever it is."""
        return self.total - self[TaskStatus.RUNNING] - self[TaskStatus.PENDING]

    @property
    def done(self) -> int:
        """Tasks whose work was done; what was cancelled was not."""
        return self.ended - self[TaskStatus.CANCELLED]


def columns_of(stages: Sequence[StageCounts]) -> list[TaskStatus]:
    """The columns of a table of stages: how work ends, and whatever else there is, so that each row adds up."""
    return [status for status in (*ENDED, *_UNENDED) if status in ENDED or any(stage[status] for stage in stages)]


class DeltaCounts(BaseModel):
    """How many files a delivery changed (`deltas.py`)."""

    model_config = ConfigDict(frozen=True)
    new: int = Field(0, ge=0, description="of which nothing was published before")
    changed: int = Field(0, ge=0, description="with other bytes, other parameters or another output than before")
    gone: int = Field(0, ge=0, description="published before, and not in the container any more")
    unchanged: int = Field(0, ge=0, description="skipped, or made again with the same result")

    def __str__(self) -> str:
        """In one line."""
        return f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone, {self.unchanged:,} unchanged"


class Progress(BaseModel):
    """How far a job is, how fast it is, and when it will have ended. What is not known is null."""

    model_config = ConfigDict(frozen=True)
    at: datetime | None = Field(None, description="when it was so; of a job that has ended, its end")
    files: int = Field(0, description="of all stages: a source that two stages take counts twice")
    files_done: int = Field(0, description="whose work is done; they may wait for the catalogue")
    bytes: int = Field(0, description="of the sources")
    bytes_done: int = Field(0, description="of the sources, with the part that is done of those in work")
    files_per_second: float | None = Field(None, description="in the last minute; of a job that has ended, in all")
    bytes_per_second: float | None = Field(None, description="of sources, as files_per_second")
    work_seconds: float | None = Field(None, description="that what is left will keep a child busy")
    remaining_seconds: float | None = Field(None, description="until the end of the job")
    remaining_seconds_low: float | None = Field(None, description="it is hardly less")
    remaining_seconds_high: float | None = Field(None, description="it is hardly more")
    ends_at: datetime | None = Field(None, description="at + remaining_seconds")

    @property
    def pace(self) -> str:
        """`2.5 files/s, 684.5 KB/s`; nothing where that is not known."""
        if not self.bytes or not self.files_per_second or self.bytes_per_second is None:
            return ""
        return f"{self.files_per_second:,.1f} files/s, {human_bytes(self.bytes_per_second)}/s"

    def __str__(self) -> str:
        """In one line."""
        told = [f"{self.files_done:,} of {how_many(self.files, 'file' if self.bytes else 'task')}"]
        if self.pace:
            told.append(self.pace)
        if self.remaining_seconds is not None:
            low, high = self.remaining_seconds_low or 0.0, self.remaining_seconds_high or 0.0
            told.append(
                f"about {human_seconds(self.remaining_seconds)} left ({human_seconds(low)} to {human_seconds(high)})"
            )
        return ", ".join(told)


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
    remedy: str | None = None
    stages: tuple[StageCounts, ...] = ()
    #: How many files have a warning of each kind (`warnings.py`), once the job has ended; None before, and in lists of
    #: jobs.
    warnings: dict[str, int] | None = None
    #: What its newest run could not do beside its files, and what helps; None before it has ended, and in lists of
    #: jobs.
    remarks: tuple[str, ...] | None = None
    #: The share of their time in which the children of all stages were busy; None where none has worked for it, and in
    #: lists of jobs.
    efficiency: float | None = None
    #: What its newest delivery changed so far; None in lists of jobs, and of jobs that publish no files.
    delta: DeltaCounts | None = None
    #: Job -> how many of its files' items that has published since, in their place; None before it has ended, and in
    #: lists of jobs.
    superseded_by: dict[str, int] | None = None
    #: How far it is, how fast, and when it will have ended; None of one without a task, and in lists of jobs.
    progress: Progress | None = None


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
    superseded_by: str | None = Field(None, description="the job that has published its item since, in its place")


class WarnedTask(BaseModel):
    """A task, and its warnings of one kind."""

    model_config = ConfigDict(frozen=True)
    stage: str
    task_key: str
    stac_item: str | None = Field(None, description="collection/id, once it is registered")
    warnings: tuple[str, ...]


class TableItem(BaseModel):
    """Whose a published table is; nothing of one that no job published."""

    model_config = ConfigDict(frozen=True)
    stac_item: str | None = Field(None, description="collection/id")
    source: str | None = Field(None, description="the path of the file that it was loaded from")


class Converted(_OfStage):
    """A task whose outputs exist and are not in the catalogue yet."""

    stage: str
    task_key: str
    outputs: AnyOutputs
    receipt: CogReceipt | TableReceipt | FileReceipt

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
    content: str  # as `deltas.py` compares it
    members: tuple[str, ...] = ()  # of a scene: the paths of its files

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
    #: How long it is expected to keep a child busy; 0: nobody asked.
    cost_ms: int = 0
    bytes: int = 0
    #: Set for a source that cannot be worked on at all: it is quarantined when it is planned.
    error: dict[str, str] | None = None


class Work(BaseModel):
    """A planned task as a worker gets it."""

    model_config = ConfigDict(frozen=True)
    task_key: str
    kind: str
    fingerprint: str
    input: TaskInput
    deaths: int = Field(0, description="processes that died while this file was in work")
    died: str = Field("", description="the last of them, host/pid")


class Attempt(BaseModel):
    """One request to run a job."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    job_type: str
    partition_key: str
    attempt: int
    requested_at: datetime | None = None  # where it is taken from the ledger to be launched later
    correlation_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class JobLife:
    """The state that decides about a job: its status, and whether a run holds it now."""

    job_id: str
    status: JobStatus
    run_id: str | None
    attempt: int
    lease_is_live: bool


@dataclass(frozen=True, slots=True)
class RunAtWork:
    """A run of a partition that Dagster calls started."""

    run_id: str
    partition_key: str
    attempt: int | None  # that it was launched for
    correlation_id: str  # of that attempt
    started_at: datetime
    is_by_hand: bool = False  # somebody launched it, of the janitor's own code location, for no attempt


@dataclass(frozen=True, slots=True)
class StalledJob:
    """A job whose attempt has no outcome, though its run has ended, was deleted, or no longer renews its lease; or of
    whose run nothing is known.
    """

    job_id: str
    job_type: str
    partition_key: str
    attempt: int
    run_id: str  # empty: none has claimed it, and our database knows of none
    run_status: str  # Dagster's, or DELETED (`attempts.py`)
    terminated: bool  # somebody asked Dagster to end it
    silent_seconds: float | None
    rescues: int
    requested_at: datetime | None = None
    correlation_id: str = ""


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
    correlation_id: str = ""
    traceparent: str | None = None

    @property
    def won(self) -> bool:
        """Whether this run owns the job."""
        return self.owner_run_id == self.run_id
