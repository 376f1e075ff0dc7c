"""Repair of one geometry.

Here: GEOS's repair, of the parts that need it. Not here: batches, counts and reasons (`geometry.py`).

GEOS repairs each polygon of a MultiPolygon and then unites all of them, which takes a minute for 100,000 that are
apart: each is compared with the others. Those that are apart from all others need not be united, and are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: shapely's type id.
_MULTIPOLYGON = 6

#: Polygons that are held against all others at once, and pairs for each of them beyond which that takes longer than to
#: unite them all: boxes of a cover meet eight others.
_AT_ONCE, _MOST_PAIRS = 64, 32


def made_valid(geometry: Any) -> Any:
    """Return the geometry as GEOS repairs it, by its structure and without collapsed parts; None where it cannot."""
    import shapely

    try:
        if shapely.get_type_id(geometry) == _MULTIPOLYGON:
            made = _united(_repaired(shapely.get_parts(geometry)))
            if made.is_valid:
                return made
        return _by_geos(geometry)
    except shapely.errors.ShapelyError:
        return None


def _by_geos(geometry: Any) -> Any:
    import shapely

    return shapely.make_valid(geometry, method="structure", keep_collapsed=False)


def _repaired(polygons: NDArray[Any]) -> NDArray[Any]:
    """Return the polygons that repair makes of some; those that are valid stay."""
    import shapely

    made = polygons.copy()
    for row in np.flatnonzero(~shapely.is_valid(polygons)).tolist():
        made[row] = _by_geos(polygons[row])
    parts = shapely.get_parts(made)
    return np.asarray(parts[~shapely.is_empty(parts)])


def _united(polygons: NDArray[Any]) -> Any:
    """Return what is covered by polygons, of which each is valid."""
    import shapely

    if (pairs := _pairs(polygons)) is None:
        return shapely.union_all(polygons)
    groups = _connected(len(polygons), *pairs)
    alone = np.bincount(groups, minlength=len(polygons))[groups] == 1
    others = np.flatnonzero(~alone)
    others = others[np.argsort(groups[others], kind="stable")]
    begins = np.flatnonzero(np.diff(groups[others]))
    united = [shapely.union_all(polygons[group]) for group in np.split(others, begins + 1) if len(group)]
    parts = [*polygons[alone], *shapely.get_parts(united)]
    return shapely.multipolygons(parts) if parts else shapely.MultiPolygon()


def _pairs(polygons: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Return the pairs of polygons that have a point in common; None where there are too many to look at."""
    import shapely

    tree, found, count = shapely.STRtree(polygons), [np.empty((2, 0), dtype=np.intp)], 0
    for first in range(0, len(polygons), _AT_ONCE):
        pairs = tree.query(polygons[first : first + _AT_ONCE])
        count += pairs.shape[1]
        if count > _MOST_PAIRS * (len(polygons) + _AT_ONCE):
            return None
        pairs[0] += first
        found.append(pairs[:, pairs[0] < pairs[1]])
    one, other = np.concatenate(found, axis=1)
    meet = shapely.intersects(polygons[one], polygons[other])
    return one[meet], other[meet]


def _connected(count: int, one: NDArray[np.intp], other: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the group of each of some things: the first that it is connected with by pairs, directly or not."""
    groups = np.arange(count)
    while True:
        before = groups.copy()
        least = np.minimum(groups[one], groups[other])
        for each in (groups[one], groups[other], one, other):
            np.minimum.at(groups, each, least)
        groups = groups[groups]
        if (groups == before).all():
            return groups
