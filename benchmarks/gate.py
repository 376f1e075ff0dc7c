"""Are we still ahead of the peers? Small inputs, some rounds, ratios in the same run; fails where one is too small:
`make bench-gate`.

Here: which ratio must hold. Not here: the commands, and what the pages of measurements are made of (`raster.py`,
`vector.py`).

The limits are about two thirds of what was measured on two quiet cores, as a neighbour may be loud; therefore all
take turns, and seconds of the processor count as well as those of the clock. Of so few polygons half the time is that
of starting the command: there we are behind.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import raster, vector
from benchmarks.measure import exit_if_missed, machine

_RIO, _OGR = "rio cogeo create (DEFLATE 6 + predictor)", f"{vector.REAL}ogr2ogr, index after"
_OURS = (f"{vector.REAL}ours", f"{vector.REAL}ours, checked")
_WEB, _ANALYSIS = "geo-assets cog (web), with proof", "geo-assets cog (analysis), with proof"

#: (of the clock, of processors): of the profiles web and analysis; of a load that trusts, and of one that checks.
LEAST_RGB, LEAST_DEM = ((0.95, 1.1), (1.2, 1.4)), ((0.95, 1.1), (1.0, 1.2))
LEAST_TRUSTED, LEAST_CHECKED = (0.4, 0.45), (0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A peer's time divided by ours, and the least that it must be: of the clock, and of processors."""

    what: str
    wall: float
    cpu: float
    least_wall: float
    least_cpu: float

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.wall:.2f} x ({self.least_wall:g} at least), of processors {self.cpu:.2f} x"
            f" ({self.least_cpu:g} at least)"
        )

    @property
    def holds(self) -> bool:
        """Whether both are large enough."""
        return self.wall >= self.least_wall and self.cpu >= self.least_cpu


def rasters(rounds: int) -> Iterator[Ratio]:
    """Against `rio cogeo create`: a picture of 48 MB, elevations of 36 MB."""
    with tempfile.TemporaryDirectory(prefix="gate-") as name:
        work = Path(name)
        rgb, dem = work / "rgb.tif", work / "dem.tif"
        raster.write_rgb(rgb, 4000)
        raster.write_dem(dem, 3000)
        for what, source, predictor, least in (("RGB", rgb, 2, LEAST_RGB), ("elevation", dem, 3, LEAST_DEM)):
            all_ = raster.competitors(predictor)
            done = raster.take_turns({each: all_[each] for each in (_RIO, _WEB, _ANALYSIS)}, source, work, rounds)
            peer = done[_RIO][0]
            for each, limits in zip((_WEB, _ANALYSIS), least, strict=True):
                ours = done[each][0]
                yield Ratio(f"{what}: rio cogeo / {each}", peer.wall / ours.wall, peer.cpu / ours.cpu, *limits)


def vectors(rounds: int) -> Iterator[Ratio]:
    """Against `ogr2ogr` with the index made afterwards: 100,000 polygons."""
    chosen = argparse.Namespace(rounds=rounds, rows=100_000, skip_geopandas=True, only=[*_OURS, _OGR], work=None)
    done = vector.measured(chosen)
    for each, limits in zip(_OURS, (LEAST_TRUSTED, LEAST_CHECKED), strict=True):
        peer, ours = done[_OGR], done[each]
        yield Ratio(
            f"100,000 polygons of {_OGR} / {each.removeprefix(vector.REAL)}",
            peer.wall / ours.wall,
            peer.cpu / ours.cpu,
            *limits,
        )


def main() -> None:
    """Measure, say the ratios, and fail where one is too small."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(machine(), file=sys.stderr)
    comparable = vector.ogr2ogr_is_here()
    found = [*rasters(rounds), *(vectors(rounds) if comparable else ())]
    print("\n".join(map(str, found)))
    if not comparable:
        print("ogr2ogr is not here (Debian: apt-get install gdal-bin): vectors were not compared")
    exit_if_missed({ratio.what: ratio.holds for ratio in found})


if __name__ == "__main__":
    main()
