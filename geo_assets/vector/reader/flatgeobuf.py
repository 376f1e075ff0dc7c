"""FlatGeobuf: what its header says of columns and features, and whether it has as many of these.

Here: the header, a table of FlatBuffers, and where the last feature ends. Not here: reading it (`ogr.py`).
Source: https://github.com/flatgeobuf/flatgeobuf/blob/master/src/fbs/header.fbs, packedrtree.h
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from geo_assets.once import remembered_of_file

#: Fields of the header, by their place in its table.
_COLUMNS, _FEATURES, _NODE_SIZE = 7, 8, 9
_NAME, _TYPE, _ULONG = 0, 1, 8  # of a column
_DEFAULT_NODE_SIZE = 16
_NODE_BYTES, _OFFSET_BYTES = 40, 8  # of the index: four doubles, and where a feature begins
_MAGIC_BYTES, _SIZE_BYTES = 8, 4


@remembered_of_file  # it is asked for when the file is inspected, and when it is loaded
def stated_of_more(path: Path) -> int | None:
    """Return the number of features that the header states, where others follow them, which GDAL does not read; None
    where none do, or the header states none or cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            count, end = _end_of_features(data)
            rest = len(data) - end
            follows = count > 0 and rest > _SIZE_BYTES and 0 < _u32(data, end) <= rest - _SIZE_BYTES
        except (struct.error, IndexError, ValueError, OverflowError):
            return None
    return count if follows else None


def unsigned_columns(path: Path) -> frozenset[str]:
    """Return the columns of unsigned integers of 64 bits, of which GDAL makes doubles."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            places = _places(data, _header(data), _COLUMNS)
            first = places + _u32(data, places) if places else 0
            number = _u32(data, first) if places else 0
            return frozenset(
                _text(data, column, _NAME)
                for at in range(first + 4, first + 4 + 4 * number, 4)
                if (kind := _places(data, column := at + _u32(data, at), _TYPE)) and data[kind] == _ULONG
            )
        except (struct.error, IndexError, ValueError, OverflowError):
            return frozenset()


def _end_of_features(data: mmap.mmap) -> tuple[int, int]:
    """Return the number of features that the header states, and where the last of them ends."""
    size = _u32(data, _MAGIC_BYTES)
    root = _header(data)
    count = _field(data, root, _FEATURES, "<Q", 0)
    node = _field(data, root, _NODE_SIZE, "<H", _DEFAULT_NODE_SIZE)
    start = _MAGIC_BYTES + _SIZE_BYTES + size + _index_bytes(count, node)
    if node and count:  # the index ends with the place of the last feature
        last = start + struct.unpack_from("<Q", data, start - _OFFSET_BYTES)[0]
        end = last + _SIZE_BYTES + _u32(data, last)
        if end == len(data):
            return count, end
    end = start
    for _ in range(count):
        end += _SIZE_BYTES + _u32(data, end)
    return count, end


def _index_bytes(count: int, node: int) -> int:
    """Return the size of the index: a node for each feature, and for each group of nodes."""
    if not count or node < 2:
        return 0
    nodes = level = count
    while True:
        level = -(-level // node)
        nodes += level
        if level == 1:
            return nodes * _NODE_BYTES


def _header(data: mmap.mmap) -> int:
    """Return where the table of the header is."""
    start = _MAGIC_BYTES + _SIZE_BYTES
    return start + _u32(data, start)


def _field(data: mmap.mmap, table: int, place: int, form: str, default: int) -> int:
    at = _places(data, table, place)
    return int(struct.unpack_from(form, data, at)[0]) if at else default


def _places(data: mmap.mmap, table: int, place: int) -> int:
    """Return where a field of a table is; 0 where it has none."""
    fields, at = table - struct.unpack_from("<i", data, table)[0], 4 + 2 * place
    size = struct.unpack_from("<H", data, fields)[0]
    offset = struct.unpack_from("<H", data, fields + at)[0] if at < size else 0
    return table + int(offset) if offset else 0


def _text(data: mmap.mmap, table: int, place: int) -> str:
    at = _places(data, table, place)
    start = at + _u32(data, at)
    return data[start + 4 : start + 4 + _u32(data, start)].decode("utf-8", "replace")


def _u32(data: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
