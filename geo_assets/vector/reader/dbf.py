"""The attributes of a shapefile, checked by their bytes: invalid numbers and dates that GDAL reads as valid, and digits
that it drops.

Here: for each batch from GDAL the comparison with the bytes of the file. A field that is not a
number, date or boolean as declared becomes NULL and is counted, as is text after a NUL; integers of 19 digits and more
are decimals, not doubles, and so are fractions of which a double would be another number.
Text is read from its bytes where GDAL would make another one of them.
Not here: where the bytes lie (`dbf_layout.py`), the encoding of text (`encodings.py` chooses it), what the bytes of
binary fields mean (`dbf_binary.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.once import remembered_of_file
from geo_assets.text import how_many
from geo_assets.vector.encodings import FALLBACK, NOT_BY_GDAL
from geo_assets.vector.reader import dbf_binary
from geo_assets.vector.reader.dbf_layout import Dbf, Field, whole_of
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.sqlite_values import NO_DATE, NO_INTEGER, NO_NUMBER
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

NO_BOOLEAN = "neither T, F, Y nor N, now NULL"
CUT = "cut at a NUL character"

_NUMBERS = frozenset("NF")
_MAX_PRECISION = 76
_SHX_HEADER, _SHX_RECORD = 100, 8

#: Characters of a fraction that a double may not hold: 16 digits and a point; most decimals, and digits before
#: them, that are compared with those of a double as whole numbers; records that are looked at at once.
_MAY_BE_ROUNDED, _MOST_DECIMALS, _AT_ONCE = 17, 15, 1 << 16

_PLAIN = r"^[+-]?\d+$"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(slots=True)
class DbfCheck:
    """The check of one shapefile."""

    dbf: Dbf
    columns: dict[int, tuple[str, str]]  # by position: name and Arrow type
    notes: tuple[str, ...] = ()
    codec: str | None = None  # of its text, where GDAL does not read it well
    long_codec: str = FALLBACK  # of its text of which GDAL reads only a part
    null_flags: Field | None = None  # FoxPro's
    null_bits: dict[int, int] = dataclass_field(default_factory=dict)  # by position
    hidden: frozenset[int] = frozenset()  # positions of what is no column to those who made the file

    @classmethod
    def of(cls, shp: Path, names: list[str], types: list[pa.DataType], encoding: str | None) -> DbfCheck | None:
        """Make the check; None where the bytes cannot be compared. Types of wide integers are changed in place to
        decimals, those of binary fields to what these are. `encoding`: the codec of its text.
        """
        path = whole_of(shp.with_suffix(".dbf"))
        dbf = Dbf.open(path)
        if dbf is None or len(dbf.fields) != len(names):
            return None
        for i, field in enumerate(dbf.fields):
            if wire := dbf_binary.wire_of(field, dbf.version):
                types[i] = arrow_type(wire)
            elif (
                str(types[i]) == "double"
                and field.kind in _NUMBERS
                and not field.decimals
                and field.width <= _MAX_PRECISION
            ):
                types[i] = _integral(dbf, field) or types[i]
            elif str(types[i]) == "double" and field.kind in _NUMBERS and field.width >= _MAY_BE_ROUNDED:
                types[i] = _fractional(path, i) or types[i]
        columns = {
            i: (name, str(kind))
            for i, (name, kind) in enumerate(zip(names, types, strict=True))
            if not dbf.fields[i].is_rest
        }
        notes = _notes(dbf, shp)
        if unread := dbf_binary.unread_note(dbf.fields, names, dbf.version, dbf.records):
            notes.append(unread)
        codec = encoding if encoding in NOT_BY_GDAL else None
        flags, bits = dbf_binary.null_bits(dbf.fields, dbf.version)
        hidden = frozenset(i for i, field in enumerate(dbf.fields) if field is flags or field.is_rest)
        return cls(dbf, columns, tuple(notes), codec, encoding or FALLBACK, flags, bits, hidden)

    def correct(self, columns: list[pa.Array | None], fids: pa.Array, findings: Findings) -> None:
        """Compare the values of a batch with their bytes."""
        rows = fids.to_numpy(zero_copy_only=False)
        if not len(rows) or int(rows.max()) >= len(self.dbf.records):
            return
        for position, (name, kind) in self.columns.items():
            column = columns[position]
            field = self.dbf.fields[position]
            if column is None:
                continue
            if field.kind == "C":
                _count_cut(self.dbf, field, rows, name, findings)
                codec = self.long_codec if field.is_long else self.codec
                if codec and field.width:
                    columns[position] = _decoded(self.dbf.binary(field, rows), codec, name, findings)
            elif field.kind in dbf_binary.TEXT_KINDS:
                text = self.dbf.texts(field, rows)
                columns[position] = _corrected(column, field.kind, kind, text, name, findings)
            else:
                columns[position] = self._binary(field, rows, column, name, findings)
        self._empty(columns, rows)

    def _binary(
        self, field: Field, rows: NDArray[np.int64], column: pa.Array, name: str, findings: Findings
    ) -> pa.Array:
        """Return a column that is no text, of which what GDAL made is of no use."""
        import pyarrow as pa

        if dbf_binary.is_unread(field, self.dbf.version):
            return pa.nulls(len(rows), column.type)
        return dbf_binary.values(self.dbf.binary(field, rows), field.kind, name, findings)

    def _empty(self, columns: list[pa.Array | None], rows: NDArray[np.int64]) -> None:
        """Make NULL what FoxPro marks as that: in the bytes is anything."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.null_flags is None or not self.null_bits:
            return
        bits = np.unpackbits(self.dbf.binary(self.null_flags, rows), axis=1, bitorder="little")
        for position, bit in self.null_bits.items():
            column = columns[position]
            if column is not None and bits[:, bit].any():
                is_null = pa.array(bits[:, bit].astype(bool))
                columns[position] = pc.if_else(is_null, pa.scalar(None, column.type), column)


