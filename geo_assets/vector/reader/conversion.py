"""Conversion of a file's columns to wire types: the type that holds every value of a column, and the converted values.

Here: Arrow arrays. Values that cannot be kept exactly are counted. Not here: the wire types themselves (`../types.py`),
geometry (`geometry.py`).
"""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.types import ELEMENTS, MAX_PRECISION, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

#: Digits of 2**64 - 1: PostgreSQL has no unsigned integer.
_UINT64 = "decimal(20, 0)"

NUL_REMOVED = "text with NUL characters, which were removed"
BEYOND_YEARS = "beyond the years 1 to 9999, and null in JSON"
HALF_CHARACTER = "with half of a character (a lone surrogate), which was replaced"
NO_JSON_NUMBER = "NaN or infinity, which JSON does not have, and null in it"
NOT_UTF8 = "text that is not UTF-8, whose faulty bytes were replaced"
BEYOND_POSTGRESQL = "beyond the dates and times that PostgreSQL has (from 4714 BC), now NULL"
NOT_JSON = "text that is not JSON in a JSON column, kept as a JSON string"

#: The first of PostgreSQL's timestamps, and its first and last date, as Arrow counts them: from 1970.
_FIRST_MICROSECOND, _FIRST_DAY, _LAST_DAY = -210_866_803_200_000_000, -2_440_588, 2_145_042_905


def wire_type(column: str, arrow: pa.DataType) -> str:
    """Return the wire type that holds every value of an Arrow type.

    Args:
        column: the column's name, for the message.
        arrow: any type that a reader delivers.

    Raises:
        GeoAssetsError: VECTOR_UNSUPPORTED_TYPE.
    """
    wire = _wire_or_none(arrow)
    if wire is None:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED_TYPE", f"column {column!r} has the type {arrow}, which has no counterpart in PostgreSQL"
        )
    return wire


@cache
def _rules() -> tuple[tuple[Callable[[pa.DataType], bool], str | Callable[[pa.DataType], str | None]], ...]:
    import pyarrow as pa

    t = pa.types
    return (
        (t.is_boolean, "bool"),
        (lambda a: a in {pa.int8(), pa.uint8(), pa.int16()}, "int16"),
        (lambda a: a in {pa.uint16(), pa.int32()}, "int32"),
        (lambda a: a in {pa.uint32(), pa.int64()}, "int64"),
        (t.is_uint64, _UINT64),
        (lambda a: t.is_float16(a) or t.is_float32(a), "float32"),
        (t.is_float64, "float64"),
        (lambda a: t.is_string(a) or t.is_large_string(a) or t.is_string_view(a) or t.is_null(a), "string"),
        (
            lambda a: t.is_binary(a) or t.is_large_binary(a) or t.is_fixed_size_binary(a) or t.is_binary_view(a),
            "binary",
        ),
        (t.is_date, "date32"),
        (t.is_time, "time64[us]"),
        (t.is_timestamp, lambda a: "timestamp[us]" if a.tz is None else "timestamp[us, UTC]"),
        (t.is_duration, "duration[us]"),
        (t.is_interval, "interval"),
        (t.is_decimal, _decimal_wire),
        (lambda a: t.is_dictionary(a) or t.is_run_end_encoded(a), lambda a: _wire_or_none(a.value_type)),
        (lambda a: isinstance(a, pa.JsonType), "json"),
        (lambda a: isinstance(a, pa.UuidType), "string"),
        (lambda a: isinstance(a, pa.BaseExtensionType), lambda a: _wire_or_none(a.storage_type)),
        (_is_list, _list_wire),
        (lambda a: t.is_struct(a) or t.is_map(a), "json"),
    )


def _wire_or_none(arrow: pa.DataType) -> str | None:
    for applies, wire in _rules():
        if applies(arrow):
            return wire if isinstance(wire, str) else wire(arrow)
    return None


def _is_list(arrow: pa.DataType) -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(t.is_list(arrow) or t.is_large_list(arrow) or t.is_fixed_size_list(arrow))


