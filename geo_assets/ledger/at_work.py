"""What is done right now: steps, the processes that execute them, their children and files.

Here: what a step says of its process with each sign of life, and the question what all of them do. Not here: how a
process finds out (`stages/at_work.py`), how far a job is (`progress.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg_pool import ConnectionPool
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import DictConnection, retrying

#: Of every run that owns a job: its steps, and what their processes have in work by the account of the tasks.
_NOW = """
select j.job_id, j.job_type, j.partition_key, j.lease_run_id as run_id, s.process, coalesce(s.doing, '') as doing,
       coalesce(s.begun_at, a.started_at) as since,
       coalesce(s.seen, '{}') as seen,
       extract(epoch from clock_timestamp() - coalesce(s.begun_at, a.started_at)) as seconds,
       extract(epoch from clock_timestamp() - coalesce(s.heartbeat, j.lease_heartbeat)) as silent_seconds,
       coalesce((select jsonb_agg(jsonb_build_object(
                            'stage', t.stage, 'file', t.task_key, 'since', t.started_at, 'bytes', t.bytes,
                            'seconds', extract(epoch from clock_timestamp() - t.started_at)) order by t.started_at)
                   from geo.tasks t
                  where t.job_id = j.job_id and t.run_id = j.lease_run_id and t.status = 'running' and t.listed
                    and t.receipt is null and t.process = s.process), '[]') as files
  from geo.jobs j
  left join geo.attempts a on a.run_id = j.lease_run_id
  left join geo.steps s on s.job_id = j.job_id and s.run_id = j.lease_run_id and s.in_work is null
 where j.lease_run_id is not null
 order by j.lease_heartbeat is null, a.started_at, j.job_id, s.process, s.step
"""


class SeenChild(BaseModel):
    """A sandboxed child, and the file that it works on."""

    model_config = ConfigDict(frozen=True)
    stage: str
    file: str
    pid: int | None = Field(None, description="null: it waits for a child, or fetches its files")
    memory_bytes: int | None = Field(None, description="resident")
    part: float | None = Field(None, ge=0, le=1, description="of the file that is done, where that is known")


class Seen(BaseModel):
    """What a process was seen to do."""

    model_config = ConfigDict(frozen=True)
    memory_bytes: int = Field(0, description="resident, of the process itself")
    children: tuple[SeenChild, ...] = ()


class FileNow(BaseModel):
    """A file in work."""

    stage: str
    file: str
    since: datetime
    seconds: float = Field(description="for which it has been in work")
    bytes: int
    child: int | None = Field(None, description="the process that has it open, on the host of its step")
    memory_bytes: int | None = Field(None, description="of that process, resident")
    part: float | None = Field(None, description="of the file that is done, 0 to 1, where that is known")


class StepNow(BaseModel):
    """A step of a run, or a run between two steps."""

    job_id: str
    job_type: str
    partition_key: str
    run_id: str
    host: str | None = Field(None, description="null: between two steps")
    pid: int | None = None
    doing: str = Field(description="the step")
    since: datetime | None = Field(description="when the step began, or the run if it is between two")
    seconds: float | None = Field(description="since then")
    silent_seconds: float | None = Field(description="since the last sign of life: one comes every ten")
    memory_bytes: int | None = Field(None, description="of its process, resident")
    files: tuple[FileNow, ...] = ()


class AtWork:
    """Questions on `geo.steps`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def now(self) -> list[StepNow]:
        """What every run does, the oldest run first."""
        with self._pool.connection() as conn:
            return [_step_now(row) for row in conn.execute(_NOW).fetchall()]


def _step_now(row: dict[str, Any]) -> StepNow:
    host, _, pid = str(row["process"] or "").rpartition("/")
    seen = Seen.model_validate(row["seen"])
    children = {(child.stage, child.file): child for child in seen.children}
    files = [_file_now(file, children.get((file["stage"], file["file"]))) for file in row["files"]]
    told = {
        "host": host or None,
        "pid": int(pid) if pid.isdigit() else None,
        "memory_bytes": seen.memory_bytes or None,
        "files": tuple(files),
    }
    return StepNow.model_validate({**row, **told})


def _file_now(file: dict[str, Any], child: SeenChild | None) -> FileNow:
    told = {"child": child.pid, "memory_bytes": child.memory_bytes, "part": child.part} if child else {}
    return FileNow.model_validate({**file, **told})
