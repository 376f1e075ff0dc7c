"""Geometries that are valid beyond doubt, told from their WKB: without parsing it, and without GEOS.

Here: sufficient conditions and why they suffice. What does not meet them is not invalid: `geometry.py` asks GEOS.

* A point is valid if its coordinates are finite.
* A line is valid if they are, and two of its vertices differ.
* A polygon of one ring is valid if the ring is closed, has four vertices or more, and turns about some centre c always
  in one direction and once. Then the directions from c to its vertices increase strictly and each once, so two edges
  have no point in common but that of neighbours: the polygon is star-shaped, its ring simple.
* A Multi geometry of one member is valid if the member is.

A ring turns in one direction if the orientation of (v[i], v[i+1], c) has the same sign for every edge. Computed in
doubles, the determinant of three points differs from the exact one by at most `_BOUND` times the sum of the magnitudes
of its two products (Shewchuk, Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates, 1997,
section 4.3: the first stage of orient2d), provided that nothing overflows or underflows: coordinates are below 1e12
where this is used, and `_TINY` is far above the smallest product that has full precision. So a value beyond the bound
has the sign of the exact one.

It turns once if the line through c to the right is crossed upwards once. Each edge turns by less than half a turn, so
none passes over a half plane, and each full turn goes from below (y < c.y) to above (y >= c.y) exactly once. Whether y
is below c.y is exact: a difference of two doubles is zero only if they are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.reader.wkb import LINE, MULTILINE, MULTIPOINT, MULTIPOLYGON, POINT, POLYGON, Headers

if TYPE_CHECKING:
    import pyarrow as pa

#: Half the distance from 1 to the next double, and of the determinant: (3 + 16 eps) eps.
_EPSILON = 2.0**-53
_BOUND = (3 + 16 * _EPSILON) * _EPSILON

#: A determinant below this is not told from zero.
_TINY = 1e-250

#: Bytes of WKB: byte order and type; a count.
_HEADER, _COUNT = 5, 4

#: The end of any value. Named, as pyarrow 26 fails on a slice without an end.
_END = 2**31 - 1

#: Vertices of the smallest ring, which ends where it begins.
_SMALLEST_RING = 4

_SINGLE = {MULTIPOINT: POINT, MULTILINE: LINE, MULTIPOLYGON: POLYGON}


@dataclass(frozen=True, slots=True)
class Sound:
    """Which geometries of a batch are valid beyond doubt.

    Attributes:
        headers: of the batch.
        rows: mask of them.
        boxes: of the geometries of the batch: xmin, ymin, xmax, ymax; NaN where nothing is proven.
    """

    headers: Headers
    rows: NDArray[np.bool_]
    boxes: NDArray[np.float64]


def sound(wkb: pa.Array, headers: Headers) -> Sound:
    """Look at each geometry of a batch once.

    Args:
        wkb: binary or large_binary.
        headers: of it.
    """
    found = Sound(headers, np.zeros(len(wkb), dtype=np.bool_), np.full((len(wkb), 4), np.nan))
    usable = (
        headers.plain & ~headers.has_m & ~headers.empty & (headers.codes >= POINT) & (headers.codes <= MULTIPOLYGON)
    )
    kinds = np.where(usable, headers.codes * 2 + headers.has_z, -1)
    with np.errstate(invalid="ignore", over="ignore"):  # of what is not finite nothing is proven
        for kind in np.unique(kinds[usable]).tolist():
            code, has_z = divmod(kind, 2)
            _look(wkb, np.flatnonzero(kinds == kind), code, 3 if has_z else 2, found)
    return found


def _look(wkb: pa.Array, rows: NDArray[np.intp], code: int, dimension: int, found: Sound) -> None:
    """Look at the rows with one code and dimension."""
    import pyarrow as pa
    import pyarrow.compute as pc

    begins = _begin(code)
    mine = wkb if len(rows) == len(wkb) else wkb.take(pa.array(rows))
    lengths = pc.binary_length(mine).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = _vertices(mine, lengths, code, dimension)
    fit = (counts > 0) & (lengths == begins + 8 * dimension * counts)
    if not fit.all():
        mine, rows, counts = mine.filter(pa.array(fit)), rows[fit], counts[fit]
    if not len(rows):
        return
    coordinates = _values(pc.binary_slice(mine, begins, _END), "<f8").reshape(-1, dimension)
    x, y = np.ascontiguousarray(coordinates[:, 0]), np.ascontiguousarray(coordinates[:, 1])
    starts = np.concatenate([[0], np.cumsum(counts[:-1])])
    boxes = np.stack(
        [reduce(values, starts) for reduce in (np.minimum.reduceat, np.maximum.reduceat) for values in (x, y)], axis=1
    )
    good = np.isfinite(boxes).all(axis=1)  # NaN and infinity show in the least or the greatest
    single = _SINGLE.get(code, code)
    if single == LINE:
        good &= (boxes[:, 0] < boxes[:, 2]) | (boxes[:, 1] < boxes[:, 3])
    elif single == POLYGON:
        good &= _star_shaped(x, y, starts, counts, boxes)
    found.rows[rows[good]] = True
    found.boxes[rows[good]] = boxes[good]


def _begin(code: int) -> int:
    """Bytes before the coordinates of a geometry of one part."""
    single = _SINGLE.get(code, code)
    own = _HEADER + _COUNT * {POINT: 0, LINE: 1, POLYGON: 2}[single]
    return own + (_HEADER + _COUNT if single != code else 0)


def _vertices(wkb: pa.Array, lengths: NDArray[np.int64], code: int, dimension: int) -> NDArray[np.int64]:
    """How many vertices each has; 0 where it has several parts or rings."""
    begins, single = _begin(code), _SINGLE.get(code, code)
    long_enough = lengths >= begins
    counts = np.where(long_enough, 1, 0)
    start = 0
    if single != code:
        member = single + (1000 if dimension == 3 else 0)
        counts *= (_words(wkb, _HEADER, long_enough) == 1) & (_words(wkb, _HEADER + _COUNT + 1, long_enough) == member)
        counts *= _bytes(wkb, _HEADER + _COUNT, long_enough) == 1
        start = _HEADER + _COUNT
    if single == POLYGON:
        counts *= _words(wkb, start + _HEADER, long_enough) == 1
    if single != POINT:
        counts = counts * _words(wkb, begins - _COUNT, long_enough)
    return counts


def _words(wkb: pa.Array, place: int, there: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The four bytes at a place of each value, as a number; 0 where it is too short."""
    return _at(wkb, place, 4, "<u4", there)


