"""Text files of points on a grid (`.xyz`): a check that every word is a number, because GDAL reads other words as 0.

Here: that check. Not here: reading it, which GDAL does.
"""

from __future__ import annotations

import re
from pathlib import Path

from geo_assets.errors import GeoAssetsError

#: Read at a time.
_PIECE = 1 << 24

#: All characters of numbers and of what separates them.
_OF_NUMBERS = b"0123456789+-.eE \t\r\n,;"

_FIRST_LINES = re.compile(rb"(?:[\sA-Za-z_,;\"()]*\r?\n)?(?:[ \t]*[-+0-9.eE]+[ \t]*[,; \t]){2}[ \t]*[-+0-9.eE]+")


def looks_like_it(head: bytes) -> bool:
    """Whether a file begins with three numbers, perhaps below a line of names."""
    return bool(_FIRST_LINES.match(head))


def refuse_wrong_values(path: Path) -> None:
    """Refuse a file with anything but numbers below its first line.

    Raises:
        GeoAssetsError: UNREADABLE.
    """
    with path.open("rb") as file:
        first = file.readline(_PIECE)
        if not first.translate(None, _OF_NUMBERS):
            file.seek(0)
        while piece := file.read(_PIECE):
            if strange := piece.translate(None, _OF_NUMBERS):
                raise GeoAssetsError(
                    "UNREADABLE",
                    f"{path.name} is not readable as XYZ: it has {strange[:20].decode('latin-1')!r} among its numbers",
                )