def _integral(dbf: Dbf, field: Field) -> pa.DataType | None:
    """Return the decimal type of a column of wide integers; None where one of its values has a fraction."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for first in range(0, len(dbf.records), _AT_ONCE):
        text = dbf.texts(field, slice(first, first + _AT_ONCE)).drop_null()
        odd = text.filter(pc.invert(pc.match_substring_regex(text, _PLAIN)))
        if any(
            (number := decimal_of(value)) is not None and number != number.to_integral_value()
            for value in odd.to_pylist()
        ):
            return None
    return arrow_type(f"decimal({field.width}, 0)") if field.width else pa.int64()


@remembered_of_file  # it is asked for when the file is inspected, and when it is loaded
def _fractional(path: Path, position: int) -> pa.DataType | None:
    """Return the decimal type of a column of fractions; None where a double holds each: written with its decimals it
    is the same text.
    """
    dbf = Dbf.open(path)
    if dbf is None:
        return None
    field = dbf.fields[position]
    if not 0 < field.decimals < field.width - 1 or field.width > _MAX_PRECISION or not _is_rounded(dbf, field):
        return None
    usual, most = field.width - 1 - field.decimals, field.width  # digits before the point, also of what has none
    digits = usual
    for first in range(0, len(dbf.records), _AT_ONCE):
        text = dbf.texts(field, slice(first, first + _AT_ONCE))
        longer = text.filter(_is_not(text, field.decimals, usual))
        others = longer.filter(_is_not(longer, field.decimals, most))
        digits = most if len(longer) > len(others) else digits
        if any(decimal_of(each) is not None for each in others.to_pylist()):
            return None  # of more decimals than the header says
    precision = digits + field.decimals
    return arrow_type(f"decimal({precision}, {field.decimals})") if precision <= _MAX_PRECISION else None


def _is_not(text: pa.Array, decimals: int, digits: int) -> pa.Array:
    """Which texts are no number of so many decimals and digits before them at most."""
    import pyarrow.compute as pc

    return true(pc.invert(pc.match_substring_regex(text, rf"^[+-]?\d{{0,{digits}}}(\.\d{{0,{decimals}}})?$")))


def _is_rounded(dbf: Dbf, field: Field) -> bool:
    """Whether a double would be another number than one of a column's fractions. To most one look at a character is
    enough: the sixteenth digit from the right, where the number ends with the field.
    """
    sixteenth, last = field.offset + field.width - _MAY_BE_ROUNDED, field.offset + field.width - 1
    for first in range(0, len(dbf.records), _AT_ONCE):
        part = dbf.records[first : first + _AT_ONCE]
        is_long = _is_digit(part[:, sixteenth]) | ~_is_digit(part[:, last])
        if is_long.any() and _rounds(dbf, field, first + np.flatnonzero(is_long)):
            return True
    return False


def _is_digit(characters: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (characters >= ord("0")) & (characters <= ord("9"))


def _rounds(dbf: Dbf, field: Field, rows: NDArray[np.int64]) -> bool:
    """Whether a double would be another number than a fraction in one of these records."""
    import pyarrow.compute as pc

    if field.decimals <= _MOST_DECIMALS:
        raw = dbf.records[rows, field.offset : field.offset + field.width]
        rows = rows[~_surely_held(np.ascontiguousarray(raw), field.decimals)]
    text = dbf.texts(field, rows)
    text = text.filter(true(pc.match_substring_regex(text, rf"^[+-]?[\d.]{{{_MAY_BE_ROUNDED},}}$")))
    text = text.filter(pc.match_substring_regex(text, _NUMBER))
    pairs = ((each, f"{float(each):.{len(each.partition('.')[2])}f}") for each in text.to_pylist())
    return any(Decimal(each) != Decimal(written) for each, written in pairs)


def _whole(digits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the numbers whose digits are in the rows."""
    total = np.zeros(len(digits), np.int64)
    for column in digits.T:
        total = total * 10 + (column - np.uint8(ord("0")))
    return total


