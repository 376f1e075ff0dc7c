"""The .prj of a shapefile, as GDAL can read it, and what to say of one that names nothing.

Here: .prj files that people and programs write in other ways than as WKT in ASCII. Not here: what a CRS is
(`vector/crs.py`), its other parts (`sources.py`).
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from geo_assets.text import utf_16_of
from geo_assets.vector.crs import parse_file_crs

#: Most bytes of a .prj that are looked at.
_MOST_BYTES = 65_536

_CODE = re.compile(r"(EPSG|ESRI):\d{3,6}", re.IGNORECASE)


def make_readable(prj: Path) -> None:
    """Replace a .prj of ours by one in WKT, if it is in UTF-16 or names a code."""
    from pyproj.exceptions import CRSError

    body, text = _beginning(prj), said_by(prj)
    crs = parse_file_crs(text) if _CODE.fullmatch(text) else None
    if crs is not None:
        try:
            text = crs.to_wkt("WKT1_ESRI")
        except CRSError:  # a CRS for which that has no words, as of places in space
            return
    elif b"\0" not in body and not body.startswith(codecs.BOM_UTF8):
        return
    prj.unlink()  # a link to theirs
    prj.write_text(text, encoding="utf-8")


def said_by(prj: Path) -> str:
    """Return the text of a .prj, in whatever encoding it is."""
    body = _beginning(prj)
    return body.decode(utf_16_of(body) or "utf-8-sig", "replace").strip(" \t\r\n\0\ufeff")


def _beginning(prj: Path) -> bytes:
    with prj.open("rb") as file:
        return file.read(_MOST_BYTES)
