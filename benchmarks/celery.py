"""Small rasters by one process and by one and two workers of Celery: `make bench-celery`.

Here: a stack for each executor, the workers, seconds and processor time, the report. Not here: what becomes of the jobs
when workers die (`geo_assets_tests/celery`).

    make bench-celery                  # 2,000 rasters, each way; about a quarter of an hour on two quiet cores
    python -m benchmarks.celery --count 200 --out /tmp/celery.md

Each way is timed from the command to the job's end, with one sandboxed child for a process. Before it, a job of some
rasters has made processes and connections warm. Processor time is that of all processes of the stack: database, code
server, daemon, webserver, broker, workers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.many import write_rasters
from benchmarks.measure import exit_if_missed, machine, tree
from benchmarks.pages import publish
from benchmarks.raster import BIN
from benchmarks.stack import postmaster, stack, told
from geo_assets_tests.redis_server import Redis

#: What is wanted: of two workers against one, and of one against a process without Celery.
SPEEDUP, OVERHEAD = 1.7, 0.15

#: Workers of each measurement. A machine that becomes slower or faster meanwhile does so to all: each is in the middle.
ORDER = (1, 2, 0, 2, 1)

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a job took."""

    wall: float
    cpu: float


@contextmanager
def settings(**changes: str) -> Iterator[None]:
    """Environment variables for a while."""
    before = dict(os.environ)
    os.environ |= {f"GEO_ASSETS_{name.upper()}": value for name, value in changes.items()}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def worker(home: Path, name: str) -> Iterator[int]:
    """The pid of a worker that is ready."""
    place = home / f"{name}.log"
    with place.open("wb") as log:
        process = subprocess.Popen(
            [BIN / "geo-assets", "worker", "--name", name], stdout=log, stderr=log, start_new_session=True
        )
    try:
        while " ready." not in place.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"worker {name} ended: {place.read_text()[-1000:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def ingested(home: Path, folder: Path, container: str, others: list[int]) -> Taken:
    """One job that publishes the rasters of a folder.

    Raises:
        RuntimeError: one was not published.
    """
    shutil.copytree(folder, home / "containers" / container)
    parts = json.loads((home / "stack.json").read_text())["processes"].values()
    roots = [postmaster(home), *(part["pid"] for part in parts), *others]
    before, start = sum(map(cpu, roots)), time.perf_counter()
    job = told("submit", "ingest_container", "--param", f"container={container}", "--wait")
    wall, after = time.perf_counter() - start, sum(map(cpu, roots))
    if job["status"] != "completed" or job["attempt"] != 1:
        raise RuntimeError(f"{container}: {job['status']} after {job['attempt']} attempts")
    return Taken(wall, after - before)


def cpu(root: int) -> float:
    """Seconds of a process, of those below it, and of those that they had."""
    total = 0
    for pid in tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


def measure(folder: Path, warm: Path, workers: int, redis: Redis) -> Taken:
    """A job of the folder in a stack of its own: without workers, in one process."""
    executor = {"executor": "celery", "celery_broker": redis.url} if workers else {"executor": "in_process"}
    with settings(workers="1", chunk_files="64", **executor), stack() as home, ExitStack() as running:
        pids = [running.enter_context(worker(home, f"w{number}")) for number in range(workers)]
        ingested(home, warm, "warm", pids)
        return ingested(home, folder, "measured", [*pids, redis.pid] if workers else [])


def _mean(taken: list[Taken]) -> Taken:
    return Taken(statistics.mean(each.wall for each in taken), statistics.mean(each.cpu for each in taken))


def main() -> None:
    """Measure, write the report, and fail where something is not as wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/celery.md"))
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as running:
        folder, warm, place = (Path(name) / part for part in ("all", "warm", "redis"))
        Path(name).chmod(0o755)
        for each in (folder, warm, place):
            each.mkdir()
        write_rasters(folder, options.count)
        write_rasters(warm, 16)
        redis = Redis(place)
        redis.start()
        running.callback(redis.kill)
        taken: dict[int, list[Taken]] = {0: [], 1: [], 2: []}
        for workers in ORDER:
            taken[workers].append(measure(folder, warm, workers, redis))
            print(workers, taken[workers][-1], file=sys.stderr)
    alone, one, two = (_mean(taken[workers]) for workers in (0, 1, 2))
    speedup, overhead, more_cpu = one.wall / two.wall, one.wall / alone.wall - 1, one.cpu / alone.cpu - 1
    rows = {
        "`in_process`, one child": alone,
        "one worker of Celery, one child": one,
        "two workers of Celery, one child each": two,
    }
    lines = [
        f"| {what} | {taken.wall:.1f} | {options.count / taken.wall:.1f} | {taken.cpu:.1f} | {1000 * taken.cpu / options.count:.0f} |"
        for what, taken in rows.items()
    ]
    report = f"""# Small rasters by workers of Celery

`make bench-celery` wrote this. {before}. {options.count:,} images of 300 x 300 x 3, uint8, in chunks of 64 at most; broker, workers, database and
planner on the same machine. One worker and two are measured twice, before and after the process without Celery; the means.

| | s | files a second | processor, s | processor, ms a file |
|---|---|---|---|---|
{os.linesep.join(lines)}

* Two workers do {speedup:.2f} times the files of one in the same time (wanted: {SPEEDUP}). Database and planner need processors too: what they take of two is not left for workers.
* One worker takes {overhead:+.1%} of the time of `in_process`, and {more_cpu:+.1%} of its processor time (wanted: at most {OVERHEAD:.0%}).
"""
    publish(options.out, report)
    print(report)
    exit_if_missed(
        {
            f"{SPEEDUP} times the files by two workers": speedup >= SPEEDUP,
            f"{OVERHEAD:.0%} of time": overhead <= OVERHEAD,
            f"{OVERHEAD:.0%} of processor time": more_cpu <= OVERHEAD,
        }
    )


if __name__ == "__main__":
    main()
