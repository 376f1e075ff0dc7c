"""The grid of a reprojection: a better one where GDAL's own choice is bad; and the size of its pixels compared with the
source's.

Here: calculations on points of the grid. Not here: warping (`reproject.py`).

GDAL gives the result as many pixels along the diagonal of its bounds as the source has. Those bounds are the whole
world where a scene is on both sides of the edge of the target CRS (180 degrees, for most), and far more than that where
a projection sends a pole to infinity: then a pixel of 500 m becomes 79 km without a warning. Cylindrical projections
are periodic in x, so the grid of a scene across the edge continues beyond it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from geo_assets.raster.georeference import PixelToLonLat, dataset_crs, native_transform, transformer, wkt2

Floats = NDArray[np.float64]

#: Points per side of the source's grid that are sampled.
_POINTS = 41

#: Degrees over which the scale of a projection is measured.
_STEP = 1e-3

#: The largest relative difference of the scale along parallels in a cylindrical projection.
_CYLINDRICAL = 1e-5

#: Degrees of latitude beyond which projections may not be able to place a point.
_FAR_NORTH = 80.0

#: In WKT 1: the prime meridian, and the code of the whole CRS.
_PRIME_MERIDIAN = re.compile(r'PRIMEM\["[^"]*",(-?[0-9.]+)(?:,AUTHORITY\["[^"]*","[^"]*"\])?')
_OWN_CODE = re.compile(r',AUTHORITY\["[^"]*","[^"]*"\]\]$')

#: A grid that lacks less than this part of the world is around it.
_SAME = 1e-3

#: What reaches beyond the edge by less than this part of a pixel touches it.
_TOUCHES = 1e-3


@dataclass(frozen=True, slots=True)
class Grid:
    """Transform and size in the target CRS."""

    transform: Affine
    width: int
    height: int
    beyond: bool = False  # it continues beyond the edge of the world


@dataclass(frozen=True, slots=True)
class _Places:
    """Points of the source: in its pixels, in degrees and in the target CRS, each of shape (rows, columns)."""

    columns: Floats
    rows: Floats
    longitudes: Floats
    latitudes: Floats
    xs: Floats
    ys: Floats

    @classmethod
    def of(cls, dataset: Any, target: CRS, *, centres: bool = False) -> _Places:
        """Sample points over the whole grid with its border, or half a step inside it."""
        inset = 0.5 / _POINTS if centres else 0.0
        along = np.linspace(inset, 1 - inset, _POINTS)
        columns, rows = np.meshgrid(along * dataset.width, along * dataset.height)
        longitudes, latitudes = (
            a.reshape(columns.shape) for a in PixelToLonLat(dataset)(columns.ravel(), rows.ravel())
        )
        xs, ys = _project(longitudes, latitudes, target)
        return cls(columns, rows, longitudes, latitudes, xs, ys)


def sane_grid(dataset: Any, target: CRS, resolution: float | None, *, whole_world: bool = False) -> Grid | None:
    """Return a grid for a scene on both sides of the edge of the world, around the whole world, or up to a pole at
    infinity.

    Args:
        dataset: georeferenced by a transform.
        target: the CRS.
        resolution: size of a pixel, in units of the target CRS; None: as many along the diagonal as the source has.
        whole_world: the grid must not continue beyond the edge (web map tiles).

    Returns:
        None where GDAL's choice is as good.
    """
    places = _Places.of(dataset, target)
    period = _period(places, target)
    unwrapped = None if period is None else _unwrapped(places, target, period)
    if period is None or unwrapped is None:
        return None
    edge = _left_edge(target, period)
    top = np.where(places.latitudes > 0, np.inf, -np.inf)  # where y is infinite
    ys = np.where(np.isfinite(places.ys), places.ys, top)
    seen = np.abs(ys) <= period / 2
    west, east = float(np.min(unwrapped)), float(np.max(unwrapped))
    if not seen.any():
        return None
    south, north = max(float(ys.min()), -period / 2), min(float(ys.max()), period / 2)
    diagonal = math.hypot(dataset.height * seen.any(axis=1).mean(), dataset.width * seen.any(axis=0).mean())
    size = resolution or math.hypot(east - west, north - south) / diagonal
    touches = _TOUCHES * size / period
    around = east - west >= period * (1 - _SAME)
    beyond = not around and math.floor((west - edge) / period + touches) != math.floor((east - edge) / period - touches)
    elsewhere = around and abs(math.remainder(west - edge, period)) > period * _SAME
    if not (beyond or elsewhere or not seen.all()):
        return None
    if around or (beyond and whole_world):
        west, east, beyond = edge, edge + period, False
        size = resolution or period / (
            2 * round(period / size / 2)
        )  # once around, without a gap; half of that from pole to pole
    width, height = (
        math.ceil((east - west) / size - 1e-6),
        math.floor((north - south) / size + 1e-6),
    )  # nothing lies beyond a pole
    west -= period * math.floor((west - edge) / period + touches)  # within the world
    return Grid(Affine(size, 0, west, 0, -size, north), max(1, width), max(1, height), beyond)


def coarsening(dataset: Any, target: CRS, transform: Affine) -> float:
    """Return the length of a pixel of the result in pixels of the source, along rows or columns, whichever is more; the
    median over the grid.
    """
    along, down = _steps(dataset, target, transform)
    return max(_median(np.hypot(*along)), _median(np.hypot(*down)))


def reduction(dataset: Any, target: CRS, transform: Affine) -> tuple[float, float]:
    """Return how many columns, and how many rows, of the source make one pixel of the result, whichever way that is
    turned; the median over the grid, 0 where nothing of it can be placed.
    """
    (columns_along, rows_along), (columns_down, rows_down) = _steps(dataset, target, transform)
    return _median(np.hypot(columns_along, columns_down)), _median(np.hypot(rows_along, rows_down))


def left_out(dataset: Any, target: CRS, grid: Grid) -> float:
    """Return the part, 0 to 1, of what the source has on the Earth that is not on a grid in the target CRS."""
    places = _Places.of(dataset, target, centres=True)
    period = _period(places, target) or 0.0
    there, back = np.zeros(places.xs.shape, bool), ~grid.transform
    rows = back.e * places.ys + back.f
    for xs in (places.xs, places.xs - period, places.xs + period):
        columns = back.a * xs + back.c
        there |= (columns > -1) & (columns < grid.width + 1) & (rows > -1) & (rows < grid.height + 1)
    known = np.isfinite(places.longitudes) & np.isfinite(places.latitudes)
    return int((known & ~there).sum()) / max(1, int(known.sum()))


def _steps(dataset: Any, target: CRS, transform: Affine) -> list[tuple[Floats, Floats]]:
    """Return the columns and rows of the source that lie between two pixels of the result, along one of its rows and
    down one of its columns, at points all over the source.
    """
    places = _Places.of(dataset, target, centres=True)
    steps = []
    for dx, dy in ((transform.a, 0.0), (0.0, transform.e)):
        xs, ys = (_to_source(dataset, target, places.xs + part * dx, places.ys + part * dy) for part in (-0.5, 0.5))
        steps.append(_in_pixels(dataset, xs, ys))
    return steps


def _median(lengths: Floats) -> float:
    """Return the median of those that are finite; 0 where none is."""
    finite = lengths[np.isfinite(lengths)]
    return float(np.median(finite)) if finite.size else 0.0


def _project(longitudes: Floats, latitudes: Floats, target: CRS) -> tuple[Floats, Floats]:
    xs, ys = transformer("EPSG:4326", wkt2(target)).transform(longitudes, latitudes)
    return np.asarray(xs, float), np.asarray(ys, float)


def _to_source(dataset: Any, target: CRS, xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    found = transformer(wkt2(target), wkt2(dataset_crs(dataset))).transform(xs, ys)
    return np.asarray(found[0], float), np.asarray(found[1], float)


def _in_pixels(dataset: Any, first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return the distance between points in the CRS of the source, in its pixels."""
    crs = dataset_crs(dataset)
    with np.errstate(invalid="ignore"):
        dx, dy = second[0] - first[0], second[1] - first[1]
        if crs and crs.is_geographic:
            dx = (dx + 180) % 360 - 180
        back = ~native_transform(dataset)
        return back.a * dx + back.b * dy, back.d * dx + back.e * dy


