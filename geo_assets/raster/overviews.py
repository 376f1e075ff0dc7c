"""The next overview level: the average of 2 x 2 pixels, the commonest of them, or one of them.

Here: which pixels of a window count, and for what. Not here: arithmetic (`tiles.py`), which levels there are and how
they are stored (`onepass.py`), which method suits which pixels (`profiles.py`).

A level of n pixels has ceil(n / 2) in the next one. Where n is odd, a pixel of the next level covers a little less than
two of this one, so the average is weighted by area, as GDAL's is: the overview covers the same ground, not half a pixel
more. Its commonest value is that of the two or three pixels that it covers any of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.raster.pixels import Validity, can_hold
from geo_assets.raster.tiles import Bools, Pixels, Weights, averages, modes, quarters


def level_sizes(height: int, width: int, block_size: int) -> list[tuple[int, int]]:
    """Return (height, width) of full resolution and each overview; the last fits into one block."""
    sizes = [(height, width)]
    while max(sizes[-1]) > block_size:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def halve(
    data: Pixels, validity: Validity, *, first: tuple[int, int], size: tuple[int, int], outer: Bools | None = None
) -> Pixels:
    """Return the next level of a window.

    Args:
        data: shape (bands, rows, columns), all bands; with one row above the window where the level's height is odd,
            and one column to its left where its width is. Beyond the edge of the level they may hold anything finite.
        validity: which pixels count.
        first: row and column of the next level at which the window begins.
        size: height and width of the level of `data`.
        outer: which pixels are valid by a mask.
    """
    rows, columns = (Weights.of(*axis) for axis in zip(first, size, data.shape[1:], strict=True))
    valid = _valid(data, validity, outer)
    if rows is None and columns is None and all(v is None for v in valid):
        return quarters(data)
    nodata = validity.nodata if validity.nodata is not None and can_hold(data.dtype, validity.nodata) else None
    half = [
        averages(values, v, rows, columns, empty=_empty(data.dtype, validity, band), nodata=nodata)
        for band, (values, v) in enumerate(zip(data, valid, strict=True), 1)
    ]
    return np.stack(half)


def commonest(
    data: Pixels, validity: Validity, *, first: tuple[int, int], size: tuple[int, int], outer: Bools | None = None
) -> Pixels:
    """Return the next level of a window of codes, as `halve`: of the valid pixels that one of it covers the value that
    most of them have, of several such the one that has so many first, from the top left (GDAL's MODE). Of an alpha band
    it is of those that are not transparent: where a code is shown, it is seen.
    """
    down, across = (_covered(f, n, length) for f, n, length in zip(first, size, data.shape[1:], strict=True))
    half = [
        modes(values, values != 0, down, across, empty=0)
        if band == validity.alpha
        else modes(values, valid, down, across, empty=_empty(values.dtype, validity, band))
        for band, (values, valid) in enumerate(zip(data, _valid(data, validity, outer), strict=True), 1)
    ]
    return np.stack(half)


def nearest(
    data: Pixels,
    validity: Validity,  # noqa: ARG001 - what is picked is not asked whether it is valid
    *,
    first: tuple[int, int],
    size: tuple[int, int],
    outer: Bools | None = None,  # noqa: ARG001
) -> Pixels:
    """Return the next level of a window, as `halve`: one of the pixels that are there (GDAL's NEAREST)."""
    rows, columns = (_picked(f, n, length) for f, n, length in zip(first, size, data.shape[1:], strict=True))
    return data[:, rows][:, :, columns]


def _valid(data: Pixels, validity: Validity, outer: Bools | None) -> list[Bools | None]:
    """Return which pixels of each band count: colour under transparency does not, transparency itself does."""
    opaque = validity.opaque(data, outer)
    if opaque is not None and opaque.all():
        opaque = None
    return [validity.valid(values, None if band == validity.alpha else opaque) for band, values in enumerate(data, 1)]


def halve_mask(mask: Bools, *, first: tuple[int, int], size: tuple[int, int]) -> Bools:
    """Return the next level of a mask, as `halve`: valid where any pixel that counts is valid."""
    rows, columns = (Weights.of(*axis) for axis in zip(first, size, mask.shape, strict=True))
    return averages(mask.view(np.uint8), mask, rows, columns, empty=0).view(np.bool_)


def nearest_mask(mask: Bools, *, first: tuple[int, int], size: tuple[int, int]) -> Bools:
    """Return the next level of a mask, as `nearest`: of the pixels that are picked there."""
    rows, columns = (_picked(f, n, length) for f, n, length in zip(first, size, mask.shape, strict=True))
    return mask[rows][:, columns]


#: GDAL's name of a method -> how the next level is made, of pixels and of a mask.
METHODS = {"AVERAGE": (halve, halve_mask), "MODE": (commonest, halve_mask), "NEAREST": (nearest, nearest_mask)}


def _picked(first: int, length: int, there: int) -> slice | NDArray[np.int64]:
    """Return which of the `there` pixels of a window are those of the next level, along an axis: of an even length
    every second one; else what GDAL's NEAREST picks (GDALResampleChunk_Near), the window beginning one before the
    first.
    """
    if length % 2 == 0:
        return slice(None, None, 2)
    i = np.arange(first, first + there // 2)
    return (0.5 + i * (length / -(-length // 2))).astype(np.int64) - (2 * first - 1)


def _covered(first: int, length: int, there: int) -> NDArray[np.int64]:
    """Return which of the `there` pixels of a window those of the next level cover, along an axis, see `halve`: shape
    (2, pixels) where its length is even, else (3, pixels); -1: the first or last of the level covers none there.
    """
    if length % 2 == 0:
        return np.arange(there).reshape(-1, 2).T
    i = np.arange(first, first + there // 2)
    covered = np.stack([2 * i - 1, 2 * i, 2 * i + 1]) - (2 * first - 1)
    covered[0, i == 0] = covered[2, i == length // 2] = -1
    return covered


def _empty(dtype: np.dtype[Any], validity: Validity, band: int) -> Any:
    """Return what a pixel without valid ones has in a band: nodata, where the type can hold it."""
    nodata = validity.together[band - 1] if validity.together else validity.nodata
    if dtype.kind == "f":
        return nodata if nodata is not None else np.nan if validity.alpha is None else 0.0
    return int(nodata) if nodata is not None and can_hold(dtype, nodata) else 0
