"""A thousand small rasters from a container to a searchable catalogue, against a shell loop: `make bench-many`.

Here: our pipeline, and `rio cogeo create` for each file followed by one `pypgstac load`. Not here: large rasters
(`raster.py`).

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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg
import rasterio
from rasterio.transform import from_origin

from benchmarks.measure import machine, resident, tree
from benchmarks.pages import publish
from benchmarks.raster import BIN, spectral
from geo_assets.settings import default_home


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


def loop(folder: Path, out: Path, files: int, environment: dict[str, str]) -> float:
    """Seconds a file of the shell loop."""
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


def main() -> None:
    """Run against a stack that is up (`make up`) and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=100, help="files of the shell loop")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/many.md"))
    options = parser.parse_args()
    before = machine()
    pg = connection()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        some, all_, out = (Path(name) / part for part in ("some", "all", "out"))
        for folder in (some, all_, out):
            folder.mkdir()
        write_rasters(some, options.count // 10)
        write_rasters(all_, options.count)
        one = loop(all_, out, options.loop, {**os.environ, **pg})
        few, ours = ingest(some), ingest(all_)
    told = steps(ours.job["run_id"], pg)
    rest = ours.wall - sum(seconds for _, seconds in told)
    lines = [
        f"| {name} | {seconds:.1f} |"
        for name, seconds in [*told, ("the command, the queue, the run's start and end", rest)]
    ]
    report = f"""# A thousand small rasters

`make bench-many` wrote this. {before}. Images of 300 x 300 x 3, uint8.

| | {options.count:,} files, s | ms a file | ratio |
|---|---|---|---|
| shell loop of `rio cogeo create`, then `pypgstac load` ({options.loop} files, multiplied) | {one * options.count:.0f} | {one * 1000:.0f} | 1 |
| `geo-assets submit ingest_container --wait`: COG, proof, thumbnail, account, item, collection | {ours.wall:.0f} | {ours.wall / options.count * 1000:.0f} | {one * options.count / ours.wall:.1f} x |

Of ours: status {ours.job["status"]}, {ours.job["stages"][0]["succeeded"]:,} succeeded. Memory of the run worker and its children together, at
most: {few.memory:.0f} MB for {options.count // 10:,} files ({few.wall:.0f} s), {ours.memory:.0f} MB for {options.count:,}.

## Where the time of ours goes

| step | s |
|---|---|
{os.linesep.join(lines)}
"""
    publish(options.out, report)
    print(report, file=sys.stdout)


def connection() -> dict[str, str]:
    """What `geo-assets env` exports: the role of the pipeline, which may write to pgstac."""
    told = subprocess.run([BIN / "geo-assets", "env", "--json"], check=True, capture_output=True, text=True).stdout
    return {name: str(value) for name, value in json.loads(told).items() if name.startswith("PG")}


if __name__ == "__main__":
    main()
