"""The catalogue, side by side with what it is built on: `make bench-stac`.

Here: 20,000 items as ours are, registering them, the report. Not here: measuring (`with_server.py`), what is served
(`served.py`), verified (`verified.py`) and written as a file (`exports.py`).

    make bench-stac                    # three rounds; about ten minutes
    python -m benchmarks.stac --rounds 1 --items 2000 --rasters 2
    python -m benchmarks.stac --out docs/benchmarks/stac.md

A stack and then a PostgreSQL of its own are started. Competitors take turns, so that a noisy neighbour harms all alike;
of the rounds the median counts. What a job does with files that are converted is the command of `registration.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.exports import BUDGET_SECONDS as PARQUET_SECONDS
from benchmarks.exports import items_file, static_catalogue
from benchmarks.measure import machine
from benchmarks.pages import publish
from benchmarks.raster import BIN
from benchmarks.served import BUDGET as ANSWER_RATIO
from benchmarks.served import Compared, places_of, searches, servers, tiles
from benchmarks.stack import delivered, fill, postmaster, stack
from benchmarks.verified import BUDGET as VERIFY_RATIO
from benchmarks.verified import verified
from benchmarks.with_server import Run, measure, median
from geo_assets.local.postgresql import Cluster, ensure_binaries, free_port
from geo_assets.settings import Settings, load_settings
from geo_assets.stages.catalogue import BATCH
from geo_assets_tests.stac.workers import like_ours

ITEMS = 20_000

_SERVER = {"shared_buffers": "512MB", "max_wal_size": "8GB", "synchronous_commit": "off", "autovacuum": "off"}

#: Ours -> most of what it may cost, as a multiple of `pypgstac load`.
BUDGETS = {"register": 1.3, "register, validated": 3.0, "register, validated, with the account of its job": None}


class Database:
    """A server of the benchmark's own, with the project's schemas."""

    def __init__(self, home: Path) -> None:
        from geo_assets.database.bootstrap import bootstrap
        from geo_assets.database.migrate import migrate

        folder = home / "postgres"
        self.cluster = Cluster(
            ensure_binaries(home, print),
            folder / "data",
            home / "postgres.log",
            free_port(),
            secrets.token_hex(8),
            _SERVER,
        )
        self.cluster.init()
        self.cluster.start()
        password = secrets.token_hex(8)
        ours = {"HOME": home, "PG_PORT": self.cluster.port}
        roles = dict.fromkeys(("MIGRATOR_PASSWORD", "PIPELINE_PASSWORD", "READER_PASSWORD"), password)
        theirs = {"PGHOST": "127.0.0.1", "PGPORT": self.cluster.port, "PGUSER": "geo_pipeline"}
        self.env = {
            **os.environ,
            **{f"GEO_ASSETS_{name}": str(value) for name, value in {**ours, **roles}.items()},
            **{name: str(value) for name, value in theirs.items()},
            "PGPASSWORD": password,
            "PGDATABASE": "geo_assets",
        }
        os.environ.update(self.env)
        self.settings = Settings()
        bootstrap(self.cluster.dsn(), self.settings)
        migrate(self.settings)
        self.postmaster = self.cluster.pid() or 0


def main() -> None:
    """Measure and report."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--items", type=int, default=ITEMS)
    arguments.add_argument("--rasters", type=int, default=12, help="of 85 MB each, that are verified")
    arguments.add_argument("--questions", type=int, default=100, help="of each kind and round")
    arguments.add_argument("--out", type=Path, help="where the report is written, besides being printed")
    chosen = arguments.parse_args()
    before, began = machine(), time.monotonic()
    with stack() as home:
        published = measured(home, chosen)
    home = Path(tempfile.mkdtemp(prefix="geo_bench_"))
    home.chmod(0o755)
    db = Database(home)
    try:
        loads = load_rounds(db, home, chosen.rounds, chosen.items)
    finally:
        db.cluster.stop("immediate")
        shutil.rmtree(home, ignore_errors=True)
    text = report(before, loads, published, chosen, (time.monotonic() - began) / 60)
    print(text)
    if chosen.out:
        publish(chosen.out, text)


