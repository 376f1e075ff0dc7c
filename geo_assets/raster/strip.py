"""A strip of small pictures: the first thumbnails of a job side by side, small enough to be stored with an event.

Here: composing one JPEG from PNG thumbnails. It runs in the sandboxed child. Not here: making a thumbnail
(`thumbnail.py`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geo_assets.raster import gdal
from geo_assets.raster.models import StripReport, StripRequest

#: Pixels of a tile and of the gap between two. A dozen of these are about 25 KB; Dagster keeps them with the event.
TILE, _GAP = 72, 4

_BACKGROUND = 255  # white, as the page behind it


def strip(request: StripRequest) -> StripReport:
    """Write the strip to `request.destination`."""
    count = len(request.thumbnails)
    canvas = np.full((3, TILE, count * (TILE + _GAP)), _BACKGROUND, "uint8")
    for index, thumbnail in enumerate(request.thumbnails):
        left = index * (TILE + _GAP)
        tile = _tile(Path(thumbnail))
        canvas[:, : tile.shape[1], left : left + tile.shape[2]] = tile
    profile = {
        "driver": "JPEG",
        "count": 3,
        "height": canvas.shape[1],
        "width": canvas.shape[2],
        "dtype": "uint8",
        "quality": 80,
    }
    with gdal.create(Path(request.destination), profile) as picture:
        picture.write(canvas)
    return StripReport(width=canvas.shape[2], height=TILE)


def _tile(path: Path) -> NDArray[np.uint8]:
    """Return the RGB of one thumbnail on the background, fitted into a tile; bands, rows, columns."""
    with gdal.open_raster(path, "PNG") as picture:
        scale = TILE / max(picture.width, picture.height)
        shape = (picture.count, max(1, round(picture.height * scale)), max(1, round(picture.width * scale)))
        pixels = picture.read(out_shape=shape, resampling=Resampling.average)
    opaque = pixels[-1:] / 255 if picture.count in {2, 4} else np.ones((1, *pixels.shape[1:]))
    colours = pixels[:3] if picture.count >= 3 else np.repeat(pixels[:1], 3, axis=0)
    return np.asarray(colours * opaque + _BACKGROUND * (1 - opaque), "uint8")
