"""Layers read by GDAL (pyogrio), with corrections of values that it reads wrongly.

Here: Arrow batches of one layer, with the feature's id where the format has one, and curves as lines.
Not here: the checks of a format's own bytes (`sqlite_values.py`, `dbf.py`), repair of geometries (`geometry.py`).

Times are read as text and parsed by us: GDAL gives a column a single offset, and invents dates for text that it cannot
parse.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.text import without_name
from geo_assets.vector.encodings import names_as_written
from geo_assets.vector.reader.alike import Alike
from geo_assets.vector.reader.arrow_types import times_of_day, whole_of
from geo_assets.vector.reader.batches import Batch, LayerRef, OpenLayer, geometry_position, storage
from geo_assets.vector.reader.curves import without_curves
from geo_assets.vector.reader.declared import DeclaredType, typed
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.flatgeobuf import unsigned_columns
from geo_assets.vector.reader.formats import Format
from geo_assets.vector.reader.gml_crs import crs_of_names
from geo_assets.vector.reader.gml_geometries import IN_PART
from geo_assets.vector.reader.gpkg_srids import stray_ids
from geo_assets.vector.reader.listing import KNOW_THEMSELVES, SEVERAL_LAYERS, configure, info_of
from geo_assets.vector.reader.read_once import FID, arguments_of, last_of, opened
from geo_assets.vector.reader.srids import ANOTHER_SRID
from geo_assets.vector.reader.stated import Scan, Stated, damage
from geo_assets.vector.reader.text_values import NAIVE, TAKEN_FOR_UTC, ZONED, TypeGuess, to_moments, to_times
from geo_assets.vector.reader.unused import KML_COLUMNS, Unused
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.sources import Dataset

#: Formats whose features have an id that is data: the key of a table.
_HAVE_IDS = frozenset({Format.GPKG, Format.FILEGDB, Format.SQLITE})

#: Formats that keep times in UTC by their standard.
_IN_UTC = frozenset({Format.GPKG, Format.SQLITE})

#: Warnings of GDAL, numpy and shapely that are of no use to the user.
_IDLE_TALK = (
    SEVERAL_LAYERS, "invalid value encountered", "divide by zero", "overflow encountered",
    "underflow encountered",
    "Several features with id", "Measured", "driver does not support open option", "Column mapping",
    "Field format", "geometry column",  # the columns that it leaves out are named by ourselves
    "Unrecognized geometry type",
)  # fmt: skip

#: Layers of a GPX whose points say whose they are by its id, and how they call it.
_NAMED_BY_POINTS = {"routes": "route_fid", "tracks": "track_fid"}

#: Formats of which each number is held against the text: what GDAL says that it made of one is of no use.
_HELD = frozenset({Format.GPX})

#: Formats whose rows are kept, and of which GDAL says where it has no geometry for a feature.
_LOOKED_AT_LATER = frozenset({Format.KML, Format.GML, Format.MAPINFO})

#: Has GDAL read a layer feature by feature.
_BY_FEATURE = {
    Format.GPKG: "OGR_GPKG_STREAM_BASE_IMPL",
    Format.FLATGEOBUF: "OGR_FLATGEOBUF_STREAM_BASE_IMPL",
}

#: Given the ids of features for which GDAL returned no geometry, says what is wrong with those that have one.
Unread = Callable[[list[int]], dict[int, str]]


class Check(Protocol):
    """Compares a batch's values with the bytes of the file and puts right what differs."""

    notes: tuple[str, ...]  # about the file
    hidden: frozenset[int]  # positions of what is no column of its maker's

    def correct(self, columns: list[pa.Array | None], fids: pa.Array, findings: Findings) -> None:
        """Correct the columns in place; count the corrections."""


@dataclass(slots=True)
class _Fields:
    """The attributes of a layer by GDAL's names, with the type of each."""

    names: list[str]
    types: list[pa.DataType]
    has_ids: bool  # the first is the feature's id
    moments: dict[int, str]  # positions of times, with their wire type
    guesses: dict[int, TypeGuess | DeclaredType]  # positions of text that is typed by its values
    declared: dict[int, DeclaredType]  # those of it for which the file declares a type
    unsigned: frozenset[int] = frozenset()  # positions of integers of which GDAL makes doubles