@dataclass(frozen=True, slots=True)
class Published:
    """What was measured of what is published."""

    answers: list[Compared]
    verified: dict[str, list[Run]]
    megabytes: float  # that were verified
    file: dict[str, float]  # of the items
    export: dict[str, float]


def measured(home: Path, chosen: argparse.Namespace) -> Published:
    """Verify a delivery; then a collection with many items: as a file, as a static catalogue, searched."""
    delivery, settings = delivered(home, chosen.rasters), load_settings()
    verifications = verified(delivery.job_id, delivery.files, postmaster(home), chosen.rounds)
    fill(settings, home, "many", chosen.items)
    file = items_file(settings, "many")
    export = static_catalogue(settings, "many", home / "exported")
    with servers(settings, home) as ports:
        answers = searches(ports, "many", chosen.rounds, chosen.questions)
        answers.append(tiles(ports, delivery.picture, delivery.cog, places_of(delivery.cog), chosen.rounds))
    megabytes = sum(Path(name).stat().st_size for name in delivery.files) / 1e6
    return Published(answers, verifications, megabytes, file, export)


def load_rounds(db: Database, home: Path, rounds: int, count: int) -> dict[str, list[Run]]:
    """Each round loads the same items into new collections, one after the other."""
    from geo_assets.stac.collection import Described
    from geo_assets.stac.pgstac import create_collection

    results: dict[str, list[Run]] = {}
    for number in range(rounds):
        for name in ("pypgstac load", *BUDGETS):
            collection = f"{name.replace(', ', '-').replace(' ', '-')}-{number}"
            create_collection(db.settings, collection, Described())
            file = home / f"{collection}.ndjson"
            file.write_text("".join(json.dumps(i) + "\n" for i in items(collection, count)), encoding="utf-8")
            command = [str(BIN / "pypgstac"), "load", "items", str(file), "--method", "upsert"]
            if name in BUDGETS:
                command = [sys.executable, "-m", "benchmarks.registration", str(file), collection]
                command += [prepared(db.settings, collection, count), str(BATCH)]
                command += [f"--{what}" for what in ("validate", "account") if what in name]
            results.setdefault(name, []).append(measure([command], db.env, db.postmaster))
            insist_on_all(db.settings, collection, count)
            file.unlink()
    return results


def items(collection: str, count: int) -> Iterator[dict[str, Any]]:
    """Items as ours are, over two years."""
    return (like_ours(collection, f"i{n}", n % 9000) for n in range(count))


def prepared(settings: Settings, collection: str, count: int) -> str:
    """Submit a job, claim it and plan its tasks, as the stages before do; returns its id and run."""
    from geo_assets.file_stages import COGS
    from geo_assets.ledger.models import PlannedTask
    from geo_assets.parameters import validate_parameters
    from geo_assets.submissions.submit import Submitter

    (settings.home / "containers" / collection).mkdir(parents=True)
    with Submitter(settings, launches=False) as submitter:
        job = submitter.submit(
            validate_parameters("ingest_container", {"container": collection}), submitted_by="benchmark"
        )
        submitter.jobs.claim(job.partition_key, collection, job.attempt)
        tasks = (PlannedTask(task_key=f"i{n}", kind="raster", fingerprint="f") for n in range(count))
        submitter.tasks.plan(job.job_id, collection, COGS, tasks)
    return job.job_id


def insist_on_all(settings: Settings, collection: str, count: int) -> None:
    """A competitor that loses items does not count."""
    from geo_assets.database.connections import connect

    with connect(settings) as conn:
        ((found,),) = conn.execute("select count(*) from pgstac.items where collection = %s", (collection,)).fetchall()
    if found != count:
        raise RuntimeError(f"{collection}: {found:,} of {count:,} items")