def _period(places: _Places, target: CRS) -> float | None:
    """Return the length of the equator in the target CRS if that is cylindrical, with straight equidistant meridians;
    else None.
    """
    if target.is_geographic:
        return 2 * math.pi / float(target.units_factor[1])
    latitudes = np.clip(places.latitudes, -_FAR_NORTH, _FAR_NORTH)
    x, y = _project(places.longitudes, latitudes, target)
    further_x, further_y = _project(places.longitudes + _STEP, latitudes, target)
    good = np.isfinite(x) & np.isfinite(further_x) & (further_x > x)  # false where the edge is between the two
    if not good.any() or not np.allclose(y[good], further_y[good], atol=1e-3):
        return None
    scale = (further_x - x)[good] / _STEP
    median = float(np.median(scale))
    return median * 360 if np.allclose(scale, median, rtol=_CYLINDRICAL) else None


def _unwrapped(places: _Places, target: CRS, period: float) -> Floats | None:
    """Return x continued where it jumps back at the edge; None where that is impossible: the grid encloses a pole, or a
    part of it cannot be placed.
    """
    xs, _ = _project(places.longitudes, np.clip(places.latitudes, -_FAR_NORTH, _FAR_NORTH), target)
    if not np.isfinite(xs).all():
        return None
    out = np.unwrap(xs, period=period, axis=1)
    out += (np.unwrap(out[:, 0], period=period) - out[:, 0])[:, None]
    return out if np.abs(np.diff(out, axis=0)).max() < period / 2 else None


