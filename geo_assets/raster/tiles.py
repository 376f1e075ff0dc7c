"""What is computed of every tile of a raster: its sums, averages and commonest values, what the predictors of TIFF make
of it.

Here: arithmetic, by compiled code (`tiles.c`) where there is any, else by NumPy with the same results to the last bit.
Not here: which pixels count (`pixels.py`), which method makes an overview (`overviews.py`), compression (`codecs.py`).

A tile has the shape (bands, rows, columns).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.compiled import ARRAY, SIZE, library

Pixels = NDArray[Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_UNSIGNED = ("uint8", "uint16", "uint32")
_AVERAGED = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

#: What `tiles.c` has, of each type.
_FUNCTIONS = {
    **{f"sums_{name}": (None, SIZE, ARRAY, ARRAY) for name in ("uint8", "uint16")},
    **{f"quarters_{name}": (None, SIZE, SIZE, ARRAY, ARRAY) for name in _AVERAGED},
    **{f"averages_{name}": (None, SIZE, SIZE, *[ARRAY] * 4, SIZE, *[ARRAY] * 3) for name in _AVERAGED},
    **{f"modes_{name}": (None, SIZE, ARRAY, ARRAY, *[SIZE, SIZE, ARRAY] * 2, ARRAY, ARRAY) for name in _UNSIGNED},
    **{f"differences_{name}": (None, SIZE, SIZE, SIZE, ARRAY, ARRAY) for name in _UNSIGNED},
    **{f"float_differences_{name}": (None, SIZE, SIZE, SIZE, ARRAY, ARRAY) for name in ("uint32", "uint64")},
}


@cache
def _library() -> ctypes.CDLL | None:
    return library(__file__, "tiles", _FUNCTIONS)


def are_compiled() -> bool:
    """Whether compiled code does this; without, conversions take longer."""
    return _library() is not None


def _compiled(name: str) -> Any:
    """A function of the library; None where there is none, or it has none of this name."""
    loaded = _library()
    return getattr(loaded, name) if loaded and name in _FUNCTIONS else None


def _require(holds: bool, what: str) -> None:
    """Refuse arrays whose sizes do not fit, before compiled code reads beyond their end."""
    if not holds:
        raise ValueError(what)


def sums_of(values: Pixels) -> tuple[int, int, int, int]:
    """Return the sum, the sum of squares, the least and the greatest of some uint8 or uint16, one at least."""
    _require(values.size > 0, "there are no numbers")
    if not (function := _compiled(f"sums_{values.dtype}")):
        wide: Any = values.astype(np.uint64)
        return int(wide.sum()), int((wide * wide).sum()), int(wide.min()), int(wide.max())
    values, out = np.ascontiguousarray(values), np.empty(4, np.uint64)
    function(values.size, values.ctypes.data, out.ctypes.data)
    total, squares, least, greatest = out.tolist()
    return total, squares, least, greatest


def quarters(tile: Pixels) -> Pixels:
    """Return the plain average of 2 x 2 pixels, of which there are even numbers; integers are rounded half up."""
    _require(tile.shape[1] % 2 == tile.shape[2] % 2 == 0, "rows or columns are odd in number")
    if function := _compiled(f"quarters_{tile.dtype}"):
        bands, rows, columns = tile.shape
        quarter = np.empty((bands, rows // 2, columns // 2), tile.dtype)
        tile = np.ascontiguousarray(tile)
        function(bands * rows, columns, tile.ctypes.data, quarter.ctypes.data)
    elif tile.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            quarter = _fours(tile) * tile.dtype.type(0.25)
    else:
        wide = tile.astype(np.uint32 if tile.dtype.kind == "u" and tile.dtype.itemsize <= 2 else np.int64)
        quarter = ((_fours(wide) + 2) >> 2).astype(tile.dtype)
    return _within_range(quarter, tile) if tile.dtype.kind == "f" else quarter


def _fours(tile: Pixels) -> Pixels:
    """Return the sums of 2 x 2 pixels."""
    rows = tile[:, 0::2] + tile[:, 1::2]
    added: Pixels = rows[:, :, 0::2] + rows[:, :, 1::2]
    return added


def _within_range(quarter: Pixels, tile: Pixels) -> Pixels:
    """Return averages of floats, those too where the sum of four is too large for the type."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(quarter.sum()):
            return quarter
        return np.where(np.isfinite(quarter), quarter, _fours(tile * tile.dtype.type(0.25)))


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights along an axis of odd length n: pixel i of the next level takes i/m of pixel 2i - 1 (m = ceil(n / 2)), all
    of 2i, and 1 - (i + 1)/m of 2i + 1.
    """

    both: Floats  # of each pixel of a window of the next level: of 2i - 1, then of each that of 2i + 1

    @classmethod
    def of(cls, first: int, length: int, there: int) -> Weights | None:
        """Return the weights; None where the length is even and nothing is weighted.

        Args:
            first: pixel of the next level at which a window begins.
            length: of the axis.
            there: pixels of the window, of which the first is the one before the first.
        """
        if length % 2 == 0:
            return None
        i, of_next = np.arange(first, first + there // 2, dtype=np.float64), -(-length // 2)
        return cls(np.concatenate([i / of_next, 1 - (i + 1) / of_next]))

    def reduce(self, values: Floats) -> Floats:
        """Return weighted sums along the first axis."""
        if len(values) % 2 == 0:  # the last pixel has no second one
            values = np.concatenate([values, np.zeros_like(values[:1])])
        before, after = self.both.reshape(2, -1, 1)
        sums_: Floats = values[0:-1:2] * before + values[1::2] + values[2::2] * after
        return sums_


def averages(
    values: Pixels,
    valid: Bools | None,
    rows: Weights | None,
    columns: Weights | None,
    *,
    empty: Any,
    nodata: Any = None,
) -> Pixels:
    """Return the average by weight of the valid pixels, along each axis of 2, or of 3 where it has weights.

    Args:
        values: of one band, shape (rows, columns).
        valid: which of them count; None where all do.
        rows: weights along rows.
        columns: likewise.
        empty: what a pixel has where none counts.
        nodata: an average that equals it becomes the next value to it; None, or a value that the type can hold.
    """
    shape, dtype = tuple(n // 2 for n in values.shape), values.dtype
    _require(valid is None or valid.shape == values.shape, "validity is of another tile")
    for axis, pixels in zip((rows, columns), values.shape, strict=True):
        _require(pixels % 2 == 0 if axis is None else len(axis.both) == pixels // 2 * 2, "weights are of another tile")
    if valid is not None and not valid.any():
        return np.full(shape, empty, dtype)
    moved = None if nodata is None else _next_to(dtype, nodata)
    if not (function := _compiled(f"averages_{dtype}")):
        return _averages(values, valid, rows, columns, empty, nodata, moved)
    out, scratch = np.empty(shape, dtype), np.empty(2 * (values.shape[1] + 1))
    special = np.array([empty, 0, 0] if moved is None else [empty, nodata, moved], dtype)
    given = [None if array is None else np.ascontiguousarray(array) for array in (values, valid)]
    weights = [None if axis is None else axis.both for axis in (rows, columns)]
    addresses = [None if array is None else array.ctypes.data for array in (*given, *weights)]
    function(*values.shape, *addresses, moved is not None, *(a.ctypes.data for a in (special, scratch, out)))
    if scratch[0]:  # as `_within_range`
        return _averages(values, valid, rows, columns, empty, nodata, moved)
    return out


def _next_to(dtype: np.dtype[Any], nodata: Any) -> Any:
    """Return the value next to one, towards zero or where the type has one."""
    if dtype.kind == "f":
        return np.nextafter(dtype.type(nodata), dtype.type(np.inf if nodata < 0 else -np.inf))
    return int(nodata) + (1 if nodata < np.iinfo(dtype).max else -1)


def _averages(
    values: Pixels,
    valid: Bools | None,
    rows: Weights | None,
    columns: Weights | None,
    empty: Any,
    nodata: Any,
    moved: Any,
) -> Pixels:
    """Return `averages` by NumPy."""
    doubles = values.astype(np.float64)
    if valid is not None:
        doubles = np.where(valid, doubles, 0.0)
    counts = _sums(np.ones_like(doubles) if valid is None else valid.astype(np.float64), rows, columns)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        means = _sums(doubles, rows, columns) / counts
        if values.dtype == np.float64 and not np.isfinite(means[counts > 0]).all():  # as `_within_range`
            means = np.where(np.isfinite(means), means, _sums(doubles / 4, rows, columns) / (counts / 4))
    nothing = counts <= 0
    whole = values.dtype.kind != "f"
    out: Pixels = (np.floor(np.where(nothing, 0, means) + 0.5) if whole else means).astype(values.dtype)
    if moved is not None:
        out[~nothing & (out == values.dtype.type(nodata))] = moved
    out[nothing] = empty
    return out


def _sums(values: Floats, rows: Weights | None, columns: Weights | None) -> Floats:
    down = values[0::2] + values[1::2] if rows is None else rows.reduce(values)
    across = down.T
    summed: Floats = (across[0::2] + across[1::2] if columns is None else columns.reduce(across)).T
    return summed


def modes(
    values: Pixels, valid: Bools | None, down: NDArray[np.int64], across: NDArray[np.int64], *, empty: Any
) -> Pixels:
    """Return the commonest of the valid pixels that each one of the next level covers.

    Args:
        values: of one band, shape (rows, columns).
        valid: which of them count; None where all do.
        down: the rows that each row covers, shape (3, rows of the next level), where -1 is none; or (2, …): every two.
        across: likewise.
        empty: what a pixel has where none counts.
    """
    _require(valid is None or valid.shape == values.shape, "validity is of another tile")
    for axis, pixels in zip((down, across), values.shape, strict=True):
        plain = len(axis) == 2 and np.array_equal(axis.T.ravel(), np.arange(pixels))
        within = len(axis) == 3 and axis.size > 0 and bool(((axis >= -1) & (axis < pixels)).all())
        _require(axis.dtype == np.int64 and (plain or within), "what is covered is of another tile")
    if values.dtype.kind not in "iu" or not (function := _compiled(f"modes_uint{8 * values.dtype.itemsize}")):
        return _modes(values, valid, down, across, empty)
    out, nothing = np.empty((down.shape[1], across.shape[1]), values.dtype), np.array(empty, values.dtype)
    values = np.ascontiguousarray(values)
    valid = None if valid is None else np.ascontiguousarray(valid)
    covered = [(axis.shape[1], axis.shape[0], np.ascontiguousarray(axis)) for axis in (down, across)]
    function(
        values.shape[1],
        values.ctypes.data,
        None if valid is None else valid.ctypes.data,
        *(given for high, many, axis in covered for given in (high, many, axis.ctypes.data)),
        nothing.ctypes.data,
        out.ctypes.data,
    )
    return out


def _modes(
    values: Pixels, valid: Bools | None, down: NDArray[np.int64], across: NDArray[np.int64], empty: Any
) -> Pixels:
    """Return `modes` by NumPy."""
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


def interleaved(tile: Pixels) -> Pixels:
    """Return the numbers of a tile pixel by pixel, as (rows, columns, bands)."""
    return np.ascontiguousarray(np.moveaxis(tile, 0, -1))


def differences(tile: Pixels) -> Pixels:
    """TIFF predictor 2: each sample minus the same sample of the previous pixel, modulo the size of the type; as
    (rows, columns, bands).
    """
    _require(tile.size > 0, "there are no numbers")
    bits = tile.view(f"u{tile.dtype.itemsize}")
    bands, rows, columns = bits.shape
    out = np.empty((rows, columns, bands), bits.dtype)
    if function := _compiled(f"differences_{bits.dtype}"):
        bits = np.ascontiguousarray(bits)
        function(bands, rows, columns, bits.ctypes.data, out.ctypes.data)
        return out
    for band, values in enumerate(bits):
        out[:, 0, band] = values[:, 0]
        np.subtract(values[:, 1:], values[:, :-1], out=out[:, 1:, band])
    return out


def float_differences(tile: Pixels) -> NDArray[np.uint8]:
    """TIFF predictor 3 (Adobe Photoshop TIFF technical note 3): a row's bytes by significance, then their
    differences; as (rows, bytes of a row).
    """
    _require(tile.size > 0, "there are no numbers")
    size, (bands, rows, columns) = tile.dtype.itemsize, tile.shape
    if function := _compiled(f"float_differences_uint{8 * size}"):
        tile, made = np.ascontiguousarray(tile), np.empty((rows, size * columns * bands), np.uint8)
        function(bands, rows, columns, tile.ctypes.data, made.ctypes.data)
        return made
    numbers = interleaved(tile).view(f"u{size}").reshape(rows, columns * bands)
    planes = np.empty((rows, size, columns * bands), np.uint8)
    for plane in range(size):
        planes[:, plane] = numbers >> 8 * (size - 1 - plane)  # cut to its last byte; the most significant one first
    flat = planes.reshape(-1)
    out = np.empty_like(flat)
    np.subtract(flat[bands:], flat[:-bands], out=out[bands:])  # across the ends of rows, which is quicker
    by_row = out.reshape(rows, -1)
    by_row[:, :bands] = planes.reshape(rows, -1)[:, :bands]
    return by_row
