"""The contents of a GeoPackage: feature tables, tile tables, or both. Nothing is unpacked, no library opens it.

Here: the part of SQLite's file format that is needed to read the first columns of a table, by ranges, within limits.
Not here: the tables themselves, which sandboxed children read (`vector/`, `raster/`). A list of contents proves
nothing, just like a name.

Source: Database File Format, https://www.sqlite.org/fileformat2.html, 1.3 (header), 1.6 (B-tree pages), 2.1 (records);
GeoPackage 1.4, 1.1.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from geo_assets.storage.kinds import Kind

#: Reads a number of bytes from a position.
Read = Callable[[int, int], bytes]

#: The names of tile tables in `gpkg_contents`: GeoPackage 1.4, and its extension for elevation.
TILES = frozenset({"tiles", "2d-gridded-coverage"})

_MAGIC = b"SQLite format 3\0"

#: Bytes from the beginning that are read at once: enough for most files.
_FIRST = 128 * 1024

#: Most pages and rows that are read: a list of a thousand tables with their indexes and triggers.
_MAX_PAGES, _MAX_ROWS = 500, 20_000

_INTERIOR, _LEAF = 5, 13

#: Bytes of an integer, by its serial type.
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def kinds_in(read: Read, size: int) -> tuple[Kind, ...] | None:
    """Return what a GeoPackage contains; None where its list of contents cannot be read, which the stage that opens it
    will report.

    Args:
        read: reads from the file.
        size: bytes of the file.
    """
    try:
        return _kinds(_Pages(read, size))
    except (ValueError, IndexError):
        return None


def _kinds(pages: _Pages) -> tuple[Kind, ...] | None:
    root = next((root for kind, name, _, root in pages.rows(1, 4) if (kind, name) == ("table", "gpkg_contents")), None)
    if not isinstance(root, int):
        return None
    tiles = {str(data_type).lower() in TILES for _, data_type in pages.rows(root, 2)}
    return ((Kind.RASTER,) if True in tiles else ()) + ((Kind.VECTOR,) if tiles != {True} else ())


class _Pages:
    """The pages of a database.

    Raises:
        ValueError, IndexError: from every method: it is none, it is damaged, or it is larger than any honest list of
            tables.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size = read, size
        self._first = read(0, min(size, _FIRST)) if size else b""
        if not self._first.startswith(_MAGIC):
            raise ValueError
        stated = int.from_bytes(self._first[16:18])
        self._page = 65536 if stated == 1 else stated
        if self._page < 512 or self._page & (self._page - 1):
            raise ValueError
        self._pages, self._rows = _MAX_PAGES, _MAX_ROWS
        self._load = lru_cache(maxsize=8)(self._loaded)

    def _loaded(self, number: int) -> bytes:
        start = (number - 1) * self._page
        if number < 1 or start + self._page > self._size:
            raise ValueError
        return (
            self._first[start : start + self._page]
            if start + self._page <= len(self._first)
            else self._read(start, self._page)
        )

    def rows(self, root: int, columns: int) -> Iterator[list[int | str | None]]:
        """Yield the first columns of the rows of a table, which are on the main pages however long the rest is.

        Args:
            root: the root page of its tree.
            columns: how many.
        """
        waiting = [root]
        while waiting:
            number = waiting.pop()
            page, at = self._load(number), 100 if number == 1 else 0
            cells = int.from_bytes(page[at + 3 : at + 5])
            self._pages, self._rows = self._pages - 1, self._rows - cells
            if min(self._pages, self._rows) < 0:
                raise ValueError
            pointers = at + (12 if page[at] == _INTERIOR else 8)
            places = [int.from_bytes(page[p : p + 2]) for p in range(pointers, pointers + 2 * cells, 2)]
            if page[at] == _INTERIOR:
                children = [int.from_bytes(page[place : place + 4]) for place in places]
                waiting += reversed([*children, int.from_bytes(page[at + 8 : at + 12])])
            elif page[at] == _LEAF:
                yield from (_record(page, place, columns) for place in places)
            else:
                raise ValueError


def _record(page: bytes, at: int, columns: int) -> list[int | str | None]:
    _, at = _varint(page, at)  # bytes
    _, at = _varint(page, at)  # rowid
    length, here = _varint(page, at)
    body = at + length
    values: list[int | str | None] = []
    for _ in range(columns):
        if here >= at + length:
            raise ValueError
        kind, here = _varint(page, here)
        size = _INTEGERS.get(kind, 8 if kind == 7 else max(0, kind - 12) // 2)
        held = page[body : body + size]
        if len(held) < size:
            raise ValueError
        body += size
        values.append(int.from_bytes(held, signed=True) if kind in _INTEGERS else _constant(kind, held))
    return values


def _constant(kind: int, held: bytes) -> int | str | None:
    """Return 0, 1 or text; other values are not read."""
    return kind - 8 if kind in {8, 9} else held.decode("utf-8", "replace") if kind > 12 and kind % 2 else None


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and the position after it."""
    value = 0
    for index in range(8):
        byte = page[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    return value << 8 | page[at + 8], at + 9
