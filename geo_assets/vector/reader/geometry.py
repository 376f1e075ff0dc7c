"""Geometry: from a file's WKB to the WKB that PostGIS accepts, counting what was repaired and what was rejected.

Here: arrays of one batch; no file, no database. A null stays null. A geometry that cannot be kept is rejected with a
reason, never dropped silently; an invalid one is repaired and counted by its fault.
Not here: WKB as bytes (`wkb.py`), the counts of a whole layer (`survey.py`).

Repair is GEOS's `structure` method without collapsed parts: of 64 invalid geometries of the GEOS suite it changes the
dimension of none and makes 8 empty; `buffer(0)` makes 16 empty.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.models import BoundingBox, GeometryType
from geo_assets.vector.reader.repairs import made_valid
from geo_assets.vector.reader.seams import cut
from geo_assets.vector.reader.tangles import TANGLED, is_tangled
from geo_assets.vector.reader.wkb import (
    COLLECTION,
    LINE,
    MULTILINE,
    MULTIPOINT,
    MULTIPOLYGON,
    POINT,
    POLYGON,
    Geometries,
    Headers,
    without_single_points,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.ends import Way

#: What PostGIS and GEOS have, and these tables do not, by WKB code.
CURVES = {
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

#: shapely's type ids by WKB code, and back (a LinearRing is a line).
_SHAPELY_IDS = {POINT: 0, LINE: 1, POLYGON: 3, MULTIPOINT: 4, MULTILINE: 5, MULTIPOLYGON: 6, COLLECTION: 7}
_CODES = np.array(
    [POINT, LINE, LINE, POLYGON, MULTIPOINT, MULTILINE, MULTIPOLYGON, COLLECTION, 0]
)  # the last: none, id -1

#: GDAL's step along an arc, in degrees, also ogr2ogr's: a chord is at most 1 - cos(2°) = 0.061 % of the radius off.
ARC_STEP_DEGREES = 4

EMPTY = "empty geometry"
NULL = "no geometry"
COLLECTION_OF_ONE_KIND = "geometry collection of one kind"
WITHOUT_HEIGHT = "Members without height, which got 0"
NO_HEIGHT = "Height that is no number"
CURVED_COLLECTION = "geometry collection with curves is not supported"
COLLECTION_OF_SEVERAL_KINDS = "geometry collection of several kinds"

#: No CRS in use has coordinates beyond; they are garbage, and spoil extents and indexes.
PLAUSIBLE = (-1e12, -1e12, 1e12, 1e12)

NOT_FINITE = "coordinates are not finite numbers"
UNREADABLE = "unreadable geometry"
OUTSIDE = "outside the area of the target CRS"
CUT = "cut where the target CRS ends"
OFF_THE_GLOBE = "beyond longitude and latitude"
UNCLOSED = "Unclosed ring"
SINGLE_POINT = "Part of one point"


#: A repair that changes the area by more is reported.
_AREA_TOLERANCE = 0.01


@dataclass(slots=True)
class Cleaned:
    """A batch of valid geometries. `reasons` holds the rejected rows, `filtered` those not wanted; their geometry is
    None.
    """

    geometries: Geometries
    headers: Headers
    reasons: dict[int, str] = field(default_factory=dict)
    repairs: dict[int, str] = field(default_factory=dict)  # row -> its fault
    filtered: set[int] = field(default_factory=set)
    with_m: int = 0
    area_changed: int = 0
    strays: NDArray[np.float64] | None = None  # the extent of geometries outside the domain
    contradicted: frozenset[int] = frozenset()  # rows whose header says other dimensions than their members

    def copy(self) -> Cleaned:
        """The batch as it is now, whatever `fit` makes of this one."""
        return replace(self, geometries=self.geometries.copy(), reasons=dict(self.reasons), repairs=dict(self.repairs))

    def only(self, rows: NDArray[np.intp]) -> Cleaned:
        """Some geometries alone, to be fitted and written."""
        return Cleaned(self.geometries[rows], self.headers)

    def reject(self, rows: NDArray[Any], reason: str | list[str]) -> None:
        """Reject rows; the first reason stays."""
        reasons = [reason] * len(rows) if isinstance(reason, str) else reason
        for row, why in zip(rows.tolist(), reasons, strict=True):
            self.reasons.setdefault(row, why)
            self.repairs.pop(row, None)
        self.geometries[rows] = None

    def leave_out(self, rows: NDArray[Any]) -> None:
        """Filter rows out."""
        self.filtered.update(rows.tolist())
        for row in rows.tolist():
            self.repairs.pop(row, None)
        self.geometries[rows] = None

    @property
    def repaired(self) -> Counter[str]:
        """Return the number of repaired features by fault."""
        return Counter(self.repairs.values())

    @property
    def codes(self) -> NDArray[np.int64]:
        """Return WKB's base type code of each geometry as it is now; 0: none."""
        import shapely

        codes: NDArray[np.int64] = _CODES[shapely.get_type_id(self.geometries)]
        return codes

    @property
    def changed(self) -> set[int]:
        """Return the rows whose original bytes are not what is loaded."""
        rewritten = np.flatnonzero(self.headers.has_m | ~self.headers.plain).tolist()
        return {*self.reasons, *self.repairs, *self.contradicted, *rewritten}


