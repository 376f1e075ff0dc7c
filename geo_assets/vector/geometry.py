"""Geometry: from a file's WKB to the WKB that PostGIS takes, with an account of what was repaired and what was rejected.

Here: arrays of one batch; no file, no database. A null stays null. What cannot be kept is rejected with a reason, never
dropped in silence; what is invalid is repaired and counted by its fault.
Not here: which columns go with it (`read.py`).

Repair is GEOS's `structure` method without collapsed parts: of 64 invalid geometries of the GEOS suite it changes the
dimension of none and empties 8; `buffer(0)` empties 16.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.models import BoundingBox, GeometryType

if TYPE_CHECKING:
    import pyarrow as pa

#: WKB's base type codes (ISO 13249-3). 8-17 are curves, surfaces of curves, TIN and the like.
POINT, LINE, POLYGON, MULTIPOINT, MULTILINE, MULTIPOLYGON, COLLECTION = range(1, 8)
_CURVES = {
    8: "CircularString",
    9: "CompoundCurve",
    10: "CurvePolygon",
    11: "MultiCurve",
    12: "MultiSurface",
    13: "Curve",
    14: "Surface",
    15: "PolyhedralSurface",
    16: "TIN",
    17: "Triangle",
}
TYPE_NAMES = {
    POINT: "Point",
    LINE: "LineString",
    POLYGON: "Polygon",
    MULTIPOINT: "MultiPoint",
    MULTILINE: "MultiLineString",
    MULTIPOLYGON: "MultiPolygon",
    COLLECTION: "GeometryCollection",
}

#: shapely's type ids by WKB code.
_SHAPELY_IDS = {POINT: 0, LINE: 1, POLYGON: 3, MULTIPOINT: 4, MULTILINE: 5, MULTIPOLYGON: 6, COLLECTION: 7}

_EWKB_Z, _EWKB_M, _EWKB_FLAGS = 0x80000000, 0x40000000, 0xF0000000
_HEADER_BYTES = 5  # byte order and type code

EMPTY = "empty geometry"
#: No CRS in use has coordinates of this size; they come from garbage, and poison extents and indexes.
_ABSURD = 1e12

NOT_FINITE = "coordinates are not finite numbers"
UNREADABLE = "unreadable geometry"
OUTSIDE = "outside the area of the target CRS"
UNCLOSED = "Unclosed ring"

#: A repair that changes the area by more is worth a look.
_AREA_TOLERANCE = 0.01

Geometries = NDArray[Any]  # of shapely geometries and None


@dataclass(frozen=True, slots=True)
class Headers:
    """What the first five bytes of each WKB say. Code 0: null; -1: too short or no byte order."""

    codes: NDArray[np.int64]
    has_z: NDArray[np.bool_]
    has_m: NDArray[np.bool_]
    plain: NDArray[np.bool_]  # little-endian ISO WKB, or null

    @classmethod
    def of(cls, wkb: pa.Array) -> Headers:
        """The headers of a binary or large_binary array."""
        present = ~_null_mask(wkb)
        starts, lengths, data = _layout(wkb)
        readable = present & (lengths >= _HEADER_BYTES)
        where = np.where(readable, starts, 0)
        order = np.where(readable, data[where], 255) if len(data) else np.full(len(wkb), 255)
        octets = [
            np.where(readable, data[np.minimum(where + i, max(len(data) - 1, 0))], 0).astype(np.int64)
            if len(data)
            else np.zeros(len(wkb), np.int64)
            for i in range(1, 5)
        ]
        little = octets[0] | octets[1] << 8 | octets[2] << 16 | octets[3] << 24
        big = octets[3] | octets[2] << 8 | octets[1] << 16 | octets[0] << 24
        code = np.where(order == 1, little, big)
        flags = code & _EWKB_FLAGS
        iso = code & ~np.int64(_EWKB_FLAGS)
        dimension = iso // 1000
        base = np.where(readable & (order <= 1), iso % 1000, -1)
        return cls(
            np.where(present, base, 0),
            readable & ((flags & _EWKB_Z > 0) | np.isin(dimension, (1, 3))),
            readable & ((flags & _EWKB_M > 0) | np.isin(dimension, (2, 3))),
            ~present | (readable & (order == 1) & (flags == 0)),
        )


def _null_mask(wkb: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(wkb.is_null())


def _layout(wkb: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Start and length of each value, and the bytes."""
    import pyarrow as pa

    _, offsets_buffer, data_buffer = wkb.buffers()
    dtype = np.int64 if pa.types.is_large_binary(wkb.type) else np.int32
    if len(wkb) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offsets_buffer, dtype)[wkb.offset : wkb.offset + len(wkb) + 1].astype(np.int64)
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer else np.zeros(0, np.uint8)
    return offsets[:-1], np.diff(offsets), data


