"""Parquet, by pyarrow: GeoParquet with WKB or native encodings, Parquet's own geometry types, and plain tables whose
geometry is named.

Here: one file, or a folder of parts that is one table. Not here: which column is the geometry (`parquet_geometry.py`),
repair of geometries (`geometry.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from geo_assets.epsg import parse_code
from geo_assets.errors import GeoAssetsError
from geo_assets.vector.crs import are_one, parse_file_crs
from geo_assets.vector.reader.arrow_types import (
    holds_bytes,
    settled,
    times_of_day,
    without_views,
)
from geo_assets.vector.reader.batches import (
    BATCH_ROWS,
    Batch,
    LayerRef,
    OpenLayer,
    places,
)
from geo_assets.vector.reader.conversion import wire_type
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.parquet_geometry import Geometry, find_geometry
from geo_assets.vector.reader.stated import outline_of, widest
from geo_assets.vector.reader.text_values import TypeGuess

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@contextmanager
def open_parquet(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    """One pass over a file or a folder of parts.

    Raises:
        GeoAssetsError: VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED; UNREADABLE; UNKNOWN_COLUMN.
    """
    parts = _Parts.of(ref.dataset.path)
    with _opened(parts.paths[0]) as file:
        schema, features = file.schema_arrow, file.metadata.num_rows
        geometry = find_geometry(file, ref, attributes=attributes)
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
        bounds=lambda: geometry.bounds if believed else None,
        outline=lambda: outline_of(widest(geometry.kinds), features) if believed else None,
        last=lambda: features if believed else None,
        warnings=geometry.notes,
        findings=read.findings,
    )


def _opened(path: Path) -> pq.ParquetFile:
    """Open a file; its timestamps of 96 bits, which hold every year, are in microseconds: nanoseconds hold three
    centuries, and others would become dates of these.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, pre_buffer=False, coerce_int96_timestamp_unit="us")


@dataclass(slots=True)
class _Reader:
    """Reads batches of all parts, one after the other."""

    ref: LayerRef
    parts: _Parts
    schema: pa.Schema
    geometry: Geometry
    positions: list[int]
    findings: Findings = field(default_factory=Findings)

    def batches(self, only: Collection[int] | None) -> Iterator[Batch]:
        """Yield all batches; columns that are not needed are not read."""
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
            with _opened(path) as file:
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
        """Refuse a part that has other columns than the first; their order and nullability do not matter.

        Raises:
            GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED.
        """
        own = self.schema
        if schema.remove_metadata().equals(own.remove_metadata()):
            return
        located = {own.names[i] for i in self._located()}
        differing = [
            name
            for name in dict.fromkeys([*own.names, *schema.names])
            if own.names.count(name) != 1
            or schema.names.count(name) != 1
            or not _is_as(own.field(name).type, schema.field(name).type, exactly=name in located)
        ]
        if differing:
            raise self._different("columns", path, ", ".join(map(repr, differing[:5])))

    def _different(self, what: str, path: Path, differing: str) -> GeoAssetsError:
        return GeoAssetsError(
            "UNREADABLE",
            f"the parts of {self.ref.dataset.name} have different {what}: {path.name} differs in {differing}",
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
        found = find_geometry(file, self.ref, attributes=True)
        said = (self.parts.paths[0].name, path.name)
        names = [self.schema.names[first.position], file.schema_arrow.names[found.position]]
        if found.position >= 0 and names[0] != names[1]:
            raise GeoAssetsError(
                "UNREADABLE",
                f"the parts of {self.ref.dataset.name} have different geometries: {said[0]} {names[0]!r},"
                f" {said[1]} {names[1]!r}",
                remedy="name the one for all of them with --geometry-column (geometry_column of a job)",
            )
        if found.position >= 0 and found.has_z != first.has_z:
            raise self._different("coordinates", path, f"the third of {names[0]!r}")
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


def _is_as(one: pa.DataType, other: pa.DataType, *, exactly: bool) -> bool:
    """Whether values of the other type are loaded as those of the one: text is text, with or without a dictionary, and
    nothing but nulls are nulls. What locates a row has to be of one type, or bytes.
    """
    import pyarrow as pa

    if one == other or (holds_bytes(one) and holds_bytes(other)):
        return True
    return not exactly and (pa.types.is_null(other) or wire_type("", one) == wire_type("", other))


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