def _decimal_wire(arrow: pa.DataType) -> str | None:
    """Return precision and scale with a scale of at least 0: PostgreSQL supports negative ones only from version 15."""
    precision, scale = arrow.precision + max(0, -arrow.scale), max(0, arrow.scale)
    return f"decimal({precision}, {scale})" if scale <= precision <= MAX_PRECISION else None


def _list_wire(arrow: pa.DataType) -> str | None:
    element = _wire_or_none(arrow.value_type)
    return f"list<{element}>" if element in ELEMENTS else "json" if element else None


def convert(array: pa.Array, wire: str, notes: Counter[str]) -> pa.Array:
    """Convert a column to its wire type; nulls stay null, empty text stays empty.

    Args:
        array: values from the reader.
        wire: what `wire_type` returned for their type.
        notes: counts values that could not be kept exactly, by what was done to them.

    Raises:
        pyarrow.ArrowInvalid: a value is out of the wire type's range.
    """
    import pyarrow as pa

    plain = _decoded(array)
    if wire == "json":
        return _to_json(plain, notes)
    if wire == "string":
        return _text(plain, notes)
    if wire == "list<string>":
        return _text_lists(plain, notes)
    target = arrow_type(wire)
    # only nanoseconds may be cut: PostgreSQL has microseconds
    nanoseconds = any(f"{kind}[ns" in str(plain.type) for kind in ("timestamp", "time64", "duration"))
    result = plain.cast(target, safe=not nanoseconds)
    result = result.combine_chunks() if isinstance(result, pa.ChunkedArray) else result
    return _without_beyond(result, notes)


def _without_beyond(array: pa.Array, notes: Counter[str]) -> pa.Array:
    """Return dates and timestamps, or lists of them, of which those are null that PostgreSQL does not have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(array.type) and pa.types.is_temporal(array.type.value_type):
        values = array.flatten()
        if _without_beyond(values, notes) is values:
            return array
        whole = pa.concat_arrays([array])  # its lists begin with the first value
        return pa.ListArray.from_arrays(whole.offsets, _without_beyond(whole.values, Counter()), mask=whole.is_null())
    if pa.types.is_timestamp(array.type):
        first, last, count = _FIRST_MICROSECOND, (1 << 63) - 1, array.view(pa.int64())
    elif pa.types.is_date(array.type):
        first, last, count = _FIRST_DAY, _LAST_DAY, array.view(pa.int32())
    else:
        return array
    beyond = pc.or_(pc.less(count, first), pc.greater(count, last))
    number = pc.sum(beyond).as_py()
    if not number:
        return array
    notes[BEYOND_POSTGRESQL] += number
    return pc.if_else(beyond, pa.scalar(None, array.type), array)


def _decoded(array: pa.Array) -> pa.Array:
    """Return the array without dictionaries, run ends and extension types other than JSON."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    if isinstance(array, pa.ExtensionArray) and not isinstance(array.type, pa.JsonType):
        return _decoded(array.storage)
    if pa.types.is_dictionary(array.type):
        return _decoded(array.dictionary_decode())
    if pa.types.is_run_end_encoded(array.type):
        return _decoded(pc.run_end_decode(array))
    return array


