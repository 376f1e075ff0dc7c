"""Pixels in pieces of bounded size: their identity (hash) and their statistics.

Here: reading a dataset from its first pixel to its last within a fixed memory, and what is summed up on the way.
Not here: comparing two datasets (`validate.py`), overviews.

The hash of pixels does not depend on codec, block size or engine. It is the SHA-256 of the line
`<dtype> <count> <height> <width>` and a newline, then of every 512 x 512 tile in rows from the top left, cut at the edges;
of each tile every band in turn, rows from the top, little endian, each NaN as the one quiet NaN of its type;
then, where the dataset has a mask of its own, the tile's mask as one byte a pixel, 0 or 1.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from geo_assets.raster.inspect import dtype_names, numpy_dtype

Pixels = NDArray[Any]
Bools = NDArray[np.bool_]

#: Side of the tiles that are hashed, in pixels.
TILE = 512

#: Decoded bytes of one piece. Two datasets are compared at a time, so twice this is held, and GDAL's cache besides.
PIECE_BYTES = 32 * 1024**2


@dataclass(frozen=True, slots=True)
class Piece:
    """A window and some bands of a dataset that fit into memory together."""

    window: Window
    bands: tuple[int, ...]


def pieces(dataset: Any) -> Iterator[Piece]:
    """Windows of whole tiles in the order of the hash: all bands at a time, or one tile at a time where they are too many."""
    itemsize = numpy_dtype(dtype_names(dataset)[0]).itemsize
    tile_bytes = TILE * TILE * itemsize
    at_once = max(1, PIECE_BYTES // tile_bytes)
    bands = tuple(dataset.indexes)
    across = max(1, at_once // len(bands)) * TILE
    groups = [bands] if len(bands) <= at_once else [bands[i : i + at_once] for i in range(0, len(bands), at_once)]
    for top in range(0, dataset.height, TILE):
        for left in range(0, dataset.width, across):
            window = Window(left, top, min(across, dataset.width - left), min(TILE, dataset.height - top))
            yield from (Piece(window, group) for group in groups)


def tiles_of(piece: Piece) -> Iterator[tuple[slice, slice]]:
    """Row and column slices of the tiles in a piece."""
    for left in range(0, piece.window.width, TILE):
        yield slice(0, piece.window.height), slice(left, min(left + TILE, piece.window.width))


def has_own_mask(dataset: Any) -> bool:
    """Whether validity is stored beside the pixels, neither as a nodata value nor as an alpha band."""
    flags = dataset.mask_flag_enums[0]
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags and MaskFlags.nodata not in flags


def alpha_band(dataset: Any) -> int | None:
    """The index of the alpha band."""
    return next((i for i, c in zip(dataset.indexes, dataset.colorinterp, strict=True) if c.name == "alpha"), None)


def data_bands(dataset: Any) -> list[int]:
    """All bands but alpha, which is itself valid everywhere; alpha where there is nothing else."""
    return [band for band in dataset.indexes if band != alpha_band(dataset)] or [1]


def own_mask(dataset: Any, window: Window) -> Bools | None:
    """The mask that is stored beside the pixels."""
    return dataset.read_masks(1, window=window) != 0 if has_own_mask(dataset) else None


def is_nodata(values: Pixels, nodata: float | None) -> Bools | None:
    """Where values are nodata; None where there is none. The comparison is in the type of the values."""
    if nodata is None:
        return None
    if math.isnan(nodata):
        return np.isnan(values) if values.dtype.kind in "fc" else None
    with np.errstate(over="ignore"):
        if values.dtype.kind in "iu" and not (np.iinfo(values.dtype).min <= nodata <= np.iinfo(values.dtype).max and nodata == int(nodata)):
            return None  # no pixel can have it
        wanted = values.dtype.type(int(nodata) if values.dtype.kind in "iu" else nodata)
    return values == wanted  # type: ignore[no-any-return]


def canonical(values: Pixels) -> Pixels:
    """The same values, with one NaN for all NaNs."""
    if values.dtype.kind not in "fc":
        return values
    parts = values.view(values.real.dtype)
    nan = np.isnan(parts)
    if nan.any():
        parts = parts.copy()
        parts[nan] = np.nan
    return parts


def _moments(values: Pixels) -> tuple[float, float]:
    """The mean and the sum of squared differences from it. Not with `np.dot`: the threads of BLAS get in each other's way."""
    if values.dtype in (np.uint8, np.uint16):  # counting is twenty times as fast
        counts = np.bincount(values.ravel())
        levels = np.arange(len(counts), dtype=np.float64)
        mean = float((counts * levels).sum() / values.size)
        return mean, float((counts * (levels - mean) ** 2).sum())
    doubles = values.astype(np.float64).ravel()
    mean = float(doubles.mean())
    doubles -= mean
    return mean, float(np.einsum("i,i->", doubles, doubles))


