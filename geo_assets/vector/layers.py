"""Layers: the features of a dataset as Arrow batches, whatever library reads the format.

Here: pyogrio (one named driver each), pyarrow for Parquet and delimited text, and the translation of their failures.
Not here: what a file is (`sources.py`), what becomes of a geometry (`geometry.py`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError
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

#: Columns that the KML driver makes up for every file, and the value each has where the file is silent.
_KML_COLUMNS: dict[str, Any] = {
    "id": None, "description": None, "timestamp": None, "begin": None, "end": None, "altitudeMode": None,
    "tessellate": -1, "extrude": 0, "visibility": -1, "drawOrder": None, "icon": None, "snippet": None,
}  # fmt: skip

#: GeoParquet: a file without "crs" is in longitude and latitude on WGS 84.
_GEOPARQUET_DEFAULT_CRS = "OGC:CRS84"

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

    columns: list[pa.Array]
    wkb: pa.Array
    faults: dict[int, str]


@dataclass(slots=True)
class OpenLayer:
    """A layer that is being read. `types` is final once the batches are used up: text is typed by its values."""

    names: list[str]
    arrow_types: list[pa.DataType]
    crs: str | None
    batches: Iterator[Batch]
    declared: int | None = None  # features, where the file says so itself and a cut-off one goes unnoticed
    types: Callable[[], list[str]] | None = None  # wire types, where the reader decides them
    unused: Callable[[], set[int]] = set  # columns that the file itself does not have
    warnings: Sequence[str] = ()


def list_layers(dataset: Dataset) -> list[LayerRef]:
    """The layers of a dataset that may have geometry.

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
        layers = [(index, str(name)) for index, (name, kind) in enumerate(pyogrio.list_layers(dataset.path)) if kind is not None]
        if layers:
            _check_driver(dataset, pyogrio.read_info(dataset.path, layer=layers[0][0])["driver"])
        return [LayerRef(dataset, index, name if dataset.format in _MANY_LAYERS else None) for index, name in layers]


def _check_driver(dataset: Dataset, driver: str) -> None:
    if driver != dataset.format.value:
        raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{dataset.name} looks like {dataset.format.value} but GDAL opens it as {driver}")


@contextmanager
def open_layer(ref: LayerRef) -> Iterator[OpenLayer]:
    """Open a layer for one pass over its features, at most `BATCH_ROWS` at a time.

    Raises:
        GeoAssetsError: UNREADABLE, also from the batches; VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED.
    """
    opener = {Format.PARQUET: _open_parquet, Format.CSV: _open_csv}.get(ref.dataset.format, _open_ogr)
    with reading(ref.dataset), opener(ref) as layer:
        layer.batches = _guarded(layer.batches, ref.dataset)
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
def _open_ogr(ref: LayerRef) -> Iterator[OpenLayer]:
    import pyogrio
    from pyogrio.raw import open_arrow

    pyogrio.set_gdal_config_options({"OGR_ARROW_MEM_LIMIT": str(_BATCH_BYTES)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is found by looking at the features
        with open_arrow(ref.dataset.path, layer=ref.index, use_pyarrow=True, batch_size=BATCH_ROWS) as (meta, reader):
            geometry = _geometry_position(reader.schema)
            if geometry is None:
                raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{ref.title} has no geometry")
            positions = [i for i in range(len(reader.schema)) if i != geometry]
            fields = [reader.schema.field(i) for i in positions]
            unused = _UnusedKml([field.name for field in fields]) if ref.dataset.format is Format.KML else None
            batches = _ogr_batches(reader, positions, geometry, unused)
            declared = pyogrio.read_info(ref.dataset.path)["features"] if ref.dataset.format is Format.FLATGEOBUF else None
            yield OpenLayer(
                [field.name for field in fields],
                [_undomained(field.type) for field in fields],
                meta["crs"],
                batches,
                declared=declared,
                unused=unused.positions if unused else set,
            )


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


def _ogr_batches(reader: pa.RecordBatchReader, positions: list[int], geometry: int, unused: _UnusedKml | None) -> Iterator[Batch]:
    import pyarrow as pa

    for batch in reader:
        columns = [batch.column(i) for i in positions]
        columns = [column.indices if isinstance(column, pa.DictionaryArray) else column for column in columns]
        if unused is not None:
            unused.add(columns)
        yield Batch(columns, _storage(batch.column(geometry)), {})


def _storage(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    return array.storage if isinstance(array, pa.ExtensionArray) else array


class _UnusedKml:
    """Which of the columns that the KML driver makes up hold nothing."""

    def __init__(self, names: list[str]) -> None:
        self._defaults = {i: _KML_COLUMNS[name] for i, name in enumerate(names) if name in _KML_COLUMNS}

    def add(self, columns: list[pa.Array]) -> None:
        """Take in one batch."""
        import pyarrow.compute as pc

        for i, default in list(self._defaults.items()):
            column = columns[i]
            differs = pc.is_valid(column) if default is None else pc.not_equal(column, default)
            if pc.any(differs).as_py():
                del self._defaults[i]

    def positions(self) -> set[int]:
        """Their positions."""
        return set(self._defaults)


@contextmanager
def _open_parquet(ref: LayerRef) -> Iterator[OpenLayer]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(ref.dataset.path, pre_buffer=False) as file:
        schema = file.schema_arrow
        geometry, crs, notes = _parquet_geometry(schema, ref.title)
        positions = [i for i in range(len(schema)) if i != geometry]
        batches = (
            Batch([batch.column(i) for i in positions], _storage(batch.column(geometry)), {})
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False)
        )
        yield OpenLayer([schema.field(i).name for i in positions], [schema.field(i).type for i in positions], crs, batches, warnings=notes)


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
    except (ValueError, KeyError, TypeError) as error:
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
    except ValueError:
        return None
    return crs if isinstance(crs, str) else json.dumps(crs)


@contextmanager
def _open_csv(ref: LayerRef) -> Iterator[OpenLayer]:
    import pyarrow as pa

    from geo_assets.vector.delimited import TypeGuess, read, sniff

    dialect = sniff(ref.dataset.path, ref.dataset.name)
    names = [dialect.header[i] for i in dialect.attributes]
    guesses = [TypeGuess() for _ in names]

    def batches() -> Iterator[Batch]:
        for columns, wkb, faults in read(ref.dataset.path, dialect, BATCH_ROWS):
            for guess, column in zip(guesses, columns, strict=True):
                guess.add(column)
            yield Batch(columns, wkb, faults)

    notes = ["it is not UTF-8; its text was read as Windows-1252"] if dialect.encoding == "cp1252" else []
    yield OpenLayer(
        names, [pa.string()] * len(names), dialect.crs, batches(), types=lambda: [guess.wire for guess in guesses], warnings=notes
    )
