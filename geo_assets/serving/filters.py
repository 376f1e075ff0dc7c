"""Filters in CQL2: which of them are passed on to the libraries.

A parser that takes any depth ends the process, and one library puts any function that a filter names into its
statement. Here: the size of a filter, what it may ask for, and its tree with all digits of its numbers. Not here: where
filters come from (`questions.py`), what they mean for a table (`rows.py`).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any

from cql2 import Expr

#: Characters of a filter as text.
_LONGEST = 2000

#: Brackets and NOT in a text; the time for a text with a fault doubles with each bracket that is open: 10 ms for ten.
_MOST_BRACKETS = 30
_DEEPEST_BRACKETS = 10
_MOST_NOT = 10

#: Operators in a filter, and how deep one is in another. The libraries' validation takes 14 MB for each level.
_MOST_OPERATORS = 200
_DEEPEST = 12

#: Of CQL2. Whatever else a filter names would be a function of the database.
_OPERATORS = frozenset(
    [
        "=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "and",
        "or",
        "not",
        "like",
        "in",
        "between",
        "isnull",
        "casei",
        "accenti",
        "+",
        "-",
        "*",
        "/",
        "%",
        "div",
        "s_contains",
        "s_crosses",
        "s_disjoint",
        "s_equals",
        "s_intersects",
        "s_overlaps",
        "s_touches",
        "s_within",
        "t_after",
        "t_before",
        "t_contains",
        "t_disjoint",
        "t_during",
        "t_equals",
        "t_finishedby",
        "t_finishes",
        "t_intersects",
        "t_meets",
        "t_metby",
        "t_overlappedby",
        "t_overlaps",
        "t_startedby",
        "t_starts",
        "a_containedby",
        "a_contains",
        "a_equals",
        "a_overlaps",
    ]
)

#: What else an expression is made of: a property, a time, a geometry.
_LEAVES = (
    {"property"},
    {"timestamp"},
    {"date"},
    {"interval"},
    {"bbox"},
    {"type", "coordinates"},
    {"type", "geometries"},
)

#: What a geometry holds is numbers, and geometries of one level.
_DEEPEST_GEOMETRY = 8

#: What a text is made of, as far as that tells which of it are numbers.
_PARTS = re.compile(
    r"""
    (?P<shape>(?:POINT|LINESTRING|POLYGON|MULTI[A-Z]+|GEOMETRYCOLLECTION|BBOX)(?=\s*(?:ZM?|M)?\s*\())
    | '(?:''|\\.|[^'\\])*' | "[^"]*" | [^\W\d][\w.:]*
    | (?P<number>\d+(?:\.\d*)?(?:e[+-]?\d+)?)
    | (?P<bracket>[()])
    """,
    re.VERBOSE | re.IGNORECASE,
)


def parsed(given: str, language: str | None = None) -> Any:
    """Return a filter that was checked as the tree of CQL2's JSON, and each number in it that a double does not hold
    as a whole or a decimal one with all its digits. CQL2's library has doubles.

    Args:
        given: as text.
        language: `cql2-json` if it is JSON.
    """
    if language == "cql2-json" or given.lstrip().startswith("{"):
        return json.loads(given, parse_float=_number, parse_int=_number)
    token = f"n{secrets.token_hex(8)}_"
    numbers: list[Any] = []
    tree = Expr("".join(_marked(given, token, numbers))).to_json()
    return _with_numbers(tree, re.compile(rf"{token}(\d+)_"), numbers)


def is_beyond_double(number: float | Decimal) -> bool:
    """Whether a number has digits that are lost where it becomes a double."""
    return isinstance(number, Decimal | int) and Decimal(repr(float(str(number)))) != number


def names_of(tree: Any) -> Iterator[str]:
    """The names of the properties in a filter."""
    if isinstance(tree, list):
        for part in tree:
            yield from names_of(part)
    elif isinstance(tree, dict):
        if isinstance(name := tree.get("property"), str):
            yield name
        yield from names_of(tree.get("args"))


def _number(text: str) -> int | float | Decimal:
    """A number as a double, if that is the same, else exactly."""
    near, exact = float(text), Decimal(text)
    if Decimal(repr(near)) == exact:
        return near if re.search(r"[.eE]", text) else int(text)
    return int(text) if text.lstrip("+-").isdigit() else exact


def _marked(text: str, token: str, numbers: list[Any]) -> Iterator[str]:
    """A text whose numbers that no double holds are names of properties; those of geometries stay."""
    end = depth = 0
    shape: int | None = None
    for part in _PARTS.finditer(text):
        yield text[end : part.start()]
        end = part.end()
        if part["shape"] and shape is None:
            shape = depth
        elif part["bracket"]:
            depth += 1 if part["bracket"] == "(" else -1
            shape = None if depth == shape else shape
        elif part["number"] and shape is None and is_beyond_double(number := _number(part[0])):
            numbers.append(number)
            yield f'"{token}{len(numbers) - 1}_"'
            continue
        yield part[0]
    yield text[end:]


def _with_numbers(tree: Any, mark: re.Pattern[str], numbers: list[Any]) -> Any:
    if isinstance(tree, list):
        return [_with_numbers(part, mark, numbers) for part in tree]
    if isinstance(tree, dict):
        found = mark.fullmatch(str(tree.get("property")))
        return numbers[int(found[1])] if found else {k: _with_numbers(v, mark, numbers) for k, v in tree.items()}
    return tree


def fault_of_filter(given: Any, language: str | None = None, columns: Collection[str] | None = None) -> str | None:
    """Say why a filter is not passed on, or None.

    Args:
        given: as text, or as what was JSON.
        language: `cql2-json` if a text is JSON.
        columns: the properties that it may name; any if left out.
    """
    try:
        if isinstance(given, str) and (language == "cql2-json" or given.lstrip().startswith("{")):
            given = json.loads(given)
        fault = _fault_of_text(given) if isinstance(given, str) else _fault_of_tree(given)
        return fault or _fault_of_tree(tree := Expr(given).to_json()) or _fault_of_names(tree, columns)
    except RecursionError:
        return "the filter is nested too deeply"
    except Exception as error:  # noqa: BLE001 - the parser has no other
        return f"invalid filter: {error}"[:300]


def _fault_of_names(tree: Any, columns: Collection[str] | None) -> str | None:
    if columns is None or (missing := next((name for name in names_of(tree) if name not in columns), None)) is None:
        return None
    return f"there is no column {missing[:60]!r}; the collection's queryables name those that there are"


def _fault_of_text(text: str) -> str | None:
    if len(text) > _LONGEST:
        return f"a filter has at most {_LONGEST} characters"
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if text.count("(") > _MOST_BRACKETS or deepest > _DEEPEST_BRACKETS:
        return f"a filter has at most {_MOST_BRACKETS} brackets, {_DEEPEST_BRACKETS} in one another"
    if len(re.findall(r"\bnot\b", text, re.IGNORECASE)) > _MOST_NOT:
        return f"a filter has at most {_MOST_NOT} NOT"
    if len(re.findall(r"[-+*/%^]|[<>=]+|\b(?:and|or|div)\b", text, re.IGNORECASE)) > _MOST_OPERATORS:
        return f"a filter has at most {_MOST_OPERATORS} operators"
    return None


def _fault_of_tree(tree: Any) -> str | None:
    operators = 0
    waiting: list[tuple[Any, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        if depth > _DEEPEST:
            return f"a filter has at most {_DEEPEST} operators in one another"
        if isinstance(node, str) and "\0" in node:
            return "a text in the filter has the character NUL, which no text of the database has"
        if isinstance(node, list):
            waiting += [(part, depth) if not isinstance(part, list) else (part, depth + 1) for part in node]
        elif isinstance(node, dict) and "op" in node:
            operators += 1
            if operators > _MOST_OPERATORS:
                return f"a filter has at most {_MOST_OPERATORS} operators"
            if str(node["op"]).lower() not in _OPERATORS or not node.keys() <= {"op", "args"}:
                return f"a filter may not ask for {str(node['op'])[:60]!r}: it is no operator of CQL2"
            waiting.append((node.get("args", []), depth + 1))
        elif isinstance(node, dict) and not any(node.keys() == leaf for leaf in _LEAVES):
            return f"a filter has no part with {', '.join(sorted(node))[:60]!r}"
        elif isinstance(node, dict) and is_deeper(node, _DEEPEST_GEOMETRY):
            return "a geometry of the filter is nested too deeply"
    return None


def is_deeper(content: Any, limit: int) -> bool:
    """Whether lists and objects are more than `limit` times in one another."""
    if not isinstance(content, dict | list):
        return False
    parts = content.values() if isinstance(content, dict) else content
    return limit == 0 or any(is_deeper(part, limit - 1) for part in parts)
