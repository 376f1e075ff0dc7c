"""Columns of Arrow as the rest of the reader handles them: of types that pyarrow can filter, a geometry as binary,
times within a day.

Here: types and arrays. Not here: which column is the geometry (`parquet.py`), wire types (`conversion.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geo_assets.vector.reader.batches import storage
from geo_assets.vector.reader.findings import Findings

if TYPE_CHECKING:
    import pyarrow as pa

NOT_EXACT = "beyond what GDAL reads exactly of unsigned integers, now NULL"
_EXACT = 1 << 53  # the first integer that doubles do not tell from its neighbour
NO_TIME_OF_DAY = "not a time of day, now NULL"

_DAY = 24 * 60 * 60  # seconds
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second


def without_views(kind: pa.DataType) -> pa.DataType:
    """Return the type that has the same values and no view, of which pyarrow can take no rows."""
    import pyarrow as pa

    t = pa.types
    if t.is_string_view(kind):
        return pa.string()
    if t.is_binary_view(kind):
        return pa.binary()
    if t.is_dictionary(kind) and kind.value_type != without_views(kind.value_type):
        return without_views(kind.value_type)
    if t.is_list(kind) or t.is_list_view(kind):
        return pa.list_(_settled(kind.value_field))
    if t.is_large_list(kind) or t.is_large_list_view(kind):
        return pa.large_list(_settled(kind.value_field))
    if t.is_fixed_size_list(kind):
        return pa.list_(_settled(kind.value_field), kind.list_size)
    if t.is_struct(kind):
        return pa.struct([_settled(field) for field in kind])
    if t.is_map(kind):
        return pa.map_(_settled(kind.key_field), _settled(kind.item_field), keys_sorted=kind.keys_sorted)
    return kind


def _settled(field: pa.Field) -> pa.Field:
    return field.with_type(without_views(field.type))


def settled(array: pa.Array) -> pa.Array:
    """Return the same values without views."""
    import pyarrow as pa

    kind = without_views(array.type)
    if kind == array.type:
        return array
    if isinstance(array, pa.DictionaryArray):
        return array.dictionary.cast(kind).take(array.indices)
    return array.cast(kind)


def as_text(array: pa.Array) -> pa.Array:
    """Return text of any type as `string`; other values as they are."""
    import pyarrow as pa

    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    values = settled(array)
    if not holds_text(kind):
        return values
    return values.cast(pa.string())


def holds_text(kind: pa.DataType) -> bool:
    """Whether `as_text` makes `string` of it."""
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(kind):
        return holds_text(kind.value_type)
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether `as_binary` can make bytes of it."""
    import pyarrow as pa

    t = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return holds_bytes(kind.storage_type)
    if t.is_dictionary(kind):
        return holds_bytes(kind.value_type)
    return bool(
        t.is_binary(kind)
        or t.is_large_binary(kind)
        or t.is_binary_view(kind)
        or t.is_fixed_size_binary(kind)
        or t.is_null(kind)
    )


def as_binary(array: pa.Array) -> pa.Array:
    """Return bytes as `binary`, or as `large_binary` where they are that."""
    import pyarrow as pa

    values = settled(storage(array))
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    return values if pa.types.is_large_binary(values.type) else values.cast(pa.binary())


def times_of_day(array: pa.Array, column: str, findings: Findings) -> pa.Array:
    """Return times of which those that no clock shows (25:00:00) are null, and counted; other values as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if not pa.types.is_time(kind):
        return array
    ticks = array.view(pa.int32() if pa.types.is_time32(kind) else pa.int64())
    beyond = pc.or_(pc.less(ticks, 0), pc.greater_equal(ticks, _DAY * _TICKS[kind.unit]))
    if not pc.any(beyond).as_py():
        return array
    found = ticks.filter(beyond)
    findings.add(
        column, NO_TIME_OF_DAY, [_clock(each // _TICKS[kind.unit]) for each in found[:5].to_pylist()], len(found)
    )
    return pc.if_else(beyond, pa.scalar(None, kind), array)


def whole_of(array: pa.Array, column: str, findings: Findings) -> pa.Array:
    """Return integers that were made doubles as `decimal(20, 0)`; those that a double may not hold are null, and
    counted.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    beyond = pc.greater_equal(array, float(_EXACT))
    found = array.filter(beyond)
    if len(found):
        findings.add(column, NOT_EXACT, [f"about {each:.17g}" for each in found[:5].to_pylist()], len(found))
    held = pc.if_else(beyond, pa.scalar(None, array.type), array)
    return held.cast(pa.int64()).cast(pa.decimal128(20, 0))


def _clock(seconds: int) -> str:
    minutes, rest = divmod(abs(seconds), 60)
    return f"{'-' if seconds < 0 else ''}{minutes // 60:02}:{minutes % 60:02}:{rest:02}"
