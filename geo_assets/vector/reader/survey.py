"""The account of a layer, batch after batch: how many features of each kind there are, where they lie, and what is
wrong with them.

Here: counts and extents, and the type of the table that follows from them. Not here: a single geometry (`geometry.py`),
reading the layer (`inspect.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import BoundingBox, GeometryType, Part
from geo_assets.vector.reader.geometry import Cleaned
from geo_assets.vector.reader.wkb import (
    COLLECTION,
    LINE,
    MULTIPOINT,
    POINT,
    POLYGON,
    TYPE_NAMES,
    Headers,
)

#: What a layer is split by.
PARTS: dict[int, Part] = {POINT: "point", LINE: "line", POLYGON: "polygon"}

#: With more than these to work on, the whole layer is gone through again.
_MOST_CHANGED = 20_000


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


def check_kept(kept: int, rejected: Counter[str], title: str) -> None:
    """Something of a layer is left.

    Raises:
        GeoAssetsError: VECTOR_ALL_REJECTED.
    """
    if kept == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        raise GeoAssetsError("VECTOR_ALL_REJECTED", f"no geometry of {title} can be kept: {reasons}")
