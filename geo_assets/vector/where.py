r"""`where`: a small grammar of conditions, parsed by us. No part of it ever reaches GDAL or a database.

Here: text to syntax tree, and its check against a layer's columns.
Not here: its evaluation on Arrow batches (`reader/conditions.py`), boxes (`reader/filters.py`).

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

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from geo_assets.errors import GeoAssetsError

#: Most characters. A person's condition is shorter; a generated list of 100,000 identifiers is a join, and belongs in
#: the database.
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


def refused(what: str) -> GeoAssetsError:
    """Return INVALID_FILTER with what is wrong with the condition."""
    return GeoAssetsError("INVALID_FILTER", f"the where condition {what}")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Condition:
    """Return the syntax tree of a condition.

    Raises:
        GeoAssetsError: INVALID_FILTER, it does not follow the grammar; the message says where.
    """
    if len(text) > MAX_LENGTH:
        raise refused(f"has {len(text):,} characters; {MAX_LENGTH:,} are allowed")
    if "\0" in text:
        raise refused("holds a NUL character")
    return _Parser(list(_tokens(text))).whole()


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None:
            rest = text[at:].lstrip()
            raise refused(f"cannot be read at {rest[:30]!r} (character {len(text) - len(rest) + 1})")
        kind = match.lastgroup or "end"
        yield _Token(kind, match[kind], match.start(kind) + 1)
        if kind == "end":
            return
        at = match.end()


class _Parser:
    """Recursive descent parser; the depth is bounded, so that no text exhausts the stack."""

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
        return refused(f"has {found} at character {token.at} where {wanted} should be")

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
            raise refused(f"is nested more than {_MAX_DEPTH} deep")
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
                raise refused(f"has LIKE {pattern}: a pattern is text in single quotes")
            like_regex(pattern)
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
        raise refused(f"has {text[:30]!r}, which is no number") from None


def columns_of(condition: Condition) -> set[str]:
    """Return the columns that a condition names, as it spells them."""
    match condition:
        case Both() | Either():
            return columns_of(condition.left) | columns_of(condition.right)
        case Not():
            return columns_of(condition.inner)
        case _:
            return {condition.column}


def find_column(wanted: str, names: Sequence[str], what: str, title: str) -> int:
    """Return the position of a column: by its exact name, else by its name ignoring case; one without a name is hidden.

    Raises:
        GeoAssetsError: UNKNOWN_COLUMN; also where the name fits several.
    """
    exact = [i for i, name in enumerate(names) if name == wanted and name]
    found = exact or [i for i, name in enumerate(names) if name and name.casefold() == wanted.casefold()]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(repr(name[:63]) for name in [name for name in names if name][:20]) or "none"
    if found:
        raise GeoAssetsError(
            "UNKNOWN_COLUMN", f"{what} names {wanted[:63]!r}, and {title} has {len(found)} columns of that name"
        )
    raise GeoAssetsError(
        "UNKNOWN_COLUMN", f"{what} names {wanted[:63]!r}, which {title} does not have; its columns are {shown}"
    )


def like_regex(pattern: str) -> str:
    """Return a LIKE pattern as RE2 over the whole value, `.` for any character.

    Raises:
        GeoAssetsError: INVALID_FILTER.
    """
    parts, characters = [], iter(pattern)
    for char in characters:
        if char == "\\":
            literal = next(characters, None)
            if literal is None:
                raise refused("has a LIKE pattern that ends with its escape character")
            parts.append(_re2(literal))
        else:
            parts.append({"%": ".*", "_": "."}.get(char) or _re2(char))
    return rf"\A(?s:{''.join(parts)})\z"


def _re2(char: str) -> str:
    return rf"\x{{{ord(char):x}}}"
