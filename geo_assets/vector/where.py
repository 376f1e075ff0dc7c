r"""`where`: a small grammar of conditions, parsed by us and evaluated alike for every format, on Arrow batches.

Here: text to syntax tree, its check against a layer's columns, its evaluation. Nothing of it ever reaches GDAL or a
database.
Not here: boxes (`reader/filters.py`), conversion of columns (`reader/conversion.py`).

    condition  = condition OR condition | condition AND condition | NOT condition | ( condition ) | predicate
    predicate  = column (= | <> | != | < | <= | > | >=) literal
               | column [NOT] IN (literal, …) | column [NOT] BETWEEN literal AND literal
               | column [NOT] LIKE 'pattern'  | column IS [NOT] NULL
    column     = a name, or "any name" in double quotes
    literal    = number | 'text' | TRUE | FALSE        (dates and times are text in ISO 8601)

It means what it means in PostgreSQL on the loaded table: three-valued logic, text compared by code points, NaN equal to
itself and above every number, `%`, `_` and `\\` in patterns.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError

if TYPE_CHECKING:
    import pyarrow as pa

#: A person's condition is shorter; a machine's list of 100,000 identifiers is a join, and belongs into the database.
MAX_LENGTH = 10_000
_MAX_DEPTH = 40

Value = str | bool | Decimal

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)(?![\w.])
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")+")
      | (?P<word>[^\W\d]\w*)
      | (?P<symbol><=|>=|<>|!=|=|<|>|\(|\)|,)
      | (?P<end>$)
    )""",
    re.VERBOSE,
)

_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS", "NULL", "TRUE", "FALSE"})
_OPERATORS = frozenset({"=", "<>", "!=", "<", "<=", ">", ">="})
_INT_BITS = {"int16": 16, "int32": 32, "int64": 64}


@dataclass(frozen=True, slots=True)
class Compare:
    """`column operator literal`."""

    column: str
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """`column IN (literals)`."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """`column LIKE 'pattern'`."""

    column: str
    pattern: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """`column IS NULL`."""

    column: str


@dataclass(frozen=True, slots=True)
class Not:
    """`NOT condition`."""

    inner: Condition


@dataclass(frozen=True, slots=True)
class Both:
    """`left AND right`."""

    left: Condition
    right: Condition


@dataclass(frozen=True, slots=True)
class Either:
    """`left OR right`."""

    left: Condition
    right: Condition


Condition = Compare | OneOf | Like | IsNull | Not | Both | Either


def _refused(what: str) -> GeoAssetsError:
    return GeoAssetsError("INVALID_FILTER", f"the where condition {what}")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Condition:
    """The syntax tree of a condition.

    Raises:
        GeoAssetsError: INVALID_FILTER, it is not of the grammar; the message says where.
    """
    if len(text) > MAX_LENGTH:
        raise _refused(f"has {len(text):,} characters; {MAX_LENGTH:,} are allowed")
    if "\0" in text:
        raise _refused("holds a NUL character")
    return _Parser(list(_tokens(text))).whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            raise _refused(f"cannot be read at {rest[:30]!r} (character {len(text) - len(rest) + 1})")
        kind = match.lastgroup or "end"
        yield _Token(kind, match[kind], match.start(kind) + 1)
        if kind == "end":
            return
        at = match.end()


class _Parser:
    """Recursive descent; the depth is bounded, so that no text exhausts the stack."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        if self._peek.kind != "end":
            raise self._unexpected("AND, OR or its end")
        return condition

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek
        self._next += 1
        return token

    def _is_word(self, word: str) -> bool:
        return self._peek.kind == "word" and self._peek.text.upper() == word

    def _accept(self, text: str) -> bool:
        found = self._is_word(text) or (self._peek.kind == "symbol" and self._peek.text == text)
        if found:
            self._next += 1
        return found

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unexpected(text)

    def _unexpected(self, wanted: str) -> GeoAssetsError:
        token = self._peek
        found = repr(token.text[:30]) if token.text else "its end"
        return _refused(f"has {found} at character {token.at} where {wanted} should be")

    def _either(self) -> Condition:
        left = self._both()
        while self._accept("OR"):
            left = Either(left, self._both())
        return left

    def _both(self) -> Condition:
        left = self._not()
        while self._accept("AND"):
            left = Both(left, self._not())
        return left

    def _not(self) -> Condition:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _refused(f"is nested more than {_MAX_DEPTH} deep")
        try:
            if self._accept("NOT"):
                return Not(self._not())
            if self._accept("("):
                inner = self._either()
                self._expect(")")
                return inner
            return self._predicate()
        finally:
            self._depth -= 1

    def _predicate(self) -> Condition:
        column = self._column()
        if self._accept("IS"):
            negated = self._accept("NOT")
            self._expect("NULL")
            return Not(IsNull(column)) if negated else IsNull(column)
        negated = self._accept("NOT")
        found = self._range_or_list(column)
        if found is not None:
            return Not(found) if negated else found
        if negated or self._peek.text not in _OPERATORS or self._peek.kind != "symbol":
            raise self._unexpected("IN, BETWEEN or LIKE" if negated else "a comparison")
        name = self._take().text
        return Compare(column, "<>" if name == "!=" else name, self._literal())

    def _range_or_list(self, column: str) -> Condition | None:
        if self._accept("IN"):
            self._expect("(")
            values = [self._literal()]
            while self._accept(","):
                values.append(self._literal())
            self._expect(")")
            return OneOf(column, tuple(values))
        if self._accept("BETWEEN"):
            low = self._literal()
            self._expect("AND")
            return Both(Compare(column, ">=", low), Compare(column, "<=", self._literal()))
        if self._accept("LIKE"):
            pattern = self._literal()
            if not isinstance(pattern, str):
                raise _refused(f"has LIKE {pattern}: a pattern is text in single quotes")
            _regex(pattern)
            return Like(column, pattern)
        return None

    def _column(self) -> str:
        token = self._peek
        if token.kind == "quoted":
            self._next += 1
            return token.text[1:-1].replace('""', '"')
        if token.kind == "word" and token.text.upper() not in _KEYWORDS:
            self._next += 1
            return token.text
        raise self._unexpected("a column")

    def _literal(self) -> Value:
        token = self._peek
        if token.kind == "number":
            self._next += 1
            return _number(token.text)
        if token.kind == "text":
            self._next += 1
            return token.text[1:-1].replace("''", "'")
        for word, value in (("TRUE", True), ("FALSE", False)):
            if self._accept(word):
                return value
        raise self._unexpected("a number, 'text', TRUE or FALSE")


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # the token's pattern lets none through
        raise _refused(f"has {text[:30]!r}, which is no number") from None


