"""Where the coordinates of a CRS end: half a turn around the globe to both sides of its middle, and at latitudes.

Here: CRSs whose x is proportional to the longitude, which are those of longitudes and latitudes and the cylindrical
projections, and the way of coordinates from one CRS to another. Not here: cutting geometries there (`reader/seams.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.once import remembered_by
from geo_assets.vector.crs import transformer

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

#: EPSG's codes of the methods of projection whose x is proportional to the longitude.
_MERCATORS = frozenset({"1024", "1026", "1044", "9804", "9805", "9841"})
_CYLINDRICAL = _MERCATORS | {"1028", "1029", "9823", "9834", "9835", "9842"}

#: Where a Mercator projection, which has no pole, ends: EPSG's area of Web Mercator, almost a square. Degrees.
_LAST_OF_MERCATOR = 85.06

#: What lies beyond an end by less is rounding: of a turn.
_ROUNDING = 1e-9


def turn_of(crs: CRS) -> float | None:
    """Return a turn around the globe in the unit of a geographic CRS; None for others."""
    return 2 * math.pi / float(crs.axis_info[0].unit_conversion_factor) if crs.is_geographic else None


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the coordinates of a CRS end, in its unit."""

    turn: float  # around the globe
    middle: float  # of x, half a turn from both ends
    longitude: float  # of the middle, as a share of a turn
    low: float
    high: float

    def turns(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return longitudes, as shares of a turn; counted on beyond half a one."""
        return (x - self.middle) / self.turn + self.longitude

    def hold(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which boxes do not reach beyond the latitudes."""
        rounding = self.turn * _ROUNDING
        return np.asarray((boxes[:, 1] >= self.low - rounding) & (boxes[:, 3] <= self.high + rounding))

    def narrow(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which boxes take at most half a turn."""
        return np.asarray(boxes[:, 2] - boxes[:, 0] <= self.turn / 2)


@dataclass(frozen=True, slots=True)
class Way:
    """From the CRS of a file to that of its table."""

    transformer: Transformer
    source: Ends | None = None
    target: Ends | None = None

    def transform(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Any, Any]:
        """Move coordinates; infinity where there is no place for them."""
        moved: tuple[Any, Any] = self.transformer.transform(x, y)
        return moved

    def surely_whole(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which geometries the way has not torn apart at an end of the target, nor taken beyond its latitudes,
        as far as their boxes tell: what it has torn is wider than half a turn afterwards, or was before.

        Args:
            before: xmin, ymin, xmax, ymax of each in the file.
            after: likewise, moved.
        """
        if self.target is None:
            return np.ones(len(after), dtype=np.bool_)
        whole = self.target.hold(after) & self.target.narrow(after)
        return whole if self.source is None else whole & self.source.narrow(before)


def way_between(plan_source: str, srid: int) -> Way:
    """Return the way from a plan's CRS to the table's."""
    return Way(transformer(plan_source, srid), ends_of(plan_source), ends_of(f"EPSG:{srid}"))


def _itself(crs: str) -> str:
    return crs


@remembered_by(_itself)
def ends_of(crs: str) -> Ends | None:
    """Return where the coordinates of a CRS end; None where x is not proportional to the longitude."""
    from pyproj import CRS

    found = CRS.from_user_input(crs)
    turn = turn_of(found)
    if turn is not None:
        return Ends(turn, 0.0, 0.0, -turn / 4, turn / 4)
    operation = found.coordinate_operation if found.is_projected else None
    return _of_projection(found) if operation is not None and operation.method_code in _CYLINDRICAL else None


def _of_projection(crs: CRS) -> Ends | None:
    from pyproj import Transformer

    operation, geodetic = crs.coordinate_operation, crs.geodetic_crs
    turn = turn_of(geodetic) if geodetic is not None else None
    if operation is None or turn is None:
        return None
    origin = next((p for p in operation.params if p.name == "Longitude of natural origin"), None)
    radians = origin.value * origin.unit_conversion_factor if origin is not None else 0.0
    longitude = radians / (2 * math.pi)
    last = turn * (_LAST_OF_MERCATOR if operation.method_code in _MERCATORS else 90.0) / 360
    x, y = Transformer.from_crs(geodetic, crs, always_xy=True).transform(
        [longitude * turn, (longitude + 0.25) * turn, longitude * turn], [-last, 0.0, last]
    )
    return Ends(4 * (x[1] - x[0]), x[0], longitude, y[0], y[2])
