"""A published table as a GeoParquet file.

Here: reading the table as a stream of Arrow batches, in the order of its key, and writing these. Not here: where the
file goes (`stages/table_files.py`, `stages/export.py`), what GeoParquet's metadata says (`../geoparquet.py`).

The same rows give the same bytes. Memory is bounded: a batch has some megabytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adbc_driver_manager import Error
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.geoparquet import SIDES, Bounds, metadata
from geo_assets.vector.tables.introspection import SCHEMA
from geo_assets.vector.tables.session import Session, message_of
from geo_assets.vector.types import GEOMETRY_COLUMN

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

#: Types that ADBC reads, and Parquet has, as they are; of these also arrays. All others are read as text.
_AS_THEY_ARE = frozenset(
    {
        *("boolean", "smallint", "integer", "bigint", "real", "double precision", "text", "bytea", "date"),
        *("time without time zone", "timestamp without time zone", "timestamp with time zone"),
    }
)
_ARRAYS = frozenset(f"{name}[]" for name in ("smallint", "integer", "bigint", "real", "double precision", "text"))

_DECIMAL = re.compile(r"numeric\((\d+),(\d+)\)")
_GEOMETRY = re.compile(r"(?:public\.)?geometry(?:\((\w+)(?:,\d+)?\))?")

#: SQLSTATE classes of what passes: a deadlock, a lock that was not had, a statement that somebody ended.
_PASSING = ("40", "55P03", "57014")

#: Digits of the widest decimal that readers of Parquet know.
_MOST_DIGITS = 38

#: PostGIS's names of types -> GeoJSON's.
_KINDS = {
    name.upper(): name
    for name in (
        "Point",
        "LineString",
        "Polygon",
        "MultiPoint",
        "MultiLineString",
        "MultiPolygon",
        "GeometryCollection",
    )
}

_COLUMNS = sql.SQL("""
select a.attname::text, format_type(a.atttypid, a.atttypmod),
       exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any(i.indkey))
  from pg_attribute a where a.attrelid = {}::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum
""")

_CRS = sql.SQL("""
select s.auth_name, s.auth_srid, s.srtext
  from public.geometry_columns g join public.spatial_ref_sys s using (srid)
 where (f_table_schema, f_table_name, f_geometry_column) = ({}, {}, {})
""")


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    kind: str  # as PostgreSQL says it
    is_key: bool

    @property
    def decimal(self) -> tuple[int, int] | None:
        """Precision and scale, where Parquet's decimals can hold it."""
        match = _DECIMAL.fullmatch(self.kind)
        return (int(match[1]), int(match[2])) if match and int(match[1]) <= _MOST_DIGITS else None

    def selected(self) -> sql.Composable:
        """It, in a list of what is selected."""
        name = sql.Identifier(self.name)
        if self.kind in _AS_THEY_ARE | _ARRAYS:
            return name
        if self.decimal:  # a decimal of Parquet has no NaN
            return sql.SQL("nullif({}, 'NaN')::text as {}").format(name, name)
        return sql.SQL("{}::text as {}").format(name, name)


