"""What clients may ask of items that pgstac does not have under this name, as CQL2 that it has.

Here: boxes in filters, and the operators of STAC's query extension for texts and lists. Not here: which filters are
passed on (`filters.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel
from stac_fastapi.pgstac.extensions.query import QueryExtension

from geo_assets.longitudes import footprint
from geo_assets.serving.boxes import BOX, flat


class _Operator(StrEnum):
    """Those of the extension; pgstac's model of it lacks the last four."""

    eq = "eq"
    ne = "ne"
    neq = "neq"
    lt = "lt"
    lte = "lte"
    gt = "gt"
    gte = "gte"
    starts_with = "startsWith"
    ends_with = "endsWith"
    contains = "contains"
    one_of = "in"


#: Around the text of which these are made.
_LIKE = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}


class _Query(BaseModel):
    query: dict[str, dict[_Operator, Any]] | None = None


class Query(QueryExtension):  # type: ignore[misc]
    """The query extension with all its operators."""

    POST = _Query


def as_filter(query: Any) -> dict[str, Any] | None:
    """Return a query in CQL2 if it has an operator that pgstac lacks; None for any other, which it reads itself.

    Raises:
        HTTPException: 400, the value of such an operator is no text or list.
    """
    if not isinstance(query, Mapping) or not all(isinstance(asked, Mapping) for asked in query.values()):
        return None
    terms = [(name, str(getattr(op, "value", op)), value) for name, ops in query.items() for op, value in ops.items()]
    if not any(op in _LIKE or op == "in" for _, op, _ in terms):
        return None
    parts = [_term(name, op, value) for name, op, value in terms]
    return parts[0] if len(parts) == 1 else {"op": "and", "args": parts}


def _term(name: str, op: str, value: Any) -> dict[str, Any]:
    if op in _LIKE:
        if not isinstance(value, str):
            raise HTTPException(400, f"query: {op} takes a text")
        plain = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        op, value = "like", _LIKE[op].format(plain)
    elif op == "in" and not (isinstance(value, list) and value):
        raise HTTPException(400, "query: in takes a list of values")
    return {"op": op, "args": [{"property": name}, value]}


def with_polygons(tree: Any) -> Any:
    """Return a filter with a polygon for each box, of which pgstac knows none.

    Raises:
        HTTPException: 400, it is no box.
    """
    if isinstance(tree, list):
        return [with_polygons(part) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {"bbox"}:
        box = flat(tree["bbox"])
        if box is None:
            raise HTTPException(400, f"bbox is not {BOX.says}: {str(tree['bbox'])[:60]!r}")
        west, south, east, north = box
        return footprint((west, south, east, north))
    return {name: with_polygons(part) for name, part in tree.items()}
