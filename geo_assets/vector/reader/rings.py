"""Rings that are simple beyond doubt, told by compiled code from arrays of coordinates.

Here: the way to `rings.c`, which says what suffices and why. Not here: geometries (`simple.py`); how it is compiled
(`scripts/hatch_build.py`).
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Made when the package is built.
LIBRARY = Path(__file__).with_name("librings.so")


@cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.simple_rings_scratch.restype = ctypes.c_size_t
        library.simple_rings.argtypes = [ctypes.c_size_t, *[ctypes.c_void_p] * 6]
        library.simple_rings.restype = None
    except (OSError, AttributeError):  # it is not there, of another processor, or of another release
        return None
    return library


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
    library = _library()
    if library is None or not len(starts):
        return proven
    doubles = [np.ascontiguousarray(values, dtype=np.float64) for values in (x, y)]
    starts, counts = (np.ascontiguousarray(values, dtype=np.int64) for values in (starts, counts))
    size = min(len(x), len(y))
    if ((starts < 0) | (starts > size) | (counts < 0) | (counts > size - starts)).any():
        raise ValueError("a ring lies beyond its vertices")
    scratch = np.empty(library.simple_rings_scratch(), dtype=np.uint8)
    arrays = (*doubles, starts, counts, scratch, proven)
    library.simple_rings(len(starts), *(values.ctypes.data for values in arrays))
    return proven
