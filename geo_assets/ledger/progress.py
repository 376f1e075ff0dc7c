"""How far a job is, how fast it is, and when it will have ended.

Here: the one function that tells it, from the account of the tasks, from what work took, and from what the processes of
its run say. Not here: the arithmetic (`estimates.py`), how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from geo_assets.database.connections import DictConnection
from geo_assets.ledger.at_work import Seen
from geo_assets.ledger.estimates import Estimate, Group, InWork, Likely, estimate, rest_of
from geo_assets.ledger.models import JobStatus, Progress
from geo_assets.ledger.work import REST, Cost

#: Seconds over which rates are taken while a job is at work.
RECENT = 60

#: The tasks of a job, by stage and size, with each that is in work. Work of an earlier run is done, and says nothing of
#: how fast this one is. What a task took is spread evenly over that time: so many of its bytes are recent. What was
#: cancelled is neither done nor left to do.
_GROUPS = """
with run as (
    select run_id, started_at, coalesce(ended_at, clock_timestamp()) as at,
           greatest(started_at, coalesce(ended_at, clock_timestamp()) - make_interval(secs => %(recent)s)) as since
      from geo.attempts where job_id = %(job)s and run_id is not null order by attempt desc limit 1),
tasks as (
    select t.stage, floor(ln(greatest(t.bytes, 1)) / ln(2))::int as size, t.task_key, t.bytes,
           greatest(t.cost_ms, 1) as cost_ms, t.cost_ms > 0 as is_expected, t.started_at,
           t.status = 'pending' or t.status = 'running' and t.receipt is null as is_undone,
           t.status = 'running' as is_begun, t.status = 'cancelled' as is_cancelled,
           coalesce(t.started_at >= r.started_at and t.run_id = r.run_id, false) as is_of_run,
           t.error_code is null as is_good,
           t.started_at + coalesce(make_interval(secs => t.took_ms / 1000.0), t.finished_at - t.started_at) as done_at,
           r.at, r.since
      from geo.tasks t left join run r on true
     where t.job_id = %(job)s and t.listed),
timed as (
    select *, not (is_undone or is_cancelled) as is_done,
           is_undone and is_begun and is_of_run as is_in_work,
           is_undone and not (is_begun and is_of_run) as is_pending,    -- or its run died
           greatest(date_part('epoch', done_at - started_at), 0.001) as took,
           greatest(0, date_part('epoch', least(done_at, at) - greatest(started_at, since))) as recently
      from tasks)
select stage, size, count(*) as files, coalesce(sum(bytes), 0) as bytes,
       count(*) filter (where is_done) as files_done,
       coalesce(sum(bytes) filter (where is_done), 0) as bytes_done,
       count(*) filter (where is_pending) as pending,
       coalesce(sum(cost_ms) filter (where is_pending), 0) / 1000.0 as pending_cost,
       coalesce(max(cost_ms) filter (where is_pending), 0) / 1000.0 as longest_cost,
       coalesce(bool_and(is_expected) filter (where is_pending or is_in_work), true) as is_expected,
       count(*) filter (where is_measured) as measured,
       coalesce(sum(cost_ms) filter (where is_measured), 0) / 1000.0 as measured_cost,
       coalesce(sum(took) filter (where is_measured), 0) as measured_seconds,
       count(*) filter (where is_done and is_of_run and done_at >= since) as recent_files,
       coalesce(sum(bytes * least(1, recently / took)) filter (where is_done and is_of_run), 0) as recent_bytes,
       max(done_at) filter (where is_done and is_of_run) as last_done_at,
       coalesce(jsonb_agg(jsonb_build_object('stage', stage, 'file', task_key, 'bytes', bytes,
                                             'cost', cost_ms / 1000.0, 'elapsed', extract(epoch from at - started_at)))
                    filter (where is_in_work), '[]') as in_work,
       min(at) as at, extract(epoch from min(at) - min(since)) as recent_seconds
  from (select *, is_done and is_of_run and is_good and is_expected and done_at is not null as is_measured from timed) t
 group by stage, size order by stage, size
"""

#: What the processes of its run do, and how old their news are.
_STEPS = """
select s.workers, s.seen, extract(epoch from clock_timestamp() - s.heartbeat) as age
  from geo.steps s join geo.jobs j using (job_id)
 where s.job_id = %s and s.run_id = j.lease_run_id and s.in_work is null
