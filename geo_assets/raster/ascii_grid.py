"""The values of an ESRI ASCII grid, counted and read one by one before GDAL is believed.

Here: whether a grid has as many values as its header says, whether each is a number, and whether the type that GDAL
took for them can hold them all. Not here: the header itself, which GDAL reads; the numbers (`text_numbers.py`).

GDAL reads a word as 0 and a missing value as the one before it, ignores surplus values, and turns a number beyond the
range of its type into the largest value of that type or infinity. It reports none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal
from geo_assets.raster.text_numbers import is_misread, is_number, not_held, numbers, parts, shown

#: GDAL's driver for it, and how the driver reads all numbers as doubles: see `gdal.open_raster`.
DRIVER, OF_DOUBLES = "AAIGrid", "AAIGrid DATATYPE=Float64"

_KEYS = frozenset(
    {
        b"ncols",
        b"nrows",
        b"xllcorner",
        b"xllcenter",
        b"yllcorner",
        b"yllcenter",
        b"cellsize",
        b"dx",
        b"dy",
        b"nodata_value",
    }
)

#: Ten keys and their values.
_HEADER_BYTES = 4096


def needs_doubles(path: Path, dataset: Any) -> bool:
    """Read every value of an open ASCII grid; returns whether it is to be opened as `OF_DOUBLES`, because the type that
    GDAL took for them cannot hold one as it is written.

    Raises:
        GeoAssetsError: UNREADABLE, too few or too many values, or not numbers; RASTER_UNSUPPORTED, not even a double
            can hold one.
    """
    count, dtype = 0, np.dtype(dataset.dtypes[0])
    for words in _words(path):
        values = numbers(path, DRIVER, words)
        if (wrong := not_held(values, words, dtype)).any():
            if dtype != np.float64:
                return True
            raise GeoAssetsError(
                "RASTER_UNSUPPORTED",
                f"{path.name} is read as {dtype}, which cannot hold {shown(words[int(np.argmax(wrong))])}",
            )
        count += len(values)
    if count != dataset.width * dataset.height:
        declared = f"{dataset.width:,} x {dataset.height:,} = {dataset.width * dataset.height:,}"
        raise gdal.unreadable(path, DRIVER, f"it has {count:,} values; its header declares {declared}")
    return False


def _words(path: Path) -> Iterator[list[bytes]]:
    """Yield the words after the header, some at a time; a decimal comma becomes a point, as GDAL reads it."""
    with path.open("rb") as file:
        file.seek(_values_start(path, file.read(_HEADER_BYTES)))
        for part in parts(path, DRIVER, file, b" \n\t\r"):
            yield part.replace(b",", b".").split()


def _values_start(path: Path, head: bytes) -> int:
    """Return where the header ends; the header is pairs of a known key and a number: GDAL takes a word for 0."""
    at = 0
    while True:
        pair = head[at:].split(maxsplit=2)
        if len(pair) < 2 or pair[0].lower() not in _KEYS:
            return at
        number = is_number(pair[1].replace(b",", b".")) and not is_misread(pair[1])
        if not (number or b"#" in pair[1]):  # 1.#QNAN, as Windows writes it
            key, word = shown(pair[0]), shown(pair[1])
            raise gdal.unreadable(path, DRIVER, f"its header has {word!r} as {key}, which is not a number")
        at = head.index(pair[1], head.index(pair[0], at) + len(pair[0])) + len(pair[1])