@dataclass
class _Statistics:
    """Chan's parallel algorithm: exact to rounding in one pass, whatever the order of magnitude."""

    total: int = 0
    valid: int = 0
    minimum: Any = None
    maximum: Any = None
    mean: float = 0.0
    squares: float = 0.0  # the sum of squared differences from the mean

    def update(self, values: Pixels, total: int) -> None:
        """Take in the valid ones of `total` pixels."""
        self.total += total
        if not values.size:
            return
        if values.dtype.kind == "c":  # complex numbers have no order
            self.valid += values.size
            return
        low, high = values.min(), values.max()
        self.minimum = low if self.minimum is None else min(self.minimum, low)
        self.maximum = high if self.maximum is None else max(self.maximum, high)
        mean, squares = _moments(values)
        delta, count = mean - self.mean, self.valid + values.size
        self.mean += delta * values.size / count
        self.squares += squares + delta * delta * self.valid * values.size / count
        self.valid = count


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Of the valid, finite pixels; None where there are none, or the numbers have no order (complex)."""

    minimum: int | float | None
    maximum: int | float | None
    mean: float | None
    stddev: float | None
    valid_percent: float


@dataclass
class Measurement:
    """Hash and statistics of a dataset, fed piece by piece in the order of `pieces`."""

    dataset: Any
    _digest: Any = field(init=False)
    _bands: list[_Statistics] = field(init=False)

    def __post_init__(self) -> None:
        d = self.dataset
        self._digest = hashlib.sha256(f"{dtype_names(d)[0]} {d.count} {d.height} {d.width}\n".encode())
        self._bands = [_Statistics() for _ in d.indexes]
        self._alpha = alpha_band(d)
        self._last = d.indexes[-1]

    def update(self, piece: Piece, data: Pixels, mask: Bools | None) -> None:
        """Take in the values of a piece, shape (bands, rows, columns), and the dataset's own mask of its window."""
        valid = self._valid(piece, mask)
        for rows, columns in tiles_of(piece):
            for band, values in zip(piece.bands, data, strict=True):
                tile = np.ascontiguousarray(values[rows, columns])
                self._digest.update(canonical(tile).view(np.uint8))
                self._measure(band, tile, None if valid is None or band == self._alpha else valid[rows, columns])
            if mask is not None and piece.bands[-1] == self._last:
                self._digest.update(np.ascontiguousarray(mask[rows, columns]).view(np.uint8))

    def _valid(self, piece: Piece, mask: Bools | None) -> Bools | None:
        if mask is None and self._alpha is not None:
            return self.dataset.read(self._alpha, window=piece.window) != 0  # type: ignore[no-any-return]
        return mask

    def _measure(self, band: int, tile: Pixels, valid: Bools | None) -> None:
        nodata = is_nodata(tile, self.dataset.nodata)
        if nodata is not None:
            valid = ~nodata if valid is None else valid & ~nodata
        if tile.dtype.kind in "fc" and not (finite := np.isfinite(tile)).all():
            valid = finite if valid is None else valid & finite
        self._bands[band - 1].update(tile if valid is None else tile[valid], tile.size)

    def sha256(self) -> str:
        """The hash of all that was taken in."""
        return str(self._digest.hexdigest())

    def statistics(self) -> Sequence[BandStatistics]:
        """One of each band."""
        return [_summary(s) for s in self._bands]


def _summary(s: _Statistics) -> BandStatistics:
    percent = round(100 * s.valid / s.total, 6) if s.total else 0.0
    if s.minimum is None:
        return BandStatistics(None, None, None, None, percent)
    stddev = math.sqrt(max(0.0, s.squares / s.valid))
    return BandStatistics(s.minimum.item(), s.maximum.item(), _finite(s.mean), _finite(stddev), percent)


def _finite(value: float) -> float | None:
    """None for what overflowed: values near the largest double."""
    return value if math.isfinite(value) else None
