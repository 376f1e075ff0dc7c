"""The geometry of a Parquet file: which column it is, how it is written, and in which CRS.

Here: what an option, GeoParquet's metadata, an Arrow extension type or Parquet's logical type says of it, in this
order. Not here: reading the rows (`parquet.py`), coordinates as nested lists (`native.py`).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.crs import code_of, parse_file_crs
from geo_assets.vector.geoparquet import bounds_of, kinds_of
from geo_assets.vector.models import BoundingBox
from geo_assets.vector.reader.arrow_types import as_binary, holds_bytes, holds_text
from geo_assets.vector.reader.batches import WKB_EXTENSIONS, LayerRef, extension_name, geometry_position, storage
from geo_assets.vector.reader.native import NATIVE, from_native, position_type
from geo_assets.vector.reader.placing import Placing, find_placing, said_srid
from geo_assets.vector.reader.srids import ANOTHER_SRID, srid_of_most
from geo_assets.vector.reader.wkb import SHORTEST, srids_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from geo_assets.vector.models import LayerOptions

#: In GeoParquet and Parquet a file without "crs" is in longitude and latitude on WGS 84.
_DEFAULT_CRS = "OGC:CRS84"

_BOX_FIELDS = frozenset({"xmin", "ymin", "xmax", "ymax", "zmin", "zmax"})

#: Rows that are sampled to interpret the columns of a plain table.
_SAMPLE_ROWS = 100


@dataclass(slots=True)
class Geometry:
    """Where the geometry is and how it is written."""

    position: int  # position of its column; -1: none
    crs: str | None
    encoding: str = "WKB"
    placing: Placing | None = None  # for a plain table
    covering: str | None = None
    notes: list[str] = field(default_factory=list)
    kinds: tuple[str, ...] = ()  # as the metadata states them
    bounds: BoundingBox | None = None  # likewise
    srid: int | None = None  # which EWKB names, 0: none; None: it is not asked
    has_z: bool = True  # of three interleaved coordinates, which may be x, y and m

    def wkb(self, batch: pa.RecordBatch, at: int) -> tuple[pa.Array, dict[int, str]]:
        """Return the WKB of one batch, whose geometry is column `at`, and what is wrong by row."""
        column = storage(batch.column(at))
        if self.encoding == "WKB":
            wkb = as_binary(column)
            return wkb, {} if self.srid is None else self._of_another_srid(wkb)
        return from_native(column, self.encoding, has_z=self.has_z)

    def _of_another_srid(self, wkb: pa.Array) -> dict[int, str]:
        srids = srids_of(wkb)
        return dict.fromkeys(np.flatnonzero((srids != 0) & (srids != self.srid)).tolist(), ANOTHER_SRID)

    def check_type(self, schema: pa.Schema, title: str) -> None:
        """Refuse a column that cannot hold what its encoding says.

        Raises:
            GeoAssetsError: VECTOR_UNSUPPORTED.
        """
        if self.position < 0:
            return
        column = schema.field(self.position)
        if holds_bytes(column.type) if self.encoding == "WKB" else position_type(column.type, self.encoding):
            return
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"the geometry column {column.name[:63]!r} of {title} has the type {str(column.type)[:100]}, which cannot"
            f" hold its encoding, {self.encoding}",
            remedy=(
                "where it is text, name it with --geometry-column (geometry_column of a job), which reads WKT; else"
                " write it as WKB in a column of bytes, and upload it again"
            ),
        )


def find_geometry(file: pq.ParquetFile, ref: LayerRef, *, attributes: bool) -> Geometry:
    """Return the geometry of a file.

    Args:
        file: or the first of a folder.
        ref: whose options may name it.
        attributes: it need not have one.

    Raises:
        GeoAssetsError: VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED; UNREADABLE; UNKNOWN_COLUMN.
    """
    found = _found(file, ref, attributes=attributes)
    if found.encoding != "WKB":
        _tell_coordinates(found, file)
    elif found.placing is None and found.position >= 0 and found.srid is None and found.crs is not None:
        _expect_srid(found, file)
    return found


def _expect_srid(found: Geometry, file: pq.ParquetFile) -> None:
    """Have EWKB held against the CRS that its column is declared to be in; where its first rows name another SRID,
    against that, with a note.
    """
    if not holds_bytes(file.schema_arrow.field(found.position).type):
        return
    declared = code_of(parse_file_crs(found.crs))
    srid, _ = srid_of_most(_srids_of_some(file, found.position))
    if declared is not None and (srid in {0, declared}):
        found.srid = declared
    elif srid:
        found.srid = srid
        found.notes.append(f"its geometries name SRID {srid}, and were taken for those of its CRS, as it is declared")


def _found(file: pq.ParquetFile, ref: LayerRef, *, attributes: bool) -> Geometry:
    schema, options = file.schema_arrow, ref.dataset.options
    if options.geometry_column or options.wkt or options.x:
        return _plain(file, ref, options)
    text = (schema.metadata or {}).get(b"geo")
    logical = _logical_types(file)
    found = _declared(text, schema, ref.title, None) if text is not None else _by_type(schema, logical)
    if found is None:
        if attributes:
            return Geometry(-1, None)
        raise GeoAssetsError(
            "VECTOR_NO_GEOMETRY",
            f"{ref.title} is Parquet without a geometry column; its columns are"
            f" {', '.join(map(repr, schema.names[:8]))}",
            remedy=(
                "name the column of its WKB or WKT with --geometry-column (geometry_column of a job), or its"
                " coordinates with --x and --y"
            ),
        )
    name = schema.names[found.position]
    others = [
        f.name
        for f in schema
        if f.name != name and (_is_geometry(f) or f.name in logical or f.name in _geo_columns(text))
    ]
    found.notes += [
        f"{other!r} is a second geometry, and a table has one: it is kept {_kept_as(schema.field(other).type)}"
        for other in others
    ]
    found.covering = found.covering or _box_column(schema)
    return found


def _kept_as(kind: pa.DataType) -> str:
    if holds_bytes(kind):
        return "as WKB (ST_GeomFromWKB reads it)"
    return "as text" if holds_text(kind) else "as its coordinates"


def _tell_coordinates(found: Geometry, file: pq.ParquetFile) -> None:
    """Note which coordinates a native encoding has. The name of interleaved ones is lost in Parquet, but for the schema
    that Arrow keeps beside it.
    """
    import pyarrow as pa

    name = file.schema_arrow.names[found.position]
    kind = position_type(file.schema_arrow.field(found.position).type, found.encoding)
    if kind is None:
        return
    if pa.types.is_struct(kind):
        has_m = kind.get_field_index("m") >= 0
    else:
        written = position_type(_written_type(file, name) or kind, found.encoding) or kind
        named = written.value_field.name if written.list_size == kind.list_size else ""
        has_m = kind.list_size > 3 or (kind.list_size == 3 and named == "xym")
        found.has_z = kind.list_size > 2 and named != "xym"
        if kind.list_size == 3 and named not in {"xym", "xyz"}:
            found.notes.append(f"{name!r} does not say what its third coordinates are: they were taken for heights")
    if has_m:
        found.notes.append(f"{name!r} has M values, which were dropped")


def _written_type(file: pq.ParquetFile, name: str) -> pa.DataType | None:
    """Return the type of a column as it was before it became Parquet's; None where that is not kept."""
    import pyarrow as pa

    kept = (file.metadata.metadata or {}).get(b"ARROW:schema")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(kept))) if kept else None
    except (pa.ArrowInvalid, OSError, ValueError):
        return None
    position = schema.get_field_index(name) if schema is not None else -1
    return schema.field(position).type if schema is not None and position >= 0 else None


