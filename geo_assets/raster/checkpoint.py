"""The progress of a large conversion, saved from time to time, so that after a kill another process resumes from there.

Here: one directory per conversion: the blocks of each level, and a state that says how much of them is valid.
Not here: what a state consists of (`onepass.py`), who finds the directory of a process that died (`sandbox/pool.py`).

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

from geo_assets.raster.pixels import Pixels

_STATE = "state.npz"

#: The entry of the state that is JSON.
_FACTS = "facts"


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

    def save(self, facts: dict[str, Any], arrays: dict[str, Pixels]) -> None:
        """Replace the state."""
        told = json.dumps({**facts, "identity": self.identity})
        part = self.directory / f"{_STATE}.part"
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays, **{_FACTS: np.frombuffer(told.encode(), np.uint8)})
        part.replace(self.directory / _STATE)

    def load(self, levels: int) -> tuple[dict[str, Any], dict[str, Pixels]] | None:
        """Return the last state, with the blocks cut to what it counts; None where this conversion has none, or it is
        incomplete.
        """
        try:
            with (self.directory / _STATE).open("rb") as file, np.load(file, allow_pickle=False) as kept:
                arrays = {name: kept[name] for name in kept.files if name != _FACTS}
                facts = json.loads(kept[_FACTS].tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        paths = [self.directory / f"level-{level}.blocks" for level in range(levels)]
        lengths = facts.get("lengths", [])
        if facts.get("identity") != self.identity or len(lengths) != levels:
            return None
        if any(
            (path.stat().st_size if path.exists() else 0) < length for path, length in zip(paths, lengths, strict=True)
        ):
            return None
        for path, length in zip(paths, lengths, strict=True):
            if path.exists():
                with path.open("r+b") as blocks:  # by an open file: a child may not by a path (sandbox/seccomp.py)
                    blocks.truncate(length)
        return facts, arrays

    def forget(self) -> None:
        """Remove state and blocks: the conversion starts from the beginning."""
        for path in [*self.directory.glob("level-*.blocks"), self.directory / _STATE]:
            path.unlink(missing_ok=True)