def _text(array: pa.Array, notes: Counter[str]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = array.cast(pa.string()) if not pa.types.is_binary(array.type) else array
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        text = _replace_faulty_bytes(text, notes)
    with_nul = pc.sum(pc.match_substring(text, "\0")).as_py() or 0
    if with_nul:
        notes[NUL_REMOVED] += with_nul
        text = pc.replace_substring(text, "\0", "")
    return text


def _replace_faulty_bytes(text: pa.Array, notes: Counter[str]) -> pa.Array:
    import pyarrow as pa

    values: list[str | None] = []
    for value in text.view(pa.binary()).to_pylist():
        decoded = None if value is None else value.decode("utf-8", "replace")
        if decoded is not None and decoded.encode() != value:
            notes[NOT_UTF8] += 1
        values.append(decoded)
    return pa.array(values, pa.string())


def _text_lists(array: pa.Array, notes: Counter[str]) -> pa.Array:
    """Return lists of text, each element cleaned as a text column is."""
    import pyarrow as pa

    lists = array.cast(pa.list_(pa.string()))
    if not lists.null_count and not lists.offset:
        return pa.ListArray.from_arrays(lists.offsets, _text(lists.values, notes))
    return pa.array(
        [None if row is None else _text(pa.array(row, pa.string()), notes).to_pylist() for row in lists.to_pylist()],
        lists.type,
    )


def _to_json(array: pa.Array, notes: Counter[str]) -> pa.Array:
    import pyarrow as pa

    if isinstance(array.type, pa.JsonType):
        texts = [
            None if value is None else _checked_json(value, notes) for value in _text(array.storage, notes).to_pylist()
        ]
    else:
        texts = [None if value is None else _dump(_jsonable(value, notes)) for value in _nested_values(array, notes)]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


def _nested_values(array: pa.Array, notes: Counter[str]) -> list[Any]:
    """Return Python values; a map becomes a dict, or a list of pairs where a key repeats; a date that Python does not
    have becomes None.
    """
    for options in ({"maps_as_pydicts": "strict"}, {}):
        try:
            return array.to_pylist(**options)  # type: ignore[no-any-return]
        except KeyError:
            continue
        except (OverflowError, ValueError):
            break
    return [_nested_value(scalar, notes) for scalar in array]


def _nested_value(scalar: Any, notes: Counter[str]) -> Any:
    import pyarrow as pa

    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        pass
    if isinstance(scalar, pa.StructScalar):
        return {field.name: _nested_value(scalar[i], notes) for i, field in enumerate(scalar.type)}
    if isinstance(scalar, pa.ListScalar):
        return [_nested_value(each, notes) for each in scalar.values]
    notes[BEYOND_YEARS] += 1
    return None


def _checked_json(text: str, notes: Counter[str]) -> str:
    """Return the text itself where jsonb accepts it: JSON without NUL, lone surrogates, NaN and infinity."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        notes[NOT_JSON] += 1
        return _dump(text)
    return _dump(_jsonable(value, notes)) if "\\u" in text else text


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _jsonable(value: Any, notes: Counter[str]) -> Any:
    """Return a nested Arrow value for JSON: dates in ISO 8601, bytes in base64, null for numbers that JSON lacks."""
    if isinstance(value, dict):
        return {_plain_text(str(key), notes): _jsonable(item, notes) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item, notes) for item in value]
    if isinstance(value, str):
        return _plain_text(value, notes)
    if isinstance(value, float) and not math.isfinite(value):
        notes[NO_JSON_NUMBER] += 1
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal):
        return str(value)
    return value


def _plain_text(text: str, notes: Counter[str]) -> str:
    if "\0" in text:
        notes[NUL_REMOVED] += 1
        text = text.replace("\0", "")
    whole = whole_characters(text)
    if whole != text:
        notes[f"text {HALF_CHARACTER}"] += 1
    return whole


def whole_characters(text: str) -> str:
    """Return the text with U+FFFD for lone surrogates, which neither UTF-8 nor PostgreSQL has."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_json(
    names: Sequence[str],
    columns: Sequence[pa.Array],
    count: int,
    notes: Counter[str],
    texts: Mapping[int, dict[str, str | None]] = MappingProxyType({}),
) -> pa.Array:
    """Return `count` rows of converted columns as JSON objects; what could not be kept is counted in `notes`.

    Args:
        names: of the columns.
        columns: their values.
        count: of the rows.
        notes: counts what could not be kept.
        texts: by row, what takes the place of the values of columns.
    """
    import pyarrow as pa

    values = [_json_values(column, notes) for column in columns]
    rows = [
        texts.get(row) or {name: column[row] for name, column in zip(names, values, strict=True)}
        for row in range(count)
    ]
    return pa.ExtensionArray.from_storage(
        pa.json_(), pa.array([_dump(_jsonable(row, notes)) for row in rows], pa.string())
    )


def _json_values(column: pa.Array, notes: Counter[str]) -> list[Any]:
    import pyarrow as pa

    if isinstance(column.type, pa.JsonType):
        return [None if text is None else json.loads(text) for text in column.storage.to_pylist()]
    return _nested_values(column, notes)
