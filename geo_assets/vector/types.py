"""Wire types: the type of a column between the child that reads it and the parent that loads it, and in PostgreSQL.

Here: one table of wire types, as PostgreSQL's types and as Arrow's. ADBC's COPY casts nothing (an int64 sent to a
`double precision` column is stored as another number), so the table in PostgreSQL and the stream are both made from
this.
Not here: which wire type a file's column gets, and its conversion (`reader/conversion.py`), the schemas of the streams
(`schemas.py`), names (`names.py`). pyarrow is imported only where it is needed: the models need the table alone.

A wire type is written as its Arrow name: `int64`, `timestamp[us, UTC]`, `decimal(20, 0)`, `list<string>`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

GEOMETRY_COLUMN = "geom"

#: The key that every table has; it is not part of the source's schema.
KEY = "gid"

#: Attributes that a table may have: PostgreSQL's 1,600 columns without `gid` and `geom`.
MOST_COLUMNS = 1598

#: What to do where a table cannot have all columns of a layer.
FEWER_COLUMNS = "load some of its columns: --param columns=A,B"

_SQL_TYPES = {
    "bool": "boolean",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float32": "real",
    "float64": "double precision",
    "string": "text",  # never varchar(n): declared widths are wrong too often
    "binary": "bytea",
    "date32": "date",
    "time64[us]": "time",
    "timestamp[us]": "timestamp",
    "timestamp[us, UTC]": "timestamptz",
    "duration[us]": "interval",
    "interval": "interval",
    "json": "jsonb",
}

#: Elements for which a PostgreSQL array is used; lists of anything else become jsonb.
ELEMENTS = frozenset(
    {"bool", "int16", "int32", "int64", "float32", "float64", "string", "date32", "timestamp[us]", "timestamp[us, UTC]"}
)

_DECIMAL = re.compile(r"decimal\((\d{1,2}), (\d{1,2})\)")
_LIST = re.compile(r"list<(.+)>")

#: Digits of Arrow's widest decimal.
MAX_PRECISION = 76
_MAX_PRECISION_128 = 38


def sql_type(wire: str) -> str:
    """Return PostgreSQL's type for a wire type.

    Raises:
        ValueError: there is no such wire type.
    """
    if wire in _SQL_TYPES:
        return _SQL_TYPES[wire]
    if match := _DECIMAL.fullmatch(wire):
        return f"numeric({int(match[1])},{int(match[2])})"
    if (match := _LIST.fullmatch(wire)) and match[1] in ELEMENTS:
        return f"{_SQL_TYPES[match[1]]}[]"
    msg = f"{wire!r} is not a wire type"
    raise ValueError(msg)


@cache
def arrow_type(wire: str) -> pa.DataType:
    """Return the Arrow type of a wire type.

    Raises:
        ValueError: there is no such wire type.
    """
    import pyarrow as pa

    sql_type(wire)
    if match := _DECIMAL.fullmatch(wire):
        precision, scale = int(match[1]), int(match[2])
        return pa.decimal128(precision, scale) if precision <= _MAX_PRECISION_128 else pa.decimal256(precision, scale)
    if match := _LIST.fullmatch(wire):
        return pa.list_(arrow_type(match[1]))
    special = {
        "time64[us]": pa.time64("us"),
        "timestamp[us]": pa.timestamp("us"),
        "timestamp[us, UTC]": pa.timestamp("us", tz="UTC"),
        "duration[us]": pa.duration("us"),
        "interval": pa.month_day_nano_interval(),
        "json": pa.json_(),
    }
    return special[wire] if wire in special else pa.type_for_alias(wire)