@contextmanager
def open_ogr(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    """One pass over a layer.

    Raises:
        GeoAssetsError: VECTOR_NO_GEOMETRY.
    """
    configure()
    dataset = ref.dataset
    findings = Findings()
    with _listening(dataset, findings):
        if knows := dataset.format in KNOW_THEMSELVES:
            check_driver(dataset, info_of(dataset.path, _any_layer(ref))["driver"])
        arguments = arguments_of(dataset.format, ref.opened_by)
        with opened(ref, **arguments) as (crs, reader), ExitStack() as closing:
            geometry = geometry_position(reader.schema)
            if geometry is None and not attributes:
                raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{ref.title} has no geometry")
            table = _table_of(ref, reader.schema.field(FID).name, closing)
            fields = _fields(ref, reader.schema, geometry, table, arguments, findings)
            check = _check_of(ref, fields) if table is None else None if ref.sound_values else table
            stated = Stated(ref, table, None if geometry is None else reader.schema.field(geometry).name)
            made = _Batches(ref, fields, check, findings, _unread_of(ref, reader.schema, geometry, findings))

            def read(only: Collection[int] | None) -> Iterator[Batch]:
                with _reading_well(ref, table):
                    yield from read_now(only)

            def read_now(only: Collection[int] | None) -> Iterator[Batch]:
                if only is None or not knows or len(set(fields.names)) < len(fields.names):
                    yield from made.of(reader, None if knows else only)
                    return
                wanted = [fields.names[i] for i in sorted(only) if i or not made.has_ids]
                if len(wanted) == len(fields.names) - made.has_ids:
                    yield from made.of(reader, only)
                    return
                with opened(ref, **arguments, columns=wanted) as (_, narrow):
                    yield from made.of(narrow, only)

            def scan() -> Scan | None:
                if dataset.format not in _LOOKED_AT_LATER:
                    return stated.scan()
                with opened(ref, **arguments) as (_, kept):
                    return made.scan(kept, stated.declared())

            yield OpenLayer(
                _shown_names(names_as_written(fields.names, dataset.as_bytes), check),
                fields.types,
                crs or _named_crs(ref),
                read,
                declared=stated.declared,
                types=made.types if fields.guesses else None,
                unused=made.unused,
                bounds=stated.bounds,
                scan=scan,
                outline=stated.outline,
                last=lambda: last_of(ref) if dataset.format in _LOOKED_AT_LATER else stated.last(),
                encoding=dataset.encoding,
                warnings=list(check.notes) if check is not None else [],
                findings=findings,
            )


def _shown_names(names: list[str], check: Check | None) -> list[str]:
    """Return the names of columns; none of what nobody may ask for."""
    return ["" if check is not None and i in check.hidden else name for i, name in enumerate(names)]


def _any_layer(ref: LayerRef) -> int | str:
    """Return the layer of a file of which all is asked that is the same for each."""
    return ref.opened_by if isinstance(ref.opened_by, str) else 0


@contextmanager
def _reading_well(ref: LayerRef, table: Any) -> Iterator[None]:
    """Have GDAL read feature by feature, in twice the time, what it would read wrongly (3.12.4): a GeoPackage, some
    rows of which it would read twice, and a FlatGeobuf: a feature without geometry would get the bytes of another.
    """
    import pyogrio

    option, careful = _BY_FEATURE.get(ref.dataset.format), True
    if ref.dataset.format is Format.GPKG:
        with damage(ref.title):
            careful = not ref.as_stated and table.may_be_repeated()
    if option is None:
        yield
        return
    pyogrio.set_gdal_config_options({option: "YES" if careful else None})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({option: None})


def check_driver(dataset: Dataset, driver: str) -> None:
    """Refuse what GDAL opens with another driver than that of its format.

    Raises:
        GeoAssetsError: VECTOR_UNSUPPORTED.
    """
    if driver != dataset.format.value:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{dataset.name} looks like {dataset.format.value} but GDAL opens it as {driver}"
        )


