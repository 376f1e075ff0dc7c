"""Where a raster has data, as GeoJSON in EPSG:4326.

Here: from a decimated mask to a polygon with few vertices, cut at the antimeridian, and its bounding box.
Not here: reading at full resolution; exact outlines. A footprint is for search: no valid pixel is outside
of it by more than two thousandths of the grid.

Polygons are made and densified in pixel coordinates, where edges are straight, and then transformed to longitude and
latitude. Longitudes are unwrapped along each ring and cut in the plane: the points are dense, so a great circle between
two of them (as the `antimeridian` package would draw) is the same line, and an edge that lies on 180 degrees stays
there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import shapes
from shapely.affinity import scale, translate
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape

from geo_assets.errors import GeoAssetsError
from geo_assets.longitudes import shortest_stretch
from geo_assets.raster.georeference import PixelToLonLat, dataset_crs, other_body, resolution
from geo_assets.raster.overviews import level_sizes
from geo_assets.raster.pixels import Validity

#: Pixels along the longer side of the mask that is outlined: two thousandths are enough to find a scene.
_MASK_SIDE = 1024

#: Side of the mask when the fine one is speckled.
_COARSE_SIDE = 128

#: With more parts than this the data is speckle: its hull is a better answer than a thousand islands.
_MAX_PARTS = 32

#: With more vertices than this a footprint is a burden to catalogues and maps.
_MAX_VERTICES = 400

#: Holes below this part of the grid are dropped: clouds and dead pixels, not gaps in coverage.
_MIN_HOLE = 0.01

#: Points along the longer side of the grid; straight edges are curves in another CRS.
_POINTS_PER_SIDE = 21

#: Decimals of a degree: a centimetre.
_DECIMALS = 7
_GRAIN = 10.0**-_DECIMALS

#: Vertices nearer to the line between their neighbours than this part of the footprint's size are dropped.
_STRAIGHT = 1e-5

#: Latitudes beyond the pole by more than this mean a wrong CRS, not rounding.
_POLE_SLACK = 1e-6

#: Longitudes from 0 to 360 are usual; values beyond these limits are not degrees.
_MAX_LONGITUDE = 540.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """A GeoJSON Polygon or MultiPolygon, and its RFC 7946 bounding box (west > east across the antimeridian)."""

    geometry: dict[str, Any]
    bbox: tuple[float, float, float, float]


def footprint(cog: Any, name: str) -> Footprint:
    """Return the footprint of the valid pixels of an open COG (overviews make it quick); of the grid where there are
    none. `name` is for the error.

    Raises:
        GeoAssetsError: INVALID_CRS, the grid does not lie on the Earth.
    """
    to_lonlat = PixelToLonLat(cog)
    mask = _seen(cog, _MASK_SIDE)
    if _leaves_earth(to_lonlat, cog, name):
        mask = _seen(cog, _COARSE_SIDE)
        mask &= _on_earth(to_lonlat, cog, mask.shape)
    whole = box(0, 0, cog.width, cog.height)
    outline = [whole] if mask.all() or not mask.any() else _outline(mask, cog.width, cog.height)
    centre = _centre(to_lonlat, cog.width, cog.height)
    step = max(cog.width, cog.height) / _POINTS_PER_SIDE
    for polygons in (outline, [whole]):
        placed = [p for polygon in polygons if (p := _Placed.of(polygon, to_lonlat, step, centre))]
        if placed:
            geometry, bbox = shapely.union_all([p.geometry for p in placed]), _bbox(placed)
            return Footprint(_geojson(geometry, bbox), bbox)
    raise GeoAssetsError("INVALID_CRS", f"{name} does not lie on the Earth: its CRS does not fit its coordinates")


def refuse_off_earth(dataset: Any, name: str, crs: CRS | None = None) -> None:
    """Refuse a grid whose coordinates are impossible in its CRS, before any work is done on it.

    Raises:
        GeoAssetsError: INVALID_CRS.
    """
    if not other_body(crs or dataset_crs(dataset)):
        _leaves_earth(PixelToLonLat(dataset, crs), dataset, name)


def _leaves_earth(to_lonlat: PixelToLonLat, dataset: Any, name: str) -> bool:
    """Whether a part of the grid's border has no longitude and latitude, as around the disk that a geostationary
    satellite sees.
    """
    border = box(0, 0, dataset.width, dataset.height).exterior.segmentize(
        max(dataset.width, dataset.height) / _POINTS_PER_SIDE
    )
    longitudes, latitudes = to_lonlat(*shapely.get_coordinates(border).T)
    seen = np.isfinite(longitudes) & np.isfinite(latitudes)
    if seen.any():
        longitude, latitude = np.abs(longitudes[seen]).max(), np.abs(latitudes[seen]).max()
        half_a_pixel = (
            resolution(dataset)[1] / 2 if to_lonlat.geographic else 0.0
        )  # global grids have nodes on the poles
        if latitude > 90 + half_a_pixel * (1 + _POLE_SLACK) + _POLE_SLACK or longitude > _MAX_LONGITUDE:
            place = f"longitude {longitude:.6g} and latitude {latitude:.6g}"
            raise GeoAssetsError("INVALID_CRS", f"the coordinates of {name} reach {place}: its CRS does not fit them")
    return not seen.all()


def _on_earth(to_lonlat: PixelToLonLat, dataset: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which cells of a decimated grid have longitudes and latitudes, at their centres."""
    rows, columns = np.mgrid[0.5 : size[0], 0.5 : size[1]]
    longitudes, _ = to_lonlat(columns.ravel() * dataset.width / size[1], rows.ravel() * dataset.height / size[0])
    return np.isfinite(longitudes).reshape(size)