def _left_edge(target: CRS, period: float) -> float:
    """Return the least x of the world."""
    if target.is_geographic:
        return -period / 2
    longitudes = np.linspace(-180, 180, 37)
    xs, _ = _project(longitudes, np.zeros_like(longitudes), target)
    jumps = np.flatnonzero(np.diff(xs) < 0)
    if not jumps.size:
        return float(xs[0])
    low, high = longitudes[jumps[0]], longitudes[jumps[0] + 1]
    for _ in range(50):
        middle = (low + high) / 2
        x, _ = _project(np.array([low, middle]), np.zeros(2), target)
        low, high = (middle, high) if x[1] >= x[0] else (low, middle)
    return float(_project(np.array([high]), np.zeros(1), target)[0][0])


def within_half_a_turn(crs: CRS, transform: Affine, width: int) -> tuple[CRS, Affine]:
    """Return CRS and transform of a geographic grid beyond 180 degrees, with a prime meridian of its own; others
    unchanged.

    A warp looks up 190 degrees as -170, and finds nothing there. Counted from the middle of the grid, every longitude
    is within -180 to 180.
    """
    west, east = (transform.c + part for part in (min(0.0, transform.a * width), max(0.0, transform.a * width)))
    prime = _PRIME_MERIDIAN.search(text := crs.to_wkt()) if crs.is_geographic else None
    over = 180 + abs(transform.a)  # global grids whose outer pixels have their centres on the edge are left alone
    if (
        prime is None
        or (-over < west and east < over)
        or transform.b
        or transform.d
        or not math.isclose(crs.units_factor[1], math.radians(1))
    ):
        return crs, transform
    centre = round((west + east) / 2)
    text = f'{text[: prime.start()]}PRIMEM["of the grid",{float(prime[1]) + centre!r}{text[prime.end() :]}'
    shifted = CRS.from_wkt(_OWN_CODE.sub("]", text))
    return shifted, Affine(transform.a, 0, transform.c - centre, 0, transform.e, transform.f)
