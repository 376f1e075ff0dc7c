"""Which part of a conversion is done, told in a file while it runs: for a bar, and for when a job will have ended.

Here: how the part is made of writing and proving, how far GDAL's driver is. Not here: who looks at the file
(`stages/at_work.py`, `commands/raster.py`), what a job makes of it (`ledger/estimates.py`).

The part is one of time: writing takes long for some codecs and proving never does, so both are set against what writing
has taken so far.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geo_assets.background import every

#: Decoded bytes that are proven in a second: read again, compared and described. Measured on a quiet core, on three
#: kinds of pixels and both ways to write: 170 to 230 MB; less beside other work, which writing feels as well.
_PROVEN_A_SECOND = 130e6

#: Of writing, before it is known how long it takes.
_SHARE = 0.7

#: The most that is believed of an estimate.
_ALMOST = 0.98

#: Seconds between two looks at what GDAL has written.
_LOOK_EVERY = 1.0


class Progress:
    """Tells which part of one conversion is done, 0 to 1; never less than before."""

    def __init__(self, told: Path | None, decoded_bytes: int) -> None:
        """Nothing is done.

        Args:
            told: the file in which it is told; None: nobody asked.
            decoded_bytes: of the pixels that will be written.
        """
        self._told, self._proof = told, decoded_bytes / _PROVEN_A_SECOND
        self._began = self._writes_since = time.monotonic()
        self._found: float | None = None  # what was written when it was told first, some by an earlier process
        self._before = 0.0  # the part that was done when writing began
        self._writing = _SHARE
        self._last = 0.0

    def written(self, part: float) -> None:
        """Of what has to be written, so much is; told for the first time when writing begins."""
        now = time.monotonic()
        if self._found is None:
            self._found, self._writes_since = part, now
        elif part > self._found:
            before = self._writes_since - self._began
            writing = (now - self._writes_since) / (part - self._found)
            whole = before + writing + self._proof
            self._before, self._writing = before / whole, writing / whole
        self._tell(self._before + self._writing * part)

    def proven(self, part: float) -> None:
        """Of what is written, so much is proven."""
        done = self._before + self._writing
        self._tell(done + (1 - done) * part)

    def _tell(self, part: float) -> None:
        self._last = max(self._last, part)
        if self._told is None:
            return
        told = os.open(self._told, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.write(told, f"{self._last:.4f}".encode())  # always as long, and so never half of it is read
        finally:
            os.close(told)

    @contextmanager
    def by_driver(self, made: Path) -> Iterator[None]:
        """Follow GDAL's COG driver, which tells nobody how far it is, by what it has in the directory of `made`."""
        if self._told is None:
            yield
            return

        def look() -> None:
            if part := written_by_driver(made):
                self.written(part)

        with every(_LOOK_EVERY, look, "progress"):
            yield
        self.written(1)


def written_by_driver(made: Path) -> float | None:
    """Which part of a COG is written by GDAL's driver; None before it has begun, or where that is not known.

    It writes all overviews to temporary files first, beside the COG or in the directory for such files, and then
    overviews and pixels to the COG. The overviews of a raster have a third of its pixels, so the COG will have about
    four times the bytes of the temporary files. Where its overviews were given to it, it will have about those of the
    staged files, which hold the same pixels.
    """
    temporary = Path(tempfile.gettempdir()).glob(f"cog_{os.getpid()}_*.tmp")
    overviews = _bytes_of([*made.parent.glob(f"{made.name}.*.tmp"), *temporary])
    done, whole = _bytes_of([made]), 4 * overviews or _bytes_of(made.parent.glob("staged.tif*"))
    return min(done / whole, _ALMOST) if done and whole else None


def _bytes_of(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # the driver removes them
            total += file.stat().st_size
    return total
