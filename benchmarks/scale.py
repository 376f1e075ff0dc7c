"""Past what one machine has seen: a million files listed and planned, a hundred thousand through all stages, and what
more workers would do.

Here: what each layer costs for a file, with the ledger, Dagster's event log and pgstac as they are, and the report. Not
here: conversions (`raster.py`), what stands in their place (`stubbed.py`), the model (`queueing.py`), what follows from
the figures (`docs/scaling.md`).

    make bench-scale                                              # about forty minutes; writes the report
    python -m benchmarks.scale --listed 1000,10000 --worked 1000 --shared 300   # to try it

Three parts. Containers of growing size are planned and listed. One job goes through all stages in one process, with
conversions that take no time: seconds of each stage, rows and bytes of each table. Then 1, 2 and 4 processes share jobs
with conversions that take a known time; what the model says of 2 and 4 of them, given what one took, is compared with
what they took.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import stubbed
from benchmarks.celery import cpu
from benchmarks.drawing import Series, write_curve
from benchmarks.measure import exit_if_missed, machine
from benchmarks.pages import publish
from benchmarks.queueing import Station, files_a_second, job_seconds, processors_needed
from benchmarks.stack import postmaster, stack, superuser, told

#: Most memory of a process that lists or plans, MB; how much the time for a further file may differ between sizes; how
#: far the model may be from what several processes did.
MEMORY_MB, EVENNESS, ACCURACY = 300.0, 1.2, 0.2

#: Processes that share a job, and seconds of their conversions: those of a small raster.
WORKERS, STUB_SECONDS = (1, 2, 4), 0.07

#: Seconds between two looks at the processor time of the database.
_LOOK_EVERY = 0.2

_TABLES = (
    "geo.tasks",
    "geo.inventory",
    "geo.contracts",
    "geo.changes",
    "geo.published",
    "geo.change_feed",
    "pgstac.items",
    "dagster.event_logs",
)

#: Files of a listing or a plan that is repeated: of a second, a tenth may be chance.
_REPEATED = 100_000


# -- in a process of its own -------------------------------------------------------------------------------------------


def inside(deed: str, files: int, workers: int) -> dict[str, Any]:
    """Do one thing with so many files; what it took."""
    from geo_assets.parameters import validate_parameters

    listed = stubbed.list_nothing(files)
    start, used = time.perf_counter(), time.process_time()
    steps: dict[str, float] = {}
    more: dict[str, float] = {}
    if deed == "plan":
        _plan(validate_parameters("ingest_container", {"container": listed.name}))
    elif deed == "shared":
        more = _share(files, workers)
    else:
        stubbed.convert_nothing(0.0) if deed == "ingest" else None
        steps = _run("list_container" if deed == "list" else "ingest_container", files)
    return {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - used,
        "memory": _peak_mb(),
        "steps": steps,
        **more,
    }


def _peak_mb() -> float:
    """The most memory that this process had, MB: as the kernel has counted since it began its program."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _plan(parameters: Any) -> None:
    from geo_assets.settings import load_settings
    from geo_assets.stages.planning import make_plan
    from geo_assets.submissions.submit import Submitter

    settings = load_settings()
    with Submitter(settings, launches=False) as submitter, make_plan(settings, submitter.tasks, parameters) as plan:
        for _ in plan.document():
            pass


def _run(job_type: str, files: int) -> dict[str, float]:
    """Submit a job and execute it here, with Dagster's instance of the stack; seconds of each step, chunks together."""
    import dagster as dg

    from geo_assets.definitions import build_defs
    from geo_assets.settings import load_settings

    job = stubbed.submitted(job_type, files)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(job.job_type, [job.partition_key])
        made = build_defs(load_settings()).resolve_job_def(job.job_type)
        result = made.execute_in_process(instance=instance, partition_key=job.partition_key)
        stubbed.insist_on_success(job.job_id)
        steps: dict[str, float] = {}
        for stats in instance.get_run_step_stats(result.run_id):
            name = stats.step_key.partition("[")[0]
            steps[name] = steps.get(name, 0.0) + (stats.end_time or 0) - (stats.start_time or 0)
    return steps


