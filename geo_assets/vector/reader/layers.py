"""Layers: the features of a dataset as Arrow batches, whatever library reads the format.

Here: what a batch and a layer are, which reader reads which format, and the translation of their errors.
Not here: the readers (`ogr.py`, `geojson.py`, `parquet.py`, `delimited.py`), what a file is (`sources.py`), repair of
geometries (`geometry.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.storage.geopackages import TILES
from geo_assets.text import without_name
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.formats import Format, forbid_drivers
from geo_assets.vector.reader.sources import Dataset
from geo_assets.vector.reader.sqlite_values import read_only

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.sqlite_values import Scan

forbid_drivers()  # before anything imports pyogrio

#: Rows that are read, processed and sent at once: 65,536 cost twice the memory and save no time.
BATCH_ROWS = 8192

#: GDAL ends a batch here (`ogr.py`). MiB.
_LARGEST_FEATURE_MIB = 256

#: Formats of one layer that we read ourselves.
_OURS = frozenset({Format.PARQUET, Format.CSV, Format.GEOJSON, Format.GEOJSON_LINES})

#: Formats in which a file has several layers.
_MANY_LAYERS = frozenset(
    {Format.GPKG, Format.FILEGDB, Format.KML, Format.GML, Format.GPX, Format.SQLITE, Format.SPREADSHEET}
)

WKB_EXTENSIONS = frozenset({b"geoarrow.wkb", b"ogc.wkb"})


@dataclass(frozen=True, slots=True)
class LayerRef:
    """One layer of a dataset."""

    dataset: Dataset
    index: int = 0
    layer: str | None = None  # None where the file is one layer
    sound_values: bool = False  # an earlier scan found that each value has its column's type

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return f"layer {self.layer!r} of {self.dataset.name}" if self.layer else self.dataset.name


@dataclass(slots=True)
class Batch:
    """Some features: one array per attribute, WKB (null: none), and the rows whose geometry the reader could
    not read.
    """

    columns: list[pa.Array | None]  # by position; None where it was not requested
    wkb: pa.Array
    faults: dict[int, str]
    fids: pa.Array  # each feature's id in the source, else its position in the file, from 1
    linearised: int = 0

    def keep(self, mask: NDArray[np.bool_]) -> Batch:
        """Return the rows of a mask."""
        import pyarrow as pa

        chosen = pa.array(mask)
        places = np.cumsum(mask) - 1
        faults = {int(places[row]): reason for row, reason in self.faults.items() if mask[row]}
        columns = [None if column is None else column.filter(chosen) for column in self.columns]
        return Batch(columns, self.wkb.filter(chosen), faults, self.fids.filter(chosen), self.linearised)


@dataclass(slots=True)
class OpenLayer:
    """A layer that is being read. `types` is final once the batches are used up: text is typed by its values.

    `read` returns the batches, once. Its argument is the columns that are needed, by position (None: all); others may
    be left out.
    """

    names: list[str]
    arrow_types: list[pa.DataType]
    crs: str | None
    read: Callable[[Collection[int] | None], Iterator[Batch]]
    declared: int | None = None  # number of features, where the file states it and truncation would go unnoticed
    types: Callable[[], list[str]] | None = None  # wire types, where the reader decides them
    bounds: tuple[float, float, float, float] | None = None  # where the file states them in its header
    scan: Callable[[], Scan | None] = lambda: (
        None
    )  # checks values and headers of geometries at once, where that is quicker than `read`
    encoding: str | None = None  # of its text, where the format does not define it
    unused: Callable[[], set[int]] = set  # columns that the file itself does not have
    warnings: Sequence[str] = ()
    findings: Findings = field(
        default_factory=Findings
    )  # values that could not be used as written; complete once the batches are consumed


def list_layers(dataset: Dataset, *, attributes: bool = False) -> list[LayerRef]:
    """Return the layers of a dataset that may have geometry, or all.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, a driver other than the expected one opened the file.
    """
    if dataset.format in _OURS:
        return [LayerRef(dataset)]
    import pyogrio

    from geo_assets.vector.reader.ogr import configure

    configure()
    with reading(dataset):
        kinds = {(index, str(name)): kind for index, (name, kind) in enumerate(pyogrio.list_layers(dataset.path))}
        layers = [
            (index, name)
            for (index, name), kind in kinds.items()
            if (kind is not None or attributes or dataset.format is Format.SPREADSHEET) and name not in dataset.left_out
        ]
        if layers:
            _check_driver(dataset, pyogrio.read_info(dataset.path, layer=layers[0][0])["driver"])
        return [LayerRef(dataset, index, name if dataset.format in _MANY_LAYERS else None) for index, name in layers]


def foreign_layers(dataset: Dataset) -> list[str]:
    """Return layers that are SQL written by the dataset's author, which are not read."""
    if not dataset.left_out:
        return []
    import pyogrio

    with reading(dataset):
        return [
            str(name)
            for name, kind in pyogrio.list_layers(dataset.path)
            if str(name) in dataset.left_out and kind is not None
        ]


