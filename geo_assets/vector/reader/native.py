"""GeoParquet's native encodings, which are GeoArrow's: coordinates in nested lists.

Here: arrays of one batch. Not here: which column is encoded so (`parquet_geometry.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.reader.batches import storage
from geo_assets.vector.reader.geojson_wkb import LEAST_OF_RING, BadGeometryError, to_wkb

if TYPE_CHECKING:
    import pyarrow as pa

#: GeoParquet 1.1's native encodings: nesting of lists around a position, and the type as GeoJSON calls it.
NATIVE = {
    "point": (0, "Point"),
    "linestring": (1, "LineString"),
    "polygon": (2, "Polygon"),
    "multipoint": (1, "MultiPoint"),
    "multilinestring": (2, "MultiLineString"),
    "multipolygon": (3, "MultiPolygon"),
}


def position_type(kind: pa.DataType, encoding: str) -> pa.DataType | None:
    """Return the type of a position in a type that nests lists as a native encoding does; None where it does not."""
    import pyarrow as pa

    def stored(kind: pa.DataType) -> pa.DataType:
        return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind

    rest = stored(kind)
    for _ in range(NATIVE[encoding][0]):
        if not (pa.types.is_list(rest) or pa.types.is_large_list(rest)):
            return None
        rest = stored(rest.value_type)
    if pa.types.is_struct(rest):
        return rest if {"x", "y"} <= {f.name for f in rest} else None
    return rest if pa.types.is_fixed_size_list(rest) and rest.list_size >= 2 else None


def from_native(column: pa.Array, encoding: str, *, has_z: bool) -> tuple[pa.Array, dict[int, str]]:
    """Return WKB of separated or interleaved coordinates in nested lists, without M, and what is wrong by row.

    Args:
        column: of a batch.
        encoding: one of `NATIVE`.
        has_z: whether the third of interleaved coordinates is a height.
    """
    import pyarrow as pa
    import shapely

    kind = NATIVE[encoding][1]
    present = np.asarray(column.is_valid())
    parts = _Parts.of(column, encoding, has_z=has_z)
    odd = parts.odd(kind) & present
    plain = present & ~odd
    made = np.full(len(column), None, dtype=object)
    if plain.any():
        if not plain.all():
            parts = _Parts.of(column.filter(pa.array(plain)), encoding, has_z=has_z)
        offsets = tuple(reversed(parts.offsets)) or None
        made[plain] = shapely.to_wkb(
            shapely.from_ragged_array(shapely.GeometryType[kind.upper()], parts.coordinates, offsets), flavor="iso"
        )
    faults = {}
    for row in np.flatnonzero(odd).tolist():
        try:
            made[row] = to_wkb({"type": kind, "coordinates": _listed(column[row].as_py(), has_z=has_z)})
        except BadGeometryError as error:
            faults[row] = str(error)
    return pa.array(made, pa.binary()), faults


@dataclass(slots=True)
class _Parts:
    """Coordinates of a column, the offsets of what contains them, from the outermost, and what is missing at each
    level.
    """

    offsets: list[NDArray[np.int64]]
    missing: list[NDArray[np.bool_]]  # of lists by level, then of positions
    coordinates: NDArray[np.float64]

    @classmethod
    def of(cls, column: pa.Array, encoding: str, *, has_z: bool) -> _Parts:
        """Take a column apart. What is below a null list stays."""
        rest, offsets, missing = storage(column), [], []
        for _ in range(NATIVE[encoding][0]):
            own = np.asarray(rest.offsets, dtype=np.int64)
            first, last = (int(own[0]), int(own[-1])) if len(own) else (0, 0)
            offsets.append(own - first if len(own) else np.zeros(1, np.int64))
            missing.append(np.asarray(rest.is_null()))
            rest = storage(storage(rest.values).slice(first, last - first))
        missing.append(np.asarray(rest.is_null()))
        return cls(offsets, missing, _coordinates(rest, has_z=has_z))

    def odd(self, kind: str) -> NDArray[np.bool_]:
        """Return the rows that GEOS must not get in this way: it crashes on some empty parts, closes rings, and refuses
        all where one line is too short.
        """
        found = self.missing[-1]
        for level in range(len(self.offsets) - 1, -1, -1):
            offsets = self.offsets[level]
            found = self.missing[level] | _any_within(found, offsets)
            sizes = np.diff(offsets)
            if level:
                found |= sizes == 0
            if level == len(self.offsets) - 1 and kind.endswith("LineString"):
                found |= sizes == 1
            elif level == len(self.offsets) - 1 and kind.endswith("Polygon"):
                found |= (sizes > 0) & ((sizes < LEAST_OF_RING) | ~self._closed(offsets))
        return found

    def _closed(self, rings: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(self.coordinates):
            return np.ones(len(rings) - 1, dtype=bool)
        most = len(self.coordinates) - 1
        first, last = self.coordinates[np.minimum(rings[:-1], most)], self.coordinates[np.maximum(rings[1:] - 1, 0)]
        closed: NDArray[np.bool_] = (first == last).all(axis=1)
        return closed


def _any_within(found: NDArray[np.bool_], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the lists that have a member which is found."""
    if not found.any():
        return np.zeros(len(offsets) - 1, dtype=bool)
    before = np.concatenate([[0], np.cumsum(found)])
    within: NDArray[np.bool_] = before[offsets[1:]] > before[offsets[:-1]]
    return within


def _coordinates(positions: pa.Array, *, has_z: bool) -> NDArray[np.float64]:
    import pyarrow as pa

    if pa.types.is_struct(positions.type):
        names = [name for name in ("x", "y", "z") if positions.type.get_field_index(name) >= 0]
        columns = dict(zip([f.name for f in positions.type], positions.flatten(), strict=True))
        return np.ascontiguousarray(
            np.column_stack([columns[name].to_numpy(zero_copy_only=False) for name in names]), dtype=np.float64
        )
    width = positions.type.list_size
    values = positions.values.slice(positions.offset * width, len(positions) * width)
    return np.ascontiguousarray(
        np.asarray(values, dtype=np.float64).reshape(-1, width)[:, : 3 if has_z else 2], dtype=np.float64
    )


def _listed(value: Any, *, has_z: bool) -> Any:
    """Return nested positions as GeoJSON has them."""
    if isinstance(value, dict):
        return [value[name] for name in ("x", "y", "z") if name in value]
    if isinstance(value, list) and value and not isinstance(value[0], dict | list):
        return value[: 3 if has_z else 2]
    return [_listed(each, has_z=has_z) for each in value] if isinstance(value, list) else value
