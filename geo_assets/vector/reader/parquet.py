"""Parquet, by pyarrow: GeoParquet with WKB or native encodings, Parquet's own geometry types, and plain tables whose
geometry is named.

Here: one file, or a folder of parts that is one table. Not here: coordinates as nested lists (`native.py`), repair of
geometries (`geometry.py`).

The geometry column is determined by, in this order: the option, GeoParquet's metadata, an Arrow extension type,
Parquet's logical type.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from geo_assets.epsg import parse_code
from geo_assets.errors import GeoAssetsError
from geo_assets.vector.crs import are_one, parse_file_crs
from geo_assets.vector.geoparquet import bounds_of, kinds_of
from geo_assets.vector.models import BoundingBox
from geo_assets.vector.reader.arrow_types import (
    as_binary,
    holds_bytes,
    holds_text,
    settled,
    times_of_day,
    without_views,
)
from geo_assets.vector.reader.batches import (
    BATCH_ROWS,
    WKB_EXTENSIONS,
    Batch,
    LayerRef,
    OpenLayer,
    extension_name,
    geometry_position,
    places,
    storage,
)
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.native import NATIVE, from_native, holds_native
from geo_assets.vector.reader.placing import Placing, find_placing
from geo_assets.vector.reader.stated import outline_of, widest
from geo_assets.vector.reader.text_values import TypeGuess

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from geo_assets.vector.models import LayerOptions

#: In GeoParquet and Parquet a file without "crs" is in longitude and latitude on WGS 84.
_DEFAULT_CRS = "OGC:CRS84"

_BOX_FIELDS = frozenset({"xmin", "ymin", "xmax", "ymax", "zmin", "zmax"})
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"

#: Rows that are sampled to interpret the columns of a plain table.
_SAMPLE_ROWS = 100


@dataclass(slots=True)
class _Geometry:
    """Where the geometry is and how it is written."""

    position: int  # position of its column; -1: none
    crs: str | None
    encoding: str = "WKB"
    placing: Placing | None = None  # for a plain table
    covering: str | None = None
    notes: list[str] = field(default_factory=list)
    kinds: tuple[str, ...] = ()  # as the metadata states them
    bounds: BoundingBox | None = None  # likewise

    def wkb(self, batch: pa.RecordBatch, at: int) -> tuple[pa.Array, dict[int, str]]:
        """Return the WKB of one batch, whose geometry is column `at`, and what is wrong by row."""
        column = storage(batch.column(at))
        return (as_binary(column) if self.encoding == "WKB" else from_native(column, self.encoding)), {}

    def check_type(self, schema: pa.Schema, title: str) -> None:
        """Refuse a column that cannot hold what its encoding says.

        Raises:
            GeoAssetsError: VECTOR_UNSUPPORTED.
        """
        if self.position < 0:
            return
        column = schema.field(self.position)
        if holds_bytes(column.type) if self.encoding == "WKB" else holds_native(column.type, self.encoding):
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


@contextmanager
def open_parquet(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    """One pass over a file or a folder of parts.

    Raises:
        GeoAssetsError: VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED; UNREADABLE; UNKNOWN_COLUMN.
    """
    import pyarrow.parquet as pq

    parts = _Parts.of(ref.dataset.path)
    with pq.ParquetFile(parts.paths[0], pre_buffer=False) as file:
        schema, features = file.schema_arrow, file.metadata.num_rows
        geometry = _find_geometry(file, ref, attributes=attributes)
    geometry.check_type(schema, ref.title)
    dropped = {geometry.position, schema.get_field_index(geometry.covering) if geometry.covering else -1}
    if geometry.placing is not None:
        dropped = {geometry.placing.geometry if geometry.placing.geometry is not None else -1}
    positions = [i for i in range(len(schema)) if i not in dropped]
    names = [*(schema.field(i).name for i in positions), *parts.keys]
    types = [*(without_views(schema.field(i).type) for i in positions), *parts.types]
    read = _Reader(ref, parts, schema, geometry, positions)
    # other programs keep the metadata when they leave out rows: where nothing is checked it is not believed either
    believed = len(parts.paths) == 1 and not ref.dataset.options.trust_geometry
    yield OpenLayer(
        names,
        types,
        geometry.crs,
        read.batches,
        bounds=geometry.bounds if believed else None,
        outline=lambda: outline_of(widest(geometry.kinds), features) if believed else None,
        last=lambda: features if believed else None,
        warnings=geometry.notes,
        findings=read.findings,
    )


@dataclass(slots=True)
class _Reader:
    """Reads batches of all parts, one after the other."""

    ref: LayerRef
    parts: _Parts
    schema: pa.Schema
    geometry: _Geometry
    positions: list[int]
    findings: Findings = field(default_factory=Findings)

    def batches(self, only: Collection[int] | None) -> Iterator[Batch]:
        """Yield all batches; columns that are not needed are not read."""
        import pyarrow.parquet as pq

        schema = self.schema
        distinct = len(set(schema.names)) == len(schema.names)
        needed = (
            set(range(len(self.positions)))
            if only is None or not distinct
            else {i for i in only if i < len(self.positions)}
        )
        wanted = sorted({*(self.positions[i] for i in needed), *self._located()}) if distinct else None
        first = 1
        for number, path in enumerate(self.parts.paths):
            with pq.ParquetFile(path, pre_buffer=False) as file:
                self._check(file.schema_arrow, path)
                if number and file.metadata.num_rows:
                    self._check_geometry(file, path)
                columns = None if wanted is None else [schema.names[i] for i in wanted]
                for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                    yield self._batch(batch, needed, number, first)
                    first += len(batch)

    def _located(self) -> tuple[int, ...]:
        if self.geometry.placing is not None:
            return self.geometry.placing.columns
        return (self.geometry.position,) if self.geometry.position >= 0 else ()

    def _batch(self, batch: pa.RecordBatch, needed: set[int], number: int, first: int) -> Batch:
        import pyarrow as pa

        at = {name: i for i, name in enumerate(batch.schema.names)}
        distinct = len(at) == batch.num_columns
        columns = [
            self._column(self.schema.names[p], batch.column(at[self.schema.names[p]] if distinct else p))
            if i in needed
            else None
            for i, p in enumerate(self.positions)
        ]
        columns += self.parts.values(number, len(batch))
        if self.geometry.placing is not None:
            whole = pa.record_batch(
                [batch.column(at[name]) if name in at else pa.nulls(len(batch)) for name in self.schema.names],
                names=self.schema.names,
            )
            wkb, faults = self.geometry.placing.place(whole)
        elif self.geometry.position < 0:
            wkb, faults = pa.nulls(len(batch), pa.binary()), {}
        else:
            name = self.schema.names[self.geometry.position]
            wkb, faults = self.geometry.wkb(batch, at[name] if distinct else self.geometry.position)
        return Batch(columns, wkb, faults, places(first, len(batch)))

    def _column(self, name: str, column: pa.Array) -> pa.Array:
        return times_of_day(settled(column), name, self.findings)

    def _check(self, schema: pa.Schema, path: Path) -> None:
        if not schema.remove_metadata().equals(self.schema.remove_metadata()):
            differing = [
                f.name
                for f in schema
                if self.schema.get_field_index(f.name) < 0 or self.schema.field(f.name).type != f.type
            ]
            missing = [name for name in self.schema.names if schema.get_field_index(name) < 0]
            raise GeoAssetsError(
                "UNREADABLE",
                f"the parts of {self.ref.dataset.name} have different columns: {path.name} differs in"
                f" {', '.join(map(repr, (differing + missing)[:5]))}",
                remedy="write all parts with one schema, and upload them again",
            )

    def _check_geometry(self, file: pq.ParquetFile, path: Path) -> None:
        """Refuse a part that says that its geometry is another column or in another CRS than that of the first.

        Raises:
            GeoAssetsError: UNREADABLE; INVALID_CRS.
        """
        first, own = self.geometry, self.ref.dataset.options
        if first.placing is not None or first.position < 0:
            return
        found = _find_geometry(file, self.ref, attributes=True)
        said = (self.parts.paths[0].name, path.name)
        if found.position not in {-1, first.position}:
            names = [self.schema.names[place] for place in (first.position, found.position)]
            raise GeoAssetsError(
                "UNREADABLE",
                f"the parts of {self.ref.dataset.name} have different geometries: {said[0]} {names[0]!r},"
                f" {said[1]} {names[1]!r}",
                remedy="name the one for all of them with --geometry-column (geometry_column of a job)",
            )
        if found.position < 0 or found.crs == first.crs or own.override_crs:
            return
        named = parse_code(own.source_crs) if own.source_crs else None
        ours, theirs = (parse_file_crs(text) or named for text in (first.crs, found.crs))
        if ours is theirs or (ours is not None and theirs is not None and are_one(ours, theirs)):
            return
        shown = ["no CRS" if crs is None else repr(crs.name) for crs in (ours, theirs)]
        raise GeoAssetsError(
            "INVALID_CRS",
            f"the parts of {self.ref.dataset.name} are in different CRSs: {said[0]} is in {shown[0]}, {said[1]} in"
            f" {shown[1]}",
            remedy=(
                "transform them to one and upload them again, or load the parts of each CRS as a table of their own;"
                " where all are in one CRS in fact, name it with --source-crs and --override-crs"
            ),
        )


@dataclass(slots=True)
class _Parts:
    """The files of a table, and the columns from the names of their folders (`year=2024`)."""

    paths: list[Path]
    keys: list[str] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)  # a value for each key, by file
    types: list[pa.DataType] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path) -> _Parts:
        """Collect the parts: a file, or everything below a folder."""
        import pyarrow as pa

        from geo_assets.vector.types import arrow_type

        if not path.is_dir():
            return cls([path])
        paths = sorted(
            p for p in path.rglob("*") if p.suffix.lower() in {".parquet", ".geoparquet"} and p.stat().st_size
        )
        found = [[part.partition("=")[::2] for part in p.relative_to(path).parts[:-1] if "=" in part] for p in paths]
        keys = [key for key, _ in found[0]] if found else []
        if not paths or any([key for key, _ in pairs] != keys for pairs in found):
            raise GeoAssetsError(
                "UNREADABLE", f"{path.name} is no folder of Parquet files of one table: its folders differ"
            )
        rows = [[None if value == _NO_PARTITION else unquote(value) for _, value in pairs] for pairs in found]
        types = []
        for i in range(len(keys)):
            guess = TypeGuess()
            guess.add(pa.array([row[i] for row in rows], pa.string()))
            types.append(arrow_type(guess.wire))
        return cls(paths, keys, rows, types)

    def values(self, number: int, count: int) -> list[pa.Array]:
        """Return the columns from the folders of a file."""
        import pyarrow as pa

        return [
            pa.array([self.rows[number][i]], pa.string()).cast(kind).take(pa.array(np.zeros(count, np.int64)))
            for i, kind in enumerate(self.types)
        ]


def _find_geometry(file: pq.ParquetFile, ref: LayerRef, *, attributes: bool) -> _Geometry:
    schema, options = file.schema_arrow, ref.dataset.options
    if options.geometry_column or options.wkt or options.x:
        return _plain(file, ref, options)
    text = (schema.metadata or {}).get(b"geo")
    logical = _logical_types(file)
    found = _declared(text, schema, ref.title, None) if text is not None else _by_type(schema, logical)
    if found is None:
        if attributes:
            return _Geometry(-1, None)
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
        f"{other!r} is a second geometry, and a table has one: it is kept as WKB (ST_GeomFromWKB reads it)"
        for other in others
    ]
    found.covering = found.covering or _box_column(schema)
    return found


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


def _by_type(schema: pa.Schema, logical: dict[str, dict[str, Any]]) -> _Geometry | None:
    position = geometry_position(schema)
    if position is not None:
        return _Geometry(position, _geoarrow_crs(schema.field(position)))
    for i, column in enumerate(schema):
        kind = extension_name(column).removeprefix(b"geoarrow.").decode("ascii", "replace")
        if kind in NATIVE:
            return _Geometry(i, _geoarrow_crs(column), kind)
    for name, said in logical.items():
        notes = (
            [f"its edges are {said.get('algorithm', 'spherical')}; PostGIS takes them for straight lines"]
            if said["Type"] == "Geography"
            else []
        )
        return _Geometry(schema.get_field_index(name), _parquet_crs(said), notes=notes)
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


def _declared(text: bytes, schema: pa.Schema, title: str, wanted: str | None) -> _Geometry:
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
    return _Geometry(
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


def _geoarrow_crs(column: pa.Field) -> str | None:
    """Return the CRS of an extension type: longitude and latitude unless it declares another."""
    serialized = getattr(
        column.type, "__arrow_ext_serialize__", lambda: (column.metadata or {}).get(b"ARROW:extension:metadata", b"")
    )()
    try:
        crs = json.loads(serialized or b"{}").get("crs", _DEFAULT_CRS)
    except (ValueError, AttributeError, RecursionError):
        return None
    return crs if isinstance(crs, str) else json.dumps(crs)


def _plain(file: pq.ParquetFile, ref: LayerRef, options: LayerOptions) -> _Geometry:
    """Return the geometry that an option names: as the file declares it, else binary is WKB, text is detected."""
    from geo_assets.vector.where import find_column

    schema = file.schema_arrow
    wanted = options.geometry_column or options.wkt
    if wanted:
        position = find_column(wanted, schema.names, "the geometry column", ref.title)
        if not holds_text(schema.field(position).type):
            found = _named(file, position, ref.title)
            if found is not None:
                return found
        options = options.model_copy(update={"wkt": schema.names[position]})
    sample = next(file.iter_batches(_SAMPLE_ROWS, use_threads=False), None)
    rows = (
        [["" if value is None else str(value) for value in row.values()] for row in sample.to_pylist()]
        if sample is not None
        else []
    )
    placing = find_placing(schema.names, rows, options, ref.title)
    return _Geometry(-1, placing.crs if placing else None, placing=placing)


def _named(file: pq.ParquetFile, position: int, title: str) -> _Geometry | None:
    """Return the geometry of a column as the file declares it, or as WKB where it is bytes; None: neither."""
    schema = file.schema_arrow
    column, text = schema.field(position), (schema.metadata or {}).get(b"geo")
    if text is not None and column.name in _geo_columns(text):
        return _declared(text, schema, title, column.name)
    kind = extension_name(column).removeprefix(b"geoarrow.").decode("ascii", "replace")
    if kind in NATIVE:
        return _Geometry(position, _geoarrow_crs(column), kind)
    if not holds_bytes(column.type):
        return None
    crs = _geoarrow_crs(column) if _is_geometry(column) else _logical_crs(file, column.name)
    return _Geometry(position, crs)


def _logical_crs(file: pq.ParquetFile, name: str) -> str | None:
    said = _logical_types(file).get(name)
    return _parquet_crs(said) if said is not None else None
