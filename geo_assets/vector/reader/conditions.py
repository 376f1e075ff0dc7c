"""Evaluation of a `where` condition on Arrow batches, in the same way for every format.

Here: from a syntax tree and columns to one truth value per row. Integers and decimals are compared exactly. Not here:
the grammar (`../where.py`), conversion of columns (`conversion.py`).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.where import Both, Compare, Condition, Either, IsNull, Like, Not, OneOf, like_regex, refused

if TYPE_CHECKING:
    import pyarrow as pa

_INT_BITS = {"int16": 16, "int32": 32, "int64": 64}


def evaluate(condition: Condition, column: Callable[[str], tuple[pa.Array, str]]) -> pa.Array:
    """Return true, false or null for each row.

    Args:
        condition: from `parse`.
        column: gives a column's values in its wire type, and that type.

    Raises:
        GeoAssetsError: INVALID_FILTER, a literal does not fit its column's type.
    """
    import pyarrow.compute as pc

    match condition:
        case Both():
            return pc.and_kleene(evaluate(condition.left, column), evaluate(condition.right, column))
        case Either():
            return pc.or_kleene(evaluate(condition.left, column), evaluate(condition.right, column))
        case Not():
            return pc.invert(evaluate(condition.inner, column))
        case IsNull():
            return pc.is_null(column(condition.column)[0])
        case Like():
            return _like(condition, *column(condition.column))
        case OneOf():
            values, wire = column(condition.column)
            result = _compare(values, wire, Compare(condition.column, "=", condition.values[0]))
            for value in condition.values[1:]:
                result = pc.or_kleene(result, _compare(values, wire, Compare(condition.column, "=", value)))
            return result
        case Compare():
            return _compare(*column(condition.column), condition)


def _like(condition: Like, values: pa.Array, wire: str) -> pa.Array:
    import pyarrow.compute as pc

    if wire != "string":
        raise refused(f"has LIKE for {condition.column!r}, which is {wire}; LIKE is for text")
    return pc.match_substring_regex(values, like_regex(condition.pattern))


def _compare(values: pa.Array, wire: str, condition: Compare) -> pa.Array:
    if wire in _INT_BITS:
        return _compare_integers(values, _INT_BITS[wire], condition.operator, _as_number(condition, wire))
    if wire in {"float32", "float64"}:
        return _compare_floats(values, condition.operator, _as_number(condition, wire))
    if wire.startswith("decimal"):
        return _compare_decimals(values, condition.operator, _as_number(condition, wire))
    return _arrow_compare(values, condition.operator, _scalar(condition, wire))


def _as_number(condition: Compare, wire: str) -> Decimal:
    if not isinstance(condition.value, Decimal):
        raise _mismatch(condition, wire, "a number")
    return condition.value


def _mismatch(condition: Compare, wire: str, wanted: str) -> GeoAssetsError:
    shown = repr(condition.value) if isinstance(condition.value, str) else str(condition.value).upper()
    return refused(f"compares {condition.column!r}, which is {wire}, with {shown[:40]}; it takes {wanted}")


def _arrow_compare(values: pa.Array, name: str, scalar: Any) -> pa.Array:
    import pyarrow.compute as pc

    functions = {
        "=": pc.equal,
        "<>": pc.not_equal,
        "<": pc.less,
        "<=": pc.less_equal,
        ">": pc.greater,
        ">=": pc.greater_equal,
    }
    return functions[name](values, scalar)


def _constant(values: pa.Array, *, outcome: bool) -> pa.Array:
    """Return the outcome where there is a value, null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_valid(values), pa.scalar(outcome), pa.scalar(None, pa.bool_()))


def _compare_integers(values: pa.Array, bits: int, name: str, number: Decimal) -> pa.Array:
    """Compare exactly: an integer is never made a float. A fraction, or a number out of the column's range, decides the
    result by itself.
    """
    import pyarrow as pa

    if number >= 2 ** (bits - 1) or number < -(2 ** (bits - 1)):
        return _constant(values, outcome=name == "<>" or name.startswith("<" if number > 0 else ">"))
    whole = math.floor(number)
    if number != whole:
        if name in {"=", "<>"}:
            return _constant(values, outcome=name == "<>")
        name = "<=" if name.startswith("<") else ">"
    return _arrow_compare(values, name, pa.scalar(whole, values.type))


def _compare_floats(values: pa.Array, name: str, number: Decimal) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    double = float(number)
    if not math.isfinite(double) or (double == 0 and number != 0):
        raise refused(f"has {number}, which is beyond double precision")
    wide = values.cast(pa.float64())
    result = _arrow_compare(wide, name, pa.scalar(double, pa.float64()))
    return pc.or_kleene(result, pc.is_nan(wide)) if name in {">", ">="} else result


def _compare_decimals(values: pa.Array, name: str, number: Decimal) -> pa.Array:
    import pyarrow as pa

    compare = {
        "=": operator.eq,
        "<>": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }[name]
    return pa.array([None if value is None else compare(value, number) for value in values.to_pylist()], pa.bool_())


def _scalar(condition: Compare, wire: str) -> Any:
    import pyarrow as pa

    value = condition.value
    if wire == "string" and isinstance(value, str):
        return pa.scalar(value, pa.string())
    if wire == "bool":
        if isinstance(value, bool) and condition.operator in {"=", "<>"}:
            return pa.scalar(value)
        raise _mismatch(condition, "boolean", "= or <> and TRUE or FALSE")
    if wire in _ISO and isinstance(value, str):
        from geo_assets.vector.types import arrow_type

        try:
            return pa.scalar(_ISO[wire](value), arrow_type(wire))
        except (ValueError, OverflowError):
            raise _mismatch(
                condition, wire, "text in ISO 8601" + (" with an offset" if wire.endswith("UTC]") else "")
            ) from None
    if wire == "string" or wire in _ISO:
        raise _mismatch(condition, wire, "text in single quotes")
    raise refused(
        f"compares {condition.column!r}, which is {wire}; of such a column it can only be asked whether it IS NULL"
    )


def _date(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        raise ValueError(text)
    return date.fromisoformat(text)


def _moment(text: str, *, aware: bool) -> datetime:
    if not re.fullmatch(
        r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})?)?", text, re.ASCII
    ):
        raise ValueError(text)
    moment = datetime.fromisoformat(text)
    if (moment.tzinfo is not None) != aware:
        raise ValueError(text)
    return moment


def _time(text: str) -> time:
    if not re.fullmatch(r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?", text, re.ASCII):
        raise ValueError(text)
    return time.fromisoformat(text)


_ISO: dict[str, Callable[[str], Any]] = {
    "date32": _date,
    "timestamp[us]": lambda text: _moment(text, aware=False),
    "timestamp[us, UTC]": lambda text: _moment(text, aware=True),
    "time64[us]": _time,
}
