"""Geometries that are valid beyond doubt, told from their WKB and moved in it: without parsing it, and without GEOS.

Here: sufficient conditions, and other coordinates for the same bytes. What does not meet them is not invalid:
`geometry.py` asks GEOS.

* A point is valid if its coordinates are finite. So must heights be, of all.
* A line is valid if they are, and two of its vertices differ.
* A polygon of one ring is valid if the ring is simple, which `rings.c` tells, compiled: it is closed, and its edges
  meet nowhere but at the vertices of neighbours. A vertex may be repeated.
* A Multi geometry of one member is valid if the member is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.models import BoundingBox
from geo_assets.vector.reader.rings import simple_rings
from geo_assets.vector.reader.wkb import LINE, MULTILINE, MULTIPOINT, MULTIPOLYGON, POINT, POLYGON, Headers

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.ends import Way

#: Bytes of WKB: byte order and type; a count.
_HEADER, _COUNT = 5, 4

#: The end of any value. Named, as pyarrow 26 fails on a slice without an end.
_END = 2**31 - 1

#: Vertices of the smallest ring, which ends where it begins.
_SMALLEST_RING = 4

#: Vertices of the smallest line.
_SMALLEST_LINE = 2

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

    @classmethod
    def nothing(cls, headers: Headers) -> Self:
        """None of them."""
        count = len(headers.codes)
        return cls(headers, np.zeros(count, dtype=np.bool_), np.full((count, 4), np.nan))


def sound(wkb: pa.Array, headers: Headers) -> Sound:
    """Look at each geometry of a batch once.

    Args:
        wkb: binary or large_binary.
        headers: of it.
    """
    found = Sound.nothing(headers)
    with np.errstate(invalid="ignore", over="ignore"):  # of what is not finite nothing is proven
        for group in _groups(wkb, headers):
            boxes = group.boxes(group.x, group.y)
            good = group.valid(group.x, group.y, boxes) & group.high()
            found.rows[group.rows[good]] = True
            found.boxes[group.rows[good]] = boxes[good]
    return found


@dataclass(frozen=True, slots=True)
class Moved:
    """WKB of geometries at their new places, as far as it can be made of the old; null for the others.

    Attributes:
        sound: those that are valid beyond doubt; where geometry is trusted, all.
        unproven: those about which GEOS must decide.
    """

    sound: pa.Array
    unproven: pa.Array


def moved(
    wkb: pa.Array,
    headers: Headers,
    way: Way,
    domain: BoundingBox | None,
    plausible: BoundingBox,
    *,
    has_z: bool,
    trust: bool,
) -> Moved:
    """Move geometries, where their WKB is enough for it.

    Args:
        wkb: binary or large_binary.
        headers: of it.
        way: where they go; those that it may have torn apart are left to who can cut them.
        domain: where they must lie before; None: anywhere.
        plausible: where they must lie before and afterwards.
        has_z: which geometries are wanted: with or without heights, which are kept.
        trust: also those that are not proven to be valid afterwards.
    """
    proven, unproven = _Places(len(wkb)), _Places(len(wkb))
    with np.errstate(invalid="ignore", over="ignore"):
        for group in _groups(wkb, headers):
            if (group.dimension == 3) != has_z:
                continue
            x, y = way.transform(group.x, group.y)
            boxes = group.boxes(x, y)
            before = group.boxes(group.x, group.y)
            there = inside(before, domain) & inside(before, plausible) & inside(boxes, plausible) & group.closed()
            there &= way.surely_whole(before, boxes)
            there &= True if trust else group.high()
            good = there & (group.whole(boxes) if trust else group.valid(x, y, boxes))
            written = group.written(x, y)
            proven.add(group.rows, written, good)
            if not trust:
                unproven.add(group.rows, written, there & ~good)
    return Moved(proven.array(), unproven.array())


class _Places:
    """Values by their row in a batch, some at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
        self._parts: list[pa.Array] = []

    def add(self, rows: NDArray[np.intp], values: pa.Array, mask: NDArray[np.bool_]) -> None:
        """Take those of a mask."""
        import pyarrow as pa

        self._rows.append(rows[mask])
        self._parts.append(values.filter(pa.array(mask)))

    def array(self) -> pa.Array:
        """Return a value for each row; null where there is none."""
        import pyarrow as pa

        places = np.full(self._count, -1, dtype=np.int64)
        places[np.concatenate(self._rows)] = np.arange(sum(map(len, self._rows)))
        values = pa.concat_arrays([*self._parts, pa.nulls(0, pa.binary())])
        return values.take(pa.array(places, mask=places < 0))


def inside(boxes: NDArray[np.float64], box: BoundingBox | None) -> NDArray[np.bool_]:
    """Which boxes (xmin, ymin, xmax, ymax) lie in one; all where there is none. NaN is in no box."""
    if box is None:
        return np.ones(len(boxes), dtype=np.bool_)
    return np.asarray((boxes[:, :2] >= box[:2]).all(axis=1) & (boxes[:, 2:] <= box[2:]).all(axis=1))


