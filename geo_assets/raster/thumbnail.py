"""A small PNG of a COG for catalogues.

Here: choice of bands, stretch, colours. Not here: maps; a thumbnail has no georeference.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import deflate
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geo_assets.raster import gdal
from geo_assets.raster.footprint import valid_mask
from geo_assets.raster.gdal import dtype_names, numpy_dtype
from geo_assets.raster.models import PixelKind
from geo_assets.raster.pixels import data_bands, gdal_sees_the_same

Bytes = NDArray[np.uint8]

#: Pixels along the longer side: what STAC browsers show in a list.
SIDE = 256

#: Percentiles that become black and white: a few very bright or dark pixels must not make the rest grey.
_STRETCH = (2.0, 98.0)

#: How a PNG begins; of its numbers, the one for colours with transparency, and the filter that subtracts the pixel to
#: the left. https://www.w3.org/TR/png-3/
_MAGIC, _RGBA, _SUB = b"\x89PNG\r\n\x1a\n", 6, 1

#: Of libdeflate; its files are about as large as GDAL's. Those of ISA-L are a quarter larger where colours are grey.
_LEVEL = 1


def write_thumbnail(cog: Any, kind: PixelKind, path: Path) -> None:
    """Write the thumbnail of an open COG to `path`: RGBA, transparent where no pixel is valid."""
    valid = valid_mask(cog, SIDE)
    bands = _bands(cog)
    table = gdal.colour_table(cog, bands[0]) if cog.colorinterp[bands[0] - 1].name == "palette" else {}
    if table:
        rgb, alpha = _palette(cog, bands[0], table, valid)
    else:
        rgb, alpha = _stretched(cog, bands, kind, valid), np.where(valid, 255, 0)
    image = np.concatenate([rgb, alpha[np.newaxis].astype(np.uint8)])
    if cog.transform.e > 0:  # rows go north
        image = image[:, ::-1]
    path.write_bytes(_as_png(image))


def _as_png(image: Bytes) -> bytes:
    """Return the bytes of a PNG of 8 bits, RGBA. GDAL's driver tries all filters on each row, which takes six times
    as long and makes files of the same size.
    """
    _, height, width = image.shape
    pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1)).reshape(height, 4 * width)
    rows = np.full((height, 1 + 4 * width), _SUB, np.uint8)
    rows[:, 1:5] = pixels[:, :4]
    np.subtract(pixels[:, 4:], pixels[:, :-4], out=rows[:, 5:])
    header = struct.pack(">IIBBBBB", width, height, 8, _RGBA, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", deflate.zlib_compress(rows, _LEVEL)), (b"IEND", b""))
    return _MAGIC + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(name)))
        for name, data in chunks
    )


def _bands(cog: Any) -> list[int]:
    """Return red, green and blue where they are named, else the first three, else the first."""
    named = {c.name: i for i, c in zip(cog.indexes, cog.colorinterp, strict=True)}
    if {"red", "green", "blue"} <= named.keys():
        return [named["red"], named["green"], named["blue"]]
    colours = data_bands(cog)
    return colours[:3] if len(colours) >= 3 else colours[:1]


def _palette(
    cog: Any, band: int, table: dict[int, tuple[int, int, int, int]], valid: NDArray[np.bool_]
) -> tuple[Bytes, Bytes]:
    by_value = np.zeros((65536, 4), np.uint8)
    for value, colour in table.items():
        by_value[value] = colour
    colours = by_value[cog.read(band, out_shape=valid.shape)]
    return np.moveaxis(colours[..., :3], -1, 0), np.where(valid, colours[..., 3], 0).astype(np.uint8)


def _stretched(cog: Any, bands: list[int], kind: PixelKind, valid: NDArray[np.bool_]) -> Bytes:
    codes = kind in {PixelKind.CATEGORICAL, PixelKind.MASK, PixelKind.COMPLEX}
    resampling = (
        Resampling.nearest if codes or not gdal_sees_the_same(cog) else Resampling.average
    )  # of what GDAL considers valid
    data = cog.read(bands, out_shape=(len(bands), *valid.shape), resampling=resampling)
    values: NDArray[Any] = np.abs(data) if data.dtype.kind == "c" else data
    values = values if values.dtype == np.uint8 else values.astype(np.float64)
    shown = valid if values.dtype == np.uint8 else valid & np.isfinite(values).all(axis=0)
    seen = values if (whole := bool(shown.all())) else values[:, shown]
    if numpy_dtype(dtype_names(cog)[0]) == np.uint8 and cog.colorinterp[bands[0] - 1].name == "red":
        limits = [_limits(seen)] * len(values)  # one for all: the balance of colours is the camera's
    else:
        limits = [_limits(band) for band in seen]
    grey = np.stack([_grey(band, low, high) for band, (low, high) in zip(values, limits, strict=True)])
    rgb: Bytes = grey if whole else np.where(shown, grey, 0).astype(np.uint8)
    return rgb if len(bands) == 3 else np.repeat(rgb, 3, axis=0)


def _grey(band: NDArray[Any], low: float, high: float) -> Bytes:
    """Black up to `low`, white from `high`. Of a byte there are 256 values: they are looked up."""
    if band.dtype == np.uint8:
        return np.take(_grey(np.arange(256, dtype=np.float64), low, high), band)
    scaled: Bytes = np.nan_to_num(np.clip((band - low) / (high - low) * 255, 0, 255)).astype(np.uint8)
    return scaled


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    """Return the values that become black and white; never equal."""
    if not values.size:
        return 0.0, 1.0
    low, high = _percentiles_of_bytes(values) if values.dtype == np.uint8 else np.percentile(values, _STRETCH).tolist()
    if high <= low:
        low, high = float(np.min(values)), float(np.max(values))
    return (low, high) if high > low else (low - 1, low + 1)


def _percentiles_of_bytes(values: NDArray[np.uint8]) -> tuple[float, float]:
    """As `numpy.percentile`, to the last digit: of a byte there are 256 values, which are counted instead of sorted."""
    up_to = np.cumsum(np.bincount(values.ravel(), minlength=256))

    def percentile(percent: float) -> float:
        place = (values.size - 1) * (percent / 100)
        whole = int(place)
        below, above = (float(np.searchsorted(up_to, each, side="right")) for each in (whole, whole + 1))
        part = place - whole
        above = min(above, 255.0)  # of the last there is none above
        return below + (above - below) * part if part < 0.5 else above - (above - below) * (1 - part)

    low, high = _STRETCH
    return percentile(low), percentile(high)
