"""The layout of a DBF, the attributes of a shapefile: its fields, and where their bytes are.

Here: the header, texts that are longer than GDAL knows, and records as bytes. Sources: the headers of dBase III and of
FoxPro, as dbfopen.c of shapelib reads them. Not here: what the bytes mean (`dbf.py`, `dbf_binary.py`).
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError

if TYPE_CHECKING:
    import pyarrow as pa

_HEADER_BYTES = _DESCRIPTION_BYTES = 32
_DELETED = ord("*")
_DBASE_7, _DBASE_7_HEADER, _DBASE_7_DESCRIPTION = 4, 68, 48

#: Characters of the longest text that one byte can tell; other programs use two.
LONGEST_TEXT = 255


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the header."""

    kind: str
    offset: int  # in a record; its first byte marks a deleted record
    width: int
    decimals: int
    flags: int = 0  # of FoxPro
    is_rest: bool = False  # of a text that GDAL reads in pieces, the one before it: it is no column

    @property
    def is_long(self) -> bool:
        """Whether it is a text that GDAL reads in pieces."""
        return self.kind == "C" and self.width > LONGEST_TEXT


@dataclass(frozen=True, slots=True)
class Dbf:
    """A DBF: its fields and its records as bytes, mapped, not read."""

    fields: list[Field]
    records: NDArray[np.uint8]  # one row per record
    page: int  # its language driver
    version: int = 3

    @classmethod
    def open(cls, path: Path) -> Dbf | None:
        """Open a DBF; None where its header does not fit its size: GDAL will report what is wrong."""
        head, fields = _header(path)
        if not fields or _fault(path, head, fields):
            return None
        count, start, width = struct.unpack_from("<IHH", head, 4)
        count = min(count, (path.stat().st_size - start) // width)
        if count <= 0:
            return None
        return cls(fields, np.memmap(path, np.uint8, "r", start, (count, width)), head[29], head[0])

    def binary(self, field: Field, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the bytes of a field as they are, one row per record."""
        return np.ascontiguousarray(self.records[rows, field.offset : field.offset + field.width])

    def raw(self, field: Field, rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """Return the bytes of a field, one row per record; non-ASCII bytes became `?`."""
        part = np.ascontiguousarray(self.records[rows, field.offset : field.offset + field.width])
        part = np.where(part == 0, np.uint8(32), part)
        return np.where(part > 126, np.uint8(63), part)

    def texts(self, field: Field, rows: NDArray[np.int64] | slice) -> pa.Array:
        """Return the same as text without surrounding blanks; null where it is empty or holds the asterisks of an
        overflow.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        raw = self.raw(field, rows)
        text = (
            pa.Array.from_buffers(pa.binary(field.width), len(raw), [None, pa.py_buffer(raw)])
            .cast(pa.binary())
            .cast(pa.string())
        )
        text = pc.ascii_trim_whitespace(text)
        nothing = pc.match_substring_regex(text, r"^\**$")
        return pc.if_else(nothing, pa.scalar(None, pa.string()), text)

    def character_bytes(self, limit: int) -> bytes:
        """Return the text of its records, at most `limit` bytes."""
        wanted = [f for f in self.fields if f.kind == "C" and not f.is_rest]
        total = sum(f.width for f in wanted)
        rows = slice(0, max(1, limit // max(1, total)))
        return b"\n".join(self.records[rows, f.offset : f.offset + f.width].tobytes() for f in wanted)

    @property
    def deleted(self) -> int:
        """Return the number of records that are marked as deleted."""
        return int((self.records[:, 0] == _DELETED).sum())


def _header(path: Path) -> tuple[bytes, list[Field]]:
    """Return the first bytes of a DBF, and its fields, which are none where the former are too few."""
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            return head, []
        start, width = struct.unpack_from("<HH", head, 8)
        return head, _fields(file.read(max(0, start - _HEADER_BYTES)), width)


def fault_of(path: Path) -> str | None:
    """Return why a DBF has no attributes to GDAL (3.12.4), which reads its shapes alone then, without a word; None
    where it has them, or says that it has none.
    """
    return _fault(path, *_header(path))


def _fault(path: Path, head: bytes, fields: list[Field]) -> str | None:
    if len(head) < _HEADER_BYTES:
        return f"its .dbf has {len(head)} bytes, and the header of one {_HEADER_BYTES}"
    (width,) = struct.unpack_from("<H", head, 10)
    if _is_of_dbase_7(path, head, width):
        return "its .dbf is one of dBase 7, which GDAL does not read"
    if not fields:
        return f"its .dbf has rows of {width:,} bytes, and no field" if width != 1 else None
    needed = fields[-1].offset + fields[-1].width
    return f"its .dbf says that a row has {width:,} bytes, and its fields have {needed:,}" if needed > width else None


def _is_of_dbase_7(path: Path, head: bytes, width: int) -> bool:
    """Whether fields are described in 48 bytes each, behind 68: the older layout makes others of them."""
    (start,) = struct.unpack_from("<H", head, 8)
    if head[0] & 0x07 != _DBASE_7 or (start - _DBASE_7_HEADER - 1) % _DBASE_7_DESCRIPTION:
        return False
    with path.open("rb") as file:
        described = file.read(start)[_DBASE_7_HEADER:-1]
    return len(described) > 0 and 1 + sum(described[33::_DBASE_7_DESCRIPTION]) == width


def _fields(described: bytes, width: int) -> list[Field]:
    """Return the fields of a record of this width. Some programs write how many decimals a text has, which it has not;
    others write with it that a text has more than 255 characters, and then it is all of the record.
    """
    descriptions = list(_descriptions(described))
    fits = 1 + sum(_width(each, long_text=True) for each in descriptions) == width
    fields, offset = [], 1
    for each in descriptions:
        kind = chr(each[11])
        field = Field(kind, offset, _width(each, long_text=fits), each[17] if kind != "C" else 0, each[18])
        fields.append(field)
        if field.is_long:
            fields += _rests(field)
        offset += field.width
    return fields


def _descriptions(described: bytes) -> Iterator[bytes]:
    """Yield the bytes that describe each field."""
    for start in range(0, len(described) - _DESCRIPTION_BYTES + 1, _DESCRIPTION_BYTES):
        if described[start] in {0x0D, 0x00}:
            return
        yield described[start : start + _DESCRIPTION_BYTES]


def _width(description: bytes, *, long_text: bool) -> int:
    is_longer = long_text and description[11] == ord("C")
    return description[16] + 256 * description[17] * is_longer


def _rests(field: Field) -> list[Field]:
    """Return what follows the first piece of a long text."""
    starts = range(LONGEST_TEXT, field.width, LONGEST_TEXT)
    return [
        Field("C", field.offset + start, min(LONGEST_TEXT, field.width - start), 0, is_rest=True) for start in starts
    ]


def whole_of(dbf: Path) -> Path:
    """Return the file that a shapefile came with, of the same records as that which GDAL reads."""
    whole = dbf.with_name("whole.dbf")
    return whole if whole.exists() else dbf


def cut_long_texts(dbf: Path) -> None:
    """Put a DBF that has each text of more than 255 characters in pieces in the place of one that has such: GDAL
    (3.12.4) does not know their length, and would look for the fields behind them within them. The former is `whole_of`
    it.

    Raises:
        GeoAssetsError: UNREADABLE, it has too many fields for that.
    """
    head, fields = _header(dbf)
    if not any(field.is_long for field in fields) or _fault(dbf, head, fields):
        return
    begins = _HEADER_BYTES + _DESCRIPTION_BYTES * len(fields) + 1
    if begins >= 1 << 16:
        raise GeoAssetsError(
            "UNREADABLE", f"its .dbf has texts of more than 255 characters among {len(fields):,} fields"
        )
    whole = dbf.rename(dbf.with_name("whole.dbf"))
    (start,) = struct.unpack_from("<H", head, 8)
    with whole.open("rb") as file, dbf.open("wb") as cut:
        file.seek(_HEADER_BYTES)
        described = _descriptions(file.read(start - _HEADER_BYTES))
        cut.write(head[:8] + struct.pack("<H", begins) + head[10:])
        for i, field in enumerate(fields):
            own = struct.pack("<11sc20x", b"_%d" % i, b"C") if field.is_rest else next(described)
            cut.write(own[:16] + bytes([min(field.width, LONGEST_TEXT), field.decimals]) + own[18:])
        cut.write(b"\r")
        file.seek(start)
        shutil.copyfileobj(file, cut)
