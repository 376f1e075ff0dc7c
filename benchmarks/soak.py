"""Thousands of small jobs, one after the other: does a process grow, and what stays in the database? `make bench-soak`.

Here: submitting by HTTP, memory of each process on the way, rows and bytes that stay, the report. Not here: large jobs
(`scale.py`).

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
from benchmarks.stack import stack, superuser
from geo_assets.settings import load_settings

#: Tasks of a job; jobs that are under way at a time.
TASKS, AT_A_TIME = 10, 8

#: How much larger a process may be at the end than after the first fifth.
GROWTH = 1.2

#: Where memory is looked at, as parts of all jobs.
_LOOKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(slots=True)
class Seen:
    """Megabytes of each process after some jobs, and bytes of the database's schemas."""

    jobs: list[int] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=dict)
    stored: list[dict[str, int]] = field(default_factory=list)

    def look(self, home: Path, jobs: int) -> None:
        """Note how large everything is now."""
        self.jobs.append(jobs)
        for name, pid in parts(home).items():
            self.memory.setdefault(name, []).append(resident(pid) / 1e6)
        self.stored.append(sizes(home))


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
            body = {"n": TASKS, "message": f"soak {number}"}
            answer = client.post("/api/jobs/submit/hello_world", json=body)
            under_way.append(answer.raise_for_status().json()["job_id"])
            if len(under_way) == AT_A_TIME:
                yield ended()
        while under_way:
            yield ended()


def measure(jobs: int) -> tuple[Seen, float, int, dict[str, Any]]:
    """A stack that does some jobs: what was seen, the seconds, files that are left, rows of some tables."""
    seen = Seen()
    with stack() as home:
        deque(submissions(range(-AT_A_TIME, 0)), maxlen=0)  # what is made when it is first needed
        files, looks = files_of(home), deque(round(part * jobs) for part in _LOOKS)
        seen.look(home, looks.popleft())
        began = time.perf_counter()
        for number, _ in enumerate(submissions(range(jobs)), start=1):
            if looks and number == looks[0]:
                seen.look(home, looks.popleft())
                print(f"{number} jobs in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        seconds = time.perf_counter() - began
        with superuser(home) as conn:
            rows = {
                table: conn.execute(f"select count(*) from {table}").fetchone()[0]
                for table in ("geo.jobs", "geo.tasks", "dagster.runs", "dagster.event_logs")
            }
        return seen, seconds, files_of(home) - files, rows


def report(jobs: int, seen: Seen, seconds: float, files: int, rows: dict[str, Any], before: str) -> str:
    """The page."""
    tasks = jobs * TASKS
    heads = " | ".join(f"{count:,}" for count in seen.jobs)
    memory = "\n".join(
        f"| {name} | {' | '.join(f'{mb:.0f}' for mb in found)} |" for name, found in sorted(seen.memory.items())
    )
    first, last = seen.stored[0], seen.stored[-1]
    stored = "\n".join(
        f"| `{schema}` | {(last[schema] - first[schema]) / tasks:,.0f} | {(last[schema] - first[schema]) / jobs:,.0f} |"
        for schema in sorted(last)
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

## What stays

| schema | bytes a task | bytes a job |
|---|---|---|
{stored}

{files / jobs:.1f} files a job below `dagster/` and `logs/`; rows in all: {counted}. What is kept for how long, and how it is removed: [retention](../retention.md).
"""


def main() -> None:
    """Measure, write the report, and fail where a process grows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/soak.md"))
    options = parser.parse_args()
    before = machine()
    seen, seconds, files, rows = measure(options.jobs)
    page = report(options.jobs, seen, seconds, files, rows, before)
    options.out.write_text(page)
    print(page)
    exit_if_missed({f"{name} grows": found[-1] <= GROWTH * found[1] for name, found in seen.memory.items()})


if __name__ == "__main__":
    main()
