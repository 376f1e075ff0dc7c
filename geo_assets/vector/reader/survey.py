"""Survey of a layer, batch by batch: how many features of each kind there are, their extent, and what is wrong with
them.

Here: counts and extents, and the type of the table that follows from them. Not here: a single geometry (`geometry.py`),
reading the layer (`inspect.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.ends import turn_of
from geo_assets.vector.models import BoundingBox, GeometryType, Part
from geo_assets.vector.reader.geometry import Cleaned
from geo_assets.vector.reader.simple import Sound
from geo_assets.vector.reader.wkb import (
    COLLECTION,
    LINE,
    MULTIPOINT,
    POINT,
    POLYGON,
    TYPE_NAMES,
    Headers,
)

if TYPE_CHECKING:
    from pyproj import CRS

#: The kinds by which a layer is split.
PARTS: dict[int, Part] = {POINT: "point", LINE: "line", POLYGON: "polygon"}

#: With more features than this to change, the whole layer is processed again.
_MOST_CHANGED = 20_000


@dataclass(slots=True)
class Tally:
    """The features of a layer of one kind: points, lines, polygons or mixed collections."""

    count: int = 0
    with_z: int = 0
    multi: bool = False
    repaired: Counter[str] = field(default_factory=Counter)
    box: NDArray[np.float64] = field(default_factory=lambda: np.array([np.inf, np.inf, -np.inf, -np.inf]))

    def stretch(self, box: NDArray[np.float64]) -> None:
        """Extend the box to contain another."""
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
        """Return the extent of kept features, in the layer's CRS."""
        west, south, east, north = self.box.tolist()
        return west, south, east, north


