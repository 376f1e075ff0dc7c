"""Consistency of the parts of a shapefile or MapInfo table: how many features there are, and which have a geometry.

Here: counts, from headers and sizes. Not here: values (`dbf.py`), which parts there must be (`sources.py`).

GDAL silently uses the smaller number: with a truncated part features would be lost. Sources: the ESRI Shapefile
Technical Description, 1998; MapInfo's Interchange Format, appendix J of the MapInfo Professional guide.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.once import remembered_of_file
from geo_assets.vector.reader.dbf_layout import Dbf, fault_of

NO_SHAPE = "a record that is no shape of the file's type"

_DBF_HEADER, _SHX_HEADER, _SHX_RECORD, _ID_RECORD = 32, 100, 8, 4
_SHP_RECORD_HEADER = 8

_SAVE_AGAIN = "save it anew with the program that made it, and upload all its parts together"

#: Keywords that begin an object in a MIF, and other keywords that may begin a line.
_OBJECTS = frozenset(
    [
        "NONE",
        "POINT",
        "LINE",
        "PLINE",
        "REGION",
        "ARC",
        "TEXT",
        "RECT",
        "ROUNDRECT",
        "ELLIPSE",
        "MULTIPOINT",
        "COLLECTION",
    ]
)
_STYLES = frozenset(
    ["SYMBOL", "PEN", "BRUSH", "SMOOTH", "CENTER", "FONT", "SPACING", "JUSTIFY", "ANGLE", "LABEL", "TRANSPARENT"]
)
_NUMBER = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")

#: A line with anything but numbers; most lines of a MIF are the coordinates of a point.
_NO_NUMBERS = re.compile(rb"^(?![ \t]*%b(?:[ \t]+%b)*[ \t\r]*$)[^\n]+" % (2 * (_NUMBER.pattern,)), re.MULTILINE)

#: Read at a time.
_PIECE = 1 << 20
_ALL_NUMBERS = frozenset(["POINT", "LINE", "RECT", "ROUNDRECT", "ELLIPSE", "ARC"])


def check_parts(own: Path, name: str) -> int | None:
    """Refuse a dataset with features without attributes, or attributes without features, where its format forbids it.

    Returns: the number of features, where they had to be counted: of MapInfo.

    Raises:
        GeoAssetsError: UNREADABLE.
    """
    if own.suffix == ".shp":
        if fault := fault_of(own.with_suffix(".dbf")):
            raise GeoAssetsError("UNREADABLE", f"{name} would lose its attributes: {fault}", remedy=_SAVE_AGAIN)
        shapes, rows = _shapes(own), _rows(own.with_suffix(".dbf"))
        if rows is not None and rows < shapes:  # surplus rows are reported (`dbf.py`)
            raise _cut(name, f"its .dbf has {rows:,} whole rows for {shapes:,} shapes")
    elif own.suffix == ".tab":
        table = next((part for part in (own.with_suffix(".dat"), own.with_suffix(".dbf")) if part.exists()), None)
        index = own.with_suffix(".id")
        if table is not None and index.exists() and (rows := _rows(table)) is not None:
            _check_index(index, rows, table.suffix, name)
            dbf = Dbf.open(table)  # where the map of a table is damaged, GDAL ends it there, and says nothing
            return rows - dbf.deleted if dbf is not None else None
    elif own.suffix == ".mif":
        return _check_mif(own, name)
    return None


def unread_shapes(shp: Path, places: list[int]) -> dict[int, str]:
    """Given shapes that GDAL did not read, by their position from 0, return those that are not null, with what is wrong
    with them.
    """
    faults = {}
    with shp.open("rb") as shapes, shp.with_suffix(".shx").open("rb") as index:
        for place in places:
            index.seek(_SHX_HEADER + _SHX_RECORD * place)
            entry = index.read(_SHX_RECORD)
            if len(entry) < _SHX_RECORD:
                continue
            shapes.seek(2 * struct.unpack(">I", entry[:4])[0] + _SHP_RECORD_HEADER)
            if shapes.read(4) != bytes(4):
                faults[place] = NO_SHAPE
    return faults


def _cut(name: str, how: str) -> GeoAssetsError:
    return GeoAssetsError("UNREADABLE", f"{name} is incomplete: {how}", remedy="upload all its parts again, together")


def _shapes(shp: Path) -> int:
    return max(0, shp.with_suffix(".shx").stat().st_size - _SHX_HEADER) // _SHX_RECORD


def _rows(dbf: Path) -> int | None:
    """Return the number of complete rows of a DBF or of a .dat, which has the same header; None where it is unknown."""
    with dbf.open("rb") as file:
        head = file.read(_DBF_HEADER)
    if len(head) < _DBF_HEADER:
        return None
    declared, start, width = struct.unpack_from("<IHH", head, 4)
    return min(declared, max(0, dbf.stat().st_size - start) // width) if width else None


def _check_index(index: Path, rows: int, table: str, name: str) -> None:
    entries = index.stat().st_size // _ID_RECORD
    with index.open("rb") as file:
        file.seek(_ID_RECORD * rows)
        surplus = file.read()
    if entries < rows or any(surplus):
        raise _cut(name, f"its {table} has {rows:,} whole rows, and its .id {entries:,}")


@remembered_of_file  # it is asked for when the file is inspected, and when it is loaded
def _check_mif(mif: Path, name: str) -> int:
    objects = sum(1 for _ in _objects(mif, name))
    mid = mif.with_suffix(".mid")
    if not mid.exists():
        return objects
    with mid.open("rb") as file:
        lines = filled = 0
        for lines, line in enumerate(file, 1):
            filled = lines if line.strip() else filled
    if not filled <= objects <= lines:
        raise _cut(name, f"it has {objects:,} objects, and its .mid {filled:,} rows")
    return objects


def _objects(mif: Path, name: str) -> Iterator[None]:
    """Yield once per object; the parts of a collection do not count as objects."""
    parts = 0
    for number, line in _other_lines(mif):
        words = line.split()
        if not words or words[0].startswith((b'"', b"(")):
            continue
        keyword = words[0].decode("latin-1").upper().partition("(")[0]
        numbers = words[1:] if keyword in _ALL_NUMBERS else () if keyword in _OBJECTS | _STYLES else words
        if not all(map(_NUMBER.fullmatch, numbers)):
            raise _cut(name, f"line {number:,} is none that a MIF has: {line.strip()[:40].decode('latin-1')!r}")
        if keyword in _OBJECTS and parts:
            parts -= 1
        elif keyword in _OBJECTS:
            yield
            parts = int(words[1]) if keyword == "COLLECTION" and len(words) > 1 and words[1].isdigit() else 0


def _other_lines(mif: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines after the header that are not numbers alone, each with its number."""
    with mif.open("rb") as file:
        number = next((number for number, line in enumerate(file, 1) if line.strip().upper() == b"DATA"), 0)
        while piece := file.read(_PIECE):
            piece += file.readline()
            at = 0
            for match in _NO_NUMBERS.finditer(piece):
                number += piece.count(b"\n", at, match.start())
                at = match.start()
                yield number + 1, match[0]
            number += piece.count(b"\n", at)
