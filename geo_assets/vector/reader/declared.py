"""Text held against the type that its file declares for it: the value that is written, or NULL and counted.

Here: arrays of text. GDAL makes a number of whatever a text begins with: 12 of `12abc`, 1 of `1,5`, 0 of `N/A`, and
2147483647 of what is larger. Not here: text whose type nobody declares (`text_values.py`), where the text is taken from
(`ogr.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from geo_assets.vector.reader.dbf import decimal_of, has_only_number_signs, true
from geo_assets.vector.reader.sqlite_values import NO_DATE, NO_INTEGER, NO_NUMBER
from geo_assets.vector.reader.text_values import NAIVE, NO_MOMENT
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.findings import Findings

NO_BOOLEAN = "not a boolean, now NULL"

#: Numbers that Arrow reads as they are; others are read one by one.
_PLAIN_INTEGER, _PLAIN_NUMBER = r"^-?\d{1,18}$", r"^-?\d{1,17}(\.\d{1,30})?$"
_SMALLEST, _LARGEST = -(2**31), 2**31 - 1
_TRUE, _FALSE = r"^(?i:true|t|y|1)$", r"^(?i:false|f|n|0)$"
#: Dates and times with or without what parts their fields; always year, month and day in this order.
_DATE = re.compile(r"(\d{4})([-/]?)(\d\d)\2(\d\d)")
_TIME = re.compile(r"(\d\d)(:?)(\d\d)\2(\d\d)(?:\.?(\d{1,6}))?")
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf}  # of XML Schema


class DeclaredType:
    """The type of a column, as declared; of integers, the one that is wide enough for all of them."""

    def __init__(self, wire: str) -> None:
        """`wire`: the declared type."""
        self.wire = wire

    def add(self, text: pa.Array) -> None:
        """Add one batch of values."""
        import pyarrow.compute as pc

        if self.wire != "int32":
            return
        whole = _integers(text, "int64")
        if pc.any(pc.or_(pc.less(whole, _SMALLEST), pc.greater(whole, _LARGEST))).as_py():
            self.wire = "int64"

    def say(self, column: str, findings: Findings) -> None:
        """Say nothing: what does not fit is counted where it is read."""


def widest(wires: set[str]) -> str:
    """Return the type of a column that is declared more than once."""
    if len(wires) == 1:
        return next(iter(wires))
    if wires <= {"int32", "int64"}:
        return "int64"
    return "float64" if wires <= {"int32", "int64", "float64"} else "string"


def typed(text: pa.Array, wire: str, column: str, findings: Findings) -> pa.Array:
    """Return the values of text as a type; text that is no value of it becomes null and is counted, blanks are null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if wire == "string":
        return text
    trimmed = pc.utf8_trim_whitespace(text)
    if wire == "bool":
        values, fault = _booleans(trimmed), NO_BOOLEAN
    elif wire == "float64":
        values, fault = _numbers(trimmed), NO_NUMBER
    elif wire in _TEMPORAL:
        parse, fault = _TEMPORAL[wire]
        values = _at_once(trimmed, wire)
        if values is None:
            values = pa.array([parse(value) if value else None for value in trimmed.to_pylist()], arrow_type(wire))
    else:
        values, fault = _integers(trimmed, wire), NO_INTEGER
    lost = true(pc.and_(pc.is_null(values), pc.not_equal(trimmed, "")))
    if pc.any(lost).as_py():
        findings.add(column, fault, text.filter(lost).to_pylist())
    return values


def _at_once(text: pa.Array, wire: str) -> pa.Array | None:
    """Return times that are written as MapInfo writes them; None where one is not, or there is no such time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pattern, iso = _OF_MAPINFO[wire]
    written = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    if not pc.all(pc.match_substring_regex(written, pattern)).as_py():
        return None
    try:
        moments = pc.replace_substring_regex(written, pattern, iso).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    return moments.cast(arrow_type(wire))


def _booleans(text: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    truth = pc.match_substring_regex(text, _TRUE)
    known = pc.or_(truth, pc.match_substring_regex(text, _FALSE))
    return pc.if_else(known, truth, pa.scalar(None, pa.bool_()))


def _integers(text: pa.Array, wire: str) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.match_substring_regex(text, _PLAIN_INTEGER)
    values = pc.if_else(plain, text, pa.scalar(None, pa.string())).cast(pa.int64())
    odd = true(pc.invert(plain))
    if pc.any(odd).as_py():
        values = pc.replace_with_mask(values, odd, pa.array([_whole(t) for t in text.filter(odd).to_pylist()], "int64"))
    if wire == "int32":
        fits = pc.and_(pc.greater_equal(values, _SMALLEST), pc.less_equal(values, _LARGEST))
        values = pc.if_else(fits, values, pa.scalar(None, pa.int64()))
    return values.cast(arrow_type(wire))


def _whole(text: str) -> int | None:
    number = decimal_of(text.strip())
    if number is None or number != number.to_integral_value() or not -(2**63) <= number < 2**63:
        return None
    return int(number)


def _numbers(text: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.match_substring_regex(text, _PLAIN_NUMBER)
    values = pc.if_else(plain, text, pa.scalar(None, pa.string())).cast(pa.float64())
    odd = true(pc.invert(plain))
    if not pc.any(odd).as_py():
        return values
    return pc.replace_with_mask(values, odd, pa.array([_number(t) for t in text.filter(odd).to_pylist()], "float64"))


def _number(text: str) -> float | None:
    """Return a number that is written as one; None where a double cannot hold it."""
    if text.lower() in _NOT_FINITE:
        return _NOT_FINITE[text.lower()]
    if not has_only_number_signs(text):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> date | None:
    match = _DATE.fullmatch(text)
    try:
        return date(int(match[1]), int(match[3]), int(match[4])) if match else None
    except ValueError:
        return None


def _time(text: str) -> time | None:
    match = _TIME.fullmatch(text)
    try:
        return time(int(match[1]), int(match[3]), int(match[4]), int((match[5] or "").ljust(6, "0"))) if match else None
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    """Return a time on a day: ten characters, or eight digits, then the time."""
    day = text[: 8 if text[:8].isdigit() else 10]
    at, clock = _date(day), _time(text[len(day) :].removeprefix("T").lstrip())
    return datetime.combine(at, clock) if at and clock else None


#: How MapInfo writes a value, from year 1 on as Python, and the same in ISO 8601. Source: MapInfo's Interchange Format.
_DAY, _CLOCK = r"(000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})(\d\d)(\d\d)", r"(\d\d)(\d\d)(\d\d)(\d{3})"
_OF_MAPINFO = {
    "date32": (f"^{_DAY}$", r"\1-\2-\3T00:00:00"),
    "time64[us]": (f"^{_CLOCK}$", r"1970-01-01T\1:\2:\3.\4"),
    NAIVE: (f"^{_DAY}{_CLOCK}$", r"\1-\2-\3T\4:\5:\6.\7"),
}

#: How a value is read, and what is wrong with one that is none.
_TEMPORAL: dict[str, tuple[Callable[[str], Any], str]] = {
    "date32": (_date, NO_DATE), "time64[us]": (_time, NO_MOMENT), NAIVE: (_moment, NO_MOMENT)
}  # fmt: skip
