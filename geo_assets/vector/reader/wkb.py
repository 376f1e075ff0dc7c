"""WKB as bytes: the header of each geometry, and WKB for PostGIS, made without parsing where possible.

Here: the codes of ISO 13249-3 and arrays of WKB. Not here: parsed geometries (`geometry.py`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.models import GeometryType

if TYPE_CHECKING:
    import pyarrow as pa

#: WKB's base type codes (ISO 13249-3). 8-17 are curves, surfaces of curves, TIN and the like.
POINT, LINE, POLYGON, MULTIPOINT, MULTILINE, MULTIPOLYGON, COLLECTION = range(1, 8)

#: Of CircularString, CompoundCurve, CurvePolygon, MultiCurve and MultiSurface.
FIRST_CURVE, LAST_CURVE = 8, 12

TYPE_NAMES = {
    POINT: "Point",
    LINE: "LineString",
    POLYGON: "Polygon",
    MULTIPOINT: "MultiPoint",
    MULTILINE: "MultiLineString",
    MULTIPOLYGON: "MultiPolygon",
    COLLECTION: "GeometryCollection",
}

#: The codes of what a table of a type takes from bytes alone: a Multi of one is made of a single geometry.
CODES_OF: dict[GeometryType, list[int]] = {
    "POINT": [POINT],
    "MULTIPOINT": [POINT, MULTIPOINT],
    "MULTILINESTRING": [LINE, MULTILINE],
    "MULTIPOLYGON": [POLYGON, MULTIPOLYGON],
    "GEOMETRY": list(TYPE_NAMES),
}

_EWKB_Z, _EWKB_M, _EWKB_SRID, _EWKB_FLAGS = 0x80000000, 0x40000000, 0x20000000, 0xF0000000
_HEADER_BYTES = 5  # byte order and type code
_EMPTY_BYTES = SHORTEST = 9  # a header and a count of 0

Geometries = NDArray[Any]  # of shapely geometries and None


@dataclass(frozen=True, slots=True)
class Headers:
    """The first five bytes of each WKB. Code 0: null; -1: too short or no byte order."""

    codes: NDArray[np.int64]
    has_z: NDArray[np.bool_]
    has_m: NDArray[np.bool_]
    plain: NDArray[np.bool_]  # little-endian ISO WKB, or null
    empty: NDArray[np.bool_]  # no member, no ring, no vertex; an empty point has NaN as coordinates

    @classmethod
    def of(cls, wkb: pa.Array) -> Headers:
        """Return the headers of a binary or large_binary array."""
        present = ~_null_mask(wkb)
        starts, lengths, data = _layout(wkb)
        readable = present & (lengths >= _HEADER_BYTES)
        order, code = _first_bytes(starts, readable, data)
        flags = code & _EWKB_FLAGS
        iso = code & ~np.int64(_EWKB_FLAGS)
        dimension, base = np.divmod(iso, 1000)
        base[~(readable & (order <= 1))] = -1
        base[~present] = 0
        return cls(
            base,
            readable & ((flags & _EWKB_Z > 0) | (dimension == 1) | (dimension == 3)),
            readable & ((flags & _EWKB_M > 0) | (dimension == 2) | (dimension == 3)),
            ~present | (readable & (order == 1) & (flags == 0)),
            readable & (lengths <= _EMPTY_BYTES),
        )

    @property
    def need_nothing(self) -> bool:
        """Whether every WKB is null, or plain, of a known type, without M, and not empty."""
        known = (self.codes >= 0) & (self.codes < COLLECTION)
        return bool((self.plain & known & ~self.has_m & ~self.empty).all())


def _first_bytes(
    starts: NDArray[np.int64], readable: NDArray[np.bool_], data: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the byte order and the type code of each WKB; 255 and 0 where there is none."""
    order, code = np.full(len(starts), 255, np.uint8), np.zeros(len(starts), np.int64)
    if readable.any():
        first = starts[readable]
        words = np.ndarray((len(data) - 3,), "<u4", data, 0, (1,))  # four bytes at every position: one lookup per WKB
        order[readable] = bytes_of_order = data[first]
        little = words[first + 1]
        code[readable] = (
            little if (bytes_of_order == 1).all() else np.where(bytes_of_order == 1, little, little.byteswap())
        )
    return order, code


