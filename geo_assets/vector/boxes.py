"""A box in one CRS, and which geometries of a layer in another touch it.

Here: pyproj and shapely. Not here: when it is asked (`reader/filters.py`), other uses of a CRS (`crs.py`).

Neither is the box brought to the layer's CRS, where a box of half the world has no shape, nor the geometries to the
box's, where one around a pole has none. A part of a geometry either meets the outline of the box, which is a line in
each CRS, or is inside or outside as a whole, which its first vertex tells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.crs import are_one
from geo_assets.vector.ends import turn_of
from geo_assets.vector.models import BoundingBox

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

#: How far the outline may be from the curve that it stands for, what is on the edge from it, and a place from itself
#: there and back: in degrees, and in the units of projected CRSs.
_CHORD, _ON_EDGE, _SAME_PLACE = (1e-6, 0.1), (1e-7, 1e-2), (1e-5, 1.0)

#: The same for what is far from where the layer's CRS is meant for, as a share of its coordinates.
_CHORD_OF_FAR = 1e-8

#: Lines of each edge, one for each degree and at least so many, before those are halved that are curved; how often; and
#: how many there may be.
_LEAST_LINES, _HALVINGS, _MOST_LINES = 16, 24, 200_000

_ENDS = (slice(None, -1), slice(1, None))

_MULTI = 4  # the least of shapely's ids of what has members


@dataclass(slots=True)
class Box:
    """A box that geometries of a layer are held against."""

    west: float
    south: float
    east: float  # greater than west, also across the antimeridian
    north: float
    turn: float | None  # around the globe, in the unit of a geographic CRS
    shape: Any  # the box in the CRS of the layer, or its outline there
    to_box: Transformer | None = None  # from the CRS of the layer, where that is another

    @classmethod
    def of(cls, box: BoundingBox, box_crs: CRS, crs: CRS, name: str) -> Box:
        """Make a box.

        Args:
            box: west, south, east, north; west > east crosses the antimeridian where `box_crs` is geographic.
            box_crs: of the box.
            crs: of the layer.
            name: of the layer, in messages.

        Raises:
            GeoAssetsError: INVALID_FILTER.
        """
        import shapely
        from pyproj import Transformer
        from pyproj.exceptions import ProjError

        west, south, east, north = box
        if not all(map(math.isfinite, box)) or south > north or (west > east and not box_crs.is_geographic):
            raise GeoAssetsError("INVALID_FILTER", f"the bbox {box} is none: it is west, south, east, north")
        turn = turn_of(box_crs)
        if turn is not None:
            east = west + turn if east - west >= turn else east + (turn if west > east else 0)
            south, north = max(south, -turn / 4), min(north, turn / 4)
        made = cls(west, south, east, north, turn, None)
        if are_one(crs, box_crs):
            made.shape = shapely.union_all(made._turned())
        else:
            try:
                there, made.to_box = (
                    Transformer.from_crs(a, b, always_xy=True) for a, b in ((box_crs, crs), (crs, box_crs))
                )
            except ProjError as error:
                raise GeoAssetsError(
                    "INVALID_FILTER", f"there is no way from {box_crs.name!r}, the CRS of the bbox, to that of {name}"
                ) from error
            made.shape = made._outline(there, crs)
        shapely.prepare(made.shape)
        return made

    def touches(self, geometries: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which geometries touch the box; None touches nothing."""
        import shapely

        found: NDArray[np.bool_] = shapely.intersects(self.shape, geometries)
        if self.to_box is None:
            return found
        parts, owners = geometries[~found], np.flatnonzero(~found)
        while (shapely.get_type_id(parts) >= _MULTI).any():
            parts, index = shapely.get_parts(parts, return_index=True)
            owners = owners[index]
        places, index = shapely.get_coordinates(parts, return_index=True)
        first = np.flatnonzero(np.diff(index, prepend=-1))
        x, y = self.to_box.transform(places[first, 0], places[first, 1])
        found[owners[index[first[self._has(np.asarray(x), np.asarray(y))]]]] = True
        return found

    def _has(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        edge = _ON_EDGE[self.turn is None]
        within = x - self.west + edge
        if self.turn is not None:
            within = np.mod(within, self.turn, where=np.isfinite(within), out=np.full(len(within), np.inf))
        inside: NDArray[np.bool_] = (within >= 0) & (within <= self.east - self.west + 2 * edge)
        return inside & (y >= self.south - edge) & (y <= self.north + edge)

    def _turned(self) -> list[Any]:
        """Return the box, and the same as often as longitudes that are counted further, or back, come to it."""
        import shapely

        flat, low = self.west == self.east, self.south == self.north
        make = shapely.box if not (flat or low) else _point if flat and low else _line
        shifts = [number * (self.turn or 0) for number in ((-2, -1, 0, 1, 2) if self.turn is not None else (0,))]
        return [make(self.west + shift, self.south, self.east + shift, self.north) for shift in shifts]

    def _outline(self, there: Transformer, layer: CRS) -> Any:
        """Return the outline of the box in the CRS of the layer, without what has no place there.

        Args:
            there: from the CRS of the box to that of the layer.
            layer: the latter.
        """
        import shapely

        chord, turn = _CHORD[not layer.is_geographic], turn_of(layer)
        edges = [self._divided(*edge) for edge in self._edges()]
        starts, ends = (np.vstack([np.empty((0, 2)), *(edge[some] for edge in edges)]) for some in _ENDS)
        a, b = self._placed(there, starts), self._placed(there, ends)
        lines = []
        for _ in range(_HALVINGS):
            middles = (starts + ends) / 2
            middle = self._placed(there, middles)
            off = np.hypot(*(middle - (a + b) / 2).T)  # NaN where one of them has no place
            straight = off <= chord + _CHORD_OF_FAR * np.hypot(*middle.T)
            lines.append(np.stack([a[straight], b[straight]], axis=1))
            some = ~straight & np.isfinite(np.hstack([a, b, middle])).any(axis=1)
            starts, ends = np.vstack([starts[some], middles[some]]), np.vstack([middles[some], ends[some]])
            a, b = np.vstack([a[some], middle[some]]), np.vstack([middle[some], b[some]])
            if not len(starts) or len(starts) > _MOST_LINES:
                break
        found = np.vstack(lines)
        if turn is not None:  # longitudes may be counted further, or back
            found = np.vstack([found + np.array([shift * turn, 0]) for shift in (-1, 0, 1)])
        return shapely.multilinestrings(shapely.linestrings(found))

    def _edges(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Return the edges of the box: a pole is none, nor is where longitudes begin that go around the globe."""
        pole = math.inf if self.turn is None else self.turn / 4
        around = self.turn is not None and self.east - self.west >= self.turn
        west, south, east, north = self.west, self.south, self.east, self.north
        return [
            *([((west, south), (east, south))] if south > -pole else []),
            *([((west, north), (east, north))] if north < pole else []),
            *([((west, south), (west, north)), ((east, south), (east, north))] if not around else []),
        ]

    def _divided(self, start: tuple[float, float], end: tuple[float, float]) -> NDArray[np.float64]:
        """Return places along an edge."""
        share = 0.0 if self.turn is None else math.dist(start, end) / self.turn
        return np.linspace(start, end, max(_LEAST_LINES, round(share * 360)) + 1)

    def _placed(self, there: Transformer, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return places in the CRS of the layer; NaN for one that it does not have, or has for another."""
        x, y = there.transform(places[:, 0], places[:, 1])
        moved = np.column_stack([x, y])
        moved[~np.isfinite(moved).all(axis=1)] = np.nan
        x, y = self.to_box.transform(*moved.T) if self.to_box is not None else moved.T
        off = np.column_stack([x, y]) - places
        if self.turn is not None:
            off[~np.isfinite(off)] = np.nan
            off[:, 0] = (off[:, 0] + self.turn / 2) % self.turn - self.turn / 2
            off[:, 0] *= np.cos(places[:, 1] / self.turn * 2 * math.pi)  # any longitude is that of a pole
        moved[~(np.hypot(*off.T) <= _SAME_PLACE[self.turn is None])] = np.nan
        return moved


def _line(west: float, south: float, east: float, north: float) -> Any:
    import shapely

    return shapely.LineString([(west, south), (east, north)])


def _point(west: float, south: float, _east: float, _north: float) -> Any:
    import shapely

    return shapely.Point(west, south)
