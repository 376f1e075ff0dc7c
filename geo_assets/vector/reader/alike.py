"""Geometries that all have the same header: a plan can be made of the header, and they are looked at later.

Here: whether the WKB of some batches is alike, and where it lies. Not here: the plan (`inspect.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geo_assets.vector.models import BoundingBox
from geo_assets.vector.reader.stated import Scan
from geo_assets.vector.reader.wkb import Headers

if TYPE_CHECKING:
    import pyarrow as pa


class Alike:
    """Finds whether geometries are alike, batch by batch."""

    def __init__(self) -> None:
        self._nulls = self._geometries = 0
        self._headers: Headers | None = None
        self._box = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, wkb: pa.Array) -> bool:
        """Add some more; whether they still are alike, and GEOS reads them."""
        import shapely

        some = wkb.drop_null()
        self._nulls += wkb.null_count
        self._geometries += len(some)
        headers = Headers.of(some)
        if not headers.need_nothing:
            return False
        if not len(some):
            return True
        first = self._headers = self._headers or Headers.of(some.slice(0, 1))
        if (headers.codes != first.codes[0]).any() or (headers.has_z != first.has_z[0]).any():
            return False
        try:
            box = shapely.total_bounds(shapely.from_wkb(some.to_numpy(zero_copy_only=False)))
        except shapely.errors.GEOSException:
            return False
        self._box = np.concatenate([np.fmin(self._box[:2], box[:2]), np.fmax(self._box[2:], box[2:])])
        return True

    @property
    def scan(self) -> Scan | None:
        """Return what a plan needs; None where there is no geometry, or one is not finite."""
        if self._headers is None or self.bounds is None:
            return None
        return Scan(self._headers, self._geometries, self._nulls, odd=0, bounds=self.bounds)

    @property
    def bounds(self) -> BoundingBox | None:
        """Return the extent of all; None where one of them is not finite."""
        west, south, east, north = map(float, self._box)
        return (west, south, east, north) if np.isfinite(self._box).all() else None
