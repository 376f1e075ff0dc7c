"""Filters in CQL2: which of them are passed on to the libraries.

A parser that takes any depth ends the process, and one library puts any function that a filter names into its
statement. Here: the size of a filter, and what it may ask for. Not here: where filters come from (`questions.py`).
"""

from __future__ import annotations

import json
import re
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


def fault_of_filter(given: Any, language: str | None = None) -> str | None:
    """Say why a filter is not passed on, or None.

    Args:
        given: as text, or as what was JSON.
        language: `cql2-json` if a text is JSON.
    """
    try:
        if isinstance(given, str) and (language == "cql2-json" or given.lstrip().startswith("{")):
            given = json.loads(given)
        fault = _fault_of_text(given) if isinstance(given, str) else _fault_of_tree(given)
        return fault or _fault_of_tree(Expr(given).to_json())
    except RecursionError:
        return "the filter is nested too deeply"
    except Exception as error:  # noqa: BLE001 - the parser has no other
        return f"invalid filter: {error}"[:300]


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
