"""GeoParquet's native encodings, which are GeoArrow's: coordinates in nested lists.

Here: arrays of one batch. Not here: which column is encoded so (`parquet.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geo_assets.vector.reader.batches import storage

if TYPE_CHECKING:
    import pyarrow as pa

#: GeoParquet 1.1's native encodings: nesting of lists around a position, and the shapely type.
NATIVE = {
    "point": (0, 0),
    "linestring": (1, 1),
    "polygon": (2, 3),
    "multipoint": (1, 4),
    "multilinestring": (2, 5),
    "multipolygon": (3, 6),
}


def holds_native(kind: pa.DataType, encoding: str) -> bool:
    """Whether a type nests lists around a position as a native encoding does."""
    import pyarrow as pa

    def stored(kind: pa.DataType) -> pa.DataType:
        return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind

    rest = stored(kind)
    for _ in range(NATIVE[encoding][0]):
        if not (pa.types.is_list(rest) or pa.types.is_large_list(rest)):
            return False
        rest = stored(rest.value_type)
    if pa.types.is_struct(rest):
        return {"x", "y"} <= {f.name for f in rest}
    return bool(pa.types.is_fixed_size_list(rest)) and rest.list_size >= 2


def from_native(column: pa.Array, encoding: str) -> pa.Array:
    """Return WKB of separated or interleaved coordinates in nested lists; M is dropped."""
    import pyarrow as pa
    import shapely

    depth, kind = NATIVE[encoding]
    present = np.asarray(column.is_valid())
    rest, offsets = column.drop_null(), []
    for _ in range(depth):
        own = np.asarray(rest.offsets, dtype=np.int64)
        offsets.append(own - own[0] if len(own) else np.zeros(1, np.int64))
        rest = storage(rest.flatten())
    made = np.full(len(column), None, dtype=object)
    if present.any():
        types = shapely.GeometryType
        made[present] = shapely.from_ragged_array(types(kind), _coordinates(rest), tuple(reversed(offsets)) or None)
    return pa.array(shapely.to_wkb(made, flavor="iso"), pa.binary())


def _coordinates(positions: pa.Array) -> np.ndarray[Any, Any]:
    import pyarrow as pa

    if pa.types.is_struct(positions.type):
        names = [name for name in ("x", "y", "z") if positions.type.get_field_index(name) >= 0]
        columns = dict(zip([f.name for f in positions.type], positions.flatten(), strict=True))
        return np.ascontiguousarray(
            np.column_stack([columns[name].to_numpy(zero_copy_only=False) for name in names]), dtype=np.float64
        )
    width = positions.type.list_size
    values = np.asarray(positions.flatten(), dtype=np.float64).reshape(-1, width)
    xyz = len(positions.type.value_field.name) >= 3 and positions.type.value_field.name[2] == "z"
    return np.ascontiguousarray(values[:, : 3 if width > 3 or (width == 3 and xyz) else 2])
