"""Longitudes on the circle. Here: the stretch around several spans, as RFC 7946 bounds boxes have it, and such a box as
a polygon. Not here: other geometry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Degrees; a gap below it is rounding.
_GRAIN = 1e-6

#: Degrees; what lies within so many is of one region, also across the antimeridian.
_REGION = 90.0


def check_box(box: tuple[float, float, float, float] | None) -> None:
    """Check that a box is one of the earth: west, south, east, north; west > east where it crosses the antimeridian.

    Raises:
        ValueError: it is none, which would end the work on a whole collection.
    """
    if box is None:
        return
    west, south, east, north = box
    if not (-90 - _GRAIN <= south <= north <= 90 + _GRAIN and max(abs(west), abs(east)) <= 360):
        msg = f"{west:g}, {south:g}, {east:g}, {north:g} is no box of longitudes and latitudes"
        raise ValueError(msg)


def shortest_stretch(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """West and east of the shortest stretch that covers every span: all of the circle but the widest gap.

    Args:
        spans: at least one, within -180 to 180 degrees; west > east in one that crosses the antimeridian.

    Returns:
        Likewise; -180 and 180 where there is no gap.
    """
    cut = [
        part for west, east in spans for part in ([(west, east)] if west <= east else [(west, 180.0), (-180.0, east)])
    ]
    (first, reach), *rest = sorted(cut)
    gaps: list[tuple[float, float, float]] = []  # width, where it ends, where it begins
    for west, east in rest:
        if west > reach + _GRAIN:
            gaps.append((west - reach, west, reach))
        reach = max(reach, east)
    width, west, east = max(gaps, default=(0.0, first, reach))
    return (west, east) if width > first + 360 - reach else (first, reach)


def stretch_of_many(spans: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """West and east of a stretch that covers every span, for places that need not belong together: as
    `shortest_stretch`, but across the antimeridian only where one of the spans reaches it from each side, or all are of
    one region. New Zealand and Indiana are not, and a box around both goes the way that maps are drawn.
    """
    known = list(spans)
    west, east = shortest_stretch(known)
    if west <= east or east + 360 - west <= _REGION:
        return west, east
    is_there = any(w > e for w, e in known) or (
        min(w for w, _ in known) <= -180 + _GRAIN and max(e for _, e in known) >= 180 - _GRAIN
    )
    return (west, east) if is_there else (min(w for w, _ in known), max(e for _, e in known))


def footprint(box: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return a box (west, south, east, north) as GeoJSON, exterior rings counter-clockwise; two polygons where it
    crosses the antimeridian.
    """
    west, south, east, north = box
    if west > east:
        return {
            "type": "MultiPolygon",
            "coordinates": [[_ring(west, south, 180.0, north)], [_ring(-180.0, south, east, north)]],
        }
    return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]
