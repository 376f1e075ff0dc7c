"""FlatGeobuf: whether a file has as many features as its header says.

Here: the header, a table of FlatBuffers, and where the last feature ends. Not here: reading it (`ogr.py`).
Source: https://github.com/flatgeobuf/flatgeobuf/blob/master/src/fbs/header.fbs, packedrtree.h
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

#: Fields of the header, by their place in its table.
_FEATURES, _NODE_SIZE = 8, 9
_DEFAULT_NODE_SIZE = 16
_NODE_BYTES, _OFFSET_BYTES = 40, 8  # of the index: four doubles, and where a feature begins
_MAGIC_BYTES, _SIZE_BYTES = 8, 4


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


def _end_of_features(data: mmap.mmap) -> tuple[int, int]:
    """Return the number of features that the header states, and where the last of them ends."""
    size = _u32(data, _MAGIC_BYTES)
    root = _MAGIC_BYTES + _SIZE_BYTES + _u32(data, _MAGIC_BYTES + _SIZE_BYTES)
    fields = root - struct.unpack_from("<i", data, root)[0]
    count = _field(data, root, fields, _FEATURES, "<Q", 0)
    node = _field(data, root, fields, _NODE_SIZE, "<H", _DEFAULT_NODE_SIZE)
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


def _field(data: mmap.mmap, root: int, fields: int, place: int, form: str, default: int) -> int:
    at = 4 + 2 * place
    size = struct.unpack_from("<H", data, fields)[0]
    offset = struct.unpack_from("<H", data, fields + at)[0] if at < size else 0
    return int(struct.unpack_from(form, data, root + offset)[0]) if offset else default


def _u32(data: mmap.mmap, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])