def report(
    before: str, loads: dict[str, list[Run]], published: Published, chosen: argparse.Namespace, minutes: float
) -> str:
    """The page."""
    file, export = published.file, published.export
    return f"""# The catalogue

Of `make bench-stac`, {minutes:.0f} minutes. {before}. {chosen.items:,} items as ours are (2.6 KB each), {chosen.rounds} rounds in turns, medians.

## Registering

`pypgstac load items` of a file in one piece, and what a job does: commits of {BATCH} items, each under the lease of the job, with the read-back of what was loaded;
the account is that of its tasks, publications and deltas. CPU seconds of the command and of PostgreSQL together are what counts: the wall clock of a shared
machine is noise.

| | CPU, s | of PostgreSQL | wall, s | MB | CPU, ratio | budget |
|---|---|---|---|---|---|---|
{rows(loads)}

## Answers

`geo-assets serve` and the libraries that it is made of, each a process, asked the same in turns by one client that keeps its connection. Searches: boxes of 2 to 20
degrees, in stac-fastapi-pgstac's own application with its defaults, as the same role on the same database; both find the same items. Tiles: of 512 pixels, of a COG in
colour, in an application of titiler's `TilerFactory`; both draw the same bytes. Milliseconds; the ratio is the median of the ratios of the rounds.

| | ours, median | 95 % | bare, median | 95 % | ratio, median | 95 % | budget |
|---|---|---|---|---|---|---|---|
{answers(published.answers)}

## Verifying

`geo-assets verify --deep` of a job, and `sha256sum` of the files that it published: {published.megabytes:.0f} MB. Besides hashing it starts Python, reads each COG's
header in the sandbox, and compares items with catalogue and receipt.

| | CPU, s | of PostgreSQL | wall, s | MB a CPU second | ratio | budget |
|---|---|---|---|---|---|---|
{verifications(published)}

## Files of items

| | seconds | budget | MB |
|---|---|---|---|
| `items.parquet` of {chosen.items:,} items | {file["seconds"]:.1f} | {PARQUET_SECONDS:.1f} | {file["bytes"] / 1e6:.1f} |
| the same, nothing changed | {file["seconds_unchanged"]:.2f} |  |  |
| `geo-assets export` without data, {export["files"]:,.0f} files | {export["seconds"]:.1f} |  | {export["bytes"] / 1e6:.1f} |
"""


def answers(compared: Sequence[Compared]) -> str:
    """A line each; the budget is of the median for tiles, of 95 % for searches."""
    return "\n".join(
        f"| {one.what} | {one.ours[0]:.1f} | {one.ours[1]:.1f} | {one.bare[0]:.1f} | {one.bare[1]:.1f} |"
        f" {one.ratio[0]:.2f} | {one.ratio[1]:.2f} | {ANSWER_RATIO} |"
        for one in compared
    )


def verifications(published: Published) -> str:
    """A line each; the ratio is the median of the ratios of the rounds."""
    lines = []
    for name, runs in published.verified.items():
        one = median(runs)
        ratio = statistics.median(
            other.cpu / run.cpu for run, other in zip(runs, published.verified["sha256sum"], strict=True)
        )
        budget = f"{VERIFY_RATIO} at least" if name != "sha256sum" else ""
        lines.append(
            f"| {name} | {one.cpu:.1f} | {one.server_cpu:.1f} | {one.wall:.1f} |"
            f" {published.megabytes / one.cpu:.0f} | {ratio:.2f} | {budget} |"
        )
    return "\n".join(lines)


def rows(loads: dict[str, list[Run]]) -> str:
    """A line each; the ratio is the median of the ratios of the rounds."""
    base = loads["pypgstac load"]
    lines = []
    for name, runs in loads.items():
        one = median(runs)
        ratio = statistics.median(run.cpu / other.cpu for run, other in zip(runs, base, strict=True))
        budget = f"{most:.1f}" if (most := BUDGETS.get(name)) else ""
        lines.append(
            f"| {name} | {one.cpu:.1f} | {one.server_cpu:.1f} | {one.wall:.1f} | {one.peak_mb:.0f} |"
            f" {ratio:.2f} | {budget} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
