"""Items as one file of stac-geoparquet 1.0: what pandas, DuckDB and QGIS open, without a server.

Here: from items to Parquet, a bounded number at a time. Not here: reading the catalogue (`pgstac.py`), where the file
lies (`stages/items_file.py`, `stages/export.py`).

The same items give the same bytes: columns, and the fields within them, are in a fixed order. The type of a column is
known only when all items were seen: until then they lie as batches in a temporary folder. Where items give a field
values of different kinds, all of its values are JSON, as text.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyarrow import feather

from geo_assets.text import batched
from geo_assets.vector.geoparquet import SIDES, Bounds, metadata

#: Items of a row group, and that are held in memory at a time.
_GROUP = 2_000

#: Assets under more keys than this become a map from key to asset: columns for the fields of each would be too many.
_MOST_KEYS = 100

_FIRST = ("id", "collection", "geometry", "bbox", "stac_version", "stac_extensions", "links", "assets")

_TIME = pa.timestamp("us", tz="UTC")
_TIMES = frozenset(
    ("datetime", "start_datetime", "end_datetime", "created", "updated", "published", "unpublished", "expires")
)

_BOX = pa.struct([(side, pa.float64()) for side in SIDES])

#: The types that do not depend on the items.
_FIXED = {
    "id": pa.string(),
    "collection": pa.string(),
    "geometry": pa.binary(),
    "bbox": _BOX,
    "stac_version": pa.string(),
    "stac_extensions": pa.list_(pa.string()),
    **dict.fromkeys(_TIMES, _TIME),
}

#: STAC spells as text what JSON has no number for.
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def write_items(items: Iterable[dict[str, Any]], path: Path) -> int:
    """Write items, in their order; returns how many. Without any, no file is written.

    Args:
        items: with geometry and bbox in EPSG:4326. A nodata value that is spelt as text becomes a number in them.
        path: of the file, which is made; its folder also takes what is temporary.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".items-") as folder:
        found, count = _Found(), 0
        batches: list[Path] = []
        for batch in batched(items, _GROUP):
            batches.append(Path(folder) / f"{len(batches)}.arrow")
            feather.write_feather(found.table([_flat(item) for item in batch]), batches[-1], compression="lz4")
            count += len(batch)
        if batches:
            schema = found.schema()
            with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3) as writer:
                for file in batches:
                    table = feather.read_table(file, memory_map=False)
                    columns = [_as_found(table, field) for field in schema]
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=_GROUP)
                    file.unlink()
    return count


class _Found:
    """What is known of all items so far."""

    def __init__(self) -> None:
        self.types: dict[str, pa.DataType] = {name: _FIXED.get(name, pa.null()) for name in (*_FIRST, "datetime")}
        self.kinds: set[str] = set()  # of geometries
        self.bounds = Bounds()

    def table(self, rows: Sequence[dict[str, Any]]) -> pa.Table:
        """Make a table of some items, with the types that these have."""
        shapes = shapely.from_geojson([row["geometry"] and json.dumps(row["geometry"]) for row in rows])
        self._look_at(shapes)
        columns: dict[str, pa.Array] = {"geometry": pa.array(shapely.to_wkb(shapes, flavor="iso"), pa.binary())}
        for name in sorted({name for row in rows for name in row} - {"geometry"}):
            values = [row.get(name) for row in rows]
            columns[name] = _made(name, values)
            self.types[name] = _merged(self.types.get(name, pa.null()), columns[name].type)
        return pa.table(columns)

    def _look_at(self, shapes: Any) -> None:
        self.kinds |= {shape.geom_type + (" Z" if shape.has_z else "") for shape in shapes if shape is not None}
        self.bounds.add(*map(float, shapely.total_bounds(shapes)))

    def schema(self) -> pa.Schema:
        """The columns; those of properties by name, after the others."""
        self.types["assets"] = _keyed(self.types["assets"])
        names = [*_FIRST, *sorted(self.types.keys() - set(_FIRST))]
        fields = [pa.field(name, _storable(self.types[name])) for name in names]
        geo = metadata("geometry", self.kinds, self.bounds, box="bbox")
        return pa.schema(fields, {"geo": geo, "stac-geoparquet": json.dumps({"version": "1.0.0"})})


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    """The fields of an item and its properties side by side, as stac-geoparquet has them; a property that is called as
    a field of items is left out.
    """
    own = {name: item.get(name) for name in _FIRST}
    for asset in item["assets"].values():
        for described in (asset, *asset.get("bands", ())):
            if isinstance(described.get("nodata"), str):
                described["nodata"] = _NUMBERS.get(described["nodata"], described["nodata"])
    return own | {name: value for name, value in item["properties"].items() if name not in own and name != "type"}


def _made(name: str, values: Sequence[Any]) -> pa.Array:
    """A column of the values that some items have."""
    if name == "bbox":
        return pa.array([_box(box) for box in values], _BOX)
    if name in _TIMES:
        return _times(values)
    if name == "assets" and len({key for assets in values for key in assets or ()}) > _MOST_KEYS:
        of_all = _type_of([asset for assets in values for asset in (assets or {}).values()])
        return _array(values, pa.map_(pa.string(), of_all))
    try:
        return pa.array(values, _FIXED.get(name))
    except (pa.ArrowException, OverflowError):
        return _array(values, _type_of(values))


