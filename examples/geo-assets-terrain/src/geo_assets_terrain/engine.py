"""What opens files: it runs in a sandboxed child, without network, credentials or any file but those it was given.

Here: the gradient of Horn (1981) and what follows from it, strip by strip. It raises `GeoAssetsError` where the file is
at fault.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.inspect import RasterInfo, inspected
from geo_assets_terrain.models import Report, Request

Heights = NDArray[np.float64]

#: Pixels of a strip: some arrays of it are held in memory.
_STRIP_PIXELS = 8_000_000

#: Metres of a degree of latitude in the mean, on the WGS 84 ellipsoid.
_METRES_A_DEGREE = 111_319.49

_NO_SHADE, _NO_SLOPE = 0, -9999.0


def derive(request: Request) -> Report:
    """Write hillshade (1 to 255) and slope (degrees) of an elevation model, on its grid.

    Raises:
        GeoAssetsError: what `inspected` refuses; RASTER_NO_CRS, RASTER_UNSUPPORTED, TERRAIN_NO_HEIGHTS.
    """
    path = Path(request.source)
    with inspected(path) as (dataset, info):
        _refuse_what_is_no_model(path.name, dataset, info)
        with _new(request.hillshade, dataset, "uint8", _NO_SHADE) as shade:
            shade.set_band_description(1, "hillshade")
            with _new(request.slope, dataset, "float32", _NO_SLOPE) as slope:
                slope.set_band_description(1, "slope")
                slope.units = ("degree",)
                for window, heights in _strips(dataset):
                    east, north = gradient(heights * request.z_factor, *_pixel_size(dataset, window))
                    shade.write(_shade(east, north, request), 1, window=window)
                    slope.write(_slope(east, north), 1, window=window)
        return Report(datetime=_taken(info))


def gradient(heights: Heights, width: Heights | float, height: Heights | float) -> tuple[Heights, Heights]:
    """Return how much it rises to the east and to the north, of all pixels but those at the edges.

    Horn, "Hill shading and the reflectance map", Proceedings of the IEEE 69 (1), 1981, pages 14-47.

    Args:
        heights: north up, NaN where they are not known.
        width: of a pixel, in the unit of heights, for each row of the result.
        height: of a pixel.
    """
    west, east = heights[:, :-2], heights[:, 2:]
    to_east = (east[:-2] + 2 * east[1:-1] + east[2:]) - (west[:-2] + 2 * west[1:-1] + west[2:])
    north, south = heights[:-2], heights[2:]
    to_north = (north[:, :-2] + 2 * north[:, 1:-1] + north[:, 2:]) - (south[:, :-2] + 2 * south[:, 1:-1] + south[:, 2:])
    unknown = np.isnan(heights[1:-1, 1:-1])
    return np.where(unknown, np.nan, to_east / (8 * width)), np.where(unknown, np.nan, to_north / (8 * height))


def _shade(east: Heights, north: Heights, light: Request) -> NDArray[np.uint8]:
    """The cosine between the normal of the surface and the light, as 1 to 255."""
    azimuth, altitude = np.radians(light.azimuth), np.radians(light.altitude)
    towards = east * np.sin(azimuth) + north * np.cos(azimuth)
    cosine = (np.sin(altitude) - np.cos(altitude) * towards) / np.sqrt(1 + east**2 + north**2)
    shade = np.floor(1.5 + 254 * np.maximum(cosine, 0))
    return np.where(np.isnan(shade), _NO_SHADE, shade).astype("uint8")


def _slope(east: Heights, north: Heights) -> NDArray[np.float32]:
    slope = np.degrees(np.arctan(np.hypot(east, north)))
    return np.where(np.isnan(slope), _NO_SLOPE, slope).astype("float32")


def _refuse_what_is_no_model(name: str, dataset: Any, info: RasterInfo) -> None:
    if info.crs is None:
        raise GeoAssetsError("RASTER_NO_CRS", f"{name} names no CRS")
    if info.count != 1 or info.palette or np.dtype(dataset.dtypes[0]).kind not in "iuf":
        what = "a palette" if info.palette else f"{info.count} bands of {dataset.dtypes[0]}"
        raise GeoAssetsError("TERRAIN_NO_HEIGHTS", f"{name} holds no heights: it has {what}")
    grid = dataset.transform
    if grid.b or grid.d or grid.a <= 0 or grid.e >= 0:
        raise GeoAssetsError("RASTER_UNSUPPORTED", f"{name} has a grid that is not north up", remedy="reproject it")


def _strips(dataset: Any) -> Iterator[tuple[Window, Heights]]:
    """Each strip, and its heights with one more pixel on each side; NaN where they are not known."""
    width, height = dataset.width, dataset.height
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - 1, 0), min(bottom + 1, height)
        read = dataset.read(1, window=Window(0, first, width, last - first), masked=True)
        heights = np.full((bottom - top + 2, width + 2), np.nan)
        heights[first - top + 1 : last - top + 1, 1:-1] = read.astype("float64").filled(np.nan)
        yield Window(0, top, width, bottom - top), heights


def _pixel_size(dataset: Any, window: Window) -> tuple[Heights | float, float]:
    """Width, for each row of a strip, and height of its pixels in metres."""
    grid = dataset.transform
    if not dataset.crs.is_geographic:
        metres = dataset.crs.linear_units_factor[1]
        return grid.a * metres, -grid.e * metres
    middles = grid.f + (window.row_off + 0.5 + np.arange(window.height)) * grid.e
    widths = grid.a * _METRES_A_DEGREE * np.cos(np.radians(middles))
    return widths[:, None], -grid.e * _METRES_A_DEGREE


def _new(path: str, like: Any, dtype: str, nodata: float) -> Any:
    """A GeoTIFF on the grid of a dataset, for writing strips."""
    grid = {"crs": like.crs, "transform": like.transform, "width": like.width, "height": like.height}
    return rasterio.open(path, "w", driver="GTiff", count=1, dtype=dtype, nodata=nodata, BIGTIFF="IF_SAFER", **grid)


def _taken(info: RasterInfo) -> str | None:
    taken = info.captured
    return "/".join(filter(None, (taken.start, taken.end))) if taken else None