def _bytes(wkb: pa.Array, place: int, there: NDArray[np.bool_]) -> NDArray[np.int64]:
    return _at(wkb, place, 1, "u1", there)


def _at(wkb: pa.Array, place: int, size: int, dtype: str, there: NDArray[np.bool_]) -> NDArray[np.int64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = np.zeros(len(wkb), dtype=np.int64)
    those = wkb if there.all() else wkb.filter(pa.array(there))
    found[there] = _values(pc.binary_slice(those, place, place + size), dtype)
    return found


def _values(array: pa.Array, dtype: str) -> NDArray[np.generic]:
    """All bytes of an array without nulls, as numbers."""
    import pyarrow as pa

    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return np.zeros(0, dtype)
    wide = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    first, last = np.frombuffer(offsets, wide)[[array.offset, array.offset + len(array)]].tolist()
    return np.frombuffer(data, np.uint8)[first:last].view(dtype)


def _star_shaped(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    boxes: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which rings turn about the middle of their box in one direction and once. NaN makes no comparison true."""
    ends = starts + counts - 1
    closed = (counts >= _SMALLEST_RING) & (x[starts] == x[ends]) & (y[starts] == y[ends])
    dx = x - np.repeat((boxes[:, 0] + boxes[:, 2]) / 2, counts)
    dy = y - np.repeat((boxes[:, 1] + boxes[:, 3]) / 2, counts)
    one, other = dx[:-1] * dy[1:], dx[1:] * dy[:-1]
    turn = one - other
    unsure = _BOUND * (np.abs(one) + np.abs(other)) + _TINY
    below = dy < 0
    upwards = np.zeros(len(x), dtype=np.int8)
    upwards[:-1] = below[:-1] & ~below[1:]
    left, right = np.zeros(len(x), dtype=np.int8), np.zeros(len(x), dtype=np.int8)
    left[:-1], right[:-1] = turn > unsure, turn < -unsure
    for each in (upwards, left, right):
        each[ends] = 0  # from one ring to the next there is no edge
    lefts, rights, ups = (np.add.reduceat(each, starts, dtype=np.int64) for each in (left, right, upwards))
    edges = counts - 1
    return np.asarray(closed & ((lefts == edges) | (rights == edges)) & (ups == 1))