def _geo_columns(text: bytes | None) -> set[str]:
    try:
        return set(json.loads(text or b"{}").get("columns", ()))
    except (ValueError, AttributeError, TypeError, RecursionError):
        return set()


def _is_geometry(column: pa.Field) -> bool:
    return extension_name(column).startswith(b"geoarrow.") or extension_name(column) in WKB_EXTENSIONS


def _logical_types(file: pq.ParquetFile) -> dict[str, dict[str, Any]]:
    """Return the columns of Parquet's types GEOMETRY and GEOGRAPHY, with the type's parameters."""
    found = {}
    for i in range(len(file.schema)):
        column = file.schema.column(i)
        try:
            said = json.loads(column.logical_type.to_json())
        except (ValueError, RecursionError):
            continue
        if said.get("Type") in {"Geometry", "Geography"} and "." not in column.path:
            found[column.path] = said | {"key_value": file.schema_arrow.metadata or {}}
    return found


def _by_type(schema: pa.Schema, logical: dict[str, dict[str, Any]]) -> Geometry | None:
    position = geometry_position(schema)
    if position is not None:
        column = schema.field(position)
        said = logical.get(column.name)
        return Geometry(position, _geoarrow_crs(column, None if said is None else _parquet_crs(said)))
    for i, column in enumerate(schema):
        kind = extension_name(column).removeprefix(b"geoarrow.").decode("ascii", "replace")
        if kind in NATIVE:
            return Geometry(i, _geoarrow_crs(column), kind)
    for name, said in logical.items():
        notes = (
            [f"its edges are {said.get('algorithm', 'spherical')}; PostGIS takes them for straight lines"]
            if said["Type"] == "Geography"
            else []
        )
        return Geometry(schema.get_field_index(name), _parquet_crs(said), notes=notes)
    return None


