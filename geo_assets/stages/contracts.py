"""Contracts between steps: small references, checked at every boundary, written as JSON.

Here: pydantic contracts. Payloads (rasters, frames, items) are never passed; they are in containers, tables and the
ledger.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geo_assets.ledger.models import StageCounts, with_counts
from geo_assets.parameters import OfJobType
from geo_assets.task_status import BAD, TaskStatus

#: Work of a child from which on a stage is a large one.
_LARGE_SECONDS = 60.0


class Contract(BaseModel):
    """Immutable, complete, nothing extra."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobRef(Contract, OfJobType):
    """The job that a run works on, and whether it may."""

    job_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    partition_key: str
    run_id: str
    owner_run_id: str
    submitted_by: str = ""
    force: bool = False
    allow_mass_retire: bool = False
    correlation_id: str = ""

    @property
    def stood_aside(self) -> bool:
        """Whether another live run owns the job: this one does nothing, and says so."""
        return self.owner_run_id != self.run_id


class InventoryRef(Contract):
    """A listing, by reference: its rows are in the ledger."""

    job: JobRef
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
    ignored: int = Field(0, ge=0, description="left behind by operating systems, or not matched by the globs")
    sources: dict[str, int] = Field(description="kind -> number of sources")
    truncated: bool = Field(False, description="the limit left sources out")


class Chunk(Contract):
    """The tasks that one mapped step works through: the pending ones from `first` to `last`, the longest first, those
    of equal cost by their keys.

    What it is expected to cost is 0 in the chunks of an older release, whose order is that of keys alone.
    """

    job: JobRef
    stage: str
    index: int = Field(ge=0)
    first: str
    first_cost_ms: int = Field(0, ge=0)
    last: str
    last_cost_ms: int = Field(0, ge=0)
    size: int = Field(ge=1)
    cost_seconds: float = Field(0, ge=0, description="for which its tasks are expected to keep a child busy, together")
    stage_seconds: float = Field(0, ge=0, description="cost_seconds of all chunks of the stage together")
    bytes: int = Field(0, ge=0, description="of all its sources")
    largest_bytes: int = Field(0, ge=0, description="of its largest source")

    @property
    def is_of_large_stage(self) -> bool:
        """Whether its stage keeps children busy for so long that small runs come before it (decision 43)."""
        return self.stage_seconds > _LARGE_SECONDS

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.stage}, chunk {self.index}"

    @property
    def mapping_key(self) -> str:
        """Dagster allows `[A-Za-z0-9_]`; the index is enough, and cannot collide."""
        return f"chunk_{self.index:04d}"


@with_counts(*BAD)
class ChunkReport(Contract):
    """The result of one mapped step. It is returned also when files failed; only infrastructure faults raise."""

    stage: str
    index: int = Field(ge=0)
    done: int = Field(ge=0)
    seconds: float = Field(ge=0)


class StagePlan(Contract):
    """A planned stage: what the fan-in must find."""

    job: JobRef
    stage: str
    tasks: int = Field(ge=0)
    chunks: int = Field(ge=0)


class StageReport(Contract):
    """The account of a stage, after its fan-in."""

    job: JobRef
    stage: str
    counts: StageCounts
    awaiting: int = Field(0, ge=0, description="converted, to be registered by the STAC stage")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        parts = self.counts.sum_of(TaskStatus)
        if self.counts.total != parts:
            msg = f"{self.stage}: {self.counts.total} tasks are listed, {parts} are accounted for"
            raise ValueError(msg)
        return self


class CatalogueReport(Contract):
    """The result of the STAC stages."""

    job: JobRef
    items: int = Field(ge=0)
    collections: tuple[str, ...] = ()
    failed: int = Field(0, ge=0)


class JobReport(Contract):
    """The account of a whole job, stage by stage."""

    job: JobRef
    stages: tuple[StageCounts, ...]
    complete: bool
