"""Columns of GeoJSON: the type that holds every value of a property, and a property's values as an Arrow array.

Here: the columns for properties and ids of features. Not here: reading features (`geojson.py`), text that holds times
(`text_values.py`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.conversion import HALF_CHARACTER, whole_characters
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.sqlite_values import NO_NUMBER
from geo_assets.vector.reader.text_values import NAIVE, ZONED, TypeGuess, to_moments, to_times
from geo_assets.vector.types import MAX_PRECISION, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa


#: PostgreSQL's maximum number of columns.
_MOST_COLUMNS = 1600

_EXACT_IN_DOUBLE = 2**53

#: What is in the place of a number that Python's JSON cannot write.
_MARK = "\0number\0"

#: Numbers from here on are written with an exponent: measures, and marks of no value.
_ALL_ARE_ROUNDED = 1e22


def properties_of(feature: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a feature; none where they are not an object."""
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def exact(text: str) -> float | bytes:
    """Return a number that is written as a fraction; as it is written, in bytes, which no other value of JSON is, where
    it is beyond 2**53, and a double would be another number.
    """
    value = float(text)
    if not _EXACT_IN_DOUBLE < abs(value) < _ALL_ARE_ROUNDED:
        return value
    return value if Decimal(text) in {Decimal(value), Decimal(repr(value))} else text.encode()


def scalar(value: Any) -> Any:
    """Return an id unchanged, or as JSON text where it is nested."""
    return _written(value) if isinstance(value, dict | list) else value


