"""Fields of a DBF that are binary, of which GDAL makes text.

Here: which of them are read, as what and from which bytes, the reason why others are not, and FoxPro's bits for NULL.
Not here: the layout of the file, and fields of text (`dbf.py`).

The same letter means different things: `B` is a double in FoxPro and a binary memo in dBase; `I` is little-endian, but
in dBase 7 big-endian with its sign reversed. What the version of the file does not make certain is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_assets.text import how_many
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.text_values import NAIVE, NO_MOMENT
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from geo_assets.vector.reader.dbf_layout import Field

BLANK = "of nothing but blanks, now NULL"

#: Kinds of text, which GDAL reads.
TEXT_KINDS = frozenset("CNFDL")

#: FoxPro's field of the bits for NULL, which its users do not see.
_NULL_FLAGS = "0"

#: The wire type and the width of each kind that is read.
_READ = {"I": ("int32", 4), "B": ("float64", 8), "Y": ("decimal(19, 4)", 8), "T": (NAIVE, 8)}

_NAMES = {
    "M": "memo", "G": "general", "P": "picture", "B": "binary memo", "W": "blob", "V": "varchar", "Q": "varbinary",
    "O": "double of dBase 7", "@": "time of dBase 7", "+": "autoincrement of dBase 7", "I": "integer", "Y": "currency",
    "T": "date and time",
}  # fmt: skip

_FOXPRO = frozenset({0x30, 0x31, 0x32})
_DBASE_7, _LEVEL = 4, 7
_MAY_BE_NULL = 0x02
_SHOWN, _AT_ONCE = 10, 1 << 16

#: The Julian days of 1970-01-01, 0001-01-01 and 9999-12-31.
_EPOCH, _FIRST_DAY, _LAST_DAY = 2_440_588, 1_721_426, 5_373_484
_DAY_MS = 86_400_000


def wire_of(field: Field, version: int) -> str | None:
    """Return the wire type of a binary field; None where it is not read."""
    wire, width = _READ.get(field.kind, (None, 0))
    is_sure = version in _FOXPRO if field.kind == "B" else version & _LEVEL != _DBASE_7
    return wire if is_sure and field.width == width else None


def values(raw: NDArray[np.uint8], kind: str, name: str, findings: Findings) -> pa.Array:
    """Return the values of a field of a kind that is read, from its bytes in each record."""
    import pyarrow as pa

    blank = (raw == ord(" ")).all(axis=1)
    if kind == "T":
        return _moments(raw.view("<i4"), blank, name, findings)
    if blank.any():
        findings.add(name, BLANK, (), int(blank.sum()))
    numbers = raw.view({"I": "<i4", "B": "<f8", "Y": "<i8"}[kind])[:, 0]
    made = pa.array(numbers, mask=blank)
    if kind != "Y":
        return made
    wide = np.stack([numbers, numbers >> 63], axis=1)  # the same in 128 bits
    return pa.Array.from_buffers(
        arrow_type(_READ[kind][0]), len(numbers), [made.buffers()[0], pa.py_buffer(wide.tobytes())]
    )


def _moments(parts: NDArray[np.int32], blank: NDArray[np.bool_], name: str, findings: Findings) -> pa.Array:
    """Return times from Julian days and milliseconds; of neither, or of blanks, is one that was left empty."""
    import pyarrow as pa

    days, ms = parts[:, 0].astype(np.int64), parts[:, 1].astype(np.int64)
    empty = blank | ((days == 0) & (ms == 0))
    odd = ~empty & ~((days >= _FIRST_DAY) & (days <= _LAST_DAY) & (ms >= 0) & (ms < _DAY_MS))
    if odd.any():
        originals = zip(days[odd].tolist(), ms[odd].tolist(), strict=True)
        findings.add(name, NO_MOMENT, (f"Julian day {day}, {each} ms" for day, each in originals))
    moments = ((days - _EPOCH) * _DAY_MS + ms) * 1000
    return pa.array(moments.view("datetime64[us]"), mask=empty | odd)


def null_bits(fields: Sequence[Field], version: int) -> tuple[Field | None, dict[int, int]]:
    """Return FoxPro's field of the bits for NULL, and the bit of each column that may be NULL, by its position. A text
    or bytes of variable length have one more, before it.
    """
    flags = next((field for field in fields if field.kind == _NULL_FLAGS), None) if version in _FOXPRO else None
    bits, bit = {}, 0
    for position, field in enumerate(fields if flags else ()):
        bit += field.kind in "VQ"
        if field.flags & _MAY_BE_NULL:
            bits[position] = bit
            bit += 1
    return flags, {position: bit for position, bit in bits.items() if flags and bit < 8 * flags.width}


def unread_note(fields: Sequence[Field], names: Sequence[str], version: int, records: NDArray[np.uint8]) -> str | None:
    """Return the warning about columns that are not read and hold something; None where there are none."""
    left_out = [
        f"{name[:63]!r} ({_NAMES.get(field.kind, 'unknown')}, kind {field.kind!r})"
        for name, field in zip(names, fields, strict=True)
        if is_unread(field, version) and field.kind != _NULL_FLAGS and _holds_something(field, records)
    ]
    if not left_out:
        return None
    what = how_many(
        len(left_out),
        "column of its DBF is of a kind that is not read, now NULL",
        "columns of its DBF are of kinds that are not read, now NULL",
    )
    named = ", ".join(left_out[:_SHOWN]) + (", …" if len(left_out) > _SHOWN else "")
    return f"{what}: {named}; to have the values, save it as a GeoPackage with the program that made it"


def is_unread(field: Field, version: int) -> bool:
    """Whether neither GDAL nor we read a field."""
    return field.kind not in TEXT_KINDS and wire_of(field, version) is None


def _holds_something(field: Field, records: NDArray[np.uint8]) -> bool:
    for first in range(0, len(records), _AT_ONCE):
        part = records[first : first + _AT_ONCE, field.offset : field.offset + field.width]
        if ((part != 0) & (part != ord(" "))).any():
            return True
    return False