def srids_of(wkb: pa.Array) -> NDArray[np.int64]:
    """Return the SRID that each EWKB of a binary or large_binary array names; 0 where none does."""
    starts, lengths, data = _layout(wkb)
    readable = ~_null_mask(wkb) & (lengths >= _EMPTY_BYTES)
    order, code = _first_bytes(starts, readable, data)
    rows = np.flatnonzero(readable & (order <= 1) & (code & _EWKB_SRID > 0))
    srids = np.zeros(len(wkb), np.int64)
    if len(rows):
        named = np.ndarray((len(data) - 3,), "<u4", data, 0, (1,))[starts[rows] + _HEADER_BYTES]
        srids[rows] = np.where(order[rows] == 1, named, named.byteswap())
    return srids


def _null_mask(wkb: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(wkb.is_null())


def _layout(wkb: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Return start and length of each value, and the bytes."""
    import pyarrow as pa

    _, offsets_buffer, data_buffer = wkb.buffers()
    dtype = np.int64 if pa.types.is_large_binary(wkb.type) else np.int32
    if len(wkb) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offsets_buffer, dtype)[wkb.offset : wkb.offset + len(wkb) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.zeros(0, np.uint8)
    return offsets[:-1], np.diff(offsets), data


def to_wkb(geometries: Geometries, *, has_z: bool) -> pa.Array:
    """Return little-endian ISO WKB without SRID: PostGIS gives it the column's."""
    import pyarrow as pa
    import shapely

    return pa.array(
        shapely.to_wkb(geometries, output_dimension=3 if has_z else 2, byte_order=1, flavor="iso"), pa.binary()
    )


def promote_wkb(wkb: pa.Array, geometry_type: GeometryType, *, has_z: bool) -> pa.Array:
    """Make Multi geometries from WKB that needs no other change, without parsing it: a Multi of one is a header and the
    geometry itself.

    Args:
        wkb: little-endian ISO WKB, all with or all without z.
        geometry_type: the table's type.
        has_z: whether the geometries have z.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    multi = {"MULTIPOINT": MULTIPOINT, "MULTILINESTRING": MULTILINE, "MULTIPOLYGON": MULTIPOLYGON}.get(geometry_type)
    plain = wkb.cast(pa.binary())
    if multi is None:
        return plain
    header = b"\x01" + (multi + (1000 if has_z else 0)).to_bytes(4, "little") + (1).to_bytes(4, "little")
    single = Headers.of(wkb).codes == multi - (MULTIPOINT - POINT)
    prefixes = pa.array([b"", header], pa.binary()).take(pa.array(single.astype(np.int8)))
    return pc.binary_join_element_wise(prefixes, plain, pa.scalar(b"", pa.binary()))


def without_single_points(wkb: bytes) -> bytes | None:
    """Return a MultiLineString without the lines of one point, which no library reads; None where it is none, has no
    such line, or would have no line at all.
    """
    try:
        order, (code, count) = wkb[0], _words(wkb, 0)
        if code % 1000 != MULTILINE or code & _EWKB_FLAGS:
            return None
        kept, at = [], _EMPTY_BYTES
        for _ in range(count):
            line, points = _words(wkb, at)
            size = _EMPTY_BYTES + points * 8 * (2, 3, 3, 4)[line // 1000]
            if line % 1000 != LINE or at + size > len(wkb):
                return None
            if points != 1:
                kept.append(wkb[at : at + size])
            at += size
    except (struct.error, IndexError):
        return None
    if not kept or len(kept) == count:
        return None
    return wkb[:_HEADER_BYTES] + len(kept).to_bytes(4, "little" if order == 1 else "big") + b"".join(kept)


def _words(wkb: bytes, at: int) -> tuple[int, int]:
    """Return the type code and the count that follow a byte order."""
    code, count = struct.unpack_from("<II" if wkb[at] == 1 else ">II", wkb, at + 1)
    return code, count
