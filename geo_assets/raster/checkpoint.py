"""The progress of a large conversion, saved from time to time, so that after a kill another process resumes from there.

Here: one directory per conversion: the blocks of each level, a state that says how much of them is valid, and in the
end the COG into which they are moved.
Not here: the COGs of GDAL's driver, which tells nobody how far it is (`kept_cog.py`), what a state consists of
(`onepass.py`), who finds the directory of a process that died (`sandbox/pool.py`).

The state is replaced in one rename after the blocks are written. If state and blocks do not match, the conversion
starts from the beginning.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from zstandard import ZstdCompressor, ZstdDecompressor, ZstdError

from geo_assets.raster.tiles import Pixels

_STATE = "state.npz"

#: The entry of the state that is JSON; what it says once all blocks are made, and of the type and shape of each array.
_FACTS, WHOLE, _ARRAYS = "facts", "whole", "arrays"

#: The strips of a wide raster are a hundred megabytes; those of a sparse one are next to nothing when they are
#: compressed, and its COG is no larger.
_ZSTD_LEVEL = 1

_COG = "cog.tif"


class KeptIsWrongError(Exception):
    """What an earlier attempt has kept is not what it would be now, and is forgotten."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where one conversion saves its progress.

    Attributes:
        directory: used by this conversion alone.
        identity: identifies the source and the options; a state with another identity is ignored.
        pixels: how many are converted between two saves of the state.
    """

    directory: Path
    identity: str
    pixels: int

    def blocks(self, level: int) -> BinaryIO:
        """The file of a level's blocks, opened for reading and appending."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return (self.directory / f"level-{level}.blocks").open("a+b")

    @property
    def cog(self) -> Path:
        """The COG that the blocks are moved into; it is there once that has begun."""
        return self.directory / _COG

    def save(self, facts: dict[str, Any], arrays: dict[str, Pixels]) -> None:
        """Replace the state."""
        described = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        told = json.dumps({**facts, "identity": self.identity, _ARRAYS: described})
        part = self.directory / f"{_STATE}.part"
        with part.open("wb") as file:
            packed = {name: _packed(array) for name, array in arrays.items()}
            np.savez(file, allow_pickle=False, **packed, **{_FACTS: np.frombuffer(told.encode(), np.uint8)})
        part.replace(self.directory / _STATE)

    def load(self, levels: int) -> tuple[dict[str, Any], dict[str, Pixels]] | None:
        """Return the last state, with the blocks cut to what it counts; None where this conversion has none, or it is
        incomplete.
        """
        try:
            with (self.directory / _STATE).open("rb") as file, np.load(file, allow_pickle=False) as kept:
                facts = json.loads(kept[_FACTS].tobytes())
                arrays = {name: _unpacked(kept[name], *what) for name, what in facts[_ARRAYS].items()}
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, ZstdError):
            return None
        paths = [self.directory / f"level-{level}.blocks" for level in range(levels)]
        lengths = facts.get("lengths", [])
        if facts.get("identity") != self.identity or len(lengths) != levels:
            return None
        sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
        for level, (size, length) in enumerate(zip(sizes, lengths, strict=True)):
            if size < length and not (facts.get(WHOLE) and self._has_moved(lengths[level:])):
                return None
        for path, size, length in zip(paths, sizes, lengths, strict=True):
            if size > length:
                with path.open("r+b") as blocks:  # by an open file: a child may not by a path (sandbox/seccomp.py)
                    blocks.truncate(length)
        return facts, arrays

    def _has_moved(self, lengths: list[int]) -> bool:
        """Whether the COG is so long that blocks of these bytes, of a level and all that come before it in the file,
        can be in it: the last piece of a level is moved first.
        """
        return self.cog.exists() and self.cog.stat().st_size > sum(lengths)

    def forget(self) -> None:
        """Remove all, the state first, without which nothing else is believed: the conversion starts anew."""
        for path in [self.directory / _STATE, *self.directory.glob("level-*.blocks"), self.cog]:
            path.unlink(missing_ok=True)


def _packed(array: Pixels) -> Pixels:
    return np.frombuffer(ZstdCompressor(level=_ZSTD_LEVEL).compress(np.ascontiguousarray(array).data), np.uint8)


def _unpacked(packed: Pixels, dtype: str, shape: list[int]) -> Pixels:
    """The array as it was, which can be written to.

    Raises:
        ZstdError, ValueError: it is damaged.
    """
    array = np.empty(shape, np.dtype(dtype))
    array.reshape(-1).view(np.uint8)[:] = np.frombuffer(ZstdDecompressor().decompress(packed.data), np.uint8)
    return array
