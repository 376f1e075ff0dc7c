"""What work cost: how busy the children of each step were, and how long sources of each form took.

Here: statements on `geo.chunks` and `geo.costs`. Not here: what a source is expected to cost (`stages/costs.py`),
cutting chunks (`stages/cutting.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from pydantic import BaseModel, ConfigDict

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.ledger.models import StageWork

#: Files after which each new one counts as much as this many before it: what is measured follows a new machine.
_REMEMBERED = 500

_NOTE_CHUNK = """
insert into geo.chunks as old (job_id, run_id, stage, chunk, files, bytes, cost_ms, busy_ms, files_ms, longest_ms,
  wall_ms, workers)
values (%(job_id)s, %(run_id)s, %(stage)s, %(chunk)s, %(files)s, %(bytes)s, %(cost_ms)s, %(busy_ms)s, %(files_ms)s,
        %(longest_ms)s, %(wall_ms)s, %(workers)s)
on conflict (job_id, run_id, stage, chunk) do update set
    busy_ms = old.busy_ms + excluded.busy_ms, files_ms = old.files_ms + excluded.files_ms,
    longest_ms = greatest(old.longest_ms, excluded.longest_ms), wall_ms = old.wall_ms + excluded.wall_ms,
    ended_at = excluded.ended_at
"""

#: In the order of the key, so that two steps that end at the same time wait for each other and no more.
_NOTE_COSTS = """
insert into geo.costs as old (stage, form, size, files, log_seconds, log_bytes)
select %(stage)s, form, size, files, log_seconds, log_bytes
  from jsonb_to_recordset(%(costs)s) as t (form text, size int, files bigint, log_seconds float8, log_bytes float8)
 order by form, size
on conflict (stage, form, size) do update set
    files = old.files + excluded.files,
    log_seconds = old.log_seconds + (excluded.log_seconds - old.log_seconds)
        * excluded.files / (least(old.files, %(remembered)s) + excluded.files),
    log_bytes = old.log_bytes + (excluded.log_bytes - old.log_bytes)
        * excluded.files / (least(old.files, %(remembered)s) + excluded.files)
"""

#: The name under which it is kept what a job takes after its last file, by its type and the number of its files.
REST = "after the files"

#: The files that a run worked on, and the seconds since the last of them.
_REST = """
select j.job_type, count(*) as files,
       extract(epoch from now() - max(t.started_at + make_interval(secs => t.took_ms / 1000.0))) as seconds
  from geo.jobs j join geo.attempts a using (job_id) join geo.tasks t using (job_id)
 where j.job_id = %(job)s and a.run_id = %(run)s and t.run_id = %(run)s and t.took_ms is not null
   and t.started_at >= a.started_at
 group by 1
"""

#: Of the newest run of each stage that worked for it, or of one run.
_CHUNKS = """
select c.stage, c.busy_ms, c.files_ms, c.longest_ms, c.wall_ms, c.workers, c.ended_at
  from geo.chunks c
  join (select distinct on (stage) stage, run_id from geo.chunks
         where job_id = %(job)s and run_id = coalesce(%(run)s, run_id) order by stage, ended_at desc)
       newest using (stage, run_id)
 where c.job_id = %(job)s
 order by c.stage, c.ended_at
"""


class Cost(BaseModel):
    """What sources of a form and size took: typical seconds, typical bytes, as natural logarithms."""

    model_config = ConfigDict(frozen=True)
    form: str
    size: int  # binary digits of the bytes
    files: int
    log_seconds: float
    log_bytes: float


class ChunkWork(BaseModel):
    """What a finished step worked on, and how busy its children were."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    run_id: str
    stage: str
    chunk: int
    files: int
    bytes: int
    cost_ms: int
    busy_ms: int
    files_ms: int
    longest_ms: int
    wall_ms: int
    workers: int


