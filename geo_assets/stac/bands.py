"""What the bands of rasters have in common, if they may be put together: in a mosaic, in a collection.

Here: a word for it, and the key of the asset. Not here: which collection that is (`ledger/raster_collections.py`).

It follows from the number, the types and the colours of the bands, which are the same in every file of a series. The
kind of pixels is not asked: it is found in a sample of the values, and a flat tile of heights may look like classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from geo_assets.raster.models import ConvertReport

#: Pictures in colour, single bands with a table of colours, sources that hold several rasters.
VISUAL, PALETTE, SEVERAL = "visual", "palette", "several"

#: In the title of a collection.
_WORDS = {VISUAL: "pictures in colour", PALETTE: "rasters with a table of colours", SEVERAL: "sets of rasters"}

_RGB = ["red", "green", "blue"]
_ALPHA = "alpha"


def bands_of(reports: Sequence[ConvertReport]) -> str:
    """A word that is the same for sources whose rasters may be put together: `visual`, `float32`, `4xuint16`.

    Transparency does not count: readers take an alpha band for a mask.
    """
    if len(reports) != 1:
        return SEVERAL
    (report,) = reports
    colours = _colours(report)
    dtype = report.dtypes[0].replace("_", "")
    if dtype == "uint8" and colours == _RGB:
        return VISUAL
    if colours == ["palette"]:
        return PALETTE
    return dtype if len(colours) == 1 else f"{len(colours)}x{dtype}"


def asset_key(report: ConvertReport) -> str:
    """The key of a source's only COG: `data` of one band of values, `visual` of a picture, else with their number."""
    bands = bands_of([report])
    count = len(_colours(report))
    return bands if bands in {VISUAL, PALETTE} else "data" if count == 1 else f"bands{count}"


def in_words(bands: str) -> str:
    """What a collection of such rasters holds, in its title."""
    if bands in _WORDS:
        return _WORDS[bands]
    several = re.fullmatch(r"(\d+)x(.+)", bands)
    return f"rasters of {several[1]} bands, {several[2]}" if several else f"rasters of one band, {bands}"


def _colours(report: ConvertReport) -> list[str]:
    colours = [band.colorinterp for band in report.bands]
    return [colour for colour in colours if colour != _ALPHA] or colours