def write_table(session: Session, table: str, path: Path) -> int:
    """Write `vector.<table>` as GeoParquet, in its CRS; a table without geometry as plain Parquet.

    A column `bbox`, or the first free `bbox_N`, holds the box of each geometry. NaN in a column of decimals becomes
    null. What Parquet has no type for (intervals, JSON, numbers of any precision) is text.

    Args:
        session: whose transaction this ends.
        table: its name.
        path: of the file, which is made.

    Returns:
        How many rows it has.

    Raises:
        GeoAssetsError: OUTPUT_GONE, there is no such table; DATABASE_UNAVAILABLE; INTERNAL, the database or its driver
            refuses to read it.
    """
    try:
        session(sql.SQL("lock table {} in access share mode").format(sql.Identifier(SCHEMA, table)))
        try:
            return _written(session, table, path)
        finally:
            session.rollback()
    except (Error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file; what ends the stream of batches has no number
        session.rollback()
        state = getattr(error, "sqlstate", None) or ""
        if state == "42P01":  # undefined_table
            raise GeoAssetsError("OUTPUT_GONE", f"there is no table {SCHEMA}.{table}") from error
        code = "DATABASE_UNAVAILABLE" if state.startswith(_PASSING) or not session.answers() else "INTERNAL"
        raise GeoAssetsError(code, f"{SCHEMA}.{table} could not be read: {message_of(error)}") from error


def _written(session: Session, table: str, path: Path) -> int:
    from pyarrow.parquet import ParquetWriter

    place = sql.Identifier(SCHEMA, table)
    label = sql.Literal(place.as_string(None))
    columns = [_Column(*row) for row in session(_COLUMNS.format(label))]
    geometry = next((c for c in columns if c.name == GEOMETRY_COLUMN and _GEOMETRY.fullmatch(c.kind)), None)
    plain = [column for column in columns if column is not geometry]
    keys: list[sql.Composable] = [sql.Identifier(column.name) for column in columns if column.is_key]
    query = sql.SQL("select {} from {} order by {}").format(
        sql.SQL(", ").join([*(column.selected() for column in plain), *(_geometry() if geometry else ())]),
        place,
        sql.SQL(", ").join(keys or [sql.SQL("ctid")]),
    )
    crs = _crs(session, table) if geometry else None
    bounds, rows = Bounds(), 0
    box = _free("bbox", {column.name for column in columns})
    with session.batches(query) as reader:
        schema = _schema(reader.schema, plain, box if geometry else None)
        with ParquetWriter(path, schema, compression="zstd", compression_level=3) as writer:
            for batch in reader:
                _write(writer, batch, schema, bounds, has_geometry=geometry is not None)
                rows += len(batch)
            if geometry:
                kinds = _kinds(geometry.kind)
                writer.add_key_value_metadata({"geo": metadata(GEOMETRY_COLUMN, kinds, bounds, box=box, crs=crs)})
    return rows


def _geometry() -> list[sql.Composable]:
    """The geometry as WKB, and the sides of its box."""
    name = sql.Identifier(GEOMETRY_COLUMN)
    functions = ("st_xmin", "st_ymin", "st_xmax", "st_ymax")
    return [
        sql.SQL("public.st_asbinary({}) as {}").format(name, name),
        *(sql.SQL("public.{}({})").format(sql.SQL(function), name) for function in functions),
    ]


def _free(name: str, taken: set[str]) -> str:
    names = [name, *(f"{name}_{number}" for number in range(1, len(taken) + 2))]
    return next(free for free in names if free not in taken)


def _schema(found: pa.Schema, plain: list[_Column], box: str | None) -> pa.Schema:
    """The columns of the file: those of the table in their order, then the geometry and its box."""
    import pyarrow as pa

    fields = []
    for column, field in zip(plain, found, strict=False):
        kind = pa.decimal128(*column.decimal) if column.decimal else _stored(field.type)
        fields.append(pa.field(column.name, kind))
    if box is not None:
        fields.append(pa.field(GEOMETRY_COLUMN, pa.binary()))
        fields.append(pa.field(box, pa.struct([(side, pa.float64()) for side in SIDES])))
    return pa.schema(fields)


def _stored(kind: pa.DataType) -> pa.DataType:
    """A type without what ADBC adds about PostgreSQL."""
    import pyarrow as pa

    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _write(
    writer: ParquetWriter, batch: pa.RecordBatch, schema: pa.Schema, bounds: Bounds, *, has_geometry: bool
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays: list[Any] = [
        column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns
    ]
    if has_geometry:
        *arrays, wkb, xmin, ymin, xmax, ymax = arrays
        sides = (xmin, ymin, xmax, ymax)
        boxes = pa.StructArray.from_arrays(sides, list(SIDES), mask=pc.is_null(xmin))
        arrays += [wkb, boxes]
        least_and_most = (pc.min(xmin), pc.min(ymin), pc.max(xmax), pc.max(ymax))
        if least_and_most[0].is_valid:
            bounds.add(*(value.as_py() for value in least_and_most))
    arrays = [a if a.type == field.type else pc.cast(a, field.type) for a, field in zip(arrays, schema, strict=True)]
    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _kinds(kind: str) -> list[str]:
    """What GeoParquet calls the geometries of a column; none where they may be of any kind."""
    match = _GEOMETRY.fullmatch(kind)
    name = (match[1] or "") if match else ""
    for end, said in (("ZM", ""), ("Z", " Z"), ("M", ""), ("", "")):
        if name.endswith(end) and (plain := _KINDS.get(name.removesuffix(end).upper())):
            return [f"{plain}{said}"]
    return []


def _crs(session: Session, table: str) -> dict[str, Any]:
    """The CRS of the geometries as PROJJSON; empty where it is not known."""
    from pyproj import CRS

    names = (sql.Literal(name) for name in (SCHEMA, table, GEOMETRY_COLUMN))
    for authority, code, text in session(_CRS.format(*names)):
        crs = CRS.from_user_input(f"{authority}:{code}") if authority == "EPSG" else CRS.from_wkt(text)
        found: dict[str, Any] = crs.to_json_dict()
        return found
    return {}
