"""Text that holds numbers, dates and times: the narrowest type that keeps every value, and the values in it.

Here: arrays of text, from whatever format. A column is a number, a date or a time only if every one of its values is,
in one unambiguous notation: `007` and `12.10` stay text, `2022-02-30` does not become another date.
Not here: reading files (`delimited.py`, `geojson.py`, `ogr.py`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

from geo_assets.vector.reader.findings import Findings

if TYPE_CHECKING:
    import pyarrow as pa

INTEGER = r"^(0|-?[1-9]\d{0,18})$"
#: A number as PostgreSQL or Python writes a double (Python always with a point); neither writes `12.10` or `1E5`.
#: Integers of 15 digits are exact in a double; longer ones are identifiers.
_WHOLE, _POWER = r"-?(0|[1-9]\d{0,14})", r"-?[1-9](\.\d*[1-9])?e[+-]\d{2,3}"
FLOAT = rf"^({_WHOLE}(\.\d*[1-9])?|{_POWER})$"
PYTHON_FLOAT = rf"^({_WHOLE}\.(0|\d*[1-9])|{_POWER})$"
#: Characters of 15 digits and a point, and of the shortest integers that 64 bits may not hold.
_SURELY_EXACT, _LONGEST_INTEGER = 16, 19
_DOUBLES = frozenset({"float64", "python"})
_FIXED_POINT = re.compile(r"-?(?:0|[1-9]\d{0,14})\.(\d{1,20})")
DATE = r"^\d{4}-\d{2}-\d{2}$"
TIME = r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?$"
MOMENT = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|z|[+-]\d{2}(:?\d{2})?))?$"
ZONE = r"(Z|z|:\d{2}([.,]\d+)? ?[+-]\d{2}(:?\d{2})?)$"

ZONED, NAIVE = "timestamp[us, UTC]", "timestamp[us]"

NO_MOMENT = "not a time, now NULL"
NO_ZONE = "without the offset from UTC that the others have, now NULL"
NO_ZONE_TEXT = "with an offset from UTC, which most have not: the column stays text"
TAKEN_FOR_UTC = "without an offset from UTC, taken for UTC as the format's standard says"

_ISO = re.compile(MOMENT.replace(r"\d{4}-\d{2}-\d{2}", r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"))


class TypeGuess:
    """Finds the narrowest type that holds every value of a text column, batch by batch."""

    def __init__(self, *, numbers: bool = True, times: bool = False) -> None:
        """`numbers`: text may be a number; `times`: also a time, or a date with one."""
        self._numbers = numbers
        self._candidates = {"int64": INTEGER, "float64": FLOAT, "python": PYTHON_FLOAT} if numbers else {}
        self._candidates["date32"] = DATE
        if times:
            self._candidates |= {"time64[us]": TIME, NAIVE: MOMENT}
        self._seen = False
        self._zoned = self._naive = 0

    def add(self, text: pa.Array) -> None:
        """Add one batch of values."""
        import pyarrow.compute as pc

        values = text.drop_null()
        if len(values) == 0:
            return
        if not self._seen and self._numbers and (match := _FIXED_POINT.fullmatch(values[0].as_py())):
            scale = len(match[1])  # 12.10 and 3.50 keep their notation only in a type of two decimals
            self._candidates[f"decimal({15 + scale}, {scale})"] = rf"^{_WHOLE}\.\d{{{scale}}}$"
        self._seen = True
        longest = pc.max(pc.binary_length(values)).as_py()
        kept: dict[str, str] = {}
        for wire, pattern in self._candidates.items():
            known = wire == "float64" and "int64" in kept and longest < _SURELY_EXACT  # it needs no second look
            if known or _all_are(values, wire, pattern, longest):
                kept[wire] = pattern
        self._candidates = kept
        may_differ = "int64" not in kept or longest >= _SURELY_EXACT
        if may_differ and _DOUBLES & kept.keys() and not _are_doubles(values):
            self._candidates = {wire: pattern for wire, pattern in kept.items() if wire not in _DOUBLES}
        if NAIVE in self._candidates:
            self._count_zones(values)

    def _count_zones(self, values: pa.Array) -> None:
        import pyarrow.compute as pc

        zoned = pc.sum(pc.match_substring_regex(values, ZONE)).as_py() or 0
        self._zoned += zoned
        self._naive += len(values) - zoned

    @property
    def wire(self) -> str:
        """The wire type (`../types.py`). Where most times have an offset it is a timestamp with zone; where most have
        none but some do, text.
        """
        if not self._seen or not self._candidates:
            return "string"
        wire = next(iter(self._candidates))
        if wire == NAIVE and self._zoned:
            return ZONED if self._zoned > self._naive else "string"
        return "float64" if wire == "python" else wire

    def say(self, column: str, findings: Findings) -> None:
        """Report that a column stays text because only some of its times have an offset."""
        if NAIVE in self._candidates and 0 < self._zoned <= self._naive:
            findings.add(column, NO_ZONE_TEXT, (), self._zoned)


def _all_are(values: pa.Array, wire: str, pattern: str, longest: int) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.all(pc.match_substring_regex(values, pattern)).as_py():
        return False
    if wire == NAIVE:
        return not to_moments(values, ZONED, "", Findings(), naive_is_utc=True).null_count
    if wire not in {"int64", "date32"} or (wire == "int64" and longest < _LONGEST_INTEGER):
        return True
    try:
        values.cast(wire)
    except pa.ArrowInvalid:  # 2021-02-30; an integer beyond 64 bits
        return False
    return True


def _are_doubles(values: pa.Array) -> bool:
    """Whether each number is the shortest text of the double that it becomes, as of 15 digits always, or its text of 17
    digits, as C's `%.17g` writes it.
    """
    import pyarrow.compute as pc

    may_differ = pc.or_(pc.greater(pc.binary_length(values), _SURELY_EXACT), pc.match_substring(values, "e"))
    if not pc.any(may_differ).as_py():
        return True
    doubtful = values.filter(may_differ)
    doubles = doubtful.cast("float64")
    odd = pc.not_equal(doubles.cast("string"), doubtful)  # also where Arrow writes the same in another way
    pairs = zip(doubtful.filter(odd).to_pylist(), doubles.filter(odd).to_pylist(), strict=True)
    return all(Decimal(text) in {Decimal(repr(double)), Decimal(f"{double:.17g}")} for text, double in pairs)


def to_moments(text: pa.Array, wire: str, column: str, findings: Findings, *, naive_is_utc: bool = False) -> pa.Array:
    """Convert text to timestamps, to the microsecond; text that is not a time becomes null and is counted.

    Args:
        text: dates with times in ISO 8601, with or without an offset.
        wire: `ZONED` or `NAIVE`.
        column: its name, for the findings.
        findings: takes what could not be read.
        naive_is_utc: the format says what a time without an offset means.
    """
    import pyarrow as pa

    target = pa.timestamp("us", tz="UTC") if wire == ZONED else pa.timestamp("us")
    if wire == ZONED and naive_is_utc and (naive := _all_naive(text)) is not None:
        present = text.drop_null()
        findings.add(column, TAKEN_FOR_UTC, present[:5].to_pylist(), len(present))
        return naive.cast(target)
    try:
        return text.cast(target)
    except pa.ArrowInvalid:
        pass
    values = [
        _moment(value, column, findings, zoned=wire == ZONED, naive_is_utc=naive_is_utc) for value in text.to_pylist()
    ]
    return pa.array(values, target)


def _all_naive(text: pa.Array) -> pa.Array | None:
    """Return timestamps if no time has an offset; None where one has, or is not a time. The first value is tried first,
    because a failing cast is slow.
    """
    import pyarrow as pa

    first = next((value for value in text if value.is_valid), None)
    if first is None or re.search(ZONE, first.as_py()):
        return None
    try:
        return text.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None


def _moment(value: str | None, column: str, findings: Findings, *, zoned: bool, naive_is_utc: bool) -> datetime | None:
    if value is None:
        return None
    moment = parse_moment(value)
    if moment is None or (moment.tzinfo is not None) > zoned:
        findings.add(column, NO_MOMENT, (value,))
        return None
    if zoned and moment.tzinfo is None:
        findings.add(column, TAKEN_FOR_UTC if naive_is_utc else NO_ZONE, (value,))
        return moment.replace(tzinfo=UTC) if naive_is_utc else None
    return moment


def parse_moment(value: str) -> datetime | None:
    """Parse a date with a time; year, month and day in this order, `/` or `-` between them; None where it is
    not one.
    """
    text = value.strip()
    if not _ISO.fullmatch(text):
        return None
    date, _, rest = text.replace(" ", "T", 1).partition("T")
    year, month, day = re.split("[-/]", date)
    clock = re.sub(r"([.,]\d{6})\d+", r"\1", rest.replace(" ", ""))
    try:
        return datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}T{clock}")
    except ValueError:
        return None


def to_times(text: pa.Array) -> pa.Array:
    """Convert text that matches `TIME` to times of day."""
    import pyarrow as pa

    return pa.array(
        [None if value is None else time.fromisoformat(value) for value in text.to_pylist()], pa.time64("us")
    )