@dataclass(slots=True)
class Cleaned:
    """A batch of valid geometries. `reasons` holds the rows that cannot be kept; their geometry is None."""

    geometries: Geometries
    headers: Headers
    reasons: dict[int, str] = field(default_factory=dict)
    repaired: Counter[str] = field(default_factory=Counter)
    with_m: int = 0
    area_changed: int = 0

    def reject(self, rows: NDArray[Any], reason: str | list[str]) -> None:
        """Take rows out; the first reason stays."""
        reasons = [reason] * len(rows) if isinstance(reason, str) else reason
        for row, why in zip(rows.tolist(), reasons, strict=True):
            self.reasons.setdefault(row, why)
        self.geometries[rows] = None

    @property
    def changed(self) -> bool:
        """Whether the file's bytes are not what goes into the table."""
        return bool(self.reasons or self.repaired or self.with_m or not self.headers.plain.all())


def clean(wkb: pa.Array, faults: dict[int, str], *, sound: bool = False) -> Cleaned:
    """Parse, drop M, reject what PostGIS must not get, repair what is invalid.

    Args:
        wkb: binary; ISO or EWKB, either byte order.
        faults: rows that the reader already found faulty, by reason.
        sound: a survey has found nothing to do; parse only.
    """
    import shapely

    headers = Headers.of(wkb)
    result = Cleaned(np.full(len(wkb), None, dtype=object), headers, dict(faults))
    unsupported = np.flatnonzero((headers.codes < 0) | (headers.codes > COLLECTION))
    result.reject(unsupported, [_unsupported_reason(int(code)) for code in headers.codes[unsupported]])
    values = np.asarray(wkb.to_numpy(zero_copy_only=False), dtype=object)
    rows = np.asarray([row for row in np.flatnonzero(headers.codes > 0).tolist() if row not in result.reasons], dtype=np.int64)
    _parse(values, rows, result)
    if sound:
        return result
    _drop_m(result)
    result.reject(np.flatnonzero(shapely.is_empty(result.geometries)), EMPTY)
    _reject_not_finite(result, NOT_FINITE)
    repair(result)
    return result


def _unsupported_reason(code: int) -> str:
    return f"{_CURVES[code]} geometry is not supported" if code in _CURVES else UNREADABLE


def _parse(values: Geometries, rows: NDArray[np.int64], result: Cleaned) -> None:
    import shapely

    try:
        result.geometries[rows] = shapely.from_wkb(values[rows])
    except (shapely.errors.ShapelyError, NotImplementedError, ValueError):
        for row in rows.tolist():
            _parse_one(values[row], row, result)


def _parse_one(value: bytes, row: int, result: Cleaned) -> None:
    import shapely

    try:
        result.geometries[row] = shapely.from_wkb(value)
    except (shapely.errors.ShapelyError, NotImplementedError, ValueError):
        result.geometries[row] = _closed(value)
        if result.geometries[row] is None:
            result.reasons.setdefault(row, UNREADABLE)
        else:
            result.repaired[UNCLOSED] += 1


def _closed(value: bytes) -> Any:
    """The geometry with its rings closed, or None if that is not what ails it."""
    import shapely

    try:
        return shapely.from_wkb(value, on_invalid="fix")
    except (shapely.errors.ShapelyError, NotImplementedError, ValueError):
        return None