def _surely_held(raw: NDArray[np.uint8], decimals: int) -> NDArray[np.bool_]:
    """Return which fractions that end with their field a double holds: of the three doubles at it one rounds to it. In
    whole numbers of its last decimal; not to make text of each takes a twentieth of the time.
    """
    before, after = raw[:, : -decimals - 1], raw[:, -decimals:]
    is_digit = _is_digit(before)
    is_plain = (raw[:, -decimals - 1] == ord(".")) & _is_digit(after).all(axis=1)
    is_plain &= (is_digit | (before == ord(" ")) | (before == ord("-"))).all(axis=1)
    whole = _whole(np.where(is_digit, before, np.uint8(ord("0")))[:, -_MOST_DECIMALS:])
    fraction = _whole(after)
    value, scale = whole + fraction / 10.0**decimals, np.longdouble(10) ** decimals
    least = 0.5 - 4 * float(np.finfo(np.longdouble).eps * scale)
    held = np.zeros(len(raw), dtype=bool)
    for each in (np.nextafter(value, 0), value, np.nextafter(value, np.inf)):
        held |= np.abs((each - whole) * scale - fraction) < least
    held &= is_plain & ~is_digit[:, :-_MOST_DECIMALS].any(axis=1)
    return held


def _count_cut(dbf: Dbf, field: Field, rows: NDArray[np.int64], name: str, findings: Findings) -> None:
    """Count texts with a NUL before their end; at the end it is padding, as blanks are."""
    in_a_row = int(rows[-1]) - int(rows[0]) + 1 == len(rows)
    chosen = slice(int(rows[0]), int(rows[-1]) + 1) if in_a_row else rows
    part = dbf.records[chosen, field.offset : field.offset + field.width]
    is_nul = part == 0
    if not is_nul.any():
        return
    behind = np.maximum.accumulate(is_nul, axis=1) & ~is_nul & (part != ord(" "))
    cut = part[behind.any(axis=1)]
    if len(cut):
        findings.add(name, CUT, (bytes(each).rstrip(b"\0 ") for each in cut))


def _decoded(raw: NDArray[np.uint8], codec: str, name: str, findings: Findings) -> pa.Array:
    """Return text from its bytes as GDAL takes it: to the first NUL, without the blanks at its end; of none is NULL."""
    import pyarrow as pa

    parts = [each.partition(b"\0")[0].rstrip(b" ") for each in raw.view(f"S{raw.shape[1]}")[:, 0].tolist()]
    texts = [part.decode(codec, "replace") or None for part in parts]
    findings.add_faulty(name, parts, texts)
    return pa.array(texts, pa.string())