@contextmanager
def _listening(dataset: Dataset, findings: Findings) -> Iterator[None]:
    """Count the warnings of GDAL."""
    idle = (*_IDLE_TALK, "Value '") if dataset.format in _HELD else _IDLE_TALK

    def hear(message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if not text.startswith(idle):
            findings.add(None, "warning of GDAL", (without_name(dataset.in_words(text), dataset.name),))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # about this process, not about the file
        warnings.showwarning = hear
        yield


def _undomained(arrow: pa.DataType) -> pa.DataType:
    """Return the type of the codes: GDAL delivers a field with a coded domain as a dictionary of descriptions; the file
    holds codes.
    """
    import pyarrow as pa

    return arrow.index_type if pa.types.is_dictionary(arrow) else arrow


def _fields(
    ref: LayerRef,
    schema: pa.Schema,
    geometry: int | None,
    table: Any,
    arguments: dict[str, Any],
    findings: Findings,
) -> _Fields:
    """`table`: the layer as SQLite knows it, whose values are compared from now on; None for other formats."""
    keyed = ref.dataset.format in _HAVE_IDS and (table is None or table.key is not None)
    referred = _NAMED_BY_POINTS.get(ref.layer or "") if ref.dataset.format is Format.GPX else None
    own = [FID] if keyed or referred else []
    positions = [*own, *(i for i in range(len(schema)) if i not in {geometry, FID})]
    found = [schema.field(i) for i in positions]
    names, types = [field.name for field in found], [_undomained(field.type) for field in found]
    names[:1] = [referred] if referred else names[:1]
    fields = _Fields(names, types, bool(own), {}, {}, {})
    for position, field in enumerate(found):
        if (field.metadata or {}).get(b"GDAL:OGR:type") == b"DateTime":
            fields.moments[position] = ZONED
    if ref.dataset.format is Format.GML:
        fields.guesses = {i: TypeGuess(times=True) for i, kind in enumerate(fields.types) if str(kind) == "string"}
    elif fields.moments and ref.dataset.format not in _IN_UTC:
        fields.guesses = {i: TypeGuess(numbers=False, times=True) for i in fields.moments}
    if ref.dataset.format is Format.FLATGEOBUF:
        unsigned = unsigned_columns(ref.dataset.path)
        fields.unsigned = frozenset(i for i, name in enumerate(fields.names) if name in unsigned)
    fields.declared = _declared_types(ref, fields)
    fields.guesses |= fields.declared
    if fields.guesses:
        _guess(ref, fields, own, arguments, findings)
    for position, wire in fields.moments.items():
        fields.types[position] = arrow_type(wire)
    for position in fields.unsigned:
        fields.types[position] = arrow_type("decimal(20, 0)")
    for position, declared in fields.declared.items():
        fields.types[position] = arrow_type(declared.wire)
    _watch(table, ref.dataset.format, fields)
    return fields


def _declared_types(ref: LayerRef, fields: _Fields) -> dict[int, DeclaredType]:
    """Return the types that a KML or a MIF declares. `id2` is a KML's own column beside `id`, which the driver adds."""
    own = {"Name", *KML_COLUMNS}
    beside = {f"{name}2".lower(): name.lower() for name in own}
    declared = ref.dataset.declared
    wires = [
        declared.get(i) or (None if name in own else declared.get(beside.get(name.lower(), name.lower())))
        for i, name in enumerate(fields.names)
    ]
    return {i: DeclaredType(wire) for i, wire in enumerate(wires) if wire and str(fields.types[i]) == "string"}


def _guess(ref: LayerRef, fields: _Fields, own: list[int], arguments: dict[str, Any], findings: Findings) -> None:
    """Determine the types of columns that are typed by their values, in one more pass."""
    with opened(ref, **arguments) as (_, reader):
        geometry = geometry_position(reader.schema)
        places = [*own, *(i for i in range(len(reader.schema)) if i not in {geometry, FID})]
        for batch in reader:
            for position, guess in fields.guesses.items():
                guess.add(batch.column(places[position]))
    for position, guess in fields.guesses.items():
        guess.say(fields.names[position], findings)
        if position in fields.moments or guess.wire in {ZONED, NAIVE}:
            fields.moments[position] = guess.wire


def _table_of(ref: LayerRef, key: str, closing: ExitStack) -> Any:
    """Return the table of a layer as SQLite knows it, which compares its values with those that GDAL makes of them;
    None for other formats. `key`: how GDAL calls the ids of features.
    """
    if ref.dataset.format not in {Format.GPKG, Format.SQLITE}:
        return None
    from geo_assets.vector.reader.sqlite_values import SQLiteCheck

    table = SQLiteCheck.of(ref.dataset.path, ref.layer or "", key)
    closing.callback(table.connection.close)
    return table


def _watch(table: Any, kind: Format, fields: _Fields) -> None:
    """Have a table's values compared, and what is not read of a GeoPackage's named."""
    if table is None:
        return
    table.watch(fields.names, fields.types, times=kind is Format.SQLITE)
    if kind is Format.GPKG and (left_out := table.unread(fields.names)):
        table.notes = (left_out,)


def _named_crs(ref: LayerRef) -> str | None:
    """Return the CRS that the geometries of a GML name in several ways."""
    names = ref.dataset.references.get(ref.layer or "", ())
    return crs_of_names(names, ref.title, overridden=ref.dataset.options.override_crs)


def _check_of(ref: LayerRef, fields: _Fields) -> Any:
    """Return what compares a layer's values with the bytes of its file; None where nothing does."""
    if ref.dataset.format is Format.GPX:
        from geo_assets.vector.reader.gpx_values import GpxCheck

        return GpxCheck.of(ref.dataset.path, ref.layer or "", fields.names, fields.types)
    names = names_as_written(fields.names, ref.dataset.as_bytes)
    if ref.dataset.format is Format.MAPINFO and ref.dataset.as_bytes:
        from geo_assets.vector.reader.mapinfo_text import TextCheck

        return TextCheck(names, ref.dataset.as_bytes)
    if ref.dataset.format is not Format.SHAPEFILE:
        return None
    from geo_assets.vector.reader.dbf import DbfCheck

    return DbfCheck.of(ref.dataset.path, names, fields.types, ref.dataset.encoding)


def _unread_of(ref: LayerRef, schema: pa.Schema, geometry: int | None, findings: Findings) -> Unread | None:
    """Return what finds unread geometries in a format's bytes; None where GDAL returns NULL only for missing
    geometries.
    """
    dataset = ref.dataset
    if geometry is None:
        return None
    if dataset.format is Format.ESRI_JSON:
        from geo_assets.vector.reader import esri_json

        said = esri_json.said(dataset.path, dataset.name, findings)
        return lambda fids: {fid: said[fid] for fid in fids if fid in said}
    if dataset.format in {Format.GPKG, Format.SQLITE}:
        from geo_assets.vector.reader.sqlite_values import unread_geometry

        return unread_geometry(dataset.path, ref.layer or "", schema.field(FID).name, schema.field(geometry).name)
    if dataset.format is Format.SHAPEFILE:
        from geo_assets.vector.reader.parts import unread_shapes

        return lambda fids: unread_shapes(dataset.path, fids)
    return None


class _Batches:
    """GDAL's batches as ours; the delivered columns are identified by name."""

    def __init__(self, ref: LayerRef, fields: _Fields, check: Any, findings: Findings, unread: Unread | None) -> None:
        self._ref, self._fields, self._check, self._findings, self._unread = ref, fields, check, findings, unread
        self.has_ids = fields.has_ids
        self._are_invented = ref.dataset.format in _HAVE_IDS and not fields.has_ids  # its ids, by GDAL
        self._unused = Unused(ref.dataset.format, fields.names)

    def unused(self) -> set[int]:
        """Return columns that the file itself does not have."""
        return self._unused.positions() | (self._check.hidden if self._check is not None else frozenset())

    def types(self) -> list[str]:
        """Return the wire types of all columns."""
        from geo_assets.vector.reader.conversion import wire_type

        fields = self._fields
        return [
            fields.guesses[i].wire if i in fields.guesses else wire_type(name, fields.types[i])
            for i, name in enumerate(fields.names)
        ]

    def of(self, reader: pa.RecordBatchReader, only: Collection[int] | None = None) -> Iterator[Batch]:
        """Yield the reader's batches; `only`: the columns that were requested."""
        with stray_ids(self._ref, reader.schema, self._findings) as strays:
            yield from self._read(reader, only, strays)

    def _read(
        self, reader: pa.RecordBatchReader, only: Collection[int] | None, strays: NDArray[np.int64]
    ) -> Iterator[Batch]:
        import pyarrow as pa
        import pyarrow.compute as pc

        names = self._fields.names
        geometry, places = self._places(reader.schema)
        wanted = None if only is None or self._check is not None else {*only, *self._unused.wanted}
        first_row = 0
        for batch in reader:
            fids = batch.column(FID).cast(pa.int64())
            if self._are_invented:
                fids = pa.array(np.arange(first_row + 1, first_row + 1 + len(fids)))
            columns: list[pa.Array | None] = [None] * len(names)
            if self.has_ids and (wanted is None or 0 in wanted):
                columns[0] = fids
            for position, i in places:
                if wanted is None or position in wanted:
                    columns[position] = self._column(position, batch.column(i))
            if self._check is not None:
                self._check.correct(columns, fids, self._findings)
            self._unused.add(columns)
            if geometry is None:
                first_row += len(batch)
                yield Batch(columns, pa.nulls(len(batch), pa.binary()), {}, fids)
                continue
            wkb, linearised = without_curves(self._ref, storage(batch.column(geometry)), batch.column(FID))
            faults = self._faults(wkb, fids)
            if len(strays):
                faults |= dict.fromkeys(np.flatnonzero(np.isin(fids, strays)).tolist(), ANOTHER_SRID)
            if unread := self._unread_by_place(wkb, first_row):
                faults |= unread
                wkb = pc.if_else(np.isin(np.arange(len(wkb)), list(unread)), pa.scalar(None, wkb.type), wkb)
            first_row += len(batch)
            yield Batch(
                columns,
                wkb,
                faults,
                pc.add(fids, 1) if self._ref.dataset.format is Format.ESRI_JSON else fids,
                linearised,
            )

    def _places(self, schema: pa.Schema) -> tuple[int | None, list[tuple[int, int]]]:
        """Return where the geometry is in batches, and the columns that they have: their positions, and where they
        are in a batch.
        """
        names, first = self._fields.names, int(self.has_ids)
        geometry = geometry_position(schema)
        delivered = [i for i in range(len(schema)) if i not in {geometry, FID}]
        if len(delivered) == len(names) - first:
            return geometry, list(zip(range(first, len(names)), delivered, strict=True))
        return geometry, [(names.index(schema.field(i).name, first), i) for i in delivered]

    def scan(self, reader: pa.RecordBatchReader, declared: int | None) -> Scan | None:
        """Return what a plan needs of geometries that can be looked at later; None where they have to be looked at
        before: they are not alike, GDAL did not read one, or there are not as many as there must be.

        Args:
            reader: of the layer.
            declared: how many features there must be.
        """
        geometry, places = self._places(reader.schema)
        if geometry is None or self._ref.dataset.unread.get(self._ref.layer or ""):
            return None
        alike, rows, last = Alike(), 0, -1
        for batch in reader:
            fids = batch.column(FID).to_numpy()
            if not alike.add(storage(batch.column(geometry))) or (np.diff(fids, prepend=last) <= 0).any():
                return None
            rows, last = rows + len(fids), fids[-1]
            columns: list[pa.Array | None] = [None] * len(self._fields.names)
            for position, i in places:
                if position in self._unused.wanted:
                    columns[position] = self._column(position, batch.column(i))
            self._unused.add(columns)
        return alike.scan if declared in {None, rows} else None

    def _faults(self, wkb: pa.Array, fids: pa.Array) -> dict[int, str]:
        """Return rows without a geometry whose feature has one."""
        if self._unread is None or not wkb.null_count:
            return {}
        rows = np.flatnonzero(np.asarray(wkb.is_null()))
        wanted = fids.to_numpy(zero_copy_only=False)[rows].tolist()
        faults = self._unread(wanted)
        return {row: faults[fid] for row, fid in zip(rows.tolist(), wanted, strict=True) if fid in faults}

    def _unread_by_place(self, wkb: pa.Array, first: int) -> dict[int, str]:
        """Return rows whose geometry GDAL did not read, or in part, by what the text says."""
        unread = self._ref.dataset.unread.get(self._ref.layer or "", {})
        found = ((row, unread.get(first + row)) for row in range(len(wkb) if unread else 0))
        return {row: fault for row, fault in found if fault and (fault in IN_PART or not wkb[row].is_valid)}

    def _column(self, position: int, column: pa.Array) -> pa.Array:
        import pyarrow as pa

        fields = self._fields
        if position in fields.declared:
            return typed(column, fields.declared[position].wire, fields.names[position], self._findings)
        if position in fields.unsigned:
            return whole_of(column, fields.names[position], self._findings)
        if position in fields.moments:
            wire = fields.moments[position]
            if wire in {ZONED, NAIVE}:
                kind = self._ref.dataset.format
                is_held = kind is Format.SQLITE and self._check is not None and position in self._check.columns
                said = Findings() if is_held else self._findings  # what is no time is counted as it is in the file
                found = to_moments(column, wire, fields.names[position], said, naive_is_utc=kind in _IN_UTC)
                if is_held:
                    self._findings.take(said, TAKEN_FOR_UTC)
                return found
            return column
        if position in fields.guesses and fields.guesses[position].wire == "time64[us]":
            return to_times(column)
        plain = column.indices if isinstance(column, pa.DictionaryArray) else column
        return times_of_day(plain, fields.names[position], self._findings)