"""


def progress_of(conn: DictConnection, job_id: str, job_type: str, status: JobStatus) -> Progress | None:
    """How far a job is; None of one without a task. On a connection of the caller's."""
    rows = conn.execute(_GROUPS, {"job": job_id, "recent": RECENT if not status.is_final else None}).fetchall()
    if not rows:
        return None
    steps = [] if status.is_final else conn.execute(_STEPS, (job_id,)).fetchall()
    parts = _parts(steps)
    files = {
        (file["stage"], file["file"]): _in_work(file, parts.get((file["stage"], file["file"])))
        for row in rows
        for file in row["in_work"]  # type: ignore[attr-defined]
    }
    told = _account(rows, files)
    if status is not JobStatus.PROCESSING or told.at is None or not all(row["is_expected"] for row in rows):
        return told
    workers = sum(int(str(step["workers"])) for step in steps)
    estimated = estimate([_group(row, files) for row in rows], workers, _rest(conn, job_type, rows, told))
    return told.model_copy(update=_until_the_end(told.at, estimated))


def _parts(steps: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[float, float]]:
    """Stage and file -> the part of it that was done, and how many seconds ago."""
    return {
        (child.stage, child.file): (child.part, float(step["age"]))
        for step in steps
        for child in Seen.model_validate(step["seen"]).children
        if child.part is not None
    }


@dataclass(frozen=True, slots=True)
class _InWork:
    """A file in work, and its bytes."""

    file: InWork
    bytes: int


def _in_work(row: Mapping[str, Any], told: tuple[float, float] | None) -> _InWork:
    part, age = told or (None, 0.0)
    return _InWork(InWork(float(row["cost"]), max(0.0, float(row["elapsed"] or 0)), part, age), int(row["bytes"]))


_Files = Mapping[tuple[str, str], _InWork]


def _account(rows: Sequence[Mapping[str, Any]], files: _Files) -> Progress:
    """What is done, and how fast."""

    def total(name: str) -> float:
        return float(sum(row[name] for row in rows))

    partly = [(file.bytes * (file.file.part or 0.0), max(file.file.elapsed, 1.0)) for file in files.values()]
    seconds = float(rows[0]["recent_seconds"] or 0)
    recent = total("recent_bytes") + sum(done * min(1.0, seconds / elapsed) for done, elapsed in partly)
    rates = (
        {"files_per_second": total("recent_files") / seconds, "bytes_per_second": recent / seconds}
        if seconds >= 1
        else {}
    )
    return Progress(
        at=rows[0]["at"],
        files=int(total("files")),
        files_done=int(total("files_done")),
        bytes=int(total("bytes")),
        bytes_done=int(total("bytes_done") + sum(done for done, _ in partly)),
        **{name: round(rate, 3) for name, rate in rates.items()},
    )


def _group(row: Mapping[str, Any], files: _Files) -> Group:
    numbers = ("pending_cost", "longest_cost", "measured_cost", "measured_seconds")
    return Group(
        stage=str(row["stage"]),
        size=int(row["size"]),
        pending=int(row["pending"]),
        measured=int(row["measured"]),
        in_work=tuple(files[file["stage"], file["file"]].file for file in row["in_work"]),
        **{name: float(row[name]) for name in numbers},
    )


def _rest(conn: DictConnection, job_type: str, rows: Sequence[Mapping[str, Any]], told: Progress) -> Likely:
    measured = conn.execute(
        "select form, size, files, log_seconds, log_bytes from geo.costs where stage = %s and form = %s",
        (REST, job_type),
    ).fetchall()
    last = max((row["last_done_at"] for row in rows if row["last_done_at"]), default=None)
    left = told.files - told.files_done
    elapsed = (told.at - last).total_seconds() if told.at and last and not left else None
    worked = sum(int(row["measured"]) for row in rows) + left
    return rest_of(worked, [Cost.model_validate(row) for row in measured], elapsed)


def _until_the_end(at: datetime, estimated: Estimate) -> dict[str, Any]:
    return {
        "work_seconds": round(estimated.work, 3),
        "remaining_seconds": round(estimated.seconds, 3),
        "remaining_seconds_low": round(estimated.low, 3),
        "remaining_seconds_high": round(estimated.high, 3),
        "ends_at": at + timedelta(seconds=estimated.seconds),
    }
