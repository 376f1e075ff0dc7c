"""Reading pixels in pieces of bounded size: their hash and their statistics.

Here: reading a dataset from its first pixel to its last within a fixed memory, and what is computed meanwhile.
Not here: comparing two datasets (`validate.py`), overviews.

The hash of pixels does not depend on codec, block size or engine. It is the SHA-256 of the line `<dtype> <count>
<height> <width>` and a newline, then of the SHA-256 of every part: for every 512 x 512 tile in rows from the top left,
cut at the edges, each band in turn (rows from the top, little endian, every NaN as the same quiet NaN of its type);
then, where the dataset has a mask of its own, the tile's mask as one byte per pixel, 0 or 1. A hash of hashes, so that
tiles can be hashed by many threads.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from isal import isal_zlib
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from geo_assets.raster.gdal import dtype_names, numpy_dtype, own_masks
from geo_assets.raster.nodata import nodata_told
from geo_assets.raster.tiles import Bools, Pixels, sums_of

#: Side of the tiles that are hashed, in pixels.
TILE = 512

#: Decoded bytes of one piece. Two datasets are compared at a time, so twice this is held, and GDAL's cache besides.
PIECE_BYTES = 32 * 1024**2


@dataclass(frozen=True, slots=True)
class Piece:
    """A window and some bands of a dataset that fit into memory together."""

    window: Window
    bands: tuple[int, ...]


def pieces(dataset: Any, tiles: int | None = None) -> Iterator[Piece]:
    """Yield windows of whole tiles in the order of the hash: all bands at a time, or one tile at a time where they are
    too many.

    Args:
        dataset: the open dataset.
        tiles: the most in a window; default: as many as fit into `PIECE_BYTES`.
    """
    itemsize = numpy_dtype(dtype_names(dataset)[0]).itemsize
    tile_bytes = TILE * TILE * itemsize
    at_once = max(1, PIECE_BYTES // tile_bytes)
    bands = tuple(dataset.indexes)
    across = min(tiles or at_once, max(1, at_once // len(bands))) * TILE
    groups = [bands] if len(bands) <= at_once else [bands[i : i + at_once] for i in range(0, len(bands), at_once)]
    for top in range(0, dataset.height, TILE):
        for left in range(0, dataset.width, across):
            window = Window(left, top, min(across, dataset.width - left), min(TILE, dataset.height - top))
            yield from (Piece(window, group) for group in groups)


def tiles_of(piece: Piece) -> Iterator[tuple[slice, slice]]:
    """Yield row and column slices of the tiles in a piece."""
    for left in range(0, piece.window.width, TILE):
        yield slice(0, piece.window.height), slice(left, min(left + TILE, piece.window.width))


def has_own_mask(dataset: Any) -> bool:
    """Whether validity is stored as a mask, neither as a nodata value nor as an alpha band."""
    return own_masks(dataset)[0]


def _nodata_together(dataset: Any) -> tuple[float, ...]:
    """Return the values of all bands that make a pixel nodata together, where it is so: of a PNG with a transparent
    colour (GDAL's NODATA_VALUES, https://gdal.org/en/stable/development/rfc/rfc15_nodatabitmask.html).
    """
    if not {MaskFlags.per_dataset, MaskFlags.nodata} <= set(dataset.mask_flag_enums[0]):
        return ()
    try:
        values = tuple(float(word) for word in dataset.tags().get("NODATA_VALUES", "").split())
    except ValueError:
        return ()
    return values if len(values) == dataset.count else ()


def alpha_band(dataset: Any) -> int | None:
    """Return the index of the alpha band."""
    return next((i for i, c in zip(dataset.indexes, dataset.colorinterp, strict=True) if c.name == "alpha"), None)


def data_bands(dataset: Any) -> list[int]:
    """Return all bands but alpha, which is valid everywhere; alpha where there is nothing else."""
    return [band for band in dataset.indexes if band != alpha_band(dataset)] or [1]


def own_mask(dataset: Any, window: Window | None = None, **how: Any) -> Bools | None:
    """Return the mask that is stored beside the pixels; `how` as for `read`."""
    return dataset.read_masks(1, window=window, **how) != 0 if has_own_mask(dataset) else None


def gdal_sees_the_same(dataset: Any) -> bool:
    """Whether GDAL averages the same pixels that count as valid here. It uses either nodata or alpha, alpha of 8 or 16
    bits only and as the second or fourth band, and beside a mask it still moves an average that equals the nodata
    value.
    """
    validity = Validity.of(dataset)
    if has_own_mask(dataset):
        return dataset.nodata is None and validity.alpha is None
    if validity.together:
        return False
    if validity.alpha is None:
        return True
    return validity.nodata is None and MaskFlags.alpha in dataset.mask_flag_enums[data_bands(dataset)[0] - 1]


def can_hold(dtype: np.dtype[Any], nodata: float) -> bool:
    """Whether a pixel of this type can have this nodata value: integers hold whole numbers in their range only."""
    return dtype.kind not in "iu" or bool(
        float(nodata).is_integer() and np.iinfo(dtype).min <= nodata <= np.iinfo(dtype).max
    )


def is_nodata(values: Pixels, nodata: float | None) -> Bools | None:
    """Return where values are nodata; None without a nodata value. Values are compared in their own type."""
    if nodata is None:
        return None
    if math.isnan(nodata):
        return np.isnan(values) if values.dtype.kind in "fc" else None
    if not can_hold(values.dtype, nodata):
        return None
    with np.errstate(over="ignore"):
        wanted = values.dtype.type(int(nodata) if values.dtype.kind in "iu" else nodata)
    return values == wanted  # type: ignore[no-any-return]


def canonical(values: Pixels) -> Pixels:
    """Return the same values, with one NaN for all NaNs."""
    if values.dtype.kind not in "fc":
        return values
    parts = values.view(values.real.dtype)
    nan = np.isnan(parts)
    if nan.any():
        parts = parts.copy()
        parts[nan] = np.nan
    return parts


@dataclass(slots=True)
class Sums:
    """Running statistics of some pixels of a band. Chan's parallel algorithm: exact to rounding, whatever the
    magnitude.
    """

    total: int = 0
    valid: int = 0
    minimum: Any = None
    maximum: Any = None
    mean: float = 0.0
    squares: float = 0.0  # the sum of squared differences from the mean

    @classmethod
    def of(cls, values: Pixels, total: int) -> Sums:
        """Return the statistics of the valid ones of `total` pixels."""
        if not values.size or values.dtype.kind == "c":  # complex numbers have no order
            return cls(total, values.size)
        if values.dtype in (np.uint8, np.uint16):
            first, second, low, high = sums_of(values)
            squares = (values.size * second - first * first) / values.size
            return cls(total, values.size, low, high, first / values.size, squares)
        low, high = values.min().item(), values.max().item()
        doubles = values.astype(np.float64).ravel()
        mean = float(doubles.mean())
        doubles -= mean
        squares = float(
            np.einsum("i,i->", doubles, doubles)
        )  # not `np.dot`: the threads of BLAS get in each other's way
        return cls(total, values.size, low, high, mean, squares)

    def add(self, other: Sums) -> None:
        """Add the statistics of other pixels."""
        self.total += other.total
        count = self.valid + other.valid
        if other.minimum is not None:
            self.minimum = other.minimum if self.minimum is None else min(self.minimum, other.minimum)
            self.maximum = other.maximum if self.maximum is None else max(self.maximum, other.maximum)
            delta = other.mean - self.mean
            self.mean += delta * other.valid / count
            self.squares += other.squares + delta * delta * self.valid * other.valid / count
        self.valid = count


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Statistics of the valid, finite pixels; None where there are none, or the numbers have no order (complex)."""

    minimum: int | float | None
    maximum: int | float | None
    mean: float | None
    stddev: float | None
    valid_percent: float


def _both(one: Bools | None, other: Bools | None) -> Bools | None:
    """Return where both hold; None holds everywhere."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


@dataclass(frozen=True, slots=True)
class Validity:
    """How a dataset marks its valid pixels, apart from a mask.

    Where there is a mask, a nodata value is a number like any other, as in GDAL (GetMaskFlags: the mask of a dataset
    goes before nodata): white roofs in orthophotos whose nodata value is 255 are data.
    """

    nodata: float | None
    alpha: int | None  # the band, from 1
    together: tuple[float, ...] = ()  # of each band: a pixel that has all of them is invalid; `nodata` is None then

    @classmethod
    def of(cls, dataset: Any) -> Validity:
        """Return the validity of an open dataset."""
        if together := _nodata_together(dataset):
            return cls(None, alpha_band(dataset), together)
        return cls(None if has_own_mask(dataset) else nodata_told(dataset), alpha_band(dataset))

    def opaque(self, data: Pixels, mask: Bools | None = None) -> Bools | None:
        """Return where pixels of all bands, shape (bands, rows, columns), are valid by the alpha band, by values that
        all bands have together, and by a mask; None without any of them.
        """
        opaque = None if self.alpha is None else data[self.alpha - 1] != 0
        if self.together:
            shown = np.any([band != value for band, value in zip(data, self.together, strict=True)], axis=0)
            opaque = _both(opaque, shown)
        return _both(opaque, mask)

    def opaque_of(self, dataset: Any, size: tuple[int, int], **how: Any) -> Bools | None:
        """Return what `opaque` does of an open dataset, of this size (rows, columns); `how` as for `read`."""
        if self.together:
            return self.opaque(dataset.read(out_shape=(dataset.count, *size), **how))
        return None if self.alpha is None else dataset.read(self.alpha, out_shape=size, **how) != 0

    def anywhere(self, dataset: Any, size: tuple[int, int]) -> Bools:
        """Return where any band of an open dataset is valid, decimated to `size` (rows, columns): mask (else nodata),
        alpha and NaN together.
        """
        outer = own_mask(dataset, out_shape=size)
        outer = _both(outer, self.opaque_of(dataset, size))
        if self.nodata is None and numpy_dtype(dtype_names(dataset)[0]).kind not in "fc":
            return np.ones(size, bool) if outer is None else outer
        found = np.zeros(size, bool)
        for band in data_bands(dataset):
            valid = self.valid(dataset.read(band, out_shape=size), outer)
            found |= True if valid is None else valid
            if found.all():
                break
        return found

    def valid(self, values: Pixels, outer: Bools | None) -> Bools | None:
        """Return which values of a band are valid; `outer` is the mask or alpha; None where all are."""
        nodata = is_nodata(values, self.nodata)
        valid = outer
        if nodata is not None and nodata.any():
            valid = ~nodata if valid is None else valid & ~nodata
        if values.dtype.kind in "fc" and not (finite := np.isfinite(values)).all():
            valid = finite if valid is None else valid & finite
        return valid


@dataclass(frozen=True, slots=True)
class TileMeasure:
    """Hashes and sums of some bands of one tile."""

    bands: tuple[int, ...]
    digest: bytes
    sums: tuple[Sums, ...]


def measure_tile(
    data: Pixels, bands: tuple[int, ...], validity: Validity, *, outer: Bools | None = None, mask: Bools | None = None
) -> TileMeasure:
    """Measure a tile.

    Args:
        data: shape (bands, rows, columns).
        bands: their numbers, from 1.
        validity: how the dataset marks valid pixels.
        outer: which pixels are valid by the mask or the alpha band.
        mask: the dataset's own mask, given with its last bands only.
    """
    sums = []
    for band, values in zip(bands, data, strict=True):
        valid = validity.valid(values, None if band == validity.alpha else outer)
        sums.append(Sums.of(values if valid is None else values[valid], values.size))
    return TileMeasure(bands, tile_digest(data, mask), tuple(sums))


def tile_digest(data: Pixels, mask: Bools | None) -> bytes:
    """Return hashes of the bands of a tile, and of the dataset's own mask of it."""
    digests = [hashlib.sha256(canonical(np.ascontiguousarray(values)).view(np.uint8).data).digest() for values in data]
    if mask is not None:
        digests.append(hashlib.sha256(np.ascontiguousarray(mask).view(np.uint8).data).digest())
    return b"".join(digests)


def tile_check(data: Pixels, mask: Bools | None = None) -> int:
    """Return a checksum of a tile, shape (bands, rows, columns), and of the dataset's own mask of it, to check that
    what is read is what was written: 50 times as fast as their hash, and as good against everything but an attack.
    """
    check = isal_zlib.crc32(np.ascontiguousarray(data).view(np.uint8).data)
    return int(check if mask is None else isal_zlib.crc32(np.ascontiguousarray(mask).view(np.uint8).data, check))


@dataclass
class Measurement:
    """Hash and statistics of a dataset, fed tile by tile in the order of the hash."""

    dtype: str
    count: int
    height: int
    width: int
    digests: bytearray = field(default_factory=bytearray)  # of the tiles so far
    bands: list[Sums] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bands = self.bands or [Sums() for _ in range(self.count)]

    @classmethod
    def of(cls, dataset: Any) -> Measurement:
        """Return an empty measurement for an open dataset."""
        return cls(dtype_names(dataset)[0], dataset.count, dataset.height, dataset.width)

    def add_digest(self, digest: bytes) -> None:
        """Add the next tile where only the hash matters."""
        self.digests += digest

    def add(self, tile: TileMeasure) -> None:
        """Add the next tile."""
        self.add_digest(tile.digest)
        for band, sums in zip(tile.bands, tile.sums, strict=True):
            self.bands[band - 1].add(sums)

    def sha256(self) -> str:
        """Return the hash of all tiles that were added."""
        whole = hashlib.sha256(f"{self.dtype} {self.count} {self.height} {self.width}\n".encode())
        whole.update(self.digests)
        return whole.hexdigest()

    def statistics(self) -> Sequence[BandStatistics]:
        """Return the statistics of each band."""
        return [_summary(s) for s in self.bands]


def measure_piece(dataset: Any, piece: Piece, data: Pixels, mask: Bools | None) -> Iterator[TileMeasure]:
    """Measure the tiles of a piece that was read from `dataset`, with the dataset's own mask of its window."""
    validity = Validity.of(dataset)
    outer = _both(mask, validity.opaque_of(dataset, data.shape[1:], window=piece.window))
    last = piece.bands[-1] == dataset.count
    for rows, columns in tiles_of(piece):
        yield measure_tile(
            data[:, rows, columns],
            piece.bands,
            validity,
            outer=None if outer is None else outer[rows, columns],
            mask=mask[rows, columns] if mask is not None and last else None,
        )


def measured(dataset: Any, look: Callable[[Pixels, Bools | None], None] | None = None) -> Measurement:
    """Measure a whole dataset; `look` is shown each tile, or part of its bands, with the dataset's own mask of it."""
    measurement = Measurement.of(dataset)
    for piece in pieces(dataset):
        data, mask = dataset.read(list(piece.bands), window=piece.window), own_mask(dataset, piece.window)
        for tile in measure_piece(dataset, piece, data, mask):
            measurement.add(tile)
        if look is not None:
            for rows, columns in tiles_of(piece):
                look(data[:, rows, columns], None if mask is None else mask[rows, columns])
    return measurement


def _summary(s: Sums) -> BandStatistics:
    percent = round(100 * s.valid / s.total, 6) if s.total else 0.0
    if s.minimum is None:
        return BandStatistics(None, None, None, None, percent)
    stddev = math.sqrt(max(0.0, s.squares / s.valid))
    return BandStatistics(s.minimum, s.maximum, _finite(s.mean), _finite(stddev), percent)


def _finite(value: float) -> float | None:
    """Return the value; None if it overflowed: values near the largest double."""
    return value if math.isfinite(value) else None
