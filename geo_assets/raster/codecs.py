"""A tile of pixels as the bytes of a TIFF block, and the level of compression by trial.

Here: predictors and compressors. Not here: which profile asks for which (`profiles.py`), where blocks go
(`cogfile.py`).

DEFLATE is written by ISA-L: several times as fast as libdeflate at its usual level, at nearly its size, and every
client reads it. On some noisy integers its output is larger; then the trial chooses GDAL's own writer. Numbers:
docs/benchmarks/. The same tile is the same bytes in every process: a file's name carries a hash of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from zstandard import ZstdCompressor

from geo_assets.raster.pixels import Pixels

#: Candidates, the fastest first. ISA-L's 1 and 2 are faster by a sixth, and 2 is smaller on noisy integers, but of a
#: thousand blocks one differs from process to process (decision 56); its 0 is a third larger.
_LEVELS = {"DEFLATE": (3,), "ZSTD": (1, 3, 9)}

#: What GDAL's own writer takes for DEFLATE.
_GDAL_DEFLATE_LEVEL = 6

#: The fastest level is taken whose output is at most this much larger than the smallest, GDAL's own DEFLATE included.
_WORTH = 1.03

#: Rows of each sampled tile that are compressed for the trial; the slowest candidate does 30 MB a second.
TRIAL_ROWS = 64


@dataclass(frozen=True, slots=True)
class Codec:
    """How a tile is encoded; `level` is ISA-L's for DEFLATE, zstd's for ZSTD."""

    compress: str
    predictor: str
    level: int

    def encode(self, tile: Pixels) -> bytes:
        """Encode a tile of full size, shape (bands, rows, columns), as the bytes of a block, pixels interleaved."""
        predicted = _PREDICTORS[self.predictor](tile)
        if self.compress == "DEFLATE":
            return bytes(isal_zlib.compress(predicted.data, self.level))
        return ZstdCompressor(level=self.level).compress(predicted.data)


def choose_codec(samples: Sequence[Pixels], compress: str, predictor: str) -> Codec | None:
    """Return the fastest level that is nearly as small as the best on these tiles; None where all are much larger than
    GDAL's.
    """
    sizes = {
        level: sum(len(Codec(compress, predictor, level).encode(s)) for s in samples) for level in _LEVELS[compress]
    }
    level = next(level for level, size in sizes.items() if size <= _WORTH * min(sizes.values()))
    if compress == "DEFLATE":
        usual = sum(len(zlib.compress(_PREDICTORS[predictor](s).data, _GDAL_DEFLATE_LEVEL)) for s in samples)
        if sizes[level] > _WORTH * usual:
            return None
    return Codec(compress, predictor, level)


def _interleaved(tile: Pixels) -> Pixels:
    return np.ascontiguousarray(np.moveaxis(tile, 0, -1))


def _differences(tile: Pixels) -> Pixels:
    """TIFF predictor 2: each sample minus the same sample of the previous pixel, modulo the size of the type."""
    bits = tile.view(f"u{tile.dtype.itemsize}")
    bands, rows, columns = bits.shape
    out = np.empty((rows, columns, bands), bits.dtype)
    for band, values in enumerate(bits):
        out[:, 0, band] = values[:, 0]
        np.subtract(values[:, 1:], values[:, :-1], out=out[:, 1:, band])
    return out


def _float_differences(tile: Pixels) -> NDArray[np.uint8]:
    """TIFF predictor 3 (Adobe Photoshop TIFF technical note 3): a row's bytes by significance, then their
    differences.
    """
    size, (bands, rows, columns) = tile.dtype.itemsize, tile.shape
    by_bytes = _interleaved(tile).view(np.uint8).reshape(rows, columns * bands, size)
    planes = np.empty((rows, size, columns * bands), np.uint8)
    for plane in range(size):
        planes[:, plane] = by_bytes[:, :, size - 1 - plane]  # the most significant first; pixels are little endian
    flat = planes.reshape(rows, -1)
    out = np.empty_like(flat)
    out[:, :bands] = flat[:, :bands]
    np.subtract(flat[:, bands:], flat[:, :-bands], out=out[:, bands:])
    return out


_PREDICTORS = {"NO": _interleaved, "STANDARD": _differences, "FLOATING_POINT": _float_differences}
