"""Past what one machine has seen: a million files listed and planned, a hundred thousand through all stages.

Here: what each layer costs for a file, with the ledger, Dagster's event log and pgstac as they are, a store that lists
files which are not there, and a conversion that takes a known time and converts nothing. Not here: conversions
(`raster.py`), what follows from the figures (`docs/scaling.md`).

    python -m benchmarks.scale                                    # 10,000, 100,000 and 1,000,000 listed; 100,000 worked on
    python -m benchmarks.scale --listed 1000,10000 --worked 1000  # to try it
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measure import machine
from benchmarks.stack import stack, superuser, told

#: Most memory of a process that lists or plans, MB, and how much the time for a file may differ between sizes.
MEMORY_MB, EVENNESS = 300.0, 1.2

#: Files of a page of a store, as Azure's and S3's have at most.
_PAGE = 5000

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


# -- in a process of its own -------------------------------------------------------------------------------------------


class Listed:
    """A container of files that are in no store."""

    alias, etags_are_proof = "default", True

    def __init__(self, name: str, files: int) -> None:
        self._name, self._files = name, files

    def __str__(self) -> str:
        return f"{self.alias}/{self._name}"

    def exists(self) -> bool:
        """It does."""
        return True

    def list(self, prefix: str = "", *, exact: bool = False) -> Iterator[list[Any]]:  # noqa: ARG002 - a container's
        """Pages of small rasters, in the order of their names."""
        from geo_assets.storage.containers import Blob

        modified = datetime(2026, 1, 1, tzinfo=UTC)
        for first in range(0, self._files, _PAGE):
            numbers = range(first, min(first + _PAGE, self._files))
            yield [
                Blob(path=f"{n // 1000:05}/tile_{n:07}.tif", size=20_000, etag=f"e{n}", last_modified=modified)
                for n in numbers
            ]

    def href(self, path: str) -> str:
        """An address."""
        return f"https://example.org/{self._name}/{path}"


def inside(deed: str, files: int, seconds: float) -> dict[str, Any]:
    """Do one thing with so many files; what it took."""
    from geo_assets.parameters import validate_parameters
    from geo_assets.stages import planning
    from geo_assets.stages.context import StageContext
    from geo_assets.submissions import submit

    container = f"scale{files}"
    listed = Listed(container, files)
    StageContext.source_container = lambda *_: listed  # type: ignore[assignment,method-assign,return-value]
    planning.existing_container = submit.existing_container = lambda *_, **__: listed  # type: ignore[assignment,attr-defined,return-value]
    start, cpu = time.perf_counter(), time.process_time()
    steps: dict[str, float] = {}
    if deed == "plan":
        _plan(validate_parameters("ingest_container", {"container": container}))
    else:
        job_type = "list_container" if deed == "list" else "ingest_container"
        if deed == "ingest":
            _convert_nothing(seconds)
        steps = _run(validate_parameters(job_type, {"container": container}))
    return {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "memory": _peak_mb(),
        "steps": steps,
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


def _convert_nothing(seconds: float) -> None:
    """Replace the conversion by one that waits, and tells what a real one told of its raster."""
    from geo_assets.outcomes import CogOutputs, CogReceipt, FetchedFile
    from geo_assets.settings import load_settings
    from geo_assets.stages import catalogue, checks, cogs

    with psycopg.connect(load_settings().dsn("pipeline")) as conn:
        row = conn.execute("select receipt from geo.tasks where receipt is not null limit 1").fetchone()
    if row is None:
        raise RuntimeError("no raster was converted before")
    told = CogReceipt.model_validate(row[0])

    def convert(context: Any, job: Any, work: Any) -> Any:
        time.sleep(seconds)
        name = work.task_key.replace("/", "_")
        outputs = CogOutputs(
            cog=f"default/cogs/{job.job_id[:8]}/{name}", sha256="0" * 64, thumbnail=f"default/thumbnails/{name}.png"
        )
        member = work.input.members[0]
        fetched = FetchedFile(path=member.path, size=member.size, etag=member.etag, sha256="0" * 64)
        context.tasks.uploading(job.run_id, [outputs.cog, outputs.thumbnail])
        context.tasks.converted(
            job.job_id,
            job.run_id,
            cogs.STAGE,
            work.task_key,
            outputs=outputs,
            receipt=told.model_copy(update={"input": (fetched,)}),
        )
        return outputs

    cogs._convert = convert  # noqa: SLF001 - the one place where files are read
    checks.size_of_cog = catalogue.size_of_cog = lambda *_: told.report.bytes if told.report else 0
    catalogue.disagreements = lambda _, made: [None] * len(made)  # of the child, too
    catalogue._file = lambda _, source, blob: f"https://example.org/{blob}"  # noqa: ARG005, SLF001 - a thumbnail's


def _run(parameters: Any) -> dict[str, float]:
    """Submit a job and execute it here, with Dagster's instance of the stack; seconds of each step, chunks together."""
    import dagster as dg

    from geo_assets.definitions import build_defs
    from geo_assets.parameters import Job
    from geo_assets.settings import load_settings
    from geo_assets.submissions.submit import Submitter

    settings, job = load_settings(), Job.of(parameters)
    with Submitter(settings, launches=False) as submitter:
        submitter.submit(parameters, submitted_by="benchmark")
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(job.job_type, [job.partition_key])
        made = build_defs(settings).resolve_job_def(job.job_type)
        result = made.execute_in_process(instance=instance, partition_key=job.partition_key)
        _insist_on_success(settings, job.job_id)
        steps: dict[str, float] = {}
        for stats in instance.get_run_step_stats(result.run_id):
            name = stats.step_key.partition("[")[0]
            steps[name] = steps.get(name, 0.0) + (stats.end_time or 0) - (stats.start_time or 0)
    return steps


