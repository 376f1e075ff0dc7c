"""Geometry: from a file's WKB to the WKB that PostGIS takes, with an account of what was repaired and what was
rejected.

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

from geo_assets.vector.models import BoundingBox, GeometryType, Part
from geo_assets.vector.reader.tangles import TANGLED, is_tangled

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

#: shapely's type ids by WKB code, and back (a LinearRing is a line).
_SHAPELY_IDS = {POINT: 0, LINE: 1, POLYGON: 3, MULTIPOINT: 4, MULTILINE: 5, MULTIPOLYGON: 6, COLLECTION: 7}
_CODES = np.array(
    [POINT, LINE, LINE, POLYGON, MULTIPOINT, MULTILINE, MULTIPOLYGON, COLLECTION, 0]
)  # the last: none, id -1

#: What a layer is split by.
PARTS: dict[int, Part] = {POINT: "point", LINE: "line", POLYGON: "polygon"}

_EWKB_Z, _EWKB_M, _EWKB_FLAGS = 0x80000000, 0x40000000, 0xF0000000
_HEADER_BYTES = 5  # byte order and type code
_EMPTY_BYTES = 9  # a header and a count of 0

#: GDAL's step along an arc, in degrees, also ogr2ogr's: a chord is at most 1 - cos(2°) = 0.061 % of the radius off.
ARC_STEP_DEGREES = 4

EMPTY = "empty geometry"
NULL = "no geometry"
COLLECTION_OF_ONE_KIND = "geometry collection of one kind"
COLLECTION_OF_SEVERAL_KINDS = "geometry collection of several kinds"

#: No CRS in use has coordinates of this size; they come from garbage, and poison extents and indexes.
_ABSURD = 1e12

NOT_FINITE = "coordinates are not finite numbers"
UNREADABLE = "unreadable geometry"
OUTSIDE = "outside the area of the target CRS"
OFF_THE_GLOBE = "beyond longitude and latitude"
UNCLOSED = "Unclosed ring"

#: With more than these to work on, the whole layer is gone through again.
_MOST_CHANGED = 20_000

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
    empty: NDArray[np.bool_]  # no member, no ring, no vertex; an empty point has coordinates that are no numbers

    @classmethod
    def of(cls, wkb: pa.Array) -> Headers:
        """The headers of a binary or large_binary array."""
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
    """The byte order and the type code of each WKB; 255 and 0 where there is none to read."""
    order, code = np.full(len(starts), 255, np.uint8), np.zeros(len(starts), np.int64)
    if readable.any():
        first = starts[readable]
        words = np.ndarray(
            (len(data) - 3,), "<u4", data, 0, (1,)
        )  # four bytes from each place on: one look for each WKB
        order[readable] = bytes_of_order = data[first]
        little = words[first + 1]
        code[readable] = (
            little if (bytes_of_order == 1).all() else np.where(bytes_of_order == 1, little, little.byteswap())
        )
    return order, code


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
    """A batch of valid geometries. `reasons` holds the rows that cannot be kept, `filtered` those not wanted; their
    geometry is None.
    """

    geometries: Geometries
    headers: Headers
    reasons: dict[int, str] = field(default_factory=dict)
    repairs: dict[int, str] = field(default_factory=dict)  # row -> its fault
    filtered: set[int] = field(default_factory=set)
    with_m: int = 0
    area_changed: int = 0
    strays: NDArray[np.float64] | None = None  # the extent of what lies outside the domain

    def reject(self, rows: NDArray[Any], reason: str | list[str]) -> None:
        """Take rows out; the first reason stays."""
        reasons = [reason] * len(rows) if isinstance(reason, str) else reason
        for row, why in zip(rows.tolist(), reasons, strict=True):
            self.reasons.setdefault(row, why)
            self.repairs.pop(row, None)
        self.geometries[rows] = None

    def leave_out(self, rows: NDArray[Any]) -> None:
        """Take rows out that nobody asked for."""
        self.filtered.update(rows.tolist())
        for row in rows.tolist():
            self.repairs.pop(row, None)
        self.geometries[rows] = None

    @property
    def repaired(self) -> Counter[str]:
        """Repaired features by their fault."""
        return Counter(self.repairs.values())

    @property
    def codes(self) -> NDArray[np.int64]:
        """WKB's base type code of each geometry as it now is; 0: none."""
        import shapely

        codes: NDArray[np.int64] = _CODES[shapely.get_type_id(self.geometries)]
        return codes

    @property
    def changed(self) -> set[int]:
        """The rows whose bytes, as they came, are not what goes into the table."""
        return {*self.reasons, *self.repairs, *np.flatnonzero(self.headers.has_m | ~self.headers.plain).tolist()}


