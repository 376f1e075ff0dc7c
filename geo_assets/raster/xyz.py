"""Text files of points on a grid (`.xyz`): a check that every number is one that GDAL reads as it is written, and that
no place of the grid lacks its point, because GDAL reads words, and what is not there, as 0.

Here: that check, of the columns that GDAL takes for x and z. Not here: reading it, which GDAL does; the numbers
(`text_numbers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal
from geo_assets.raster.text_numbers import not_held, numbers, parts, shown

_DRIVER = "XYZ"

#: Most bytes of a line of names.
_HEAD_BYTES = 4096

#: All characters of numbers and of what separates them.
_OF_NUMBERS = b"0123456789+-.eE \t\r\n,;"

_FIRST_LINES = re.compile(rb"(?:[\sA-Za-z_,;\"()]*\r?\n)?(?:[ \t]*[-+0-9.eE]+[ \t]*[,; \t]){2}[ \t]*[-+0-9.eE]+")

#: Names of columns, and what GDAL takes them for; the last of several counts.
_X, _Y, _Z = (re.compile(names) for names in (rb"x$|lon|east", rb"y$|lat|north", rb"z$|alt|height$"))
_NAME = re.compile(rb'"[^"]*"|[^ ,\t;"]+')

#: What separates columns where a comma does not.
_SEPARATOR = re.compile(rb"[\t;]|[^ ] ")

#: A line's end among its words.
_END = b"|"


def looks_like_it(head: bytes) -> bool:
    """Whether a file begins with three numbers, perhaps below a line of names."""
    return bool(_FIRST_LINES.match(head))


def refuse_wrong_values(path: Path, dataset: Any) -> str | None:
    """Read the number of every point of an open file; returns a note about digits that GDAL's type has not.

    Raises:
        GeoAssetsError: UNREADABLE, something else than a number; RASTER_UNSUPPORTED, GDAL would make another number of
            it, or there are fewer points than places and no value says so.
    """
    count, there, by_columns, rounded = 0, dataset.width * dataset.height, False, None
    dtype = np.dtype(dataset.dtypes[0])
    for places, words in _points(path):
        values = numbers(path, _DRIVER, words)
        by_columns |= count == 0 and len({*numbers(path, _DRIVER, places[:2])}) == 1
        if by_columns and dtype == np.int16 and (values < 0).any():
            raise GeoAssetsError(
                "RASTER_UNSUPPORTED",
                f"{path.name} goes down its columns, where GDAL reads negative whole numbers one too high",
                remedy="bring its points into the order of rows, for example with: sort -k2,2gr -k1,1g in.xyz",
            )
        if (wrong := not_held(values, words, dtype)).any():
            _refuse_whole(path, words, wrong & (values == np.trunc(values)), dtype)
            rounded = rounded or shown(words[int(np.argmax(wrong))])
        count += len(values)
    if count < there and dataset.nodata is None:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has {count:,} points for the {there:,} places of its grid, and GDAL would make the others 0",
            remedy="add the missing points, with a value that none of the others has",
        )
    return f"GDAL reads it as {dtype}, which rounds numbers of so many digits as {rounded}" if rounded else None


def _refuse_whole(path: Path, words: list[bytes], wrong: Any, dtype: np.dtype[Any]) -> None:
    """Refuse whole numbers that become others, which may be codes: a measure that is rounded is noted."""
    if wrong.any():
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} is read as {dtype}, which cannot hold {shown(words[int(np.argmax(wrong))])}",
            remedy="write it as an ASCII grid (.asc), whose numbers are read as float64 where they need it",
        )


def _points(path: Path) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield the words of x and of z of the points, some at a time."""
    with path.open("rb") as file:
        first = file.readline(_HEAD_BYTES)
        x, z = 0, 2
        if first.translate(None, _OF_NUMBERS):
            x, z = _columns(first)
        else:
            file.seek(0)
        comma = None
        for part in parts(path, _DRIVER, file, b"\n\r"):
            if strange := part.translate(None, _OF_NUMBERS):
                said = strange[:20].decode("latin-1")
                raise gdal.unreadable(path, _DRIVER, f"it has {said!r} among its numbers")
            if comma is None and (b"." in part or b"," in part):
                comma = b"." if _is_decimal(part) else b" "
            rows = part.translate(bytes.maketrans(b",;\t\r", (comma or b" ") + b"  \n")).replace(b"\n\n", b"\n")
            yield _of_columns(path, rows.strip(b" \n") + b"\n", x, z)


def _columns(names: bytes) -> tuple[int, int]:
    """Return where x and z stand in a line, by the names above them; the first and third where one is not named."""
    told = [name.strip(b'"').lower() for name in _NAME.findall(names.strip(b"\r\n"))]
    x, y, z = ([i for i, name in enumerate(told) if kind.match(name)] for kind in (_X, _Y, _Z))
    return (x[-1], z[-1]) if x and y and z else (0, 2)


def _is_decimal(part: bytes) -> bool:
    """Whether commas are decimal ones, as GDAL decides it by the first line with a comma or a point."""
    line = next(line for line in part.splitlines() if b"." in line or b"," in line)
    return b"." not in line and bool(_SEPARATOR.search(line))


def _of_columns(path: Path, rows: bytes, x: int, z: int) -> tuple[list[bytes], list[bytes]]:
    """Return the words of two columns; all lines at once where each has as many words as the first."""
    words = rows.replace(b"\n", b" %s " % _END).split()
    wide, high = words.index(_END) + 1, rows.count(b"\n")
    if len(words) == wide * high and words[wide - 1 :: wide].count(_END) == high and z < wide - 1:
        return words[x::wide], words[z::wide]
    lines = [line.split() for line in rows.splitlines() if line.strip()]
    if any(len(line) <= z for line in lines):
        raise gdal.unreadable(path, _DRIVER, "it has points without a number")
    return [line[x] for line in lines], [line[z] for line in lines]
