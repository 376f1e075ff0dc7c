"""Very large vectors: the memory of a load of 20 million points, and how soon the plan of a GeoPackage of 30 GB is made.

Here: the files, the commands, the report (`docs/benchmarks/large_vectors.md`). Not here: sizes that people bring every
day (`vector.py`), rasters (`large.py`).
"""

from __future__ import annotations

import argparse
import sqlite3
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyogrio
import shapely

from benchmarks import measure
from benchmarks.pages import publish
from benchmarks.vector import Competitors, served
from benchmarks.with_server import Run
from benchmarks.with_server import measure as measured
from geo_assets.sandbox import start

POINTS = 20_000_000
BYTES = 30 * 10**9

#: Points that are written at once, and bytes of the text beside each geometry of the large file.
_AT_ONCE, _TEXT = 200_000, 3_900

#: The plan that a load begins with, as a child makes it.
_PLAN = """
import sys
from geo_assets.vector.models import InspectRequest
from geo_assets.vector.reader.inspect import inspect
(plan,) = inspect(InspectRequest(source=sys.argv[1], thorough=False)).layers
print(plan.feature_count)
"""


def write_points(path: Path, count: int) -> None:
    """A GeoPackage of points with a number and a word."""

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, count, _AT_ONCE):
            numbers = np.arange(first, min(first + _AT_ONCE, count))
            places = shapely.points(3e5 + numbers % 9973 * 40.0, 5e6 + numbers // 9973 * 40.0)
            words = pa.array([f"tree {number}" for number in numbers.tolist()])
            yield pa.record_batch([pa.array(numbers), words, pa.array(shapely.to_wkb(places))], schema=schema)

    schema = pa.schema([("n", pa.int64()), ("kind", pa.string()), ("geom", pa.binary())])
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    pyogrio.write_arrow(
        reader, path, driver="GPKG", layer="trees", geometry_name="geom", geometry_type="Point", crs="EPSG:32632",
        SPATIAL_INDEX="NO",
    )  # fmt: skip


def write_bytes(path: Path, least: int) -> int:
    """A GeoPackage of at least so many bytes, of features with long texts; returns how many."""
    write_points(path, 1000)
    count = least // (_TEXT + 150)
    head = b"GP\0\x01" + struct.pack("<i", 32632) + b"\x01" + struct.pack("<I", 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("pragma journal_mode = off")
        database.execute("pragma synchronous = off")
        database.execute("begin")
        rows = (
            (n, "x" * _TEXT, head + struct.pack("<2d", 3e5 + n % 9973, 5e6 + n // 9973)) for n in range(1000, count)
        )
        for name in [name for (name,) in database.execute("select name from sqlite_master where type = 'trigger'")]:
            database.execute(f'drop trigger "{name}"')
        database.executemany("insert into trees (n, kind, geom) values (?, ?, ?)", rows)
        database.execute("update gpkg_ogr_contents set feature_count = ?", (count,))
        database.execute("commit")
    return count


def loads(work: Path, points: int) -> Iterator[str]:
    """A load of a tenth of the points, and of all."""
    runs: list[Run] = []
    with served() as (db, home):
        for count in (points // 10, points):
            path = work / "points.gpkg"
            write_points(path, count)
            db.settle()
            runs.append(done := measured(Competitors(db, home).ours(path), db.env, db.postmaster))
            yield (
                f"| {count:,} | {path.stat().st_size / 1e6:,.0f} | {done.wall:.1f} | {done.client_cpu:.1f} |"
                f" {done.server_cpu:.1f} | {done.peak_mb:,.0f} | {done.peak_mb / runs[0].peak_mb:.2f} |"
            )
            path.unlink()


def plan(work: Path, least: int) -> str:
    """The plan of a large file; its pages are not in memory, as far as the machine has less of it."""
    path = work / "large.gpkg"
    count = write_bytes(path, least)
    done = measure.run([sys.executable, "-c", _PLAN, str(path)], work, env={**start.GDAL_ENVIRONMENT, **start.MALLOC})
    size = path.stat().st_size
    path.unlink()
    return f"| {count:,} | {size / 1e9:.1f} | {done.wall:.1f} | {done.cpu:.1f} | {done.memory:,.0f} |"


def main() -> None:
    """Run and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--bytes", type=int, default=BYTES, help="of the GeoPackage that is planned")
    parser.add_argument("--work", type=Path, help="a folder with room for it")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/large_vectors.md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.work) as name:
        publish(options.out, report(Path(name), options.points, options.bytes))
    print(options.out.read_text())


def report(work: Path, points: int, least: int) -> str:
    """The report, as Markdown."""
    lines = [
        "# Very large vectors",
        "",
        (
            f"`make bench-large` wrote this. {measure.machine()}; GDAL {pyogrio.__gdal_version_string__}. A GeoPackage of"
            " points into PostGIS by `geo-assets load`, checked, with key, index and statistics. Memory is the sum over"
            " all processes of the command."
        ),
        "",
        "| points | MB | wall s | client CPU s | server CPU s | peak MB | to a tenth of them |",
        "|---|---|---|---|---|---|---|",
        *loads(work, points),
        "",
        (
            "The plan that a load of a GeoPackage begins with, made in a process of its own: by what the file states"
            " (decision 53)."
        ),
        "",
        "| features | GB | seconds | CPU s | memory MB |",
        "|---|---|---|---|---|",
        plan(work, least),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