class WorkRecords:
    """Statements on what work cost."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def costs(self, stage: str) -> list[Cost]:
        """What sources took in a stage, in the order of form and size."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                "select form, size, files, log_seconds, log_bytes from geo.costs where stage = %s order by form, size",
                (stage,),
            ).fetchall()
        return [Cost.model_validate(row) for row in rows]

    @retrying
    def note(self, chunk: ChunkWork, costs: Sequence[Cost] = ()) -> None:
        """Record what a step did, and what its sources took."""
        with self._pool.connection() as conn:
            conn.execute(_NOTE_CHUNK, chunk.model_dump())
            if costs:
                rows = Jsonb([cost.model_dump() for cost in costs])
                conn.execute(_NOTE_COSTS, {"stage": chunk.stage, "costs": rows, "remembered": _REMEMBERED})

    @retrying
    def note_rest(self, job_id: str, run_id: str) -> None:
        """Record, at the end of a run, how long it took from its last file to its end: for the progress of later ones
        (`progress.py`).
        """
        with self._pool.connection() as conn:
            row = conn.execute(_REST, {"job": job_id, "run": run_id}).fetchone()
            if row is None or not row["files"]:
                return
            files, seconds = int(str(row["files"])), max(float(str(row["seconds"])), 0.001)
            cost = Cost(
                form=str(row["job_type"]),
                size=files.bit_length(),
                files=1,
                log_seconds=math.log(seconds),
                log_bytes=math.log(files),
            )
            conn.execute(_NOTE_COSTS, {"stage": REST, "costs": Jsonb([cost.model_dump()]), "remembered": _REMEMBERED})

    @retrying
    def of_run(self, job_id: str, run_id: str) -> dict[str, StageWork]:
        """How busy the children of each stage of a job were in one run, by the stage's name; nothing of a stage that
        had nothing to do.
        """
        with self._pool.connection() as conn:
            return stage_work(conn, job_id, run_id)


def stage_work(conn: DictConnection, job_id: str, run_id: str | None = None) -> dict[str, StageWork]:
    """How busy the children of each stage of a job were, in a run, or in the newest one in which the stage did
    something.
    """
    rows = conn.execute(_CHUNKS, {"job": job_id, "run": run_id}).fetchall()
    return {str(stage): _together(list(steps)) for stage, steps in groupby(rows, lambda row: row["stage"])}


def _together(steps: Sequence[dict[str, Any]]) -> StageWork:
    ends: list[datetime] = [step["ended_at"] for step in steps]
    spans = [(end.timestamp() - step["wall_ms"] / 1000, end.timestamp()) for end, step in zip(ends, steps, strict=True)]
    busy = sum(step["busy_ms"] for step in steps) / 1000
    wall = max(end for _, end in spans) - min(begin for begin, _ in spans)
    workers = _most_at_a_time(
        (begin, end, int(step["workers"])) for (begin, end), step in zip(spans, steps, strict=True)
    )
    return StageWork(
        busy_seconds=round(busy, 3),
        files_seconds=sum(step["files_ms"] for step in steps) / 1000,
        longest_seconds=max(step["longest_ms"] for step in steps) / 1000,
        wall_seconds=round(wall, 3),
        workers=workers,
        efficiency=round(busy / max(wall * workers, 0.001), 3),
    )


def efficiency(stages: Iterable[StageWork]) -> float | None:
    """The share of their time in which the children of all stages were busy; None where there were none."""
    busy = there = 0.0
    for stage in stages:
        if stage.busy_seconds is not None and stage.wall_seconds is not None and stage.workers is not None:
            busy, there = busy + stage.busy_seconds, there + stage.wall_seconds * stage.workers
    return round(busy / there, 3) if there else None


def _most_at_a_time(spans: Iterable[tuple[float, float, int]]) -> int:
    """The most workers of spans (begin, end, workers) that overlap; an end comes before a begin of the same time."""
    events = sorted(event for begin, end, workers in spans for event in ((begin, workers), (end, -workers)))
    most = now = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most
