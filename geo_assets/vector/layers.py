"""Layers: the features of a dataset as Arrow batches, whatever library reads the format.

Here: pyogrio (one named driver each), pyarrow for Parquet and delimited text, and the translation of their failures.
Not here: what a file is (`sources.py`), what becomes of a geometry (`geometry.py`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.geometry import ARC_STEP_DEGREES, Headers
from geo_assets.vector.sources import Dataset, Format, forbid_drivers

if TYPE_CHECKING:
    import pyarrow as pa

forbid_drivers()  # before anything imports pyogrio

#: Rows that are read, worked on and sent at once: 65,536 cost twice the memory and save nothing.
BATCH_ROWS = 8192

#: GDAL ends a batch here, so that large geometries do not add up; a single feature beyond it cannot be read. Bytes.
_BATCH_BYTES = 256 * 1024**2

#: Formats in which a file has several layers.
_MANY_LAYERS = frozenset({Format.GPKG, Format.FILEGDB, Format.KML})

#: Formats that say how many features a layer has, and where, without being read through.
_KNOW_THEMSELVES = frozenset({Format.GPKG, Format.SHAPEFILE, Format.FLATGEOBUF, Format.FILEGDB})

#: GDAL's first column, where it is asked for feature ids.
_FID = 0

#: Columns that the KML driver makes up for every file, and the value each has where the file is silent.
_KML_COLUMNS: dict[str, Any] = {
    "id": None, "description": None, "timestamp": None, "begin": None, "end": None, "altitudeMode": None,
    "tessellate": -1, "extrude": 0, "visibility": -1, "drawOrder": None, "icon": None, "snippet": None,
}  # fmt: skip

#: GeoParquet: a file without "crs" is in longitude and latitude on WGS 84.
_GEOPARQUET_DEFAULT_CRS = "OGC:CRS84"

#: WKB's codes of CircularString, CompoundCurve, CurvePolygon, MultiCurve and MultiSurface.
_FIRST_CURVE, _LAST_CURVE = 8, 12

_WKB_EXTENSIONS = frozenset({b"geoarrow.wkb", b"ogc.wkb"})


@dataclass(frozen=True, slots=True)
class LayerRef:
    """One layer of a dataset."""

    dataset: Dataset
    index: int = 0
    layer: str | None = None  # None where the file is one layer

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"layer {self.layer!r} of {self.dataset.name}" if self.layer else self.dataset.name


@dataclass(slots=True)
class Batch:
    """Some features: one array for each attribute, WKB (null: none), and the rows whose geometry the reader could not make out."""

    columns: list[pa.Array | None]  # by position; None where it was not asked for
    wkb: pa.Array
    faults: dict[int, str]
    fids: pa.Array  # what the source calls each feature; its place in the file, from 1, where it does not say
    linearised: int = 0

    def keep(self, mask: NDArray[np.bool_]) -> Batch:
        """The rows of a mask."""
        import pyarrow as pa

        chosen = pa.array(mask)
        places = np.cumsum(mask) - 1
        faults = {int(places[row]): reason for row, reason in self.faults.items() if mask[row]}
        columns = [None if column is None else column.filter(chosen) for column in self.columns]
        return Batch(columns, self.wkb.filter(chosen), faults, self.fids.filter(chosen), self.linearised)


@dataclass(slots=True)
class OpenLayer:
    """A layer that is being read. `types` is final once the batches are used up: text is typed by its values.

    `read` gives the batches, once. It is told which columns are needed, by position (None: all); others may be left out.
    """

    names: list[str]
    arrow_types: list[pa.DataType]
    crs: str | None
    read: Callable[[Collection[int] | None], Iterator[Batch]]
    declared: int | None = None  # features, where the file says so itself and a cut-off one goes unnoticed
    types: Callable[[], list[str]] | None = None  # wire types, where the reader decides them
    bounds: tuple[float, float, float, float] | None = None  # where the file says so without being read
    encoding: str | None = None  # of its text, where the format does not fix it
    unused: Callable[[], set[int]] = set  # columns that the file itself does not have
    warnings: Sequence[str] = ()


def list_layers(dataset: Dataset, *, attributes: bool = False) -> list[LayerRef]:
    """The layers of a dataset that may have geometry, or all.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, another driver than the expected one took the file.
    """
    if dataset.format in {Format.PARQUET, Format.CSV}:
        return [LayerRef(dataset)]
    import pyogrio

    with reading(dataset):
        if dataset.format is Format.GEOJSON:  # listing layers would parse it once more
            _check_driver(dataset, pyogrio.read_info(dataset.path)["driver"])
            return [LayerRef(dataset)]
        listed = enumerate(pyogrio.list_layers(dataset.path))
        layers = [(index, str(name)) for index, (name, kind) in listed if kind is not None or attributes]
        if layers:
            _check_driver(dataset, pyogrio.read_info(dataset.path, layer=layers[0][0])["driver"])
        return [LayerRef(dataset, index, name if dataset.format in _MANY_LAYERS else None) for index, name in layers]


def _check_driver(dataset: Dataset, driver: str) -> None:
    if driver != dataset.format.value:
        raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{dataset.name} looks like {dataset.format.value} but GDAL opens it as {driver}")


@contextmanager
def open_layer(ref: LayerRef, *, attributes: bool = False) -> Iterator[OpenLayer]:
    """Open a layer for one pass over its features, at most `BATCH_ROWS` at a time.

    Args:
        ref: the layer.
        attributes: it may be without geometry; all its WKB is then null.

    Raises:
        GeoAssetsError: UNREADABLE, also from the batches; VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED.
    """
    opener = {Format.PARQUET: _open_parquet, Format.CSV: _open_csv}.get(ref.dataset.format, _open_ogr)
    with reading(ref.dataset), opener(ref, attributes=attributes) as layer:
        unguarded = layer.read
        layer.read = lambda only: _guarded(unguarded(only), ref.dataset)
        yield layer


def _guarded(batches: Iterator[Batch], dataset: Dataset) -> Iterator[Batch]:
    """The batches; a failure to read one is the file's, a failure to use one is not."""
    while True:
        with reading(dataset):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def reading(dataset: Dataset) -> Iterator[None]:
    """Say in the project's words what a library says of a file that it cannot read."""
    import pyarrow as pa
    from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

    faults = (
        CRSError,
        DataLayerError,
        DataSourceError,
        FeatureError,
        FieldError,
        GeometryError,
        pa.ArrowInvalid,
        pa.ArrowNotImplementedError,
        UnicodeError,
    )
    try:
        yield
    except faults as error:
        raise _unreadable(dataset, error) from error
    except OSError as error:
        if error.errno is not None:  # the system's, not a library's
            raise
        raise _unreadable(dataset, error) from error