def clean(
    wkb: pa.Array,
    faults: dict[int, str],
    *,
    sound: bool = False,
    trust: bool = False,
    domain: BoundingBox | None = None,
) -> Cleaned:
    """Parse, drop M, reject what PostGIS must not get, repair invalid geometries.

    Args:
        wkb: binary; ISO or EWKB, either byte order.
        faults: rows that the reader already found faulty, by reason.
        sound: a survey has found nothing to repair or reject; parse only.
        trust: do not check for invalid geometry.
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
    _drop_no_heights(result)
    _reject_absurd(result, NOT_FINITE)
    if domain is not None:
        result.strays = _reject_outside(result, domain, OFF_THE_GLOBE)
    if not trust:
        repair(result)
    return result


def valid_of(wkb: pa.Array) -> pa.Array:
    """Return those geometries that are valid, null for the others; for all, where GEOS cannot read one of them."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import shapely

    if wkb.null_count == len(wkb):
        return wkb
    try:
        valid = shapely.is_valid(shapely.from_wkb(wkb.to_numpy(zero_copy_only=False)))
    except (shapely.errors.ShapelyError, ValueError):
        return pa.nulls(len(wkb), wkb.type)
    return pc.if_else(pa.array(valid), wkb, pa.scalar(None, wkb.type))


def _unsupported_reason(code: int) -> str:
    return unsupported(CURVES[code]) if code in CURVES else UNREADABLE


def unsupported(kind: str) -> str:
    """Return why a geometry of a kind that tables do not have is rejected."""
    return f"{kind} geometry is not supported"


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
        lines = without_single_points(value)
        result.geometries[row] = _closed(lines or value)
        if result.geometries[row] is None:
            result.reasons.setdefault(row, UNREADABLE)
        else:
            result.repairs[row] = SINGLE_POINT if lines else UNCLOSED


def _closed(value: bytes) -> Any:
    """Return the geometry with its rings closed, or None if open rings are not its fault."""
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
    other = (has_m != result.headers.has_m) | (has_z != result.headers.has_z)
    result.contradicted = frozenset(np.flatnonzero(other & ~shapely.is_missing(geometries)).tolist())
    only_m, both = has_m & ~has_z, has_m & has_z
    if only_m.any():
        geometries[only_m] = shapely.force_2d(geometries[only_m])
    if both.any():
        geometries[both] = shapely.from_wkb(shapely.to_wkb(geometries[both], output_dimension=3))


def _drop_no_heights(result: Cleaned) -> None:
    """Take a height that is no number for none: a geometry without another is flat, one with others has 0 there."""
    import shapely

    high = np.flatnonzero(shapely.has_z(result.geometries))
    heights, owners = shapely.get_coordinates(result.geometries[high], include_z=True, return_index=True)
    known = np.isfinite(heights[:, 2])
    if known.all():
        return

    def zero(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isfinite(coordinates) | (np.arange(3) < 2), coordinates, 0.0)

    rows, some = high[np.unique(owners[~known])], high[np.unique(owners[known])]
    flat, mended = np.setdiff1d(rows, some), np.intersect1d(rows, some)
    result.geometries[flat] = shapely.force_2d(result.geometries[flat])
    result.geometries[mended] = shapely.transform(result.geometries[mended], zero, include_z=True)
    for row in rows.tolist():
        result.repairs.setdefault(row, NO_HEIGHT)


def _unwrap_collections(result: Cleaned) -> None:
    """Turn a collection of one kind into the Multi geometry of its members; one of several kinds stays a collection,
    one with curves, which GEOS reads and shapely cannot handle, is rejected. Members without height get 0 where others
    have one.
    """
    import shapely

    for row in np.flatnonzero(shapely.get_type_id(result.geometries) == _SHAPELY_IDS[COLLECTION]).tolist():
        try:
            members = _members(result.geometries[row])
        except NotImplementedError:
            result.reject(np.asarray([row]), CURVED_COLLECTION)
            continue
        if len({bool(shapely.has_z(member)) for member in members}) > 1:
            result.geometries[row] = shapely.force_3d(result.geometries[row], z=0.0)
            result.repairs.setdefault(row, WITHOUT_HEIGHT)
            members = _members(result.geometries[row])
        if len({shapely.get_dimensions(member) for member in members}) == 1:
            make = (shapely.multipoints, shapely.multilinestrings, shapely.multipolygons)[
                int(shapely.get_dimensions(members[0]))
            ]
            result.geometries[row] = make(members)
            result.repairs.setdefault(row, COLLECTION_OF_ONE_KIND)


def _members(collection: Any) -> list[Any]:
    """Return the single geometries of nested collections, without the empty ones."""
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
    """Reject by x and y: an invalid z harms no index. A bounding box does not show NaN; `repair` finds it."""
    _reject_outside(result, PLAUSIBLE, reason)


