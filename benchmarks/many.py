"""A thousand small files from a container to a searchable catalogue, against a shell loop: `make bench-many`.

Here: our pipeline; `rio cogeo create` for each raster followed by one `pypgstac load`; `ogr2ogr` for each vector.
Not here: large files (`raster.py`, `vector.py`).

The loop is timed on some of the files and the time of one is multiplied: its cost is that of starting a process for
each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import rasterio
from rasterio.transform import from_origin

from benchmarks import vector
from benchmarks.measure import exit_if_missed, machine, resident, tree
from benchmarks.pages import publish
from benchmarks.polygons import write_real
from benchmarks.raster import BIN, spectral
from geo_assets.home import default_home
from geo_assets.local.postgresql import ensure_binaries


def write_rasters(folder: Path, count: int, side: int = 300) -> None:
    """Small aerial images."""
    field = spectral(2048, 2048, 1.2, 1) * 40 + 120
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32632",
        "photometric": "RGB",
    }
    for number in range(count):
        x, y = rng.integers(0, 2048 - side, 2)
        pixels = np.stack([field[y : y + side, x : x + side] + band * 5 for band in range(3)]) + rng.standard_normal(
            (3, side, side)
        )
        with rasterio.open(
            folder / f"t{number:04}.tif", "w", **profile, transform=from_origin(5e5 + number * 30, 5e6, 0.1, 0.1)
        ) as dataset:
            dataset.write(np.clip(pixels, 0, 255).astype("uint8"))


def write_vectors(folder: Path, count: int, rows: int = 100) -> None:
    """Small GeoPackages of parcels."""
    for number in range(count):
        write_real(folder / f"p{number:04}.gpkg", rows, seed=number)


def loop_of_rasters(folder: Path, out: Path, files: int, environment: dict[str, str]) -> float:
    """Seconds a file of `rio cogeo create`, and of one load into the catalogue."""
    sources = sorted(folder.glob("*.tif"))[:files]
    start = time.perf_counter()
    lines = []
    for source in sources:
        subprocess.run(
            [BIN / "rio", "cogeo", "create", source, out / source.name, "-p", "deflate", "-q"],
            check=True,
            capture_output=True,
        )
        lines.append(json.dumps(item(out / source.name)))
    (out / "items.ndjson").write_text("\n".join(lines))
    collection = {"type": "Collection", "id": "loop", "stac_version": "1.0.0", "description": "loop", "license": "other", "links": [],
                  "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}}  # fmt: skip
    (out / "collection.json").write_text(json.dumps(collection))
    for kind, name in (("collections", "collection.json"), ("items", "items.ndjson")):
        command = [BIN / "pypgstac", "load", kind, out / name, "--method", "upsert"]
        subprocess.run(command, check=True, capture_output=True, env=environment)
    return (time.perf_counter() - start) / len(sources)


def loop_of_vectors(folder: Path, _: Path, files: int, environment: dict[str, str]) -> float:
    """Seconds a file of `ogr2ogr` with COPY and its GiST index, and of `analyze`."""
    psql = str(ensure_binaries(default_home(), print).bin / "psql")
    sources = sorted(folder.glob("*.gpkg"))[:files]
    start = time.perf_counter()
    for source in sources:
        copy = ["ogr2ogr", "-q", "-f", "PostgreSQL", "PG:active_schema=vector", str(source), "-nln", source.stem, "-lco", "GEOMETRY_NAME=geom",
                "-lco", "FID=gid", "-nlt", "PROMOTE_TO_MULTI", "--config", "PG_USE_COPY", "YES"]  # fmt: skip
        for command in (copy, [psql, "-qc", f"analyze vector.{source.stem}"]):
            subprocess.run(command, check=True, capture_output=True, env=environment)
    seconds = (time.perf_counter() - start) / len(sources)
    drop = "; ".join(f"drop table vector.{source.stem}" for source in sources)
    subprocess.run([psql, "-qc", drop], check=True, capture_output=True, env=environment)
    return seconds


def item(cog: Path) -> dict[str, object]:
    """The least that pgstac takes."""
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": cog.stem, "collection": "loop", "bbox": [9, 45, 9.1, 45.1], "links": [],
        "geometry": {"type": "Point", "coordinates": [9, 45]}, "properties": {"datetime": datetime.now(UTC).isoformat()},
        "assets": {"cog": {"href": str(cog)}},
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ours:
    """One job of our pipeline: seconds from the command to its end, MB of the run's processes together, what the
    command said.
    """

    wall: float
    memory: float
    job: dict


def ingest(folder: Path) -> Ours:
    """Upload a folder, then time its ingest."""
    container = f"many-{time.time_ns()}"
    subprocess.run([BIN / "geo-assets", "upload", folder, f"default/{container}"], check=True, capture_output=True)
    server = json.loads((default_home() / "stack.json").read_text())["processes"]["code_server"]["pid"]
    idle = sum(map(resident, tree(server)))
    done, peak = threading.Event(), [idle]

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], sum(map(resident, tree(server))))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    command = ["submit", "ingest_container", "--param", f"container={container}", "--wait", "--json"]
    said = subprocess.run([BIN / "geo-assets", *command], check=True, capture_output=True, text=True).stdout
    wall = time.perf_counter() - start
    done.set()
    watcher.join()
    return Ours(wall, (peak[0] - idle) / 1e6, json.loads(said))


def steps(run_id: str, environment: dict[str, str]) -> list[tuple[str, float]]:
    """Seconds of each step of a run, chunks together, in their order."""
    query = """select split_part(step_key, '[', 1), sum(seconds) from (
                   select step_key, extract(epoch from max(timestamp) - min(timestamp)) seconds, min(timestamp) began
                     from dagster.event_logs where run_id = %s and dagster_event_type in ('STEP_START', 'STEP_SUCCESS') group by step_key) steps
                group by 1 order by min(began)"""
    with psycopg.connect(
        " ".join(f"{name[2:].lower().replace('database', 'dbname')}={value}" for name, value in environment.items())
    ) as db:
        return [(name, float(seconds)) for name, seconds in db.execute(query, (run_id,)).fetchall()]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is compared with what, and what it must come to: ms a file at most, ratio to the loop at least."""

    title: str
    files: str
    loop: str
    ours: str
    write: Callable[[Path, int], None]
    run_loop: Callable[[Path, Path, int, dict[str, str]], float]
    most_ms: float
    least_ratio: float


