"""Very large rasters: memory, disk and time of a conversion, and what a kill costs.

Here: 200,000 pixels a side, one sparse and one full, each made row by row so that the machine needs room for one COG
and little more; the report (docs/benchmarks/large.md). Not here: sizes that people bring every day (`raster.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from benchmarks.measure import Run, machine, run
from benchmarks.pages import publish
from benchmarks.raster import spectral
from geo_assets.sandbox import start

SIDE = 200_000

#: A conversion as a worker does it, with what is done kept, and what it says of itself.
_CONVERT = """
import json, os, sys
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.wire import json_of
source, folder = sys.argv[1:]
report = convert(ConvertRequest(source=source, destination=folder + '/out.tif', kept=folder + '/kept',
                                progress=folder + '/progress', threads=os.cpu_count()))
open(folder + '/report.json', 'w').write(json.dumps(json_of(report)))
"""

_PROFILE = {
    "driver": "GTiff",
    "height": SIDE,
    "width": SIDE,
    "count": 1,
    "dtype": "uint8",
    "crs": "EPSG:32632",
    "nodata": 0,
    "bigtiff": "YES",
    "compress": "ZSTD",
    "zstd_level": 1,
    "num_threads": "ALL_CPUS",
}


def write_sparse(path: Path, side: int) -> None:
    """A grid in which one block of 512 x 512 in a thousand holds data; the others are not there."""
    profile = {**_PROFILE, "height": side, "width": side, "tiled": True, "blockxsize": 512, "blockysize": 512}
    block = (spectral(512, 512, 1.6, 1) * 30 + 128).clip(1, 255).astype("uint8")
    places = np.random.default_rng(0).integers(0, side // 512, (max(1, (side // 512) ** 2 // 1000), 2))
    with rasterio.open(path, "w", **profile, transform=from_origin(3e5, 6e6, 1, 1), sparse_ok=True) as dataset:
        for row, column in places.tolist():
            dataset.write(block, 1, window=Window(512 * column, 512 * row, 512, 512))


def write_full(path: Path, side: int) -> None:
    """Relief in 8 bits everywhere, in strips of 16 rows, as many programs write them."""
    relief = (spectral(4096, 4096, 1.8, 2) * 40 + 128).clip(1, 255).astype("uint8")
    profile = {**_PROFILE, "height": side, "width": side, "blockysize": 16}
    columns = np.arange(side) % relief.shape[1]
    with rasterio.open(path, "w", **profile, transform=from_origin(3e5, 6e6, 1, 1)) as dataset:
        for top in range(0, side, 512):
            rows = np.arange(top, min(top + 512, side)) % relief.shape[0]
            dataset.write(relief[rows][:, columns], 1, window=Window(0, top, side, len(rows)))


def converted(source: Path, folder: Path) -> Run:
    """A conversion to its end, or from where the one before it was killed."""
    return run([sys.executable, "-c", _CONVERT, str(source), str(folder)], folder, env=_environment())


def killed(source: Path, folder: Path, part: float) -> float:
    """Kill a conversion when this part of it is done; returns how long it took."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _CONVERT, str(source), str(folder)], env={**os.environ, **_environment()}
    )
    progress = folder / "progress"
    while not (progress.exists() and float(progress.read_text() or 0) >= part):
        if process.poll() is not None:
            raise RuntimeError("it ended before it was killed")
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.perf_counter() - began


def _environment() -> dict[str, str]:
    return {**start.GDAL_ENVIRONMENT, **start.MALLOC}  # the settings of a worker are what is measured


def row(name: str, source: Path, work: Path) -> str:
    """A line of the table: a conversion, and another one that is killed in its middle and gone on with."""
    with tempfile.TemporaryDirectory(dir=work) as one:
        whole = converted(source, Path(one))
        size = (Path(one) / "out.tif").stat().st_blocks * 512 / 1e6
    with tempfile.TemporaryDirectory(dir=work) as two:
        before = killed(source, Path(two), 0.5)
        after = converted(source, Path(two))
        resumed = json.loads((Path(two) / "report.json").read_text())["resumed"]
    return (
        f"| {name} | {source.stat().st_blocks * 512 / 1e6:,.0f} | {whole.wall:,.0f} | {whole.cpu:,.0f} |"
        f" {whole.memory:,.0f} | {size:,.0f} | {whole.disk / size:.3f} | {before:,.0f} + {after.wall:,.0f} | {resumed:.0%} |"
    )


def main() -> None:
    """Run and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=SIDE, help="pixels")
    parser.add_argument("--work", type=Path, help="a folder with room for the source and the COG: 20 GB")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/large.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work) as name:
        publish(options.out, report(Path(name), options.side))
    print(options.out.read_text())


def report(work: Path, side: int) -> str:
    """The report, as Markdown."""
    about = (
        f"`make bench-large` wrote this. {machine()}; rasterio {rasterio.__version__}, GDAL"
        f" {rasterio.__gdal_version__}. {side:,} pixels a side, one band of 8 bits ({side * side / 1e9:,.0f} GB of pixels),"
        " with proof. Memory is of the process that converts. Disk is all that it has there at a time, in sizes of its COG."
        " The last two columns: it was killed in its middle, and gone on with."
    )
    lines = [
        "# Very large rasters",
        "",
        about,
        "",
        "| | source MB | wall s | CPU s | memory MB | COG MB | disk / COG | until killed + after, s | not done again |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, write in (("sparse, in tiles", write_sparse), ("full, in strips", write_full)):
        source = work / "source.tif"
        write(source, side)
        lines.append(row(name, source, work))
        print(lines[-1], file=sys.stderr)
        source.unlink()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
