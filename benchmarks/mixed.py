"""One raster of 2 GB among 500 small ones: does a child wait for the others? `make bench-mixed`.

Here: a stack, the files, two jobs over them, the report. Not here: many small files alone (`many.py`), one large one
alone (`raster.py`).

    make bench-mixed                                         # about five minutes
    python -m benchmarks.mixed --gigabytes 0.2 --small 50    # a look; writes no report

The first job knows nothing of what files take, the second one what the first has measured. The account of a job says
how long its files took together, and the longest of them: no plan of so many children ends before the larger of
(all together / children) and the longest.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from benchmarks.many import write_rasters
from benchmarks.measure import exit_if_missed, machine
from benchmarks.pages import publish
from benchmarks.stack import stack, superuser, told

#: What is wanted: wall seconds of the stage / the lower bound.
MOST = 1.15

_CONTAINER = "mixed"

#: Rows that are written at once.
_ROWS = 512


@dataclass(frozen=True, slots=True)
class Round:
    """What the account of a job says of its rasters, and its steps: files and expected seconds of each."""

    account: dict[str, Any]
    chunks: list[tuple[int, float]]

    @property
    def lower_bound(self) -> float:
        """Seconds that no order of the files can do without."""
        a = self.account
        return max(a["files_seconds"] / a["workers"], a["longest_seconds"])

    @property
    def ratio(self) -> float:
        """How much longer it took."""
        return self.account["wall_seconds"] / self.lower_bound


def write_large(path: Path, gigabytes: float) -> None:
    """An image of three bands that is not compressed, and is compressed well: a pattern with some noise, repeated."""
    side = int((gigabytes * 1e9 / 3) ** 0.5)
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(2048), np.arange(_ROWS))
    pattern = 120 + 60 * np.sin(x / 300) * np.cos(y / 80) + rng.integers(0, 3, (3, _ROWS, 2048))
    wide = np.tile(pattern.astype("uint8"), (1, 1, side // 2048 + 1))[:, :, :side]
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    place = from_origin(4e5, 5.5e6, 0.5, 0.5)
    with rasterio.open(path, "w", **profile, interleave="pixel", photometric="RGB", transform=place) as dataset:
        for row in range(0, side, _ROWS):
            rows = min(_ROWS, side - row)
            dataset.write(wide[:, :rows], window=rasterio.windows.Window(0, row, side, rows))


def ingest(home: Path, collection: str, files: int) -> Round:
    """Run a job over all files.

    Raises:
        RuntimeError: one of them was not converted.
    """
    parameters = ["--param", f"container={_CONTAINER}", "--param", f"collection={collection}"]
    job = told("submit", "ingest_container", *parameters, "--wait")
    (account,) = (stage for stage in job["stages"] if stage["stage"] == "cogs")
    if account["succeeded"] != files:
        msg = f"of {files} files {account['succeeded']} were converted"
        raise RuntimeError(msg)
    with superuser(home) as conn:
        rows = conn.execute(
            "select files, cost_ms / 1000.0 from geo.chunks where job_id = %s and stage = 'cogs' order by chunk",
            (job["job_id"],),
        ).fetchall()
    return Round(account, [(int(files), float(seconds)) for files, seconds in rows])


def told_of(name: str, done: Round) -> str:
    """A row of the report."""
    a = done.account
    return (
        f"| {name} | {a['files_seconds']:.1f} | {a['longest_seconds']:.1f} | {a['workers']} | {done.lower_bound:.1f} |"
        f" {a['wall_seconds']:.1f} | {done.ratio:.2f} | {a['efficiency']:.2f} |"
    )


def main() -> None:
    """Measure, write the report, and fail where a child waited for too long."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--small", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/mixed.md"))
    asked = parser.parse_args()
    before = machine()
    with stack() as home:
        folder = home / "containers" / _CONTAINER
        folder.mkdir(parents=True)
        write_rasters(folder, asked.small)
        write_large(folder / "zz_last_by_its_name.tif", asked.gigabytes)
        size = (folder / "zz_last_by_its_name.tif").stat().st_size
        rounds = {
            "nothing was measured before": ingest(home, "first", asked.small + 1),
            "the first job was measured": ingest(home, "second", asked.small + 1),
        }
    rows = "\n".join(told_of(name, done) for name, done in rounds.items())
    cut = "\n".join(
        f"* {name}: " + ", ".join(f"{files} ({seconds:.1f} s)" for files, seconds in done.chunks)
        for name, done in rounds.items()
    )
    report = f"""# One raster of 2 GB among many small ones

`make bench-mixed` wrote this. {before}. One image of {size / 1e9:.2f} GB, whose name is the last, and {asked.small:,} of 300 x 300 x 3, uint8.

Seconds of the stage `cogs`, in one process. The lower bound is the larger of (files together / children) and the longest file; at most {MOST} times
that is wanted. `efficiency` is the share of their time in which the sandboxed children were busy; the rest of a file's time is fetching it and putting its
outputs in place.

| | files together | longest file | children | lower bound | from the first step to the last | ratio | efficiency |
|---|---|---|---|---|---|---|---|
{rows}

Files of each step, and what they were expected to cost:

{cut}
"""
    print(report)
    if (asked.gigabytes, asked.small) == (2.0, 500):
        publish(asked.out, report)
    exit_if_missed({name: done.ratio <= MOST for name, done in rounds.items()})


if __name__ == "__main__":
    main()