def _box(box: Sequence[float] | None) -> dict[str, float] | None:
    if not box:
        return None
    half = len(box) // 2
    return dict(zip(SIDES, (box[0], box[1], box[half], box[half + 1]), strict=True))


def _times(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string()).cast(_TIME)
    except pa.ArrowException:  # one of them has more digits than microseconds, say
        return pa.array([v and datetime.fromisoformat(v) for v in values], _TIME)


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """The type that holds all of these values."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.null()
    if kinds == {dict}:
        by_key: dict[str, list[Any]] = {}
        for value in values:
            for key, inner in (value or {}).items():
                by_key.setdefault(key, []).append(inner)
        return pa.struct([(key, _type_of(inner)) for key, inner in sorted(by_key.items())])
    if kinds == {list}:
        flat = [inner for value in values for inner in value or ()]
        return _list_of(_type_of(flat), are_texts=all(isinstance(inner, str | None) for inner in flat))
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def _merged(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds the values of both; fields of structs are by name."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        types = {field.name: field.type for field in one}
        for field in other:
            types[field.name] = _merged(types.get(field.name, pa.null()), field.type)
        return pa.struct(sorted(types.items()))
    if pa.types.is_list(one) and pa.types.is_list(other):
        kinds = {one.value_type, other.value_type} - {pa.null()}
        return _list_of(_merged(one.value_type, other.value_type), are_texts=kinds == {pa.string()})
    if pa.types.is_map(one) or pa.types.is_map(other):
        return pa.map_(pa.string(), _merged(_of_all_keys(one), _of_all_keys(other)))
    return pa.float64() if {one, other} == {pa.int64(), pa.float64()} else pa.string()


def _list_of(kind: pa.DataType, *, are_texts: bool) -> pa.DataType:
    """The type of lists; text where their elements are of different kinds."""
    return pa.string() if pa.types.is_string(kind) and not are_texts else pa.list_(kind)


def _of_all_keys(assets: pa.DataType) -> pa.DataType:
    """The type that holds every asset."""
    if pa.types.is_map(assets):
        return assets.item_type
    of_all = pa.null()
    for field in assets if pa.types.is_struct(assets) else ():
        of_all = _merged(of_all, field.type)
    return of_all


def _keyed(assets: pa.DataType) -> pa.DataType:
    """The type of assets: a map where there are many keys, and where there are none."""
    few = pa.types.is_struct(assets) and 0 < assets.num_fields <= _MOST_KEYS
    return assets if few else pa.map_(pa.string(), _of_all_keys(assets))


def _storable(kind: pa.DataType) -> pa.DataType:
    """A type that Parquet has, its fields by name: a field that is always null, or always an empty object, is text."""
    if pa.types.is_null(kind) or (pa.types.is_struct(kind) and not kind.num_fields):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct(sorted((field.name, _storable(field.type)) for field in kind))
    if pa.types.is_map(kind):
        return pa.map_(pa.string(), _storable(kind.item_type))
    return pa.list_(_storable(kind.value_type)) if pa.types.is_list(kind) else kind


def _as_found(table: pa.Table, field: pa.Field) -> pa.Array:
    """A column of some items, with the type that holds those of all items."""
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    column = table[field.name].combine_chunks()
    if column.type == field.type:
        return column
    values = column.to_pylist()
    return _array([dict(v) if isinstance(v, list) and pa.types.is_map(column.type) else v for v in values], field.type)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array of a type that holds them. Arrow makes it, unless some are to become text."""
    try:
        return pa.array([sorted(v.items()) if v else v for v in values] if pa.types.is_map(kind) else values, kind)
    except (pa.ArrowException, OverflowError, TypeError):
        return _array_of_mixed(values, kind)


def _array_of_mixed(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    nulls = pa.array([value is None for value in values], pa.bool_())
    if pa.types.is_struct(kind):
        columns = [_array([v and v.get(field.name) for v in values], field.type) for field in kind]
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=nulls)
    if pa.types.is_list(kind):
        flat = [inner for value in values for inner in value or ()]
        return pa.ListArray.from_arrays(_offsets(values), _array(flat, kind.value_type), type=kind, mask=nulls)
    if pa.types.is_map(kind):
        pairs = [pair for value in values for pair in sorted((value or {}).items())]
        keys, inner = pa.array([key for key, _ in pairs], pa.string()), _array([v for _, v in pairs], kind.item_type)
        return pa.MapArray.from_arrays(_offsets(values), keys, inner, mask=nulls)
    if pa.types.is_string(kind):
        values = [v if v is None or isinstance(v, str) else json.dumps(v, sort_keys=True) for v in values]
    if pa.types.is_floating(kind):
        values = [None if v is None else float(v) for v in values]
    return pa.array(values, kind)


def _offsets(values: Sequence[Any]) -> pa.Array:
    return pa.array([0, *accumulate(0 if value is None else len(value) for value in values)], pa.int32())
