"""Grids of longitudes beyond 180, as those of the weather from 0 to 360: read where a client asks for them below it.

Here: the reader of one raster. Not here: which rasters an item has (`assets.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError
from rio_tiler.errors import PointOutsideBounds
from rio_tiler.io import Reader
from rio_tiler.models import ImageData, PointData

from geo_assets.serving.undrawn import AssetGoneError, is_gone

#: Degrees; less beyond 180 is rounding.
_GRAIN = 1e-6


def is_round(crs: Any, bounds: Sequence[float]) -> bool:
    """Whether longitudes are beyond 180, as those of a grid from 0 to 360, or a box is written across it.

    Args:
        crs: of rasterio.
        bounds: west, south, east, north in its units.
    """
    west, east = bounds[0], bounds[2]
    return bool(crs and crs.is_geographic) and (west > east or west < -180 - _GRAIN or east > 180 + _GRAIN)


class GridReader(Reader):  # type: ignore[misc]
    """rio-tiler's, which finds nothing of a grid of longitudes beyond 180 where others have them below it. Such a grid
    is also read as it is 360 degrees further: GDAL opens it with another place, its overviews and masks included.
    """

    def __attrs_post_init__(self) -> None:
        """Open it.

        Raises:
            AssetGoneError: there is no such file.
        """
        try:
            super().__attrs_post_init__()
        except RasterioIOError as error:
            if is_gone(error):
                raise AssetGoneError("the file of this raster is gone") from error
            raise
        self._turned: list[Reader] = []
        if is_round(self.crs, self.bounds):
            west, _, east, _ = self.bounds
            turns = [turn for turn in (-360, 360) if west + turn < 180 and east + turn > -180]
            self._turned = [self._turn(turn) for turn in turns]

    def _turn(self, degrees: int) -> Reader:
        a, b, c, d, e, f = tuple(self.transform)[:6]
        place = ",".join(repr(float(number)) for number in (c + degrees, a, b, f, d, e))
        dataset = self._ctx_stack.enter_context(rasterio.open(f"vrt://{self.input}?a_gt={place}"))
        return Reader(self.input, dataset=dataset, tms=self.tms, colormap=self.colormap, options=self.options)

    def tile_exists(self, *place: int) -> bool:
        """Whether some of it is in a tile."""
        return super().tile_exists(*place) or any(turned.tile_exists(*place) for turned in self._turned)

    def part(self, *box: Any, **options: Any) -> ImageData:
        """Read what is in a box."""
        image = super().part(*box, **options)
        for turned in self._turned:
            if np.ma.getmaskarray(image.array).any():
                _fill(image, turned.part(*box, **options))
        return image

    def point(self, lon: float, lat: float, **options: Any) -> PointData:
        """Read the values at a place, which may lie on the line at which the grid begins and ends."""
        read = super().point
        if not self._turned:
            return read(lon, lat, **options)
        # neither holds its own western edge
        for ask, x in ((read, lon), *((turned.point, lon) for turned in self._turned), (read, _east_of(lon))):
            try:
                found = ask(x, lat, **options)
            except PointOutsideBounds:
                continue
            found.coordinates = (lon, lat)
            return found
        raise PointOutsideBounds("Point is outside dataset bounds")


def _east_of(lon: float) -> float:
    return math.nextafter(lon, math.inf)


def _fill(image: ImageData, other: ImageData) -> None:
    """Put pixels of another picture where one has none."""
    if other.array.shape != image.array.shape:  # a size that was to follow from the grid
        other = other.resize(image.height, image.width)
    empty = np.ma.getmaskarray(image.array)
    if image.alpha_mask is not None and other.alpha_mask is not None:
        clear = image.alpha_mask == 0
        empty = np.broadcast_to(clear, empty.shape)
        image.alpha_mask = np.where(clear, other.alpha_mask, image.alpha_mask)
    mask = np.where(empty, np.ma.getmaskarray(other.array), np.ma.getmaskarray(image.array))
    image.array = np.ma.MaskedArray(np.where(empty, other.array.data, image.array.data), mask=mask)