def _corrected(column: pa.Array, field: str, kind: str, text: pa.Array, name: str, findings: Findings) -> pa.Array:
    if field == "D":
        return _dates(column, text, name, findings) if kind.startswith("date") else column
    if field == "L":
        return _booleans(column, text, name, findings) if kind == "bool" else column
    if kind.startswith("decimal"):
        return _decimals(text, kind, name, findings)
    whole = kind.startswith("int")
    return _numbers(column, text, whole=whole, name=name, findings=findings) if whole or kind == "double" else column


def _dates(column: pa.Array, text: pa.Array, name: str, findings: Findings) -> pa.Array:
    """Check dates: one is right if it is written as in the file; 00000000 means no date."""
    import pyarrow.compute as pc

    odd = true(pc.and_(pc.not_equal(text, "00000000"), pc.invert(true(pc.equal(pc.strftime(column, "%Y%m%d"), text)))))
    return _nulled(column, odd, text, name, NO_DATE, findings)


def _booleans(column: pa.Array, text: pa.Array, name: str, findings: Findings) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    odd = true(pc.invert(pc.match_substring_regex(text, r"^[TtYyFfNn?]$")))
    column = pc.if_else(
        pc.is_null(text), pa.scalar(None, pa.bool_()), column
    )  # a blank is not a boolean, but GDAL reads it as false
    return _nulled(column, odd, text, name, NO_BOOLEAN, findings)


def _numbers(column: pa.Array, text: pa.Array, *, whole: bool, name: str, findings: Findings) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    odd = true(pc.invert(pc.match_substring_regex(text, _PLAIN if whole else _NUMBER)))
    if not whole:
        odd = pc.or_(odd, true(pc.is_inf(column)))  # 1E400
    if not pc.any(odd).as_py():
        return column
    values: list[Any] = []
    for original in text.filter(odd).to_pylist():
        number = decimal_of(original) if whole else None
        fits = (
            number is not None
            and number == number.to_integral_value()
            and -(2 ** (column.type.bit_width - 1)) <= number < 2 ** (column.type.bit_width - 1)
        )
        values.append(int(number) if number is not None and fits else None)
        if not fits:
            findings.add(name, NO_INTEGER if whole else NO_NUMBER, (original,))
    return pc.replace_with_mask(column, odd, pa.array(values, column.type))


def _decimals(text: pa.Array, kind: str, name: str, findings: Findings) -> pa.Array:
    """Return numbers of any width, from their digits."""
    import pyarrow as pa

    precision, scale = map(int, kind.partition("(")[2].rstrip(")").split(","))
    values = []
    for original in text.to_pylist():
        number = None if original is None else decimal_of(original)
        if original is not None and number is None:
            findings.add(name, NO_NUMBER if scale else NO_INTEGER, (original,))
        values.append(number)
    return pa.array(values, arrow_type(f"decimal({precision}, {scale})"))


def has_only_number_signs(text: str) -> bool:
    """Whether text has no character but those of numbers; Python's types accept `1_000`, `٣` and `Infinity`, too."""
    return text.isascii() and not text.strip("+-.0123456789eE")


def decimal_of(text: str) -> Decimal | None:
    """Return a number exactly as written."""
    if not has_only_number_signs(text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.adjusted() < _MAX_PRECISION else None


def _nulled(column: pa.Array, odd: pa.Array, text: pa.Array, name: str, fault: str, findings: Findings) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.any(odd).as_py():
        return column
    findings.add(name, fault, text.filter(odd).to_pylist())
    return pc.if_else(odd, pa.scalar(None, column.type), column)


def true(mask: pa.Array) -> pa.Array:
    """Return where a comparison is true; null counts as false."""
    import pyarrow.compute as pc

    return pc.fill_null(mask, fill_value=False)


def _notes(dbf: Dbf, shp: Path) -> list[str]:
    shapes = max(0, shp.with_suffix(".shx").stat().st_size - _SHX_HEADER) // _SHX_RECORD
    notes = []
    if len(dbf.records) > shapes:
        notes.append(
            how_many(
                len(dbf.records) - shapes,
                "row of its DBF has no shape and was left out",
                "rows of its DBF have no shape and were left out",
            )
        )
    if deleted := dbf.deleted:
        notes.append(
            how_many(
                deleted,
                "row of its DBF is marked as deleted and was left out",
                "rows of its DBF are marked as deleted and were left out",
            )
        )
    return notes
