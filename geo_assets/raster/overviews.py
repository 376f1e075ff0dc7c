"""The next overview level: the average of 2 x 2 pixels, the commonest of them, or one of them.

Here: arithmetic on windows in memory. Not here: which levels there are and how they are stored (`onepass.py`), which
method suits which pixels (`profiles.py`).

A level of n pixels has ceil(n / 2) in the next one. Where n is odd, a pixel of the next level covers a little less than
two of this one, so the average is weighted by area, as GDAL's is: the overview covers the same ground, not half a pixel
more. Its commonest value is that of the two or three pixels that it covers any of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.raster.pixels import Bools, Pixels, Validity, can_hold

_Floats = NDArray[np.float64]


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
    rows, columns = (_Axis.of(f, n) for f, n in zip(first, size, strict=True))
    valid = _valid(data, validity, outer)
    if rows is None and columns is None and all(v is None for v in valid):
        return _quarter(data)
    half = [
        _weighted(values, v, rows, columns, validity, band)
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
        _mode(values, values != 0, down, across, 0)
        if band == validity.alpha
        else _mode(values, valid, down, across, _empty(values.dtype, validity, band))
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
    rows, columns = (_Axis.of(f, n) for f, n in zip(first, size, strict=True))
    return _sums(mask.astype(np.float64), rows, columns) > 0


def nearest_mask(mask: Bools, *, first: tuple[int, int], size: tuple[int, int]) -> Bools:
    """Return the next level of a mask, as `nearest`: of the pixels that are picked there."""
    rows, columns = (_picked(f, n, length) for f, n, length in zip(first, size, mask.shape, strict=True))
    return mask[rows][:, columns]


#: GDAL's name of a method -> how the next level is made, of pixels and of a mask.
METHODS = {"AVERAGE": (halve, halve_mask), "MODE": (commonest, halve_mask), "NEAREST": (nearest, nearest_mask)}


def _quarter(data: Pixels) -> Pixels:
    """Return the plain average of 2 x 2; integers are rounded half up."""
    if data.dtype == np.uint8 and data.shape[2] % 2 == 0 and data.flags.c_contiguous:
        pairs: NDArray[np.uint16] = data.view("<u2")  # twice as fast as strided bytes
        sums = (pairs & 0xFF) + (pairs >> 8)
        bytes_: Pixels = ((sums[:, 0::2] + sums[:, 1::2] + 2) >> 2).astype(np.uint8)
        return bytes_
    if data.dtype.kind == "f":
        return _quarter_of_floats(data)
    wide: Any = data.astype(np.uint32 if data.dtype.kind == "u" and data.dtype.itemsize <= 2 else np.int64)
    rows = wide[:, 0::2] + wide[:, 1::2]
    rounded: Pixels = ((rows[:, :, 0::2] + rows[:, :, 1::2] + 2) >> 2).astype(data.dtype)
    return rounded


def _quarter_of_floats(data: Pixels) -> Pixels:
    with np.errstate(over="ignore", invalid="ignore"):
        rows = data[:, 0::2] + data[:, 1::2]
        quarter: Pixels = (rows[:, :, 0::2] + rows[:, :, 1::2]) * data.dtype.type(0.25)
        if not np.isfinite(quarter.sum()):  # the sum of four may be too large where their average is not
            parts = data * data.dtype.type(0.25)
            rows = parts[:, 0::2] + parts[:, 1::2]
            quarter = np.where(np.isfinite(quarter), quarter, rows[:, :, 0::2] + rows[:, :, 1::2])
    return quarter


class _Axis:
    """Weights along an axis of odd length n: pixel i of the next level takes i/m of pixel 2i - 1 (m = ceil(n / 2)), all
    of 2i, and 1 - (i + 1)/m of 2i + 1.
    """

    def __init__(self, first: int, length: int) -> None:
        self._first, self._next = first, -(-length // 2)

    @classmethod
    def of(cls, first: int, length: int) -> _Axis | None:
        """Return the weights; None where the length is even and nothing is weighted."""
        return cls(first, length) if length % 2 else None

    def reduce(self, values: _Floats) -> _Floats:
        """Return weighted sums along the first axis; `values` begins one before the first pixel."""
        count = len(values) // 2  # ceil((len - 1) / 2)
        if len(values) % 2 == 0:  # the last pixel has no second one
            values = np.concatenate([values, np.zeros_like(values[:1])])
        i = np.arange(self._first, self._first + count, dtype=np.float64)
        before, after = i / self._next, 1 - (i + 1) / self._next
        sums: _Floats = values[0:-1:2] * before[:, None] + values[1::2] + values[2::2] * after[:, None]
        return sums


def _weighted(
    values: Pixels, valid: Bools | None, rows: _Axis | None, columns: _Axis | None, validity: Validity, band: int
) -> Pixels:
    """Return the average of the valid pixels, nodata where there is none."""
    if valid is not None and not valid.any():
        return np.full([n // 2 for n in values.shape], _empty(values.dtype, validity, band), values.dtype)
    doubles = values.astype(np.float64)
    if valid is not None:
        doubles = np.where(valid, doubles, 0.0)
    counts = _sums(np.ones_like(doubles) if valid is None else valid.astype(np.float64), rows, columns)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        means = _sums(doubles, rows, columns) / counts
        if values.dtype == np.float64 and not np.isfinite(means[counts > 0]).all():  # as in `_quarter_of_floats`
            means = np.where(np.isfinite(means), means, _sums(doubles / 4, rows, columns) / (counts / 4))
    empty = counts <= 0
    return _stored(means, empty, values.dtype, validity, band)


def _sums(values: _Floats, rows: _Axis | None, columns: _Axis | None) -> _Floats:
    down = values[0::2] + values[1::2] if rows is None else rows.reduce(values)
    across = down.T
    summed: _Floats = (across[0::2] + across[1::2] if columns is None else columns.reduce(across)).T
    return summed


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


def _mode(
    values: Pixels, valid: Bools | None, down: NDArray[np.int64], across: NDArray[np.int64], empty: Any
) -> Pixels:
    """Return the commonest of the valid pixels, `empty` where there is none."""
    places = [np.ix_(rows, columns) for rows in down for columns in across]
    pixels = [(values[place], _counts(valid, place)) for place in places]
    best = pixels[0][0].copy()
    most = np.zeros(best.shape, np.uint8)
    for number, (value, counts) in enumerate(pixels):
        often = np.ones(best.shape, np.uint8)
        for other, other_counts in pixels[:number]:
            often += (other == value) & other_counts
        more = (often > most) & counts
        np.copyto(best, value, where=more)
        np.copyto(most, often, where=more)
    best[most == 0] = empty
    return best


def _counts(valid: Bools | None, place: tuple[NDArray[np.int64], ...]) -> Bools | np.bool_:
    """Return which of the pixels at a place count; one answer for all, where all do."""
    rows, columns = place
    counts = (rows >= 0) & (columns >= 0)
    if valid is not None:
        counts &= valid[place]
    return np.bool_(True) if counts.all() else counts


def _empty(dtype: np.dtype[Any], validity: Validity, band: int) -> Any:
    """Return what a pixel without valid ones has in a band: nodata, where the type can hold it."""
    nodata = validity.together[band - 1] if validity.together else validity.nodata
    if dtype.kind == "f":
        return nodata if nodata is not None else np.nan if validity.alpha is None else 0.0
    return int(nodata) if nodata is not None and can_hold(dtype, nodata) else 0


def _stored(means: _Floats, empty: Bools, dtype: np.dtype[Any], validity: Validity, band: int) -> Pixels:
    """Convert to the data type of the level; an average that equals the nodata value becomes the next value to it."""
    nodata = validity.nodata
    if dtype.kind == "f":
        out = means.astype(dtype)
        if nodata is not None:
            out[~empty & (out == dtype.type(nodata))] = np.nextafter(
                dtype.type(nodata), dtype.type(np.inf if nodata < 0 else -np.inf)
            )
    else:
        out = np.floor(np.where(empty, 0, means) + 0.5).astype(dtype)
        if nodata is not None and can_hold(dtype, nodata):
            out[~empty & (out == int(nodata))] = int(nodata) + (1 if nodata < np.iinfo(dtype).max else -1)
    out[empty] = _empty(dtype, validity, band)
    return out