def tile_tables(dataset: Dataset) -> tuple[list[str], bool]:
    """Return the tables of a GeoPackage that hold tiles, which are rasters; and whether it holds nothing else."""
    if dataset.format is not Format.GPKG:
        return [], False
    try:
        with closing(read_only(Path(dataset.path))) as database:
            rows = database.execute("select table_name, lower(data_type) from gpkg_contents limit 1000").fetchall()
    except sqlite3.Error:
        return [], False  # the error is reported where its layers are listed
    tiles = [str(name) for name, kind in rows if kind in TILES]
    return tiles, len(tiles) == len(rows) > 0


def _check_driver(dataset: Dataset, driver: str) -> None:
    if driver != dataset.format.value:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{dataset.name} looks like {dataset.format.value} but GDAL opens it as {driver}"
        )


@contextmanager
def open_layer(ref: LayerRef, *, attributes: bool = False) -> Iterator[OpenLayer]:
    """Open a layer for one pass over its features, at most `BATCH_ROWS` at a time.

    Args:
        ref: the layer.
        attributes: accept a layer without geometry; its WKB is then all null.

    Raises:
        GeoAssetsError: UNREADABLE, also from the batches; VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED.
    """
    with reading(ref.dataset), _opener(ref.dataset.format)(ref, attributes=attributes) as layer:
        unguarded = layer.read
        layer.read = lambda only: _guarded(unguarded(only), ref.dataset)
        yield layer


def _opener(kind: Format) -> Callable[..., AbstractContextManager[OpenLayer]]:
    """Return the function that opens a format."""
    if kind in {Format.GEOJSON, Format.GEOJSON_LINES}:
        from geo_assets.vector.reader.geojson import open_geojson

        return open_geojson
    if kind is Format.PARQUET:
        from geo_assets.vector.reader.parquet import open_parquet

        return open_parquet
    if kind is Format.CSV:
        from geo_assets.vector.reader.delimited import open_csv

        return open_csv
    if kind is Format.SPREADSHEET:
        from geo_assets.vector.reader.spreadsheets import open_spreadsheet

        return open_spreadsheet
    from geo_assets.vector.reader.ogr import open_ogr

    return open_ogr


def geometry_position(schema: pa.Schema) -> int | None:
    """Return the position of the first WKB column."""
    return next((i for i, column in enumerate(schema) if extension_name(column) in WKB_EXTENSIONS), None)


def extension_name(column: pa.Field) -> bytes:
    """Return the name of an Arrow extension type, whether pyarrow knows it or not; empty where there is none."""
    name = (column.metadata or {}).get(b"ARROW:extension:name") or getattr(column.type, "extension_name", "").encode()
    return bytes(name)


def storage(array: pa.Array) -> pa.Array:
    """Return the storage array of an extension type."""
    import pyarrow as pa

    return array.storage if isinstance(array, pa.ExtensionArray) else array


def places(first: int, count: int) -> pa.Array:
    """Return feature ids where the source has none: the position in the file, from 1."""
    import pyarrow as pa

    return pa.array(np.arange(first, first + count, dtype=np.int64))


def _guarded(batches: Iterator[Batch], dataset: Dataset) -> Iterator[Batch]:
    """Yield the batches; an error while reading one is the file's, an error while using one is not."""
    while True:
        with reading(dataset):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def reading(dataset: Dataset) -> Iterator[None]:
    """Translate a library's error about a file that it cannot read."""
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
        str(error)
        .replace(str(dataset.path), dataset.name)
        .replace(dataset.path.stem + dataset.path.suffix, dataset.name)
        .split()
    )
    if "Too large feature" in said:
        return GeoAssetsError("TOO_LARGE", f"{dataset.name} has a feature larger than {_LARGEST_FEATURE_MIB} MiB")
    said = without_name(said.partition(".; It might help")[0], dataset.name).replace(
        "it not recognized", "it is not recognized"
    )
    return GeoAssetsError("UNREADABLE", f"{dataset.name} is not readable as {dataset.format.value}: {said[:300]}")