def _insist_on_success(settings: Any, job_id: str) -> None:
    query = "select status::text, error_message, count(*) from geo.tasks where job_id = %s group by 1, 2"
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        bad = [row for row in conn.execute(query, (job_id,)).fetchall() if row[0] != "succeeded"]
    if bad:
        raise RuntimeError(f"not every file succeeded: {bad[:3]}")


# -- outside -----------------------------------------------------------------------------------------------------------


def measured(home: Path, deed: str, files: int, seconds: float = 0.0) -> dict[str, Any]:
    """One deed in a process of its own: seconds, memory, and what became of the database."""
    before = _database(home)
    command = [sys.executable, "-m", "benchmarks.scale", "--inside", deed, "--files", str(files)]
    environment = {**os.environ, **told("env"), "GEO_ASSETS_CHUNK_FILES": str(max(64, files // 64))}
    done = subprocess.run(
        [*command, "--stub-seconds", str(seconds)], env=environment, capture_output=True, text=True, check=False
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


def main() -> None:
    """Measure, print, and fail where something is not as wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--listed", default="10000,100000,1000000", help="files of each listing and plan")
    parser.add_argument("--worked", type=int, default=100_000, help="files that go through all stages")
    parser.add_argument("--stub-seconds", type=float, default=0.0, help="that a conversion takes")
    parser.add_argument("--inside", choices=["plan", "list", "ingest"], help=argparse.SUPPRESS)
    parser.add_argument("--files", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        print(json.dumps(inside(asked.inside, asked.files, asked.stub_seconds)))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    missed = _measure([int(number) for number in asked.listed.split(",")], asked.worked, asked.stub_seconds)
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


def _measure(sizes: list[int], worked: int, seconds: float) -> list[str]:
    print(f"{machine()}\n")
    missed = []
    with stack() as home:
        _one_raster(home)
        for deed in ("plan", "list"):
            found = {files: measured(home, deed, files) for files in sizes}
            for files, one in found.items():
                print(
                    f"{deed} of {files:>9,} files: {one['wall']:7.1f} s, {one['wall'] / files * 1e6:6.0f} µs a file,"
                    f" CPU {one['cpu']:6.1f} s, {one['memory']:4.0f} MB"
                )
            each = [one["wall"] / files for files, one in found.items()]
            missed += [f"memory of {deed}"] * (max(one["memory"] for one in found.values()) > MEMORY_MB)
            missed += [f"time for a file of {deed}"] * (max(each[1:]) > EVENNESS * min(each[1:]))
        _tell(worked, measured(home, "ingest", worked, seconds))
    return missed


def _one_raster(home: Path) -> None:
    """A real one, from which the others have what a conversion tells."""
    from benchmarks.raster import write_rgb

    folder = home / "containers" / "template"
    folder.mkdir(parents=True)
    write_rgb(folder / "one.tif", 64)
    told("submit", "stage_raster", "--param", "container=template", "--wait")


def _tell(files: int, one: dict[str, Any]) -> None:
    print(f"\ningest of {files:,} files: {one['wall']:.1f} s, CPU {one['cpu']:.1f} s, {one['memory']:.0f} MB")
    for step, seconds in sorted(one["steps"].items(), key=lambda found: -found[1]):
        print(f"  {step:<60} {seconds:8.1f} s {seconds / files * 1e6:7.0f} µs a file")
    print(f"  WAL {one['wal'] / files:,.0f} bytes a file")
    for table, rows in one["rows"].items():
        if rows:
            print(f"  {table:<20} {rows / files:6.3f} rows, {one['bytes'][table] / files:7,.0f} bytes a file")


if __name__ == "__main__":
    main()