def clean(
    wkb: pa.Array,
    faults: dict[int, str],
    *,
    sound: bool = False,
    trust: bool = False,
    domain: BoundingBox | None = None,
) -> Cleaned:
    """Parse, drop M, reject what PostGIS must not get, repair what is invalid.

    Args:
        wkb: binary; ISO or EWKB, either byte order.
        faults: rows that the reader already found faulty, by reason.
        sound: a survey has found nothing to do; parse only.
        trust: do not look for invalid geometry.
        domain: where the CRS of the coordinates is defined, or None.
    """
    import shapely

    headers = Headers.of(wkb)
    result = Cleaned(np.full(len(wkb), None, dtype=object), headers, dict(faults))
    unsupported = np.flatnonzero((headers.codes < 0) | (headers.codes > COLLECTION))
    result.reject(unsupported, [_unsupported_reason(int(code)) for code in headers.codes[unsupported]])
    values = np.asarray(wkb.to_numpy(zero_copy_only=False), dtype=object)
    rows = np.asarray(
        [row for row in np.flatnonzero(headers.codes > 0).tolist() if row not in result.reasons], dtype=np.int64
    )
    _parse(values, rows, result)
    if sound:
        return result
    _drop_m(result)
    result.reject(np.flatnonzero(shapely.is_empty(result.geometries)), EMPTY)
    _unwrap_collections(result)
    _reject_absurd(result, NOT_FINITE)
    if domain is not None:
        result.strays = _reject_outside(result, domain, OFF_THE_GLOBE)
    if not trust:
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
            result.repairs[row] = UNCLOSED


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


def _unwrap_collections(result: Cleaned) -> None:
    """A collection of one kind is the Multi geometry of its members; of several kinds it stays what it is."""
    import shapely

    for row in np.flatnonzero(shapely.get_type_id(result.geometries) == _SHAPELY_IDS[COLLECTION]).tolist():
        members = _members(result.geometries[row])
        if len({shapely.get_dimensions(member) for member in members}) == 1:
            make = (shapely.multipoints, shapely.multilinestrings, shapely.multipolygons)[
                int(shapely.get_dimensions(members[0]))
            ]
            result.geometries[row] = make(members)
            result.repairs.setdefault(row, COLLECTION_OF_ONE_KIND)


def _members(collection: Any) -> list[Any]:
    """The single geometries of a collection of collections, without the empty ones."""
    import shapely

    found, rest = [], [collection]
    while rest:
        geometry = rest.pop()
        if geometry.is_empty:
            continue
        if shapely.get_type_id(geometry) < _SHAPELY_IDS[MULTIPOINT]:
            found.append(geometry)
        else:
            rest += reversed(shapely.get_parts(geometry).tolist())
    return found


def _reject_absurd(result: Cleaned, reason: str) -> None:
    """By x and y: a z that is no number harms no index. NaN hides from a box; `repair` finds it."""
    limit = _ABSURD
    _reject_outside(result, (-limit, -limit, limit, limit), reason)


def _reject_outside(result: Cleaned, domain: BoundingBox, reason: str) -> NDArray[np.float64] | None:
    """Reject what reaches out of a box; returns the extent of that."""
    import shapely

    boxes = shapely.bounds(result.geometries)
    west, south, east, north = domain
    outside = (boxes[:, 0] < west) | (boxes[:, 1] < south) | (boxes[:, 2] > east) | (boxes[:, 3] > north)
    outside |= np.isnan(boxes).any(axis=1) & ~shapely.is_missing(result.geometries)
    if not outside.any():
        return None
    result.reject(np.flatnonzero(outside), reason)
    return np.concatenate([boxes[outside, :2].min(axis=0), boxes[outside, 2:].max(axis=0)])