def _drop_m(result: Cleaned) -> None:
    import shapely

    geometries = result.geometries
    has_m, has_z = shapely.has_m(geometries), shapely.has_z(geometries)
    result.with_m = int(has_m.sum())
    only_m, both = has_m & ~has_z, has_m & has_z
    if only_m.any():
        geometries[only_m] = shapely.force_2d(geometries[only_m])
    if both.any():
        geometries[both] = shapely.from_wkb(shapely.to_wkb(geometries[both], output_dimension=3))


def _reject_not_finite(result: Cleaned, reason: str) -> None:
    """By x and y: a z that is no number harms no index."""
    import shapely

    coordinates, owners = shapely.get_coordinates(result.geometries, return_index=True)
    finite = (np.abs(coordinates) < _ABSURD).all(axis=1)  # false for NaN and infinities too
    if not finite.all():
        result.reject(np.unique(owners[~finite]), reason)


def repair(result: Cleaned, prefix: str = "") -> None:
    """Make what is invalid valid in place, keeping its dimension; reject what cannot be.

    Args:
        result: the batch.
        prefix: put before the reason in the account.
    """
    import shapely

    rows = np.flatnonzero(~shapely.is_valid(result.geometries) & ~shapely.is_missing(result.geometries))
    if not len(rows):
        return
    before = result.geometries[rows]
    reasons = [prefix + str(reason).partition("[")[0].strip() for reason in shapely.is_valid_reason(before)]
    after = np.asarray([_make_valid(geometry) for geometry in before], dtype=object)
    kept = np.asarray([_as_good(old, new) for old, new in zip(before, after, strict=True)], dtype=bool)
    result.geometries[rows] = after
    result.repaired.update(reason for reason, ok in zip(reasons, kept, strict=True) if ok)
    result.area_changed += int(sum(_area_differs(old, new) for old, new in zip(before[kept], after[kept], strict=True)))
    result.reject(rows[~kept], [f"not repairable: {reason}" for reason, ok in zip(reasons, kept, strict=True) if not ok])


def _make_valid(geometry: Any) -> Any:
    import shapely

    try:
        return shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    except shapely.errors.ShapelyError:
        return None


def _as_good(old: Any, new: Any) -> bool:
    import shapely

    return new is not None and not new.is_empty and shapely.get_dimensions(new) == shapely.get_dimensions(old) and bool(new.is_valid)


def _area_differs(old: Any, new: Any) -> bool:
    return bool(abs(new.area - old.area) > _AREA_TOLERANCE * max(abs(old.area), abs(new.area)))


def fit(result: Cleaned, geometry_type: GeometryType, *, has_z: bool, transformer: Any = None) -> int:
    """Bring a cleaned batch to the table's dimension, CRS and Multi type, in place.

    Args:
        result: the batch.
        geometry_type: of the table.
        has_z: whether the table has heights; what has none gets 0.
        transformer: from the file's CRS to the table's (pyproj, x first), or None.

    Returns:
        How many geometries got the height 0.
    """
    import shapely

    present = ~shapely.is_missing(result.geometries)
    flat = present & ~shapely.has_z(result.geometries)
    if has_z and flat.any():
        result.geometries[flat] = shapely.force_3d(result.geometries[flat], z=0.0)
    if transformer is not None:
        _transform(result, transformer, has_z=has_z)
    _promote(result, geometry_type)
    return int(flat.sum()) if has_z else 0


