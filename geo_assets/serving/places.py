"""Conditions on where features lie, for tables in any coordinate system.

A feature is answered in longitude and latitude, so it is compared there: a box of degrees is no box in another system,
and far from where a projection is made for, it is nothing at all. The index knows the table's own system. It is asked
by a box in which everything that could be meant lies, and which is found from the other side: by what the places that
the table has are in degrees.

Here: SQL of such conditions, and the extent of a table in degrees. Not here: filters (`filters.py`), rows (`rows.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from tipg.collections import Column, TransformerFromCRS

from geo_assets.longitudes import footprint
from geo_assets.vector.crs import geographic_box

Box = tuple[float, float, float, float]

#: Names of CQL2 and of PostGIS. All but the first say that their operands have a place in common.
SPATIAL = {
    "s_disjoint": "ST_Disjoint",
    "s_contains": "ST_Contains",
    "s_crosses": "ST_Crosses",
    "s_equals": "ST_Equals",
    "s_intersects": "ST_Intersects",
    "s_overlaps": "ST_Overlaps",
    "s_touches": "ST_Touches",
    "s_within": "ST_Within",
}

#: Cells on a side of the grid by which a part of a table's extent is looked for, and how often it is looked closer.
_CELLS = 16
_LOOKS = 8

#: Degrees. PostGIS may choose another transformation than we do: between old surveys some hundred metres.
_DATUM = 0.01

#: A part of the extent that is larger spares the index too little.
_WORTH = 0.7

#: Beyond all coordinates; the index keeps them as floats of four bytes.
_FAR = 1e30

#: Points along each side of an extent: the bulge of a side of 4000 km between two of them is less than a decimetre.
_ALONG = 2000

#: Extents in degrees are told as wider numbers of so many decimals: coordinates are rounded too.
_DECIMALS = 6


class Placed(Column):  # type: ignore[misc]
    """A column of geometry, and where its table has rows."""

    #: West, south, east, north in its own coordinate system; None where that is not known.
    extent: Box | None = None
    #: The system as its authority's code or WKT; None where it has none.
    crs: str | None = None
    #: The extent in degrees; west > east where it crosses the antimeridian.
    geographic: Box | None = None

    @property
    def in_degrees(self) -> bool:
        """Whether it is answered as it is stored."""
        return bool(self.srid == 4326)


def geographic_extent(extent: Box | None, crs: str | None) -> Box | None:
    """An extent in degrees, west > east where it crosses the antimeridian; None where PROJ has no way to there."""
    if extent is None or crs is None:
        return None
    try:
        west, south, east, north = geographic_box(crs, extent, _ALONG)
    except ProjError:
        return None
    grain = 10.0**_DECIMALS
    low = (max(-limit, math.floor(side * grain) / grain) for side, limit in ((west, 180), (south, 90)))
    high = (min(limit, math.ceil(side * grain) / grain) for side, limit in ((east, 180), (north, 90)))
    return (*low, *high)  # type: ignore[return-value]


def identifier(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def stored(column: Column) -> str:
    """The geometry of a column as it is stored, as SQL."""
    name = identifier(column.name)
    return f"CAST({name} AS geometry)" if column.type == "geography" else name


def answered(column: Column) -> str:
    """The geometry of a column as it is answered, in degrees, as SQL."""
    return stored(column) if column.srid == 4326 else f"ST_Transform({stored(column)}, 4326)"


def in_box(column: Column, sides: Sequence[float]) -> str:
    """SQL of whether a feature meets a box.

    Args:
        column: of the geometry.
        sides: west, south, east, north in degrees, or with heights, which are left out; west > east across 180°.
    """
    shape = _shape_of_box(sides)
    return spatial("s_intersects", column, shape)


def spatial(operator: str, left: Any, right: Any) -> str:
    """SQL of a spatial operator of CQL2.

    Args:
        operator: of `SPATIAL`.
        left: a column, or a geometry of GeoJSON, or a box as `{"bbox": sides}`.
        right: likewise.

    Raises:
        ValueError: what should be a box has no four or six sides.
    """
    shapes = [_shape(side) for side in (left, right)]
    terms = [_term(side) for side in shapes]
    exact = f"{SPATIAL[operator]}({', '.join(terms)})"
    columns = [side for side in shapes if isinstance(side, Placed)]
    if operator == "s_disjoint" or len(columns) != 1 or columns[0].in_degrees:
        return exact
    (shape,) = (side for side in shapes if side is not columns[0])
    boxes = list(_boxes(shape)) if isinstance(shape, dict) else []
    return _with_index(columns[0], boxes, exact, whole=_is_box(shape) and operator == "s_intersects")


def _term(side: Any) -> str:
    if isinstance(side, Column):
        return answered(side) if side.is_geometry else identifier(side.name)
    return f"ST_SetSRID(ST_GeomFromGeoJSON({literal(json.dumps(side))}), 4326)"


def _shape(side: Any) -> Any:
    return _shape_of_box(side["bbox"]) if isinstance(side, dict) and "bbox" in side else side


def _shape_of_box(sides: Sequence[float]) -> dict[str, Any]:
    """A box as GeoJSON. One without width or height is a line or a point: a polygon without area meets nothing."""
    if len(sides) not in {4, 6}:
        raise ValueError("a box has four sides, or six with heights")
    middle = len(sides) // 2
    west, south, east, north = sides[0], sides[1], sides[middle], sides[middle + 1]
    if west == east and south == north:
        return {"type": "Point", "coordinates": [west, south]}
    if west == east or (south == north and west < east):
        return {"type": "LineString", "coordinates": [[west, south], [east, north]]}
    return footprint((west, south, east, north))


def _is_box(shape: Any) -> bool:
    """Whether whatever lies in the box around a geometry, or one of those around its polygons, lies in it too."""
    if not isinstance(shape, dict) or shape.get("type") not in {"Polygon", "MultiPolygon"}:
        return False
    polygons = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
    return all(_is_ring_of_box(rings) for rings in polygons)


def _is_ring_of_box(rings: list[list[list[float]]]) -> bool:
    ring = [tuple(position[:2]) for position in rings[0]]
    west, south, east, north = _around(ring)
    return len(rings) == 1 and ring == [(west, south), (east, south), (east, north), (west, north), (west, south)]


def _boxes(shape: dict[str, Any]) -> Iterator[Box]:
    """West, south, east, north of a geometry, or of each of its polygons: two if it crosses the antimeridian."""
    if shape.get("type") == "GeometryCollection":
        for part in shape["geometries"]:
            yield from _boxes(part)
    elif shape.get("type") == "MultiPolygon":
        for polygon in shape["coordinates"]:
            yield _around(list(_positions(polygon)))
    else:
        yield _around(list(_positions(shape["coordinates"])))


def _positions(coordinates: Any) -> Iterator[Sequence[float]]:
    if coordinates and isinstance(coordinates[0], int | float):
        yield coordinates
    else:
        for part in coordinates:
            yield from _positions(part)


def _around(positions: Sequence[Sequence[float]]) -> Box:
    xs, ys = ([position[axis] for position in positions] for axis in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _with_index(column: Placed, boxes: Sequence[Box], exact: str, *, whole: bool) -> str:
    """A condition that is asked of those rows alone that the index finds; and of none where all rows meet it."""
    if not column.extent or not column.crs or not boxes:
        return exact
    everything, part = _part(column.extent, column.crs, boxes)
    geometry = stored(column)
    if whole and everything:
        return f"({geometry} @ {_envelope(column.extent, column.srid)} OR {exact})"
    if part is not None and _area(part) > _WORTH * _area(column.extent) > 0:
        return exact
    west, south, east, north = column.extent
    # what came after the extent was asked for is not known to lie in it
    beyond = [
        (-_FAR, -_FAR, west, _FAR),
        (east, -_FAR, _FAR, _FAR),
        (-_FAR, -_FAR, _FAR, south),
        (-_FAR, north, _FAR, _FAR),
    ]
    near = " OR ".join(f"{geometry} && {_envelope(box, column.srid)}" for box in [*([part] if part else []), *beyond])
    return f"(({near}) AND {exact})"


def _envelope(box: Box, srid: int | None) -> str:
    return f"ST_MakeEnvelope({', '.join(repr(float(side)) for side in box)}, {int(srid or 0)})"


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _part(extent: Box, crs: str, boxes: Sequence[Box]) -> tuple[bool, Box | None]:
    """Whether all of an extent lies in one of the boxes; and the part of it outside of which nothing lies in them.

    The extent is cut into cells, of which those stay that may touch a box; what is around these is cut again.
    """
    everything, area = False, extent
    for look in range(_LOOKS):
        xs = np.linspace(area[0], area[2], _CELLS + 1)
        ys = np.linspace(area[1], area[3], _CELLS + 1)
        touch, within = _cells(xs, ys, crs, boxes)
        everything = everything or (look == 0 and bool(within.all()))
        if not touch.any():
            return everything, None
        rows, columns = (np.flatnonzero(touch.any(axis=axis)) for axis in (1, 0))
        smaller = (xs[columns[0]], ys[rows[0]], xs[columns[-1] + 1], ys[rows[-1] + 1])
        if _area(smaller) > _area(area) / 2 or _area(area) == 0:
            return everything, smaller
        area = smaller
    return everything, area


def _cells(
    xs: NDArray[np.float64], ys: NDArray[np.float64], crs: str, boxes: Sequence[Box]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which cells of a grid may touch a box, and which lie in one for sure."""
    x, y = np.meshgrid(xs, ys)
    to_degrees = TransformerFromCRS(crs, 4326, always_xy=True)
    lon, lat = to_degrees.transform(x, y)
    back_x, back_y = to_degrees.transform(lon, lat, direction="INVERSE")
    # where a projection does not come back to where it went from, it says nothing
    grain = max(0.01 * max(xs[-1] - xs[0], ys[-1] - ys[0]) / _CELLS, 1e-4)
    with np.errstate(invalid="ignore"):
        sound = (np.abs(back_x - x) < grain) & (np.abs(back_y - y) < grain)
    known = _of_cells(sound).all(axis=0)
    lon, lat = np.where(sound, lon, 0.0), np.where(sound, lat, 0.0)
    west, east, south, north = _sides(lon, lat)
    # a side may bulge between its ends, by less than the cell is wide
    wide, high = east - west + _DATUM, north - south + _DATUM
    touch, within = ~known, np.zeros_like(known)
    for box in boxes:
        for turn in (-360, 0, 360):
            w, e = box[0] + turn, box[2] + turn
            meets = (west - wide <= e) & (east + wide >= w) & (south - high <= box[3]) & (north + high >= box[1])
            holds = (west - wide >= w) & (east + wide <= e)
            touch |= meets
            within |= known & holds & (south - high >= box[1]) & (north + high <= box[3])
    return np.asarray(touch), np.asarray(within)


def _of_cells(corners: NDArray[Any]) -> NDArray[Any]:
    """The four corners of each cell."""
    return np.stack([corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]])


def _sides(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """West, east, south and north of each cell by its corners; east > 180 where it crosses the antimeridian. A cell
    that is neither wide before nor after a turn has a pole in it.
    """
    lons, lats = _of_cells(lon), _of_cells(lat)
    west, east, south, north = lons.min(axis=0), lons.max(axis=0), lats.min(axis=0), lats.max(axis=0)
    turned = np.where(lons < 0, lons + 360, lons)
    across = (east - west > 180) & (np.ptp(turned, axis=0) <= 180)
    west = np.where(across, turned.min(axis=0), west)
    east = np.where(across, turned.max(axis=0), east)
    pole = east - west > 180
    west, east = np.where(pole, -180.0, west), np.where(pole, 180.0, east)
    up = pole & (south + north >= 0)
    down = pole & ~up
    south, north = (
        np.where(down, -90.0, np.where(up, 2 * south - 90, south)),
        np.where(up, 90.0, np.where(down, 2 * north + 90, north)),
    )
    return west, east, south, north
