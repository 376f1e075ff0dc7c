"""Boxes that clients ask for, across 180° too.

Here: a box as the libraries take it, one across 180° as two, and its refusal where there is no way to ask for two.
Not here: what is found in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from geojson_pydantic import MultiPolygon
from starlette.types import ASGIApp, Receive, Scope, Send

from geo_assets.serving.answers import problem
from geo_assets.serving.questions import Parameter

_PART = re.compile(r"/bbox/([^/]+?)(?:\.[a-z]+)?(?:/|$)")


def flat(bbox: Any) -> list[float] | None:
    """Return west, south, east, north of a box; None if it is none.

    Args:
        bbox: a list of these in degrees, or with heights, which are left out: items have none, and pgstac fails with
            them.
    """
    if not isinstance(bbox, list) or not all(type(side) in {int, float} for side in bbox):
        return None
    try:
        west, south, east, north = _sides(bbox)
    except ValueError:
        return None
    fits = all(-180 <= side <= 180 for side in (west, east)) and -90 <= south <= north <= 90
    return [west, south, east, north] if fits else None


def _flat_text(given: str) -> str | None:
    try:
        sides = flat([float(side) for side in given.split(",")])
    except ValueError:
        return None
    return ",".join(str(side) for side in sides) if sides else None


#: A box in the address of a search.
BOX = Parameter(
    _flat_text,
    "west,south,east,north in degrees, up to 180 and 90, with south <= north, perhaps with heights: west,south,low,"
    "east,north,high",
)


def halves(bbox: Sequence[float]) -> MultiPolygon | None:
    """Return the two parts of a box across 180°, one on each side; None for any other box.

    Args:
        bbox: west, south, east, north in degrees.
    """
    west, south, east, north = _sides(bbox)
    if west <= east:
        return None
    parts = [(west, 180.0), (-180.0, east)]
    return MultiPolygon(
        type="MultiPolygon",
        coordinates=[[[(w, south), (e, south), (e, north), (w, north), (w, south)]] for w, e in parts],
    )


class OrderedBoxes:
    """Refuses boxes whose west is east of their east, for an application that would find all that is not in them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = [value for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name == "bbox"]
        given += _PART.findall(scope["path"])
        if all(_is_ordered(text) for text in given):
            await self._app(scope, receive, send)
            return
        told = "a box is west, south, east, north; across 180° ask for each side of it by itself"
        await problem(400, told)(scope, receive, send)


def _is_ordered(text: str) -> bool:
    """Whether a box has its sides in order; of what is no box the application says so."""
    try:
        numbers = [float(number) for number in text.split(",")]
        west, south, east, north = _sides(numbers)
    except ValueError:
        return True
    return west <= east and south <= north


def _sides(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    if len(bbox) not in {4, 6}:
        raise ValueError("a box has four or six numbers")
    middle = len(bbox) // 2
    return bbox[0], bbox[1], bbox[middle], bbox[middle + 1]
