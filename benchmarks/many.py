"""A thousand small rasters from a container to a searchable catalogue, against a shell loop: `make bench-many`.

Here: our pipeline, and `rio cogeo create` for each file followed by one `pypgstac load`. Not here: large rasters (`raster.py`).

The loop is timed on some of the files and the time of one is multiplied: its cost is that of starting a process for each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from benchmarks.measure import machine
from benchmarks.raster import BIN, spectral


def write_rasters(folder: Path, count: int, side: int = 300) -> None:
    """Small aerial images."""
    field = spectral(2048, 2048, 1.2, 1) * 40 + 120
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32632", "photometric": "RGB"}
    for number in range(count):
        x, y = rng.integers(0, 2048 - side, 2)
        pixels = np.stack([field[y : y + side, x : x + side] + band * 5 for band in range(3)]) + rng.standard_normal((3, side, side))
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
        subprocess.run([BIN / "rio", "cogeo", "create", source, out / source.name, "-p", "deflate", "-q"], check=True, capture_output=True)
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


def main() -> None:
    """Run against a stack that is up (`make up`) and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=60, help="files of the shell loop")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/many.md"))
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, out = Path(name) / "in", Path(name) / "out"
        folder.mkdir()
        out.mkdir()
        write_rasters(folder, options.count)
        environment = {**os.environ, **connection()}
        one = loop(folder, out, options.loop, environment)
        container = f"default/many-{int(time.time())}"
        subprocess.run([BIN / "geo-assets", "upload", folder, container], check=True, capture_output=True)
        start = time.perf_counter()
        ours = subprocess.run(
            [BIN / "geo-assets", "submit", "ingest_container", "--param", f"container={container.split('/')[1]}", "--wait", "--json"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        wall = time.perf_counter() - start
    job = json.loads(ours.stdout)
    report = f"""# A thousand small rasters

`make bench-many` wrote this. {before}. Images of 300 x 300 x 3, uint8.

| | {options.count:,} files, s | ms a file | ratio |
|---|---|---|---|
| shell loop of `rio cogeo create`, then `pypgstac load` ({options.loop} files, multiplied) | {one * options.count:.0f} | {one * 1000:.0f} | 1 |
| `geo-assets submit ingest_container --wait`: COG, proof, thumbnail, account, item, collection | {wall:.0f} | {wall / options.count * 1000:.0f} | {one * options.count / wall:.1f} x |

Of ours: status {job["status"]}, {job["stages"][0]["succeeded"]:,} succeeded.
"""
    options.out.write_text(report)
    print(report, file=sys.stdout)


def connection() -> dict[str, str]:
    """What `geo-assets env` exports: the role of the pipeline, which may write to pgstac."""
    told = subprocess.run([BIN / "geo-assets", "env", "--json"], check=True, capture_output=True, text=True).stdout
    return {name: str(value) for name, value in json.loads(told).items() if name.startswith("PG")}


if __name__ == "__main__":
    main()