def valid_mask(dataset: Any, side: int) -> NDArray[np.bool_]:
    """Return where any band is valid, decimated to at most `side` pixels along the longer side."""
    factor = max(1.0, max(dataset.width, dataset.height) / side)
    size = (max(1, round(dataset.height / factor)), max(1, round(dataset.width / factor)))
    return Validity.of(dataset).anywhere(dataset, size)


def _seen(cog: Any, side: int) -> NDArray[np.bool_]:
    """Return where any pixel is valid, of the first overview of at most `side` pixels along the longer side: as each of
    its own is valid where any that it covers is, a single one is seen.
    """
    return Validity.of(cog).anywhere(cog, level_sizes(cog.height, cog.width, side)[-1])


def _outline(mask: NDArray[np.bool_], width: int, height: int) -> list[Polygon]:
    """Polygons around the valid pixels of a decimated mask, in the pixel coordinates of the grid."""
    parts = _polygons(mask)
    if len(parts) > _MAX_PARTS:
        factor = -(-max(mask.shape) // _COARSE_SIDE)
        padded = np.pad(mask, [(0, -n % factor) for n in mask.shape])
        cells = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
        coarse: NDArray[np.bool_] = np.asarray(cells.any(axis=(1, 3)))
        parts = [scale(p, factor, factor, origin=(0, 0)) for p in _polygons(coarse)]
        parts = [p for part in parts for p in _polygons_of(part.intersection(box(0, 0, mask.shape[1], mask.shape[0])))]
    if len(parts) > _MAX_PARTS:
        parts = _hulls(parts, mask)
    return [
        scale(p, width / mask.shape[1], height / mask.shape[0], origin=(0, 0)) for p in _simplified(parts, mask.size)
    ]


def _hulls(parts: list[Polygon], mask: NDArray[np.bool_]) -> list[Polygon]:
    """Return one hull around all parts; or two, where most of the grid is between them: islands on both sides of 180
    degrees.
    """
    full = np.flatnonzero(mask.any(axis=0))
    gaps = np.diff(full)
    widest = int(np.argmax(gaps)) if gaps.size else 0
    middle = (full[widest] + full[widest + 1]) / 2 if gaps.size and gaps[widest] > mask.shape[1] / 2 else -1.0
    groups = [[p for p in parts if p.centroid.x <= middle], [p for p in parts if p.centroid.x > middle]]
    return [hull for group in groups if group for hull in _polygons_of(shapely.union_all(group).convex_hull)]


def _polygons(mask: NDArray[np.bool_]) -> list[Polygon]:
    return [shape(geometry) for geometry, _ in shapes(mask.astype(np.uint8), mask=mask)]


def _simplified(parts: list[Polygon], area: int) -> list[Polygon]:
    """Return the parts without small holes and with few vertices; the unit is a pixel of the mask."""
    kept = [
        Polygon(p.exterior, [hole for hole in p.interiors if Polygon(hole).area >= _MIN_HOLE * area]) for p in parts
    ]
    geometry, tolerance = shapely.union_all(kept), 0.75
    simple = _simple(geometry, tolerance)
    while shapely.get_num_coordinates(simple) > _MAX_VERTICES and tolerance < _MASK_SIDE:
        tolerance *= 2
        simple = _simple(geometry, tolerance)
    return _polygons_of(simple) or kept


def _simple(geometry: Any, tolerance: float) -> Any:
    """Return a geometry with fewer vertices; of a part that is a rectangle, which is no simpler, nothing is cut off."""
    parts = shapely.get_parts(geometry)
    rectangles = shapely.get_num_coordinates(parts) == 5
    return shapely.union_all([*parts[rectangles], *shapely.simplify(parts[~rectangles], tolerance)])


def _polygons_of(geometry: Any) -> list[Polygon]:
    """The polygons in a geometry, valid ones."""
    valid = geometry if geometry.is_valid else shapely.make_valid(geometry)
    return [
        part
        for part in shapely.get_parts(valid)
        for part in shapely.get_parts(part)
        if isinstance(part, Polygon) and part.area > 0
    ]


def _centre(to_lonlat: PixelToLonLat, width: int, height: int) -> float:
    """The longitude at the centre of the grid, from which longitudes are counted in both directions."""
    longitude = float(to_lonlat(np.array([width / 2]), np.array([height / 2]))[0][0])
    return longitude if math.isfinite(longitude) else 0.0


@dataclass(frozen=True, slots=True)
class _Placed:
    """A polygon on the Earth: within -180 to 180 degrees, and its extent counted on from the grid's centre."""

    geometry: Any
    extent: tuple[float, float, float, float]

    @classmethod
    def of(cls, polygon: Polygon, to_lonlat: PixelToLonLat, step: float, centre: float) -> _Placed | None:
        """Place a polygon; None where too few of its points have longitudes and latitudes."""
        dense = polygon.segmentize(step)
        exterior = _ring(dense.exterior, to_lonlat, centre)
        if exterior is None:
            return None
        holes = [ring for hole in dense.interiors if (ring := _ring(hole, to_lonlat, centre))]
        geometry = _wrapped(exterior)
        for hole in holes:
            geometry = geometry.difference(_wrapped(hole))
        return None if geometry.is_empty else cls(geometry, exterior.bounds)


def _ring(ring: Any, to_lonlat: PixelToLonLat, centre: float) -> Any | None:
    """Return the area within a ring of pixel coordinates, longitudes unwrapped and near `centre`, closed over a pole if
    it encloses one.
    """
    columns, rows = shapely.get_coordinates(ring).T
    longitudes, latitudes = to_lonlat(columns, rows)
    seen = np.isfinite(longitudes) & np.isfinite(latitudes)
    longitudes, latitudes = longitudes[seen], np.clip(latitudes[seen], -90, 90)
    if len(longitudes) < 4:
        return None
    if not to_lonlat.geographic:
        longitudes = np.unwrap(longitudes, period=360)
    turn = longitudes[-1] - longitudes[0]
    points = list(zip(longitudes, latitudes, strict=True))
    if abs(turn) > 180:
        pole = math.copysign(90.0, float(latitudes.mean()))
        points += [(longitudes[-1], pole), (longitudes[0], pole)]
    area = Polygon(points)
    area = area if area.is_valid else shapely.make_valid(area)
    west, _, east, _ = area.bounds
    return translate(area, 360 * round((centre - (west + east) / 2) / 360)) if not to_lonlat.geographic else area


def _wrapped(area: Any) -> Any:
    """Return an area of unwrapped longitudes, cut at the antimeridian and moved within -180 to 180 degrees."""
    west, _, east, _ = area.bounds
    first, last = math.floor((west + 180) / 360), math.ceil((east - 180) / 360)
    turns = range(first, max(first, last) + 1)
    worlds = [translate(area.intersection(box(360 * t - 180, -90, 360 * t + 180, 90)), -360 * t) for t in turns]
    return shapely.union_all([part for world in worlds for part in _polygons_of(world)])


def _bbox(placed: list[_Placed]) -> tuple[float, float, float, float]:
    """Return the box around all parts; it crosses the antimeridian where that makes it smaller."""
    west, south, east, north = _extent(placed)
    if east - west < _GRAIN or north - south < _GRAIN:  # smaller than a centimetre
        west, south, east, north = west - _GRAIN, south - _GRAIN, east + _GRAIN, north + _GRAIN
        spans = [(_turned(west), _turned(east))]
    else:
        spans = [(part.bounds[0], part.bounds[2]) for p in placed for part in _polygons_of(p.geometry)]
    west, east = (-180.0, 180.0) if not spans else shortest_stretch(spans)
    return _round(west), _round(max(south, -90.0)), _round(east), _round(min(north, 90.0))


def _extent(rings: list[_Placed]) -> tuple[float, float, float, float]:
    wests, souths, easts, norths = zip(*(ring.extent for ring in rings), strict=True)
    return min(wests), min(souths), max(easts), max(norths)


def _turned(longitude: float) -> float:
    """Return the same longitude within -180 to 180 degrees."""
    return longitude if abs(longitude) <= 180 else math.remainder(longitude, 360)


def _geojson(geometry: Any, bbox: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return GeoJSON: rounded, valid, exterior rings anticlockwise."""
    west, south, east, north = geometry.bounds
    simple = geometry.simplify(_STRAIGHT * max(east - west, north - south))
    parts = _polygons_of(shapely.set_precision(geometry if simple.is_empty else simple, _GRAIN)) or [box(*bbox)]
    parts = list(shapely.orient_polygons(parts))
    rounded: dict[str, Any] = _rounded(mapping(parts[0] if len(parts) == 1 else MultiPolygon(parts)))
    return rounded


def _round(value: float) -> float:
    return round(value, _DECIMALS) + 0.0  # no minus zero


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return _round(value)
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return {k: _rounded(v) for k, v in value.items()} if isinstance(value, dict) else value