def repair(result: Cleaned, prefix: str = "", *, among: NDArray[Any] | None = None) -> None:
    """Make what is invalid valid in place, keeping its dimension; reject what cannot be.

    Args:
        result: the batch.
        prefix: put before the reason in the account.
        among: the rows to look at; None: all. To look costs more than to parse.
    """
    import shapely

    looked_at = np.arange(len(result.geometries)) if among is None else among
    geometries = result.geometries[looked_at]
    rows = looked_at[~shapely.is_valid(geometries) & ~shapely.is_missing(geometries)]
    if not len(rows):
        return
    coordinates, owners = shapely.get_coordinates(result.geometries[rows], return_index=True)
    broken = np.unique(owners[~np.isfinite(coordinates).all(axis=1)])
    result.reject(rows[broken], NOT_FINITE)
    rows = np.delete(rows, broken)
    tangled = np.asarray([is_tangled(geometry) for geometry in result.geometries[rows]], dtype=bool)
    result.reject(rows[tangled], TANGLED)
    rows = rows[~tangled]
    before = result.geometries[rows]
    reasons = [prefix + str(reason).partition("[")[0].strip() for reason in shapely.is_valid_reason(before)]
    after = np.asarray([_make_valid(geometry) for geometry in before] or [None], dtype=object)[: len(rows)]
    kept = np.asarray([_as_good(old, new) for old, new in zip(before, after, strict=True)], dtype=bool)
    result.geometries[rows] = after
    for row, reason in zip(rows[kept].tolist(), np.asarray(reasons, dtype=object)[kept], strict=True):
        result.repairs.setdefault(row, reason)
    result.area_changed += int(sum(_area_differs(old, new) for old, new in zip(before[kept], after[kept], strict=True)))
    result.reject(
        rows[~kept], [f"not repairable: {reason}" for reason, ok in zip(reasons, kept, strict=True) if not ok]
    )


def _make_valid(geometry: Any) -> Any:
    import shapely

    try:
        return shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    except shapely.errors.ShapelyError:
        return None


def _as_good(old: Any, new: Any) -> bool:
    import shapely

    return (
        new is not None
        and not new.is_empty
        and shapely.get_dimensions(new) == shapely.get_dimensions(old)
        and bool(new.is_valid)
    )


def _area_differs(old: Any, new: Any) -> bool:
    return bool(abs(new.area - old.area) > _AREA_TOLERANCE * max(abs(old.area), abs(new.area)))


def fit(
    result: Cleaned, geometry_type: GeometryType, *, has_z: bool, transformer: Any = None, trust: bool = False
) -> int:
    """Bring a cleaned batch to the table's dimension, CRS and Multi type, in place.

    Args:
        result: the batch.
        geometry_type: of the table.
        has_z: whether the table has heights; what has none gets 0.
        transformer: from the file's CRS to the table's (pyproj, x first), or None.
        trust: do not look for what reprojection made invalid.

    Returns:
        How many geometries got the height 0.
    """
    import shapely

    present = ~shapely.is_missing(result.geometries)
    flat = present & ~shapely.has_z(result.geometries)
    if has_z and flat.any():
        result.geometries[flat] = shapely.force_3d(result.geometries[flat], z=0.0)
    if transformer is not None:
        _transform(result, transformer, has_z=has_z, trust=trust)
    _promote(result, geometry_type)
    return int(flat.sum()) if has_z else 0


def _transform(result: Cleaned, transformer: Any, *, has_z: bool, trust: bool) -> None:
    """Move every geometry, then look at all once: what is invalid there was so before, and is repaired before, or
    became so on the way.
    """
    import shapely

    before = result.geometries
    result.geometries = _moved(before, transformer, has_z=has_z)
    _reject_absurd(result, OUTSIDE)
    if trust:
        return
    rows = np.flatnonzero(~shapely.is_valid(result.geometries) & ~shapely.is_missing(result.geometries))
    faulty = rows[~shapely.is_valid(before[rows])]
    if len(faulty):
        _repair_before(result, before, faulty, transformer, has_z=has_z)
    if len(rows):
        repair(result, "after reprojection: ", among=rows)


