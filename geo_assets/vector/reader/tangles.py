"""Tangles: polygons whose edges cross so often that a repair would be useless and take too long.

Here: counting crossings, up to what is too many. Not here: the repair (`geometry.py`), the child's own limits
(`sandbox/`).

GEOS makes a vertex of each crossing and a polygon of each loop, and cannot be interrupted. Measured: 21,000 crossings
take 1 s and hardly any memory, 110,000 take 8 s and 600 MB, the three million of a scribble of 5,000 vertices 52 s and
2.9 GB. Counting the first 100,000 takes 1 s. Edges that only touch or coincide (cells of a grid, a repeated ring) do
not count as crossings.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Most crossings of one geometry; geometries with too few vertices to reach it are not checked.
MOST_CROSSINGS = 100_000

TANGLED = f"not repairable: its edges cross more than {MOST_CROSSINGS:,} times"

#: Of larger geometries this many edges are drawn at random: a tangle of 1,000 edges among 300,000 is found. In the
#: worst case each is compared with each other, 2 microseconds per pair: half a minute.
_EDGES_LOOKED_AT = 4096

#: With fewer crossings among the drawn edges nothing can be said of the rest.
_FEWEST_CROSSINGS = 10

_EDGES_AT_ONCE = 256

#: shapely's type id of the last type that is not a collection.
_LAST_SIMPLE = 3


def is_tangled(geometry: Any) -> bool:
    """Whether edges cross so often that a repair would take minutes and gigabytes: each crossing becomes a vertex, each
    loop a polygon.

    Of a geometry with more than `_EDGES_LOOKED_AT` edges that many are drawn, and the crossings among them are
    extrapolated.
    """
    import shapely

    if shapely.get_num_coordinates(geometry) <= math.isqrt(2 * MOST_CROSSINGS):
        return False
    parts = np.atleast_1d(geometry)
    while (shapely.get_type_id(parts) > _LAST_SIMPLE).any():
        parts = shapely.get_parts(parts)
    xy, rings = shapely.get_coordinates(shapely.get_rings(parts), return_index=True)
    starts = np.flatnonzero(rings[1:] == rings[:-1])
    if not len(starts):
        return False
    ends = _different(np.stack([xy[starts], xy[starts + 1]], axis=1))
    drawn = ends
    if len(ends) > _EDGES_LOOKED_AT:
        drawn = np.random.default_rng(0).choice(ends, _EDGES_LOOKED_AT, replace=False)
    edges = shapely.linestrings(drawn)
    share = len(ends) / len(drawn)
    tree, found = shapely.STRtree(edges), 0
    for first in range(0, len(edges), _EDGES_AT_ONCE):
        found += tree.query(edges[first : first + _EDGES_AT_ONCE], predicate="crosses").shape[1]
        if (
            found > 2 * _FEWEST_CROSSINGS and found * share**2 > 2 * MOST_CROSSINGS
        ):  # each crossing is found from both edges
            return True
    return False


def _different(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each edge once, regardless of its direction: shape (n, 2, 2). A ring repeated a thousand times would be
    compared with itself.
    """
    first, last = edges[:, 0], edges[:, 1]
    backward = (first[:, 0] > last[:, 0]) | ((first[:, 0] == last[:, 0]) & (first[:, 1] > last[:, 1]))
    edges = np.where(backward[:, None, None], edges[:, ::-1], edges)
    return np.unique(edges.reshape(len(edges), 4), axis=0).reshape(-1, 2, 2)