def _unreadable(dataset: Dataset, error: Exception) -> GeoAssetsError:
    said = " ".join(
        str(error).replace(str(dataset.path), dataset.name).replace(dataset.path.stem + dataset.path.suffix, dataset.name).split()
    )
    if "Too large feature" in said:
        return GeoAssetsError("TOO_LARGE", f"{dataset.name} has a feature larger than {_BATCH_BYTES // 1024**2} MiB")
    if dataset.format is Format.GEOJSON and "not recognized" in said:
        return GeoAssetsError("VECTOR_UNSUPPORTED", f"{dataset.name} is JSON, but not GeoJSON")
    return GeoAssetsError("UNREADABLE", f"{dataset.name} is not readable as {dataset.format.value}: {said[:300]}")


@contextmanager
def _open_ogr(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    import pyogrio
    from pyogrio.raw import open_arrow

    pyogrio.set_gdal_config_options({"OGR_ARROW_MEM_LIMIT": str(_BATCH_BYTES), "OGR_ARC_STEPSIZE": str(ARC_STEP_DEGREES)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is found by looking at the features
        info = pyogrio.read_info(ref.dataset.path, layer=ref.index) if ref.dataset.format in _KNOW_THEMSELVES else {}
        with open_arrow(ref.dataset.path, layer=ref.index, use_pyarrow=True, batch_size=BATCH_ROWS, return_fids=True) as (meta, reader):
            geometry = _geometry_position(reader.schema)
            if geometry is None and not attributes:
                raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{ref.title} has no geometry")
            positions = [i for i in range(len(reader.schema)) if i not in {geometry, _FID}]
            fields = [reader.schema.field(i) for i in positions]
            unused = _UnusedKml([field.name for field in fields]) if ref.dataset.format is Format.KML else None
            names = [field.name for field in fields]

            def read(only: Collection[int] | None) -> Iterator[Batch]:
                if only is None or ref.dataset.format not in _KNOW_THEMSELVES or len(set(names)) < len(names):
                    yield from _ogr_batches(ref, reader, names, unused)
                    return
                columns = [names[i] for i in sorted(only)]
                with open_arrow(
                    ref.dataset.path, layer=ref.index, use_pyarrow=True, batch_size=BATCH_ROWS, return_fids=True, columns=columns
                ) as (_, narrow):
                    yield from _ogr_batches(ref, narrow, names, unused)

            yield OpenLayer(
                names,
                [_undomained(field.type) for field in fields],
                meta["crs"],
                read,
                declared=info["features"] if ref.dataset.format is Format.FLATGEOBUF else None,
                unused=unused.positions if unused else set,
                bounds=_finite_box(info.get("total_bounds")),
                encoding=ref.dataset.encoding,
            )


def _finite_box(bounds: Any) -> tuple[float, float, float, float] | None:
    if bounds is None or not np.isfinite(bounds).all():
        return None
    west, south, east, north = map(float, bounds)
    return west, south, east, north


def _geometry_position(schema: pa.Schema) -> int | None:
    for i, field in enumerate(schema):
        if (field.metadata or {}).get(b"ARROW:extension:name") in _WKB_EXTENSIONS:
            return i
        if getattr(field.type, "extension_name", "").encode() in _WKB_EXTENSIONS:
            return i
    return None


def _undomained(arrow: pa.DataType) -> pa.DataType:
    """GDAL delivers a field with a coded domain as a dictionary of descriptions; the file holds the codes."""
    import pyarrow as pa

    return arrow.index_type if pa.types.is_dictionary(arrow) else arrow


def _ogr_batches(ref: LayerRef, reader: pa.RecordBatchReader, names: list[str], unused: _UnusedKml | None) -> Iterator[Batch]:
    """The reader's batches; `names` are all of the layer's columns, of which it may deliver some, in their order."""
    import pyarrow as pa

    geometry = _geometry_position(reader.schema)
    delivered = [i for i in range(len(reader.schema)) if i not in {geometry, _FID}]
    whole = len(delivered) == len(names)
    positions = range(len(names)) if whole else [names.index(reader.schema.field(i).name) for i in delivered]
    for batch in reader:
        columns: list[pa.Array | None] = [None] * len(names)
        for position, i in zip(positions, delivered, strict=True):
            column = batch.column(i)
            columns[position] = column.indices if isinstance(column, pa.DictionaryArray) else column
        if unused is not None:
            unused.add(columns)
        fids = batch.column(_FID).cast(pa.int64())
        if geometry is None:
            yield Batch(columns, pa.nulls(len(batch), pa.binary()), {}, fids)
            continue
        wkb, linearised = _linearised(ref, _storage(batch.column(geometry)), fids)
        yield Batch(columns, wkb, {}, fids, linearised)


def _linearised(ref: LayerRef, wkb: pa.Array, fids: pa.Array) -> tuple[pa.Array, int]:
    """Curves as GDAL makes lines of them, in steps of `ARC_STEP_DEGREES`, and how many there were."""
    codes = Headers.of(wkb).codes
    rows = np.flatnonzero((codes >= _FIRST_CURVE) & (codes <= _LAST_CURVE))
    if not len(rows):
        return wkb, 0
    import pyarrow as pa
    from pyogrio.raw import read

    wanted = fids.to_numpy(zero_copy_only=False)[rows]
    _, found, lines, _ = read(ref.dataset.path, layer=ref.index, columns=[], fids=wanted, return_fids=True)  # by feature: GDAL linearises
    by_fid = dict(zip(found.tolist(), lines.tolist(), strict=True))
    values = wkb.to_pylist()
    for row, fid in zip(rows.tolist(), wanted.tolist(), strict=True):
        values[row] = by_fid.get(fid, values[row])
    return pa.array(values, pa.binary()), len(rows)


def _storage(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    return array.storage if isinstance(array, pa.ExtensionArray) else array


class _UnusedKml:
    """Which of the columns that the KML driver makes up hold nothing."""

    def __init__(self, names: list[str]) -> None:
        self._defaults = {i: _KML_COLUMNS[name] for i, name in enumerate(names) if name in _KML_COLUMNS}

    def add(self, columns: list[pa.Array | None]) -> None:
        """Take in one batch."""
        import pyarrow.compute as pc

        for i, default in list(self._defaults.items()):
            column = columns[i]
            if column is None:
                continue
            differs = pc.is_valid(column) if default is None else pc.not_equal(column, default)
            if pc.any(differs).as_py():
                del self._defaults[i]

    def positions(self) -> set[int]:
        """Their positions."""
        return set(self._defaults)


@contextmanager
def _open_parquet(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(ref.dataset.path, pre_buffer=False) as file:
        schema = file.schema_arrow
        try:
            geometry, crs, notes = _parquet_geometry(schema, ref.title)
        except GeoAssetsError as error:
            if error.code != "VECTOR_NO_GEOMETRY" or not attributes:
                raise
            geometry, crs, notes = -1, None, []
        positions = [i for i in range(len(schema)) if i != geometry]

        names = [schema.field(i).name for i in positions]
        geometry_name = schema.names[geometry] if geometry >= 0 else None
        distinct = len(set(schema.names)) == len(schema.names)

        def read(only: Collection[int] | None) -> Iterator[Batch]:
            needed = set(only) if only is not None and distinct and geometry_name is not None else set(range(len(names)))
            wanted = [geometry_name, *(names[i] for i in sorted(needed))] if len(needed) < len(names) else None
            first = 1
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                at = batch.schema.get_field_index(geometry_name) if wanted else geometry
                wkb = pa.nulls(len(batch), pa.binary()) if geometry_name is None else _storage(batch.column(at))
                own = (batch.column(i) for i in range(batch.num_columns) if i != at)
                yield Batch([next(own) if i in needed else None for i in range(len(names))], wkb, {}, _places(first, len(batch)))
                first += len(batch)

        yield OpenLayer(names, [schema.field(i).type for i in positions], crs, read, warnings=notes)


def _places(first: int, count: int) -> pa.Array:
    import pyarrow as pa

    return pa.array(np.arange(first, first + count, dtype=np.int64))


def _parquet_geometry(schema: pa.Schema, title: str) -> tuple[int, str | None, list[str]]:
    """Position and CRS of the primary geometry column, and what to know of it.

    Raises:
        GeoAssetsError: VECTOR_NO_GEOMETRY, there is none; VECTOR_UNSUPPORTED, it is not WKB; UNREADABLE, the metadata is wrong.
    """
    text = (schema.metadata or {}).get(b"geo")
    if text is None:
        position = _geometry_position(schema)
        if position is None:
            raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{title} is Parquet without a geometry column")
        return position, _geoarrow_crs(schema.field(position)), []
    try:
        geo = json.loads(text)
        name = geo["primary_column"]
        column = geo["columns"][name]
        encoding = column["encoding"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GeoAssetsError("UNREADABLE", f"{title} has GeoParquet metadata that cannot be read") from error
    if encoding != "WKB":
        raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{title} encodes its geometry as {str(encoding)[:40]!r}; only WKB is read")
    position = schema.get_field_index(name)
    if position < 0:
        raise GeoAssetsError("UNREADABLE", f"{title} lacks its geometry column {str(name)[:63]!r}")
    notes = [f"its edges are {column['edges']}; PostGIS takes them for straight lines"] if column.get("edges", "planar") != "planar" else []
    return position, _parquet_crs(column), notes


def _parquet_crs(column: dict[str, Any]) -> str | None:
    if "crs" not in column:
        return _GEOPARQUET_DEFAULT_CRS
    return None if column["crs"] is None else json.dumps(column["crs"])


def _geoarrow_crs(field: pa.Field) -> str | None:
    """Parquet's own geometry type: longitude and latitude unless it says otherwise."""
    serialized = getattr(field.type, "__arrow_ext_serialize__", lambda: (field.metadata or {}).get(b"ARROW:extension:metadata", b""))()
    try:
        crs = json.loads(serialized or b"{}").get("crs", _GEOPARQUET_DEFAULT_CRS)
    except (ValueError, AttributeError, RecursionError):
        return None
    return crs if isinstance(crs, str) else json.dumps(crs)


@contextmanager
def _open_csv(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    import pyarrow as pa

    from geo_assets.vector.delimited import TypeGuess, read, sniff

    dialect = sniff(ref.dataset.path, ref.dataset.name, attributes=attributes)
    names = [dialect.header[i] for i in dialect.attributes]
    guesses = [TypeGuess() for _ in names]

    def batches(_: Collection[int] | None) -> Iterator[Batch]:
        first = 1
        for columns, wkb, faults in read(ref.dataset.path, dialect, BATCH_ROWS):
            for guess, column in zip(guesses, columns, strict=True):
                guess.add(column)
            yield Batch(list(columns), wkb, faults, _places(first, len(wkb)))
            first += len(wkb)

    notes = ["it is not UTF-8; its text was read as Windows-1252"] if dialect.encoding == "cp1252" else []
    yield OpenLayer(
        names,
        [pa.string()] * len(names),
        dialect.crs,
        batches,
        types=lambda: [guess.wire for guess in guesses],
        encoding=dialect.encoding.removesuffix("-sig"),
        warnings=notes,
    )