def _written(value: Any, *, allow_nan: bool = True) -> str:
    """Return a value as JSON, with numbers that are kept in bytes as they were written."""
    kept: list[str] = []

    def mark(number: bytes) -> str:
        kept.append(number.decode())
        return _MARK

    text = json.dumps(value, ensure_ascii=False, default=mark, allow_nan=allow_nan)
    for number in kept:
        text = text.replace(json.dumps(_MARK), number, 1)
    return text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the layer; the id of a feature is the column without a property."""

    name: str
    key: str | None
    wire: str
    as_text: bool = False  # values of several kinds: those that are not text are written as JSON


class Schema:
    """The types of the properties."""

    def __init__(self) -> None:
        self._guesses: dict[str | None, _Guess] = {}

    def add(self, idents: list[Any], rows: list[dict[str, Any]]) -> None:
        """Add the ids and the properties of some features."""
        for key in dict.fromkeys(chain.from_iterable(rows)):
            self._guess(key).add([row.get(key) for row in rows])
        if any(ident is not None for ident in idents):
            self._guess(None).add(idents)

    def _guess(self, key: str | None) -> _Guess:
        if len(self._guesses) > _MOST_COLUMNS:
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED_TYPE",
                f"its features have more than {_MOST_COLUMNS:,} properties of different names",
            )
        return self._guesses.setdefault(key, _Guess(times=key is not None))

    @property
    def may_be_rounded(self) -> bool:
        """Whether a number that is written as a fraction is one of which a double holds none: 12345678901234567.5."""
        return any(_EXACT_IN_DOUBLE < guess.largest < _ALL_ARE_ROUNDED for guess in self._guesses.values())

    def columns(self, findings: Findings) -> list[Column]:
        """Return the id, where there is one, then the properties in order of first occurrence."""
        keys = [key for key in self._guesses if key is not None]
        made = [self._guesses[key].column(key, key, findings) for key in keys]
        if None not in self._guesses:
            return made
        name = next(
            name
            for name in ("id", "feature_id", *(f"feature_id_{i}" for i in range(2, 10**6)))
            if name not in self._guesses
        )
        return [self._guesses[None].column(name, None, findings), *made]


class _Guess:
    """The type that holds every value of a property."""

    def __init__(self, *, times: bool) -> None:
        self._kinds: set[type] = set()
        self._elements: set[type] = set()
        self._text = TypeGuess(numbers=False, times=True) if times else None
        self._low = self._high = 0
        self.largest = 0.0  # of those with a fraction or an exponent
        self._scale: int | None = 0

    def add(self, values: list[Any]) -> None:
        """Add the values of some features."""
        import pyarrow as pa

        kinds = set(map(type, values)) - {type(None)}
        self._kinds |= kinds
        if str in kinds and self._text is not None:
            self._text.add(pa.array([whole_characters(v) for v in values if type(v) is str], pa.string()))
        if int in kinds:
            whole = [v for v in values if type(v) is int]
            self._low, self._high = min(self._low, *whole), max(self._high, *whole)
        if float in kinds:
            fractions = np.array([v for v in values if type(v) is float])
            self._scale = _scale(fractions, self._scale)
            self.largest = max(self.largest, float(np.abs(fractions).max()))
        if list in kinds:
            self._add_lists([v for v in values if type(v) is list])

    def _add_lists(self, lists: list[list[Any]]) -> None:
        self._elements |= set(map(type, chain.from_iterable(lists)))
        whole = [v for v in chain.from_iterable(lists) if type(v) is int]
        if whole:
            self._low, self._high = min(self._low, *whole), max(self._high, *whole)

    def column(self, name: str, key: str | None, findings: Findings) -> Column:
        """Return name and type; reports text that looks like times but stays text."""
        kinds = self._kinds
        if kinds == {str} and self._text is not None:
            self._text.say(name, findings)
            return Column(name, key, self._text.wire)
        if kinds <= {str}:
            return Column(name, key, "string")
        if kinds == {list}:
            return Column(name, key, self._list_wire())
        if kinds & {list, dict}:
            return Column(name, key, "json")
        if kinds == {bool}:
            return Column(name, key, "bool")
        wire = self._number_wire(kinds) if kinds <= {int, float} else None
        return Column(name, key, wire or "string", as_text=wire is None)

    def _number_wire(self, kinds: set[type]) -> str | None:
        if kinds == {float}:
            return "float64"
        if kinds == {int}:
            return self._whole_wire()
        if max(-self._low, self._high) <= _EXACT_IN_DOUBLE:
            return "float64"
        if self._scale is None:
            return None
        digits, scale = len(str(max(-self._low, self._high, math.ceil(self.largest)))), self._scale
        return f"decimal({digits + scale}, {scale})" if digits + scale <= MAX_PRECISION else None

    def _whole_wire(self) -> str | None:
        for bits in (32, 64):
            if -(2 ** (bits - 1)) <= self._low and self._high < 2 ** (bits - 1):
                return f"int{bits}"
        digits = len(str(max(-self._low, self._high)))
        return f"decimal({max(digits, 20)}, 0)" if digits <= MAX_PRECISION else None

    def _list_wire(self) -> str:
        kinds = self._elements - {type(None)}
        if kinds <= {str}:
            return "list<string>"
        wire = "bool" if kinds == {bool} else self._number_wire(kinds) if kinds <= {int, float} else None
        return f"list<{wire}>" if wire in {"bool", "int32", "int64", "float64"} else "json"


def _scale(values: np.ndarray[Any, Any], least: int | None) -> int | None:
    """Return the number of decimals that holds every value exactly; None where none does."""
    if least is None or not np.isfinite(values).all():
        return None
    return next((scale for scale in range(least, 18) if (np.round(values, scale) == values).all()), None)


def _texts(values: list[Any], kind: pa.DataType, column: Column, findings: Findings) -> pa.Array:
    """Return texts, or lists of them, as Arrow, which refuses lone surrogates: those are replaced, and counted."""
    import pyarrow as pa

    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        pass

    def whole(value: Any) -> Any:
        if not isinstance(value, str):
            return value if value is None else [whole(each) for each in value]
        if (made := whole_characters(value)) != value:
            findings.add(column.name, HALF_CHARACTER, (made,))
        return made

    return pa.array([whole(value) for value in values], kind)


def array_of(values: list[Any], column: Column, findings: Findings) -> pa.Array:
    """Return a column's values in its type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wire = column.wire
    if wire == "json":
        texts = [None if v is None else _dump(v, column, findings) for v in values]
        return pa.ExtensionArray.from_storage(pa.json_(), _texts(texts, pa.string(), column, findings))
    if column.as_text:
        values = _finite(values, column, findings)
        values = [v if v is None or isinstance(v, str) else _written(v) for v in values]
    if wire in {"string", "date32", "time64[us]", ZONED, NAIVE}:
        text = _texts(values, pa.string(), column, findings)
        if wire in {ZONED, NAIVE}:
            return to_moments(text, wire, column.name, findings)
        return to_times(text) if wire == "time64[us]" else text.cast(arrow_type(wire))
    if wire.startswith("decimal"):
        values = [None if v is None else Decimal(str(v)) for v in values]
    if wire == "list<string>":
        return _texts(values, arrow_type(wire), column, findings)
    made = pa.array(values, arrow_type(wire))
    numbers = made.flatten() if wire == "list<float64>" else made
    if not pa.types.is_floating(numbers.type) or not pc.any(pc.is_inf(numbers)).as_py():
        return made
    return pa.array(_finite(values, column, findings), arrow_type(wire))


def _finite(value: Any, column: Column, findings: Findings) -> Any:
    """Return values, nested or not, of which those are null, and counted, that a double cannot hold, such as 1e999; in
    JSON also NaN, which it lacks.
    """
    if isinstance(value, dict):
        return {key: _finite(item, column, findings) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, column, findings) for item in value]
    if not isinstance(value, float) or math.isfinite(value) or (math.isnan(value) and column.wire != "json"):
        return value
    findings.add(column.name, NO_NUMBER, (value,))
    return None


def _dump(value: Any, column: Column, findings: Findings) -> str:
    try:
        return _written(value, allow_nan=False)
    except ValueError:
        return _written(_finite(value, column, findings))
