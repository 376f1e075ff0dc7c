"""Products in the SAFE format of the Sentinels: which of their rasters are data, their order and their names.

Here: names. Not here: opening anything, other archives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_SAFE = re.compile(r"\.SAFE/", re.IGNORECASE)

#: Folders of the images of Sentinel-2 and Sentinel-1; quality masks, quick looks and previews are elsewhere.
_DATA = re.compile(r"\.SAFE/(?:GRANULE/[^/]+/IMG_DATA/|measurement/)", re.IGNORECASE)

#: The band of an image of Sentinel-2 and, in products of level 2A, its resolution.
_BAND = re.compile(r"_(B\d[0-9A]|TCI|SCL|AOT|WVP)(?:_(\d\d)m)?\.jp2$", re.IGNORECASE)

#: The true-colour image.
_TRUE_COLOUR = "TCI"


def sorted_out(rasters: Sequence[T], *, key: Callable[[T], str]) -> tuple[list[T], list[T]]:
    """Split the rasters of an archive into data and the rest; the true-colour image of a product comes first, as its
    picture.

    Args:
        rasters: of any archive; all are data if it is not a SAFE product.
        key: gives the path of a raster within the archive.
    """
    if not any(_DATA.search(key(r)) for r in rasters):
        return sorted(rasters, key=key), []
    data = [r for r in rasters if _DATA.search(key(r)) or not _SAFE.search(key(r))]
    return sorted(data, key=lambda r: _order(key(r))), [r for r in rasters if r not in data]


def _order(path: str) -> tuple[bool, str, str]:
    band = _BAND.search(path)
    return not (band and band[1].upper() == _TRUE_COLOUR), (band[2] or "") if band else "", path


def plain_name(path: str) -> str | None:
    """Return a short name for an image of a product: its band, with the resolution where there are several; else the
    file's name. None for rasters that are not images.
    """
    if not _DATA.search(path):
        return None
    band = _BAND.search(path)
    return (
        "_".join(filter(None, (band[1].upper(), f"{band[2]}m" if band[2] else None)))
        if band
        else path.rpartition("/")[2].rpartition(".")[0]
    )