class Survey:
    """Collects what a whole layer holds, batch by batch."""

    def __init__(self, *, widest: float | None = None) -> None:
        """`widest`: a geometry that is wider may cross the antimeridian; None where there is none."""
        self.features = 0
        self.nulls = 0
        self.filtered = 0
        self.linearised = 0
        self.codes: Counter[int] = Counter()
        self.rejected: Counter[str] = Counter()
        self.area_changed = self.wide = self.with_m = 0
        self.changed: list[int] | None = []  # positions of changed features; None: too many
        self.sound_values = False  # of the attributes, where the survey checked them too
        self._seen = 0
        self.tallies: dict[int, Tally] = {}
        self._widest = widest
        self._whole = Tally()

    @classmethod
    def of(cls, crs: CRS | None) -> Survey:
        """Of a layer in a CRS. What is wider than half the globe may cross the antimeridian."""
        turn = turn_of(crs) if crs is not None else None
        return cls(widest=turn / 2 if turn is not None else None)

    def add(self, sound: Sound, cleaned: Cleaned, *, filtered: int = 0, linearised: int = 0) -> None:
        """Add one batch: what had not to be looked at, what had, and how many of its features a condition had
        excluded.
        """
        import shapely

        rest = np.flatnonzero(~sound.rows)
        self._note({int(rest[row]) for row in cleaned.changed}, len(sound.rows))
        self._add_sound(sound)
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
        kinds = _kinds(codes)
        boxes = shapely.bounds(cleaned.geometries)
        if self._widest is not None:
            self.wide += int((boxes[present, 2] - boxes[present, 0] > self._widest).sum())
        for kind in np.unique(kinds[present]).tolist():
            self._add_kind(kind, kinds == kind, cleaned, boxes)

    def _add_sound(self, sound: Sound) -> None:
        codes, boxes = sound.headers.codes[sound.rows], sound.boxes[sound.rows]
        has_z = sound.headers.has_z[sound.rows]
        self.features += len(codes)
        if self._widest is not None:
            self.wide += int((boxes[:, 2] - boxes[:, 0] > self._widest).sum())
        for code in np.unique(codes).tolist():
            mine = codes == code
            own = boxes[mine]
            box = np.concatenate([own[:, :2].min(axis=0), own[:, 2:].max(axis=0)])
            self._add_code(code, int(mine.sum()), int((mine & has_z).sum()), box)

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
        """Add a batch by its headers alone, for a file whose geometry is trusted and whose extent is known."""
        present = headers.codes > 0
        self._note(set(), len(headers.codes))
        self.features += len(headers.codes) + filtered
        self.filtered += filtered
        self.nulls += len(headers.codes) - int(present.sum())
        codes, counts = np.unique(headers.codes[present], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            self._add_code(code, count, int((headers.has_z & (headers.codes == code)).sum()), bounds)

    def add_alike(self, headers: Headers, geometries: int, nulls: int, bounds: BoundingBox) -> None:
        """As `add_headers`, for a number of geometries with the same header, and a number of nulls."""
        self._note(set(), geometries + nulls)
        self.features += geometries + nulls
        self.nulls += nulls
        self._add_code(int(headers.codes[0]), geometries, geometries * int(headers.has_z[0]), bounds)

    def _add_code(self, code: int, count: int, with_z: int, bounds: BoundingBox | NDArray[np.float64]) -> None:
        self.codes[code] += count
        tally = self.tallies.setdefault(int(_kinds(np.array([code]))[0]), Tally())
        tally.stretch(np.asarray(bounds, dtype=np.float64))
        tally.count += count
        tally.with_z += with_z
        tally.multi = tally.multi or code >= MULTIPOINT

    @property
    def total(self) -> Tally:
        """Return all kinds together."""
        return sum(self.tallies.values(), Tally())

    @property
    def whole_bounds(self) -> BoundingBox:
        """Return the extent of kept features and of those outside the domain."""
        return (self.total + self._whole).bounds

    @property
    def kept(self) -> int:
        """Return the number of features with a geometry that can be loaded."""
        return sum(self.codes.values())

    @property
    def mixed(self) -> bool:
        """Whether no single typed table can hold all features: several dimensions, or collections."""
        return len(self.tallies) > 1 or COLLECTION in self.tallies

    @property
    def untouched(self) -> bool:
        """Whether there is nothing to repair, reject or drop."""
        return self.changed == []

    @property
    def wkb_as_is(self) -> bool:
        """Whether the original bytes can be loaded, apart from a Multi header and from features in `changed`."""
        return self.changed is not None and not self.mixed and self.total.with_z in {0, self.kept}

    def type_counts(self) -> str:
        """Return `3 Point, 2 Polygon`, for messages."""
        return ", ".join(f"{count} {TYPE_NAMES[code]}" for code, count in sorted(self.codes.items()))


def _kinds(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return POINT, LINE, POLYGON or COLLECTION for each base type code; 0: none."""
    return np.where((codes > POLYGON) & (codes < COLLECTION), codes - (MULTIPOINT - POINT), codes)


def kind_of_most(tallies: dict[int, Tally]) -> int:
    """Return the kind of most features: features of no kind are counted with it."""
    return max(tallies, key=lambda kind: (tallies[kind].count, -kind), default=POINT)


def is_of(codes: NDArray[np.int64], part: Part) -> NDArray[np.bool_]:
    """Return which geometries belong to a part of a layer."""
    kind = next(kind for kind, name in PARTS.items() if name == part)
    return np.asarray(_kinds(codes) == kind, dtype=np.bool_)


def table_type(kind: int, tally: Tally) -> GeometryType:
    """Return the type of a table for one kind: Multi for lines and polygons; points stay points unless one is a
    MultiPoint.
    """
    if kind == POINT:
        return "MULTIPOINT" if tally.multi else "POINT"
    return {LINE: "MULTILINESTRING", POLYGON: "MULTIPOLYGON"}.get(kind, "GEOMETRY")  # type: ignore[return-value]


def check_kept(kept: int, rejected: Counter[str], title: str) -> None:
    """Check that at least one feature of a layer is kept.

    Raises:
        GeoAssetsError: VECTOR_ALL_REJECTED.
    """
    if kept == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        raise GeoAssetsError("VECTOR_ALL_REJECTED", f"no geometry of {title} can be kept: {reasons}")
