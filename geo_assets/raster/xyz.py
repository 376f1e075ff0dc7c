"""Text files of points on a grid (`.xyz`): a check that every word is a number, and that no place of the grid lacks its
point, because GDAL reads other words, and what is not there, as 0.

Here: that check. Not here: reading it, which GDAL does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from geo_assets.errors import GeoAssetsError

#: Read at a time.
_PIECE = 1 << 24

#: All characters of numbers and of what separates them.
_OF_NUMBERS = b"0123456789+-.eE \t\r\n,;"

#: Beginnings of lines with a point.
_LINES = re.compile(rb"[\r\n][ \t]*[-+0-9.]")

_FIRST_LINES = re.compile(rb"(?:[\sA-Za-z_,;\"()]*\r?\n)?(?:[ \t]*[-+0-9.eE]+[ \t]*[,; \t]){2}[ \t]*[-+0-9.eE]+")


def looks_like_it(head: bytes) -> bool:
    """Whether a file begins with three numbers, perhaps below a line of names."""
    return bool(_FIRST_LINES.match(head))


def refuse_wrong_values(path: Path, dataset: Any) -> None:
    """Refuse a file with anything but numbers below its first line, and one with fewer points than places that names
    no value for the others: GDAL makes them 0.

    Raises:
        GeoAssetsError: UNREADABLE; RASTER_UNSUPPORTED.
    """
    points, there = 0, dataset.width * dataset.height
    with path.open("rb") as file:
        first = file.readline(_PIECE)
        if not first.translate(None, _OF_NUMBERS):
            file.seek(0)
        last = b"\n"
        while piece := file.read(_PIECE):
            if strange := piece.translate(None, _OF_NUMBERS):
                raise GeoAssetsError(
                    "UNREADABLE",
                    f"{path.name} is not readable as XYZ: it has {strange[:20].decode('latin-1')!r} among its numbers",
                )
            points += len(_LINES.findall(last + piece))
            last = piece[-1:] if piece[-1:] in b"\r\n" else b"0"
    if points < there and dataset.nodata is None:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has {points:,} points for the {there:,} places of its grid, and GDAL would make the others 0",
            remedy="add the missing points, with a value that none of the others has",
        )