def _parquet_crs(said: dict[str, Any]) -> str | None:
    """Return the CRS of a logical type: nothing, `srid:code`, `projjson:key` of the file's metadata, PROJJSON itself,
    or an authority's code.
    """
    crs = said.get("crs")
    if not crs:
        return _DEFAULT_CRS
    if isinstance(crs, dict):
        return json.dumps(crs)
    kind, _, rest = str(crs).partition(":")
    if kind == "srid":
        return f"EPSG:{rest}" if rest not in {"", "0"} else None
    if kind == "projjson":
        value = said["key_value"].get(rest.encode())
        return value.decode("utf-8", "replace") if value else None
    return str(crs)


def _declared(text: bytes, schema: pa.Schema, title: str, wanted: str | None) -> Geometry:
    """Return a geometry as GeoParquet's metadata declares it; the primary one where none is named.

    Raises:
        GeoAssetsError: VECTOR_UNSUPPORTED, another encoding; UNREADABLE, the metadata is wrong.
    """
    try:
        geo = json.loads(text)
        name = wanted or geo["primary_column"]
        column = geo["columns"][name]
        encoding = column["encoding"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GeoAssetsError("UNREADABLE", f"{title} has GeoParquet metadata that cannot be read") from error
    if encoding != "WKB" and encoding not in NATIVE:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{title} encodes its geometry as {str(encoding)[:40]!r}, which GeoParquet does not know",
        )
    position = schema.get_field_index(name)
    if position < 0:
        raise GeoAssetsError("UNREADABLE", f"{title} lacks its geometry column {str(name)[:63]!r}")
    notes = (
        [f"its edges are {column['edges']}; PostGIS takes them for straight lines"]
        if column.get("edges", "planar") != "planar"
        else []
    )
    try:
        covering = column["covering"]["bbox"]["xmin"][0]
    except (KeyError, TypeError, IndexError):
        covering = None
    crs = _DEFAULT_CRS if "crs" not in column else None if column["crs"] is None else json.dumps(column["crs"])
    return Geometry(
        position,
        crs,
        encoding,
        covering=covering if isinstance(covering, str) else None,
        notes=notes,
        kinds=kinds_of(column),
        bounds=bounds_of(column),
    )


def _box_column(schema: pa.Schema) -> str | None:
    """Return a column of bounding boxes that some writers do not declare."""
    import pyarrow as pa

    for column in schema:
        if column.name == "bbox" and pa.types.is_struct(column.type) and {f.name for f in column.type} <= _BOX_FIELDS:
            return "bbox"
    return None


def _geoarrow_crs(column: pa.Field, silent: str | None = None) -> str | None:
    """Return the CRS of an extension type; `silent` where it declares none, which GeoArrow calls unknown."""
    serialized = getattr(
        column.type, "__arrow_ext_serialize__", lambda: (column.metadata or {}).get(b"ARROW:extension:metadata", b"")
    )()
    try:
        crs = json.loads(serialized or b"{}").get("crs")
    except (ValueError, AttributeError, RecursionError):
        return None
    if crs is None:
        return silent
    return crs if isinstance(crs, str) else json.dumps(crs)


