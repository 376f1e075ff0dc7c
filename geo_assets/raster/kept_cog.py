"""A COG that GDAL's driver has written, kept until it is proven: after a kill in the proof another process proves it,
and does not write it again.

Here: the COG, what identifies it, and that it is what was kept. Not here: the progress of our own writer, which goes on
within a raster (`checkpoint.py`); who finds the directory of a process that died (`sandbox/pool.py`).

What is kept is described when it is there, in one rename. Its hash is compared before it is believed: what rotted, or
never reached the disk, is written again, and nobody is told that a good source is bad.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo_assets.raster.report import hash_of

_COG, _TOLD = "driver.tif", "driver.json"


@dataclass(frozen=True, slots=True)
class KeptCog:
    """Where one conversion keeps the COG.

    Attributes:
        directory: used by this conversion alone.
        identity: of the source and of how it is written; what is kept of another is ignored.
    """

    directory: Path
    identity: str

    @property
    def path(self) -> Path:
        """The COG."""
        return self.directory / _COG

    def keep(self, made: Path, notes: list[str]) -> None:
        """Move a COG here, with what is to be noted of it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        sha256 = hash_of(made)
        made.replace(self.path)
        self._tell({"sha256": sha256, "notes": notes})

    def found(self) -> list[str] | None:
        """Return the notes of the COG that is kept; None, and nothing is kept any more, where there is none."""
        told = self._told()
        try:
            if "notes" in told and hash_of(self.path) == told["sha256"]:
                return [str(note) for note in told["notes"]]
        except OSError:
            pass
        self.forget()
        return None

    def refuse(self, why: str) -> None:
        """Keep no COG, but why there is to be none: a lossy profile does not suit these pixels."""
        self.forget()
        self._tell({"refused": why})

    def refused(self) -> str | None:
        """Return why there is to be no such COG; None where that is not known."""
        why = self._told().get("refused")
        return None if why is None else str(why)

    def forget(self) -> None:
        """Remove all, what is told first."""
        for name in (_TOLD, _COG):
            (self.directory / name).unlink(missing_ok=True)

    def _tell(self, facts: dict[str, Any]) -> None:
        part = self.directory / f"{_TOLD}.part"
        part.write_text(json.dumps({**facts, "identity": self.identity}), encoding="utf-8")
        part.replace(self.directory / _TOLD)

    def _told(self) -> dict[str, Any]:
        try:
            told = json.loads((self.directory / _TOLD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) and told.get("identity") == self.identity else {}