def _share(files: int, workers: int) -> dict[str, float]:
    """Let some processes work on one job at a time each; seconds of the stage, and processor seconds of the database
    and of all others meanwhile.
    """
    import dagster as dg

    from geo_assets.settings import load_settings

    os.environ |= {stubbed.FILES: str(files), stubbed.SECONDS: str(STUB_SECONDS)}
    job = stubbed.submitted("ingest_container", files)
    with dg.DagsterInstance.get() as instance, _watched(load_settings().home) as seen:
        instance.add_dynamic_partitions(job.job_type, [job.partition_key])
        config = {"execution": {"config": {"multiprocess": {"max_concurrent": workers}}}}
        tags = {"dagster/partition": job.partition_key}
        with dg.execute_job(dg.reconstructable(stubbed.job), instance=instance, run_config=config, tags=tags) as done:
            stubbed.insist_on_success(job.job_id)
            stats = [s for s in instance.get_run_step_stats(done.run_id) if "convert_rasters" in s.step_key]
    first, last = min(s.start_time or 0 for s in stats), max(s.end_time or 0 for s in stats)
    used = {"database": seen.database(first, last), "others": seen.others(first, last)}
    return {"stage": last - first, **used, "connections": seen.connections}


class _Seen:
    """Processor time of the database and of this process with its own, and connections, again and again."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float, float]] = []
        self.connections = 0  # the most at a time

    def database(self, first: float, last: float) -> float:
        """Processor seconds between two moments."""
        return self._between(first, last, 1)

    def others(self, first: float, last: float) -> float:
        """As `database`, of this process and those below it."""
        return self._between(first, last, 2)

    def _between(self, first: float, last: float, column: int) -> float:
        within = [sample for sample in self.samples if first <= sample[0] <= last]
        return within[-1][column] - within[0][column]


@contextmanager
def _watched(home: Path) -> Iterator[_Seen]:
    seen, over, root = _Seen(), threading.Event(), postmaster(home)
    query = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"

    def look() -> None:
        with superuser(home) as conn:
            while not over.wait(_LOOK_EVERY):
                seen.samples.append((time.time(), cpu(root), cpu(os.getpid())))
                (now,) = conn.execute(query).fetchone() or (0,)
                seen.connections = max(seen.connections, now)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


# -- outside -----------------------------------------------------------------------------------------------------------


def measured(home: Path, deed: str, files: int, *, chunk_files: int = 0, workers: int = 1) -> dict[str, Any]:
    """One deed in a process of its own: seconds, memory, and what became of the database.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    before = _database(home)
    command = [sys.executable, "-m", "benchmarks.scale", "--inside", deed, "--files", str(files)]
    own = {"GEO_ASSETS_CHUNK_FILES": str(chunk_files or max(64, files // 64)), "GEO_ASSETS_WORKERS": "1"}
    environment = {**os.environ, **told("env"), **own}
    done = subprocess.run(
        [*command, "--workers", str(workers)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{deed} of {files} files failed: {done.stderr[-2000:]}")
    after = _database(home)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found["wal"] = after["wal"] - before["wal"]
    found["rows"] = {t: after["rows"][t] - before["rows"][t] for t in after["rows"]}
    found["bytes"] = {t: after["bytes"][t] - before["bytes"][t] for t in after["bytes"]}
    return found


def _database(home: Path) -> dict[str, Any]:
    rows, sizes = {}, {}
    with superuser(home) as conn:
        for table in _TABLES:
            try:
                (rows[table],) = conn.execute(f"select count(*) from {table}").fetchone() or (0,)
                query = (
                    "select coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size(%(table)s::regclass))"
                    "::bigint from pg_partition_tree(%(table)s::regclass)"
                )
                (sizes[table],) = conn.execute(query, {"table": table}).fetchone() or (0,)
            except psycopg.errors.UndefinedTable:
                continue
        (wal,) = conn.execute("select (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone() or (0,)
    return {"rows": rows, "bytes": sizes, "wal": wal}


@dataclass(frozen=True, slots=True)
class Shared:
    """What some processes took for a stage of so many files. Seconds; of processors, all together."""

    workers: int
    files: int
    stage: float
    database: float
    others: float
    connections: int

    @property
    def rate(self) -> float:
        """Files a second."""
        return self.files / self.stage


def main() -> None:
    """Measure, write the report, and fail where something is not as wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--listed", default="10000,100000,1000000", help="files of each listing and plan")
    parser.add_argument("--worked", type=int, default=100_000, help="files that go through all stages")
    parser.add_argument("--shared", type=int, default=1600, help="files that several processes share")
    parser.add_argument("--out", type=Path, help="folder of the report; by default docs, if all is of full size")
    parser.add_argument("--inside", choices=["plan", "list", "ingest", "shared"], help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        print(json.dumps(inside(asked.inside, asked.files, asked.workers)))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    is_full = all(getattr(asked, name) == parser.get_default(name) for name in ("listed", "worked", "shared"))
    sizes = [int(number) for number in asked.listed.split(",")]
    _measure(sizes, asked.worked, asked.shared, asked.out or (Path("docs") if is_full else None))


def _measure(sizes: list[int], worked: int, shared: int, out: Path | None) -> None:
    before = machine()
    with stack() as home:
        _one_raster(home)
        listed = {deed: {files: _median(home, deed, files) for files in sizes} for deed in ("plan", "list")}
        several = [_shared(home, shared + number, workers) for number, workers in enumerate(WORKERS)]
        one = measured(home, "ingest", worked)
    text = "\n".join(
        [
            "# Past what one machine has seen",
            "",
            f"`make bench-scale` wrote this. {before}. What follows from it: [scaling](../scaling.md).",
            "",
            *_of_lists(listed),
            *_of_stages(worked, one),
            *_of_workers(several),
        ]
    )
    print(text)
    if out:
        for folder in ("benchmarks", "images"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        publish(out / "benchmarks" / "scale.md", text)
        _draw(out / "images" / "scaling.svg", several, _one_by_one(worked, one))
    exit_if_missed(
        {
            f"memory of {deed}": max(each["memory"] for each in found.values()) <= MEMORY_MB
            for deed, found in listed.items()
        }
        | {f"time for a file of {deed}": _is_even(found) for deed, found in listed.items()}
        | {f"the model of {each.workers} processes": _error(several[0], each) <= ACCURACY for each in several}
    )


def _median(home: Path, deed: str, files: int) -> dict[str, Any]:
    """One of three that took neither most nor least; what takes half a minute is measured once. Each has a file more
    than the one before, as the same request would be the same job.
    """
    rounds = 3 if files <= _REPEATED else 1
    found = [measured(home, deed, files + number) for number in range(rounds)]
    return sorted(found, key=lambda each: float(each["wall"]))[rounds // 2]


def _further(found: dict[int, dict[str, Any]]) -> list[float]:
    """Seconds for each file more, from each size to the next: the start of a process is not a file's."""
    sizes = sorted(found)
    pairs = itertools.pairwise(sizes)
    return [(found[large]["wall"] - found[small]["wall"]) / (large - small) for small, large in pairs]


def _is_even(found: dict[int, dict[str, Any]]) -> bool:
    each = _further(found)
    return max(each) <= EVENNESS * min(each) if each else True


def _shared(home: Path, files: int, workers: int) -> Shared:
    found = measured(home, "shared", files, chunk_files=64, workers=workers)
    return Shared(workers, files, found["stage"], found["database"], found["others"], int(found["connections"]))


def _one_raster(home: Path) -> None:
    """A real one, from which the others have what a conversion tells."""
    from benchmarks.raster import write_rgb

    folder = home / "containers" / "template"
    folder.mkdir(parents=True)
    write_rgb(folder / "one.tif", 64)
    told("submit", "stage_raster", "--param", "container=template", "--wait")


# -- the model ---------------------------------------------------------------------------------------------------------


def _here(one: Shared, workers: int) -> float:
    """Files a second of so many processes that share this machine with the database, by what one of them took."""
    used = (one.database + one.others) / one.files
    return files_a_second(workers, one.stage / one.files - used, Station(used, os.cpu_count() or 1))


def _elsewhere(one: Shared, workers: int, processors: int, seconds: float) -> float:
    """As `_here`, of workers with processors of their own, a database with so many, conversions of so many seconds."""
    alone = (one.stage - one.database) / one.files - STUB_SECONDS + seconds
    return files_a_second(workers, alone, Station(one.database / one.files, processors))


def _error(one: Shared, several: Shared) -> float:
    return abs(_here(one, several.workers) / several.rate - 1)


# -- the report --------------------------------------------------------------------------------------------------------


def _of_lists(listed: dict[str, dict[int, dict[str, Any]]]) -> Iterator[str]:
    yield from ("## Listed and planned", "")
    yield "`plan` is what `geo-assets plan` does, `list` a job that lists a container into the ledger. A further file is one more than at the size before."
    yield from ("", "| | files | s | processor, s | µs a further file | memory, MB |", "|---|---|---|---|---|---|")
    for deed, found in listed.items():
        further = ["", *(f"{seconds * 1e6:.0f}" for seconds in _further(found))]
        for (files, one), more in zip(sorted(found.items()), further, strict=True):
            yield f"| {deed} | {files:,} | {one['wall']:.1f} | {one['cpu']:.1f} | {more} | {one['memory']:.0f} |"
    yield ""


def _one_by_one(files: int, one: dict[str, Any]) -> float:
    """Seconds of a file in the stages that one process does."""
    return sum(seconds for step, seconds in one["steps"].items() if "convert_rasters" not in step) / files


def _of_stages(files: int, one: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {files:,} files through all stages", "")
    yield f"In one process with one thread, conversions that take no time: {one['wall']:.0f} s, of which the process was busy for {one['cpu']:.0f} s; its memory {one['memory']:.0f} MB."
    yield from ("", "| step | s | µs a file |", "|---|---|---|")
    for step, seconds in sorted(one["steps"].items(), key=lambda found: -found[1]):
        yield f"| `{step.rpartition('__')[2]}` | {seconds:.1f} | {seconds / files * 1e6:.0f} |"
    yield from ("", f"WAL: {one['wal'] / files:,.0f} bytes a file.", "")
    yield from ("| table | rows a file | bytes a file, with indexes |", "|---|---|---|")
    for table, rows in one["rows"].items():
        if rows:
            yield f"| `{table}` | {rows / files:.3f} | {one['bytes'][table] / files:,.0f} |"
    yield ""


def _of_workers(several: list[Shared]) -> Iterator[str]:
    one, files = several[0], several[0].files
    yield from ("## More workers", "")
    yield (
        f"{files:,} files whose conversion takes {STUB_SECONDS} s, in chunks of 64, by 1, 2 and 4 processes that share this machine with the database. The model"
        " knows what one process took, and says the rest."
    )
    yield from ("", "| processes | files a second | by the model | difference | connections |", "|---|---|---|---|---|")
    for each in several:
        model = _here(one, each.workers)
        yield f"| {each.workers} | {each.rate:.1f} | {model:.1f} | {model / each.rate - 1:+.0%} | {each.connections} |"
    yield ""
    yield (
        f"A file takes {1e3 * one.database / files:.1f} ms of processor time of the database and {1e3 * one.others / files:.1f} ms of its worker's,"
        " the conversion apart."
    )
    yield from ("", "Workers with processors of their own, files a second by the model:", "")
    yield "| workers | seconds of a conversion | database of 2 processors | of 8 | processors for 60 % busy |"
    yield "|---|---|---|---|---|"
    for workers in (10, 100):
        for seconds in (STUB_SECONDS, 1.0, 10.0):
            two, eight = (_elsewhere(one, workers, processors, seconds) for processors in (2, 8))
            needed = processors_needed(_elsewhere(one, workers, 64, seconds), one.database / files)
            yield f"| {workers} | {seconds:g} | {two:.0f} | {eight:.0f} | {needed} |"


def _draw(place: Path, several: list[Shared], one_by_one: float) -> None:
    """Minutes of a job of 100,000 files, by the number of workers."""
    one, counts = several[0], [1, 2, 4, 8, 16, 32, 64, 100]
    series = [
        Series(
            f"{seconds:g} s a file, database of {processors} processors",
            [(n, job_seconds(100_000, _elsewhere(one, n, processors, seconds), one_by_one) / 60) for n in counts],
        )
        for seconds, processors in ((10.0, 2), (1.0, 2), (STUB_SECONDS, 2), (STUB_SECONDS, 8))
    ]
    floor = Series("what one process does for all files", [(n, 100_000 * one_by_one / 60) for n in (1, 100)])
    write_curve(place, "Minutes for 100,000 files", "workers", "minutes", [*series, floor])


if __name__ == "__main__":
    main()