def _plain(file: pq.ParquetFile, ref: LayerRef, options: LayerOptions) -> Geometry:
    """Return the geometry that an option names: as the file declares it, else binary is WKB, text is detected."""
    from geo_assets.vector.where import find_column

    schema = file.schema_arrow
    wanted = options.geometry_column or options.wkt
    if wanted:
        position = find_column(wanted, schema.names, "the geometry column", ref.title)
        if not holds_text(schema.field(position).type):
            found = _named(file, position, ref)
            if found is not None:
                return found
        options = replace(options, wkt=schema.names[position])
    named = [find_column(name, schema.names, "the columns", ref.title) for name in _located(options)]
    for position in named if options.wkt is None else ():
        _check_number(schema.field(position), ref.title)
    sample = next(file.iter_batches(_SAMPLE_ROWS, use_threads=False), None)
    rows = [[""] * len(schema.names) for _ in range(0 if sample is None else len(sample))]
    for position in named:
        for row, value in zip(rows, [] if sample is None else _texts(sample.column(position)), strict=True):
            row[position] = value
    placing = find_placing(schema.names, rows, options, ref.title)
    if placing is None:
        return Geometry(-1, None)
    text = None if placing.geometry is None else schema.field(placing.geometry)
    said = _geoarrow_crs(text) if text is not None and _is_geometry(text) else None
    return Geometry(-1, placing.crs or said, placing=placing, notes=list(placing.notes))


def _located(options: LayerOptions) -> tuple[str, ...]:
    """Return the columns that an option names."""
    return tuple(name for name in ((options.wkt,) if options.wkt else (options.x, options.y)) if name)


def _check_number(column: pa.Field, title: str) -> None:
    """Refuse a coordinate that is neither a number nor text.

    Raises:
        GeoAssetsError: VECTOR_UNSUPPORTED.
    """
    import pyarrow as pa

    t = pa.types
    kind = column.type
    number = t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind)
    if not (number or holds_text(kind)):
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"the column {column.name[:63]!r} of {title} has the type {str(kind)[:100]}, which is no coordinate",
        )


def _texts(column: pa.Array) -> list[str]:
    """Return values as text, nothing for null and for what Python does not have."""
    try:
        return ["" if value is None else str(value) for value in column.to_pylist()]
    except (OverflowError, ValueError):
        return [""] * len(column)


def _named(file: pq.ParquetFile, position: int, ref: LayerRef) -> Geometry | None:
    """Return the geometry of a column as the file declares it, or as WKB where it is bytes; None: neither."""
    schema = file.schema_arrow
    column, text = schema.field(position), (schema.metadata or {}).get(b"geo")
    if text is not None and column.name in _geo_columns(text):
        return _declared(text, schema, ref.title, column.name)
    kind = extension_name(column).removeprefix(b"geoarrow.").decode("ascii", "replace")
    if kind in NATIVE:
        return Geometry(position, _geoarrow_crs(column), kind)
    if not holds_bytes(column.type):
        return None
    crs = _logical_crs(file, column.name)
    crs = _geoarrow_crs(column, crs) if _is_geometry(column) else crs
    if crs is not None:
        return Geometry(position, crs)
    srid, notes = srid_of_most(_srids_of_some(file, position))
    code = srid or said_srid(ref.dataset.options) or 0
    return Geometry(position, f"EPSG:{srid}" if srid else None, srid=code, notes=[*notes])


def _srids_of_some(file: pq.ParquetFile, position: int) -> list[int]:
    import pyarrow.compute as pc

    names = file.schema_arrow.names
    alone = names.count(names[position]) == 1
    columns, at = ([names[position]], 0) if alone else (None, position)
    sample = next(file.iter_batches(_SAMPLE_ROWS, columns=columns, use_threads=False), None)
    if sample is None:
        return []
    wkb = as_binary(storage(sample.column(at)))
    srids: list[int] = srids_of(wkb.filter(pc.greater_equal(pc.binary_length(wkb), SHORTEST))).tolist()
    return srids


def _logical_crs(file: pq.ParquetFile, name: str) -> str | None:
    said = _logical_types(file).get(name)
    return _parquet_crs(said) if said is not None else None
