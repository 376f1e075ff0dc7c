"""Longitudes on the circle. Here: the shortest stretch around several spans, as RFC 7946 bounds boxes have it. Not
here: latitudes, geometry.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Degrees; a gap below it is rounding.
_GRAIN = 1e-6


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
