"""A tile of pixels as the bytes of a TIFF block, and by what they are compressed, which a trial tells.

Here: compressors. Not here: predictors (`tiles.py`), which profile asks for which (`profiles.py`), where blocks go
(`cogfile.py`).

DEFLATE, which every client reads, is written by ISA-L, four times as fast as libdeflate and as small on most pictures
and on floats. What it leaves larger, as smooth heights in whole numbers, is written by libdeflate, as GDAL does, at
the fastest level that is as small. Numbers: docs/decisions/0057-libdeflate-where-isa-l-is-larger.md. The same
tile is the same bytes in every process: a file's name carries a hash of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import deflate
import isal
import numpy as np
import zstandard
from isal import isal_zlib

from geo_assets.raster.tiles import Bools, Pixels, differences, float_differences, interleaved

#: Library -> how it compresses at a level.
_LIBRARIES: dict[str, Callable[[memoryview, int], bytes | bytearray]] = {
    "isa-l": isal_zlib.compress,
    "libdeflate": deflate.zlib_compress,
    "zstd": lambda data, level: zstandard.ZstdCompressor(level=level).compress(data),
}

#: Predictor -> what it makes of a tile.
_PREDICTORS = {"NO": interleaved, "STANDARD": differences, "FLOATING_POINT": float_differences}

#: Candidates, the fastest first; the last is what the others are held against: of DEFLATE what GDAL writes at its level
#: 6. ISA-L's 1 and 2 are faster by a sixth, but of a thousand blocks one differs from process to process (decision 56);
#: its 0 is a third larger.
_CANDIDATES = {
    "DEFLATE": (("isa-l", 3), ("libdeflate", 1), ("libdeflate", 3), ("libdeflate", 6), ("libdeflate", 7)),
    "ZSTD": (("zstd", 1), ("zstd", 3), ("zstd", 9)),
}

#: The fastest is taken whose output is at most this much larger than that of the last.
_WORTH = 1.04

#: Rows of each sampled tile that are compressed for the trial; the slowest candidate does 30 MB a second.
TRIAL_ROWS = 64


@dataclass(frozen=True, slots=True)
class Codec:
    """How a tile is encoded: what is done to its numbers first, which library compresses them, at which level."""

    predictor: str
    library: str
    level: int

    def encode(self, tile: Pixels) -> bytes:
        """Encode a tile of full size, shape (bands, rows, columns), as the bytes of a block, pixels interleaved."""
        return bytes(_LIBRARIES[self.library](_PREDICTORS[self.predictor](tile).data, self.level))


def encode_mask(mask: Bools) -> bytes:
    """Encode a mask of full size, shape (rows, columns), as the bytes of a block: a bit for each pixel, DEFLATE."""
    return bytes(isal_zlib.compress(np.packbits(mask, axis=1).data, 3))


def compressors() -> dict[str, str]:
    """Return the distributions that compress, with their versions: another one may make other bytes of a tile."""
    return {library.__name__: library.__version__ for library in (isal, deflate, zstandard)}


def candidates(compress: str, predictor: str) -> list[Codec]:
    """All that write DEFLATE or ZSTD, the fastest first."""
    return [Codec(predictor, library, level) for library, level in _CANDIDATES[compress]]


def codec_of(compress: str, predictor: str, level: int) -> Codec:
    """What writes DEFLATE or ZSTD at a level of GDAL's."""
    return Codec(predictor, {"DEFLATE": "libdeflate", "ZSTD": "zstd"}[compress], level)


def choose_codec(samples: Sequence[Pixels], compress: str, predictor: str) -> Codec:
    """Return the fastest codec that is nearly as small on these tiles as the last one."""
    *others, last = candidates(compress, predictor)

    def size(codec: Codec) -> int:
        return sum(len(codec.encode(sample)) for sample in samples)

    most = _WORTH * size(last)
    return next((codec for codec in others if size(codec) <= most), last)