def _reject_outside(result: Cleaned, domain: BoundingBox, reason: str) -> NDArray[np.float64] | None:
    """Reject what extends beyond a box; return the extent of that."""
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
    """Repair invalid geometries in place, keeping their dimension; reject those that cannot be repaired.

    Args:
        result: the batch.
        prefix: put before the reason.
        among: the rows to check; None: all. Checking costs more than parsing.
    """
    import shapely

    looked_at = np.arange(len(result.geometries)) if among is None else among
    geometries = result.geometries[looked_at]
    rows = looked_at[~shapely.is_valid(geometries) & ~shapely.is_missing(geometries)]
    if not len(rows):
        return
    rows = np.setdiff1d(rows, reject_not_finite(result, among=rows))
    tangled = np.asarray([is_tangled(geometry) for geometry in result.geometries[rows]], dtype=bool)
    result.reject(rows[tangled], TANGLED)
    rows = rows[~tangled]
    before = result.geometries[rows]
    reasons = [prefix + str(reason).partition("[")[0].strip() for reason in shapely.is_valid_reason(before)]
    after = np.asarray([made_valid(geometry) for geometry in before] or [None], dtype=object)[: len(rows)]
    kept = np.asarray([_as_good(old, new) for old, new in zip(before, after, strict=True)], dtype=bool)
    result.geometries[rows] = after
    for row, reason in zip(rows[kept].tolist(), np.asarray(reasons, dtype=object)[kept], strict=True):
        result.repairs.setdefault(row, reason)
    result.area_changed += int(sum(_area_differs(old, new) for old, new in zip(before[kept], after[kept], strict=True)))
    result.reject(
        rows[~kept], [f"not repairable: {reason}" for reason, ok in zip(reasons, kept, strict=True) if not ok]
    )


def reject_not_finite(result: Cleaned, *, among: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """Reject what has a coordinate that is no number, and return its rows.

    Args:
        result: the batch.
        among: the rows to look at; None: all.
    """
    import shapely

    looked_at = np.arange(len(result.geometries)) if among is None else among
    coordinates, owners = shapely.get_coordinates(result.geometries[looked_at], return_index=True)
    broken: NDArray[np.int64] = looked_at[np.unique(owners[~np.isfinite(coordinates).all(axis=1)])]
    result.reject(broken, NOT_FINITE)
    return broken


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
    result: Cleaned, geometry_type: GeometryType, *, has_z: bool, way: Way | None = None, trust: bool = False
) -> int:
    """Bring a cleaned batch to the table's dimension, CRS and Multi type, in place.

    Args:
        result: the batch.
        geometry_type: of the table.
        has_z: whether the table has heights; a geometry without gets 0.
        way: from the file's CRS to the table's, or None.
        trust: do not check for geometries that reprojection made invalid.

    Returns:
        How many geometries got the height 0.
    """
    import shapely

    present = ~shapely.is_missing(result.geometries)
    flat = present & ~shapely.has_z(result.geometries)
    if has_z and flat.any():
        result.geometries[flat] = shapely.force_3d(result.geometries[flat], z=0.0)
    if way is not None:
        _transform(result, way, has_z=has_z, trust=trust)
    _promote(result, geometry_type)
    return int(flat.sum()) if has_z else 0


def _transform(result: Cleaned, way: Way, *, has_z: bool, trust: bool) -> None:
    """Transform every geometry, then check all once: one that is invalid now either was invalid before, and is repaired
    before the transformation, or became so by it.
    """
    import shapely

    before = result.geometries
    _move(result, way, has_z=has_z)
    if trust:
        return
    rows = np.flatnonzero(~shapely.is_valid(result.geometries) & ~shapely.is_missing(result.geometries))
    faulty = rows[~shapely.is_valid(before[rows])]
    if len(faulty):
        _repair_before(result, before, faulty, way, has_z=has_z)
    if len(rows):
        repair(result, "after reprojection: ", among=rows)


def _move(result: Cleaned, way: Way, *, has_z: bool) -> None:
    """Move a batch; what has no place is rejected, what lies across an end of the target is cut there."""
    import shapely

    def move(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = coordinates.copy()
        moved[:, 0], moved[:, 1] = way.transform(coordinates[:, 0], coordinates[:, 1])
        return moved

    before = result.geometries
    result.geometries = np.asarray(shapely.transform(before, move, include_z=has_z), dtype=object)
    _reject_absurd(result, OUTSIDE)
    whole = way.surely_whole(shapely.bounds(before), shapely.bounds(result.geometries))
    for row in np.flatnonzero(~whole & ~shapely.is_missing(result.geometries)).tolist():
        made = cut(before[row], result.geometries[row], way)
        if made is None:
            result.reject(np.asarray([row]), OUTSIDE)
        elif made is not result.geometries[row]:
            result.geometries[row] = made
            result.repairs.setdefault(row, CUT)


def _repair_before(result: Cleaned, before: Geometries, rows: NDArray[Any], way: Way, *, has_z: bool) -> None:
    """Repair some geometries in the file's CRS, then transform them."""
    part = Cleaned(before[rows], result.headers)
    repair(part)
    _move(part, way, has_z=has_z)
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
