"""Thousands of small jobs: does a process grow, what stays, does retention hold it? `make bench-soak`.

Here: submitting by HTTP, memory of each process on the way, rows and bytes that stay, `geo-assets purge` while jobs go
on, the report. Not here: large jobs (`scale.py`).

    make bench-soak                  # 2,000 jobs of ten tasks; about half an hour on two cores
    python -m benchmarks.soak --jobs 100 --out /tmp/soak.md
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measure import exit_if_missed, machine, resident
from benchmarks.pages import publish
from benchmarks.stack import stack, superuser, told
from geo_assets.settings import load_settings

#: Greetings of a job, each of which is two tasks; jobs that are under way at a time.
GREETINGS, AT_A_TIME = 5, 8
TASKS = 2 * GREETINGS

#: How much larger a process may be at the end than after the first fifth.
GROWTH = 1.2

#: Where memory is looked at, as parts of all jobs; from where on all that has ended is purged after a look.
_LOOKS, _PURGED_FROM = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), 3

#: How much larger Dagster's tables may be at the end than before the first purge. Without one it would be 1.67 times.
HELD = 1.1


@dataclass(frozen=True, slots=True)
class Purged:
    """One purge: runs that went, its seconds, and files of Dagster and its runs before and after."""

    runs: int
    seconds: float
    files: tuple[int, int]


@dataclass(slots=True)
class Seen:
    """Megabytes of each process after some jobs, bytes of the database's schemas, files that runs left, and purges."""

    jobs: list[int] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=dict)
    stored: list[dict[str, int]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    purged: list[Purged] = field(default_factory=list)

    def look(self, home: Path, jobs: int) -> None:
        """Note how large everything is now; late enough, purge all that has ended."""
        self.jobs.append(jobs)
        for name, pid in parts(home).items():
            self.memory.setdefault(name, []).append(resident(pid) / 1e6)
        self.stored.append(sizes(home))
        self.files.append(files_of(home))
        if len(self.jobs) > _PURGED_FROM:
            self.purged.append(purge(home, self.files[-1]))

    def grown(self, schema: str) -> int:
        """Bytes that the tables of a schema grew by before the first purge."""
        return self.stored[_PURGED_FROM][schema] - self.stored[0][schema]

    def held(self, schema: str) -> float:
        """How many times as large the tables of a schema are at the end as before the first purge."""
        return self.stored[-1][schema] / self.stored[_PURGED_FROM][schema]


def purge(home: Path, files: int) -> Purged:
    """Delete the runs of all jobs that have ended, while others are under way."""
    began = time.perf_counter()
    done = told("purge", "runs", "logs", "contracts", "messages", "--older-than", "0", "--yes")
    runs = next(kind["count"] for kind in done["kinds"] if kind["kind"] == "runs")
    return Purged(runs, time.perf_counter() - began, (files, files_of(home)))


def parts(home: Path) -> dict[str, int]:
    """Name -> pid of the processes of a stack."""
    known = json.loads((home / "stack.json").read_text())["processes"]
    return {name: each["pid"] for name, each in known.items()}


def sizes(home: Path) -> dict[str, int]:
    """Bytes of the tables of each schema, with indexes."""
    query = """select n.nspname, sum(pg_total_relation_size(c.oid))::bigint from pg_class c
                 join pg_namespace n on n.oid = c.relnamespace
                where c.relkind = 'r' and n.nspname in ('geo', 'dagster', 'pgstac') group by 1"""
    with superuser(home) as conn:
        return dict(conn.execute(query).fetchall())


def files_of(home: Path) -> int:
    """Files that Dagster and its runs have left."""
    return sum(path.is_file() for name in ("dagster", "logs") for path in (home / name).rglob("*"))


def submissions(numbers: range) -> Iterator[str]:
    """Submit jobs by HTTP, some at a time, and wait for each; their ids as they end.

    Raises:
        RuntimeError: a job did not complete.
    """
    settings = load_settings()
    under_way: deque[str] = deque()
    with httpx.Client(base_url=settings.api_url, timeout=60, trust_env=False) as client:

        def ended() -> str:
            job_id = under_way.popleft()
            while (status := client.get(f"/api/jobs/{job_id}").json()["status"]) in ("queued", "processing"):
                time.sleep(0.05)
            if status != "completed":
                raise RuntimeError(f"job {job_id}: {status}")
            return job_id

        for number in numbers:
            body = {"n": GREETINGS, "message": f"soak {number}"}
            answer = client.post("/api/jobs/submit/hello_world", json=body)
            under_way.append(answer.raise_for_status().json()["job_id"])
            if len(under_way) == AT_A_TIME:
                yield ended()
        while under_way:
            yield ended()


def measure(jobs: int) -> tuple[Seen, float, dict[str, Any]]:
    """A stack that does some jobs: what was seen, the seconds, rows of some tables at the end."""
    seen = Seen()
    with stack() as home:
        deque(submissions(range(-AT_A_TIME, 0)), maxlen=0)  # what is made when it is first needed
        looks = deque(round(part * jobs) for part in _LOOKS)
        seen.look(home, looks.popleft())
        began = time.perf_counter()
        for number, _ in enumerate(submissions(range(jobs)), start=1):
            if looks and number == looks[0]:
                seen.look(home, looks.popleft())
            if number % (jobs // 20 or 1) == 0:
                print(f"{number} jobs in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        seconds = time.perf_counter() - began
        with superuser(home) as conn:
            rows = {
                table: conn.execute(f"select count(*) from {table}").fetchone()[0]
                for table in ("geo.jobs", "geo.tasks", "dagster.runs", "dagster.event_logs")
            }
        return seen, seconds, rows


def report(jobs: int, seen: Seen, seconds: float, rows: dict[str, Any], before: str) -> str:
    """The page."""
    unpurged = seen.jobs[_PURGED_FROM]
    heads = " | ".join(f"{count:,}" for count in seen.jobs)
    memory = "\n".join(
        f"| {name} | {' | '.join(f'{mb:.0f}' for mb in found)} |" for name, found in sorted(seen.memory.items())
    )
    stored = "\n".join(
        f"| `{schema}` | {seen.grown(schema) / unpurged / TASKS:,.0f} | {seen.grown(schema) / unpurged:,.0f} | "
        f"{' | '.join(f'{size[schema] / 1e6:.1f}' for size in seen.stored)} |"
        for schema in sorted(seen.stored[0])
    )
    purges = "\n".join(
        f"| {count:,} | {each.runs:,} | {each.files[0]:,} | {each.files[1]:,} | {each.seconds:.1f} |"
        for count, each in zip(seen.jobs[_PURGED_FROM:], seen.purged, strict=True)
    )
    counted = ", ".join(f"{count:,} of `{table}`" for table, count in rows.items())
    return f"""# Many small jobs

`make bench-soak` wrote this. {before}. {jobs:,} jobs of {TASKS} tasks, submitted over HTTP, {AT_A_TIME} under way at a time: {seconds:.0f} s,
{jobs / seconds:.1f} jobs a second.

## Memory

MB of each process after some jobs:

| process | {heads} |
|---|{"---|" * len(seen.jobs)}
{memory}

None may be more than {GROWTH} times as large at the end as after the first fifth.

## What stays, and what retention takes away

After {", ".join(f"{count:,}" for count in seen.jobs[_PURGED_FROM:])} jobs `geo-assets purge runs logs contracts messages --older-than 0 --yes` deleted the runs of all jobs that had ended, while others
were under way. Growth is that of the first {unpurged:,} jobs; MB of tables with their indexes, before a purge:

| schema | bytes a task | bytes a job | {heads} |
|---|---|---|{"---|" * len(seen.jobs)}
{stored}

| after jobs | runs purged | files below `dagster/` and `logs/` before | after | seconds |
|---|---|---|---|---|
{purges}

Dagster's tables may be {HELD} times as large at the end as before the first purge: what a purge deletes is room for what comes. `geo` is the account itself, which stays. Before the first purge a job left
{(seen.files[_PURGED_FROM] - seen.files[0]) / unpurged:.1f} files. Rows at the end: {counted}. What is kept for how long: [retention](../retention.md).
"""


def main() -> None:
    """Measure, write the report, and fail where a process grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/soak.md"))
    options = parser.parse_args()
    before = machine()
    seen, seconds, rows = measure(options.jobs)
    page = report(options.jobs, seen, seconds, rows, before)
    publish(options.out, page)
    print(page)
    flat = {f"{name} grows": found[-1] <= GROWTH * found[1] for name, found in seen.memory.items()}
    exit_if_missed(flat | {"retention does not hold Dagster's tables": seen.held("dagster") <= HELD})


if __name__ == "__main__":
    main()