def columns_of(condition: Condition) -> set[str]:
    """The columns that a condition names, as it writes them."""
    match condition:
        case Both() | Either():
            return columns_of(condition.left) | columns_of(condition.right)
        case Not():
            return columns_of(condition.inner)
        case _:
            return {condition.column}


def find_column(wanted: str, names: Sequence[str], what: str, title: str) -> int:
    """The position of a column: by its name to the letter, else by its name in any case.

    Raises:
        GeoAssetsError: UNKNOWN_COLUMN; also where the name fits several.
    """
    exact = [i for i, name in enumerate(names) if name == wanted]
    found = exact or [i for i, name in enumerate(names) if name.casefold() == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(repr(name[:63]) for name in names[:20]) or "none"
    if found:
        raise GeoAssetsError(
            "UNKNOWN_COLUMN", f"{what} names {wanted[:63]!r}, and {title} has {len(found)} columns of that name"
        )
    raise GeoAssetsError(
        "UNKNOWN_COLUMN", f"{what} names {wanted[:63]!r}, which {title} does not have; its columns are {shown}"
    )


def evaluate(condition: Condition, column: Callable[[str], tuple[pa.Array, str]]) -> pa.Array:
    """True, false or null for each row.

    Args:
        condition: from `parse`.
        column: gives a column's values in its wire type, and that type.

    Raises:
        GeoAssetsError: INVALID_FILTER, a literal is not of its column's type.
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
        raise _refused(f"has LIKE for {condition.column!r}, which is {wire}; LIKE is for text")
    return pc.match_substring_regex(values, _regex(condition.pattern))


def _regex(pattern: str) -> str:
    """A LIKE pattern as RE2 over the whole value, `.` for any character."""
    parts, characters = [], iter(pattern)
    for char in characters:
        if char == "\\":
            literal = next(characters, None)
            if literal is None:
                raise _refused("has a LIKE pattern that ends with its escape character")
            parts.append(_re2(literal))
        else:
            parts.append({"%": ".*", "_": "."}.get(char) or _re2(char))
    return rf"\A(?s:{''.join(parts)})\z"


def _re2(char: str) -> str:
    return rf"\x{{{ord(char):x}}}"


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
    return _refused(f"compares {condition.column!r}, which is {wire}, with {shown[:40]}; it takes {wanted}")


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
    """The outcome where there is a value, null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(pc.is_valid(values), pa.scalar(outcome), pa.scalar(None, pa.bool_()))


def _compare_integers(values: pa.Array, bits: int, name: str, number: Decimal) -> pa.Array:
    """Exactly: an integer is never made a float. A fraction, or what no such integer reaches, decides by itself."""
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
        raise _refused(f"has {number}, which is beyond double precision")
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
    raise _refused(
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