def _transform(result: Cleaned, transformer: Any, *, has_z: bool) -> None:
    import shapely

    def move(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = coordinates.copy()
        moved[:, 0], moved[:, 1] = transformer.transform(coordinates[:, 0], coordinates[:, 1])
        return moved

    result.geometries = shapely.transform(result.geometries, move, include_z=has_z)
    _reject_not_finite(result, OUTSIDE)
    repair(result, "after reprojection: ")


def _promote(result: Cleaned, geometry_type: GeometryType) -> None:
    import shapely

    makers = {
        "MULTIPOINT": (POINT, shapely.multipoints),
        "MULTILINESTRING": (LINE, shapely.multilinestrings),
        "MULTIPOLYGON": (POLYGON, shapely.multipolygons),
    }
    if geometry_type not in makers:
        return
    code, make = makers[geometry_type]
    single = shapely.get_type_id(result.geometries) == _SHAPELY_IDS[code]
    if single.any():
        result.geometries[single] = make(result.geometries[single], indices=np.arange(single.sum()))


def to_wkb(geometries: Geometries, *, has_z: bool) -> pa.Array:
    """Little-endian ISO WKB without SRID: PostGIS gives it the column's."""
    import pyarrow as pa
    import shapely

    return pa.array(shapely.to_wkb(geometries, output_dimension=3 if has_z else 2, byte_order=1, flavor="iso"), pa.binary())


def promote_wkb(wkb: pa.Array, geometry_type: GeometryType, *, has_z: bool) -> pa.Array:
    """Multi geometries from WKB that needs nothing else, without parsing it: a Multi of one is a header and the geometry itself.

    Args:
        wkb: little-endian ISO WKB, all with or all without z.
        geometry_type: of the table.
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


class Survey:
    """What a whole layer holds, batch after batch."""

    def __init__(self) -> None:
        self.features = 0
        self.nulls = 0
        self.codes: Counter[int] = Counter()
        self.rejected: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        self.with_z = self.with_m = self.area_changed = 0
        self.untouched = True
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def add(self, wkb: pa.Array, faults: dict[int, str]) -> None:
        """Take in one batch; arguments as for `clean`."""
        import shapely

        cleaned = clean(wkb, faults)
        present = ~shapely.is_missing(cleaned.geometries)
        self.features += len(wkb)
        self.nulls += len(wkb) - int(present.sum()) - len(cleaned.reasons)
        self.codes.update(cleaned.headers.codes[present].tolist())
        self.rejected.update(cleaned.reasons.values())
        self.repaired.update(cleaned.repaired)
        self.with_z += int(shapely.has_z(cleaned.geometries).sum())
        self.with_m += cleaned.with_m
        self.area_changed += cleaned.area_changed
        self.untouched = self.untouched and not cleaned.changed
        if present.any():
            low, high = self._bounds[:2], self._bounds[2:]
            box = shapely.total_bounds(cleaned.geometries)
            self._bounds = np.concatenate([np.fmin(low, box[:2]), np.fmax(high, box[2:])])

    @property
    def kept(self) -> int:
        """Features with a geometry that can be loaded."""
        return sum(self.codes.values())

    @property
    def bounds(self) -> BoundingBox:
        """Of what is kept, in the layer's CRS."""
        west, south, east, north = self._bounds.tolist()
        return west, south, east, north

    @property
    def mixed(self) -> bool:
        """Whether no one table type holds all of it: several dimensions, or collections."""
        return len(self._dimensions()) > 1 or COLLECTION in self.codes

    @property
    def geometry_type(self) -> GeometryType:
        """The table's type: Multi for lines and polygons; points stay points unless one is a MultiPoint."""
        dimension = self._dimensions().pop()
        if dimension == POINT:
            return "MULTIPOINT" if MULTIPOINT in self.codes else "POINT"
        return "MULTILINESTRING" if dimension == LINE else "MULTIPOLYGON"

    @property
    def wkb_as_is(self) -> bool:
        """Whether the file's bytes can go into the table but for a Multi header."""
        return self.untouched and self.with_z in {0, self.kept}

    def type_counts(self) -> str:
        """`3 Point, 2 Polygon`, for messages."""
        return ", ".join(f"{count} {TYPE_NAMES[code]}" for code, count in sorted(self.codes.items()))

    def _dimensions(self) -> set[int]:
        return {code if code <= POLYGON else code - (MULTIPOINT - POINT) for code in self.codes if code != COLLECTION}
