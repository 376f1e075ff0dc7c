"""Rings that are simple beyond doubt, told by compiled code from arrays of coordinates.

Here: the way to `rings.c`, which says what suffices and why. Not here: geometries (`simple.py`); how it is compiled
(`scripts/hatch_build.py`).
"""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from geo_assets.compiled import ARRAY, SIZE, library

_FUNCTIONS = {"simple_rings_scratch": (SIZE,), "simple_rings": (None, SIZE, *[ARRAY] * 6)}


@cache
def _library() -> ctypes.CDLL | None:
    return library(__file__, "rings", _FUNCTIONS)


def are_compiled() -> bool:
    """Whether rings can be told; without, GEOS decides about every polygon, in ten times the time."""
    return _library() is not None


def simple_rings(
    x: NDArray[np.float64], y: NDArray[np.float64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which rings are closed and meet themselves nowhere, beyond doubt. Other threads run meanwhile.

    Args:
        x: of the vertices of all.
        y: likewise.
        starts: the first vertex of each.
        counts: vertices of each, the last of which repeats the first.
    """
    proven = np.zeros(len(starts), dtype=np.bool_)
    compiled = _library()
    if compiled is None or not len(starts):
        return proven
    doubles = [np.ascontiguousarray(values, dtype=np.float64) for values in (x, y)]
    starts, counts = (np.ascontiguousarray(values, dtype=np.int64) for values in (starts, counts))
    size = min(len(x), len(y))
    if ((starts < 0) | (starts > size) | (counts < 0) | (counts > size - starts)).any():
        raise ValueError("a ring lies beyond its vertices")
    scratch = np.empty(compiled.simple_rings_scratch(), dtype=np.uint8)
    arrays = (*doubles, starts, counts, scratch, proven)
    compiled.simple_rings(len(starts), *(values.ctypes.data for values in arrays))
    return proven
