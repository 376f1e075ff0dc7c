"""Boxes that clients ask for, across 180° too.

Here: such a box as two, and its refusal where there is no way to ask for two. Not here: what is found in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from geojson_pydantic import MultiPolygon
from starlette.types import ASGIApp, Receive, Scope, Send

from geo_assets.serving.answers import problem

_PART = re.compile(r"/bbox/([^/]+?)(?:\.[a-z]+)?(?:/|$)")


def halves(bbox: Sequence[float]) -> MultiPolygon | None:
    """Return the two parts of a box across 180°, one on each side; None for any other box.

    Args:
        bbox: west, south, east, north in degrees; or with heights, which are left out, as items have none.
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