@dataclass(frozen=True, slots=True)
class _Group:
    """The geometries of a batch that have one code and dimension, one part and one ring.

    Attributes:
        rows: where they are in the batch.
        code: of the WKB.
        dimension: numbers of a vertex.
        wkb: theirs.
        coordinates: of all vertices, one after the other.
        x, y: of the vertices.
        starts: the first vertex of each.
        counts: vertices of each.
    """

    rows: NDArray[np.intp]
    code: int
    dimension: int
    wkb: pa.Array
    coordinates: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def boxes(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of each: xmin, ymin, xmax, ymax. NaN and infinity show in them."""
        reduce = (np.minimum.reduceat, np.maximum.reduceat)
        return np.stack([each(values, self.starts) for each in reduce for values in (x, y)], axis=1)

    def valid(self, x: NDArray[np.float64], y: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which are valid beyond doubt, with these coordinates."""
        good = np.isfinite(boxes).all(axis=1)
        single = _SINGLE.get(self.code, self.code)
        if single == LINE:
            good &= (boxes[:, 0] < boxes[:, 2]) | (boxes[:, 1] < boxes[:, 3])
        elif single == POLYGON:
            good &= simple_rings(x, y, self.starts, self.counts)
        return np.asarray(good)

    def whole(self, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which any library reads as they are: with finite coordinates, enough of them, rings that end where they
        begin. It is what is left to check where geometry is trusted.
        """
        good = np.isfinite(boxes).all(axis=1)
        single = _SINGLE.get(self.code, self.code)
        if single == LINE:
            good &= self.counts >= _SMALLEST_LINE
        elif single == POLYGON:
            good &= (self.counts >= _SMALLEST_RING) & self.closed()
        return np.asarray(good)

    def high(self) -> NDArray[np.bool_]:
        """Which have no height that is no number."""
        if self.dimension == 2:
            return np.ones(len(self.rows), dtype=np.bool_)
        return np.asarray(np.isfinite(np.add.reduceat(self.coordinates[:, 2], self.starts)))

    def closed(self) -> NDArray[np.bool_]:
        """Which end where they begin, as they are written; all that are no polygons."""
        if _SINGLE.get(self.code, self.code) != POLYGON:
            return np.ones(len(self.rows), dtype=np.bool_)
        first, last = self.coordinates[self.starts], self.coordinates[self.starts + self.counts - 1]
        return np.asarray((first == last).all(axis=1))

    def written(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> pa.Array:
        """Their WKB with other coordinates; heights stay."""
        import pyarrow as pa
        import pyarrow.compute as pc

        coordinates = self.coordinates.copy()
        coordinates[:, 0], coordinates[:, 1] = x, y
        ends = np.concatenate([[0], np.cumsum(self.counts)]) * (8 * self.dimension)
        buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(coordinates)]
        vertices = pa.Array.from_buffers(pa.binary(), len(self.counts), buffers)
        before = pc.binary_slice(self.wkb, 0, _begin(self.code)).cast(pa.binary())
        return pc.binary_join_element_wise(before, vertices, pa.scalar(b"", pa.binary()))


def _groups(wkb: pa.Array, headers: Headers) -> Iterator[_Group]:
    """The geometries of one part and one ring, by code and dimension. Little-endian ISO WKB without M."""
    usable = (
        headers.plain & ~headers.has_m & ~headers.empty & (headers.codes >= POINT) & (headers.codes <= MULTIPOLYGON)
    )
    kinds = np.where(usable, headers.codes * 2 + headers.has_z, -1)
    for kind in np.unique(kinds[usable]).tolist():
        code, has_z = divmod(kind, 2)
        group = _group(wkb, np.flatnonzero(kinds == kind), code, 3 if has_z else 2)
        if group is not None:
            yield group


def _group(wkb: pa.Array, rows: NDArray[np.intp], code: int, dimension: int) -> _Group | None:
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
        return None
    coordinates: NDArray[np.float64] = _values(pc.binary_slice(mine, begins, _END), "<f8").reshape(-1, dimension)
    x, y = np.ascontiguousarray(coordinates[:, 0]), np.ascontiguousarray(coordinates[:, 1])
    starts = np.concatenate([[0], np.cumsum(counts[:-1])])
    return _Group(rows, code, dimension, mine, coordinates, x, y, starts, counts)


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


def _values(array: pa.Array, dtype: str) -> NDArray[Any]:
    """All bytes of an array without nulls, as numbers."""
    import pyarrow as pa

    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return np.zeros(0, dtype)
    wide = np.int64 if pa.types.is_large_binary(array.type) else np.int32
    first, last = np.frombuffer(offsets, wide)[[array.offset, array.offset + len(array)]].tolist()
    return np.frombuffer(data, np.uint8)[first:last].view(dtype)
