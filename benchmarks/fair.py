"""A small job beside large ones: how much longer does it take? `make bench-fair`.

Here: a stack, jobs of ten rasters with nothing else to do, beside one of 20,000 and beside four of these, the report.
Not here: many files alone (`many.py`).

    make bench-fair                                          # about three minutes
    python -m benchmarks.fair --files 2000 --times 1         # a look; writes no report

A job is timed from its submission to its end, as the ledger has both. The files of the large jobs are names of some
hundred rasters; that they are the same saves their jobs nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.many import write_rasters
from benchmarks.measure import exit_if_missed, machine
from benchmarks.pages import publish
from benchmarks.stack import stack, superuser, told

#: What is wanted: seconds of a small job beside large ones / alone.
MOST = 2.0

_SMALL, _DISTINCT, _LARGE_JOBS = 10, 100, 4

#: Files of large jobs that have been begun before a small job is timed beside it.
_WARM = 20


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of small jobs, one after the other, and files of the large ones that were begun meanwhile."""

    seconds: list[float]
    begun_meanwhile: int

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)


class Bench:
    """A stack, and the jobs on it."""

    def __init__(self, home: Path, files: int, times: int) -> None:
        self._home, self._files, self._times = home, files, times
        self._distinct = home / "distinct"
        self._distinct.mkdir()
        write_rasters(self._distinct, _DISTINCT)
        self._large: list[str] = []
        self._number = 0

    def small_jobs(self) -> Timed:
        """Run small jobs one after the other, each of files of its own.

        Raises:
            RuntimeError: a file was not published.
        """
        before = self._begun()
        timed = Timed([self._small_job() for _ in range(self._times)], self._begun() - before)
        print(timed, file=sys.stderr, flush=True)
        return timed

    def begin_large(self) -> None:
        """Submit one more large job."""
        container = f"large{len(self._large)}"
        self._fill(container, self._files)
        job = told("submit", "ingest_container", "--param", f"container={container}")
        self._large.append(job["job_id"])

    def wait_until_at_work(self) -> None:
        """Wait until files of the large jobs are being converted."""
        goal = self._begun() + _WARM
        while self._begun() < goal:
            time.sleep(0.5)

    def _small_job(self) -> float:
        self._number += 1
        container = f"small{self._number}"
        self._fill(container, _SMALL)
        job = told("submit", "ingest_container", "--param", f"container={container}", "--wait")
        succeeded = {stage["stage"]: stage["succeeded"] for stage in job["stages"]}
        if job["status"] != "completed" or succeeded["cogs"] != _SMALL:
            raise RuntimeError(f"{container}: {job['status']}, {succeeded}")
        with superuser(self._home) as conn:
            row = conn.execute(
                "select extract(epoch from s.ended_at - a.requested_at) from geo.job_status s join geo.attempts a"
                " using (job_id) where job_id = %s",
                (job["job_id"],),
            ).fetchone()
        return float(row[0]) if row else 0.0

    def _fill(self, container: str, files: int) -> None:
        folder = self._home / "containers" / container
        folder.mkdir(parents=True)
        sources = sorted(self._distinct.iterdir())
        for number in range(files):
            os.link(sources[number % len(sources)], folder / f"r{number:06}.tif")

    def _begun(self) -> int:
        with superuser(self._home) as conn:
            row = conn.execute(
                "select count(*) from geo.tasks where job_id = any(%s) and stage = 'cogs' and started_at is not null",
                (self._large,),
            ).fetchone()
        return int(row[0]) if row else 0


def measured(home: Path, files: int, times: int) -> dict[str, Timed]:
    """The small jobs, in each company."""
    bench = Bench(home, files, times)
    bench.small_jobs()  # processes, connections and caches are warm afterwards
    rounds = {"nothing": bench.small_jobs()}
    bench.begin_large()
    bench.wait_until_at_work()
    rounds[f"a job of {files:,} files"] = bench.small_jobs()
    for _ in range(_LARGE_JOBS - 1):
        bench.begin_large()
    bench.wait_until_at_work()
    rounds[f"{_LARGE_JOBS} jobs of {files:,} files"] = bench.small_jobs()
    return rounds


def main() -> None:
    """Measure, write the report, and fail where a small job took too long."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/fair.md"))
    asked = parser.parse_args()
    before = machine()
    with stack() as home:
        rounds = measured(home, asked.files, asked.times)
    alone = rounds["nothing"].median
    rows = "\n".join(
        f"| {company} | {timed.median:.1f} | {min(timed.seconds):.1f} to {max(timed.seconds):.1f} |"
        f" {timed.median / alone:.2f} | {timed.begun_meanwhile:,} |"
        for company, timed in rounds.items()
    )
    report = f"""# A small job beside large ones

`make bench-fair` wrote this. {before}. {_SMALL} images of 300 x 300 x 3, uint8, {asked.times} times, one job after the other; the large jobs are of such
images, too, and were converting them. Seconds from submission to the end of the job; at most {MOST:g} times those with nothing else to do are wanted.

| beside | median, s | | ratio | files of the large jobs that were begun meanwhile |
|---|---|---|---|---|
{rows}
"""
    print(report)
    if asked.files == parser.get_default("files"):
        publish(asked.out, report)
    exit_if_missed({f"{MOST:g} times beside {company}": t.median <= MOST * alone for company, t in rounds.items()})


if __name__ == "__main__":
    main()