def _moved(geometries: Geometries, transformer: Any, *, has_z: bool) -> Geometries:
    import shapely

    def move(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = coordinates.copy()
        moved[:, 0], moved[:, 1] = transformer.transform(coordinates[:, 0], coordinates[:, 1])
        return moved

    return np.asarray(shapely.transform(geometries, move, include_z=has_z), dtype=object)


def _repair_before(result: Cleaned, before: Geometries, rows: NDArray[Any], transformer: Any, *, has_z: bool) -> None:
    """Repair some geometries where they lie in the file, then move them."""
    part = Cleaned(before[rows], result.headers)
    repair(part)
    part.geometries = _moved(part.geometries, transformer, has_z=has_z)
    result.geometries[rows] = part.geometries
    result.area_changed += part.area_changed
    result.repairs.update({int(rows[row]): reason for row, reason in part.repairs.items()})
    for row, reason in part.reasons.items():
        result.reject(rows[[row]], reason)


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

    return pa.array(
        shapely.to_wkb(geometries, output_dimension=3 if has_z else 2, byte_order=1, flavor="iso"), pa.binary()
    )


def promote_wkb(wkb: pa.Array, geometry_type: GeometryType, *, has_z: bool) -> pa.Array:
    """Multi geometries from WKB that needs nothing else, without parsing it: a Multi of one is a header and the
    geometry itself.

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


@dataclass(slots=True)
class Tally:
    """What a layer holds of one kind: points, lines, polygons or mixed collections."""

    count: int = 0
    with_z: int = 0
    multi: bool = False
    repaired: Counter[str] = field(default_factory=Counter)
    box: NDArray[np.float64] = field(default_factory=lambda: np.array([np.inf, np.inf, -np.inf, -np.inf]))

    def stretch(self, box: NDArray[np.float64]) -> None:
        """Let the box hold another."""
        self.box = np.concatenate([np.fmin(self.box[:2], box[:2]), np.fmax(self.box[2:], box[2:])])

    def __add__(self, other: Tally) -> Tally:
        total = Tally(
            self.count + other.count,
            self.with_z + other.with_z,
            self.multi or other.multi,
            self.repaired + other.repaired,
        )
        total.stretch(self.box)
        total.stretch(other.box)
        return total

    @property
    def bounds(self) -> BoundingBox:
        """Of what is kept, in the layer's CRS."""
        west, south, east, north = self.box.tolist()
        return west, south, east, north


class Survey:
    """What a whole layer holds, batch after batch."""

    def __init__(self, *, widest: float | None = None) -> None:
        """`widest`: a geometry that is wider may cross the antimeridian; None where there is none."""
        self.features = 0
        self.nulls = 0
        self.filtered = 0
        self.linearised = 0
        self.codes: Counter[int] = Counter()
        self.rejected: Counter[str] = Counter()
        self.area_changed = self.wide = self.with_m = 0
        self.changed: list[int] | None = []  # places among what was added; None: too many
        self.sound_values = False  # of the attributes, where the survey looked at them too
        self._seen = 0
        self.tallies: dict[int, Tally] = {}
        self._widest = widest
        self._whole = Tally()

    def add(self, cleaned: Cleaned, *, filtered: int = 0, linearised: int = 0) -> None:
        """Take in one batch, and how many features a condition had left out of it before."""
        import shapely

        codes = cleaned.codes
        present = codes > 0
        self.features += len(codes) + filtered
        self.filtered += filtered + len(cleaned.filtered)
        self.nulls += len(codes) - int(present.sum()) - len(cleaned.reasons) - len(cleaned.filtered)
        self.linearised += linearised
        self.codes.update(codes[present].tolist())
        self.rejected.update(cleaned.reasons.values())
        self.area_changed += cleaned.area_changed
        self.with_m += cleaned.with_m
        if cleaned.strays is not None:
            self._whole.stretch(cleaned.strays)
        self._note(cleaned.changed, len(codes))
        kinds = _kinds(codes)
        boxes = shapely.bounds(cleaned.geometries)
        if self._widest is not None:
            self.wide += int((boxes[present, 2] - boxes[present, 0] > self._widest).sum())
        for kind in np.unique(kinds[present]).tolist():
            self._add_kind(kind, kinds == kind, cleaned, boxes)

    def _note(self, changed: set[int], count: int) -> None:
        if self.changed is not None:
            self.changed += sorted(self._seen + row for row in changed)
            if len(self.changed) > _MOST_CHANGED:
                self.changed = None
        self._seen += count

    def _add_kind(self, kind: int, mask: NDArray[np.bool_], cleaned: Cleaned, boxes: NDArray[np.float64]) -> None:
        import shapely

        tally = self.tallies.setdefault(kind, Tally())
        tally.count += int(mask.sum())
        tally.with_z += int(shapely.has_z(cleaned.geometries[mask]).sum())
        tally.multi = tally.multi or bool((cleaned.codes[mask] >= MULTIPOINT).any())
        tally.repaired.update(reason for row, reason in cleaned.repairs.items() if mask[row])
        own = boxes[mask]
        tally.stretch(np.concatenate([own[:, :2].min(axis=0), own[:, 2:].max(axis=0)]))

    def add_headers(self, headers: Headers, bounds: BoundingBox, *, filtered: int = 0) -> None:
        """Take in a batch by its headers alone, for a file whose geometry is trusted and whose extent is known."""
        present = headers.codes > 0
        self._note(set(), len(headers.codes))
        self.features += len(headers.codes) + filtered
        self.filtered += filtered
        self.nulls += len(headers.codes) - int(present.sum())
        codes, counts = np.unique(headers.codes[present], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self._add_code(code, count, int((headers.has_z & (headers.codes == code)).sum()), bounds)

    def add_alike(self, headers: Headers, geometries: int, nulls: int, bounds: BoundingBox) -> None:
        """As `add_headers`, of so many geometries whose header is the one that is given, and so many nulls."""
        self._note(set(), geometries + nulls)
        self.features += geometries + nulls
        self.nulls += nulls
        self._add_code(int(headers.codes[0]), geometries, geometries * int(headers.has_z[0]), bounds)

    def _add_code(self, code: int, count: int, with_z: int, bounds: BoundingBox) -> None:
        self.codes[code] += count
        tally = self.tallies.setdefault(int(_kinds(np.array([code]))[0]), Tally())
        tally.stretch(np.array(bounds, dtype=np.float64))
        tally.count += count
        tally.with_z += with_z
        tally.multi = tally.multi or code >= MULTIPOINT

    @property
    def total(self) -> Tally:
        """All kinds together."""
        return sum(self.tallies.values(), Tally())

    @property
    def whole_bounds(self) -> BoundingBox:
        """Of what is kept and of what lies beyond the domain."""
        return (self.total + self._whole).bounds

    @property
    def kept(self) -> int:
        """Features with a geometry that can be loaded."""
        return sum(self.codes.values())

    @property
    def mixed(self) -> bool:
        """Whether no one typed table holds all of it: several dimensions, or collections."""
        return len(self.tallies) > 1 or COLLECTION in self.tallies

    @property
    def untouched(self) -> bool:
        """Whether there is nothing to repair, reject or drop."""
        return self.changed == []

    @property
    def wkb_as_is(self) -> bool:
        """Whether the bytes as they came can go into the table but for a Multi header and but for those in
        `changed`.
        """
        return self.changed is not None and not self.mixed and self.total.with_z in {0, self.kept}

    def type_counts(self) -> str:
        """`3 Point, 2 Polygon`, for messages."""
        return ", ".join(f"{count} {TYPE_NAMES[code]}" for code, count in sorted(self.codes.items()))


def _kinds(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """POINT, LINE, POLYGON or COLLECTION for each base type code; 0: none."""
    return np.where((codes > POLYGON) & (codes < COLLECTION), codes - (MULTIPOINT - POINT), codes)


def kind_of_most(tallies: dict[int, Tally]) -> int:
    """The kind that most features are of: what belongs to no kind is accounted for with it."""
    return max(tallies, key=lambda kind: (tallies[kind].count, -kind), default=POINT)


def is_of(codes: NDArray[np.int64], part: Part) -> NDArray[np.bool_]:
    """Which geometries belong to a part of a layer."""
    kind = next(kind for kind, name in PARTS.items() if name == part)
    return np.asarray(_kinds(codes) == kind, dtype=np.bool_)


def table_type(kind: int, tally: Tally) -> GeometryType:
    """The type of a table for one kind: Multi for lines and polygons; points stay points unless one is a MultiPoint."""
    if kind == POINT:
        return "MULTIPOINT" if tally.multi else "POINT"
    return {LINE: "MULTILINESTRING", POLYGON: "MULTIPOLYGON"}.get(kind, "GEOMETRY")  # type: ignore[return-value]