KINDS = (
    Kind(
        "Rasters",
        "Images of 300 x 300 x 3, uint8.",
        "`rio cogeo create`, then `pypgstac load`",
        "COG, proof, thumbnail, account, item, collection",
        write_rasters,
        loop_of_rasters,
        25.0,
        25.0,
    ),
    Kind(
        "Vectors",
        "GeoPackages of 100 parcels with ten typed columns.",
        "`ogr2ogr` with COPY and index, then `analyze`",
        "checked table with key, index and comments, account, item, collection",
        write_vectors,
        loop_of_vectors,
        40.0,
        5.0,
    ),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind, measured: seconds a file of the loop, our job of all files and of a tenth, its steps."""

    kind: Kind
    count: int
    looped: int
    one: float
    few: Ours
    ours: Ours
    told: list[tuple[str, float]]

    @property
    def ms(self) -> float:
        """Of ours, a file."""
        return self.ours.wall / self.count * 1000

    @property
    def ratio(self) -> float:
        """How many times as fast ours is as the loop."""
        return self.one * 1000 / self.ms


def compared(kind: Kind, count: int, looped: int, pg: dict[str, str]) -> Compared:
    """Run the loop and our jobs."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        some, all_, out = (Path(name) / part for part in ("some", "all", "out"))
        for folder in (some, all_, out):
            folder.mkdir()
        kind.write(some, count // 10)
        kind.write(all_, count)
        one = kind.run_loop(all_, out, looped, {**os.environ, **pg})
        few, ours = ingest(some), ingest(all_)
    return Compared(kind, count, looped, one, few, ours, steps(ours.job["run_id"], pg))


def section(made: Compared) -> str:
    """Its part of the page."""
    kind, count, ours = made.kind, made.count, made.ours
    rest = ours.wall - sum(seconds for _, seconds in made.told)
    lines = [
        f"| {name.partition('__')[2] or name} | {seconds:.1f} |"
        for name, seconds in [*made.told, ("the command, the queue, the run's start and end", rest)]
    ]
    succeeded = sum(stage["succeeded"] for stage in ours.job["stages"])
    return f"""## {kind.title}

{kind.files}

| | {count:,} files, s | ms a file | ratio |
|---|---|---|---|
| shell loop of {kind.loop} ({made.looped} files, multiplied) | {made.one * count:.0f} | {made.one * 1000:.0f} | 1 |
| `geo-assets submit ingest_container --wait`: {kind.ours} | {ours.wall:.0f} | {made.ms:.0f} | {made.ratio:.1f} x |

Of ours: status {ours.job["status"]}, {succeeded:,} succeeded. Memory of the run worker and its children together, at
most: {made.few.memory:.0f} MB for {count // 10:,} files ({made.few.wall:.0f} s), {ours.memory:.0f} MB for {count:,}.

| step of ours | s |
|---|---|
{os.linesep.join(lines)}
"""


def main() -> None:
    """Run against a stack that is up (`make up`) and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=100, help="files of the shell loop")
    parser.add_argument(
        "--only", choices=[kind.title.lower() for kind in KINDS], help="one kind, which is only printed"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/many.md"))
    options = parser.parse_args()
    before = machine()
    if not vector.ogr2ogr_is_here():
        sys.exit("ogr2ogr is not installed: sudo apt-get install gdal-bin")
    pg = connection()
    wanted = [kind for kind in KINDS if options.only in {None, kind.title.lower()}]
    made = [compared(kind, options.count, options.loop, pg) for kind in wanted]
    held = [
        row
        for each in made
        for row in (
            (
                f"{each.kind.title.lower()}, ms a file: at most {each.kind.most_ms:g}",
                each.ms,
                each.ms <= each.kind.most_ms,
            ),
            (
                f"{each.kind.title.lower()}, loop / ours: at least {each.kind.least_ratio:g}",
                each.ratio,
                each.ratio >= each.kind.least_ratio,
            ),
        )
    ]
    rows = "\n".join(f"| {what} | {value:.1f} | {'yes' if holds else '**no**'} |" for what, value, holds in held)
    report = f"""# A thousand small files

`make bench-many` wrote this. {before}.

{os.linesep.join(map(section, made))}
## Budget

| budget | measured | holds |
|---|---|---|
{rows}
"""
    if options.only is None:
        publish(options.out, report)
    print(report, file=sys.stdout)
    exit_if_missed({what: holds for what, _, holds in held})


def connection() -> dict[str, str]:
    """What `geo-assets env` exports: the role of the pipeline, which may write to pgstac."""
    told = subprocess.run([BIN / "geo-assets", "env", "--json"], check=True, capture_output=True, text=True).stdout
    return {name: str(value) for name, value in json.loads(told).items() if name.startswith("PG")}


if __name__ == "__main__":
    main()
