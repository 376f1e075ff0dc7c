"""The layers of a dataset: listing them, and opening each with the reader of its format.

Here: which reader reads which format, and the translation of their errors. Not here: what a batch and an open layer
are (`batches.py`), the readers (`ogr.py`, `geojson.py`, `parquet.py`, `delimited.py`, `spreadsheets.py`), what a file
is (`sources.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from geo_assets.errors import GeoAssetsError
from geo_assets.storage.geopackages import TILES
from geo_assets.text import without_name
from geo_assets.vector.reader import gpkg_alone
from geo_assets.vector.reader.batches import Batch, LayerRef, OpenLayer
from geo_assets.vector.reader.formats import Format
from geo_assets.vector.reader.listing import BATCH_BYTES, Listing, layers_of
from geo_assets.vector.reader.sources import Dataset
from geo_assets.vector.reader.sqlite_values import read_only
from geo_assets.vector.reader.stated import damage
from geo_assets.vector.reader.unpacking import listed

#: Formats of one layer that we read ourselves.
_OURS = frozenset({Format.PARQUET, Format.CSV, Format.GEOJSON, Format.GEOJSON_LINES})

#: Formats in which a file has several layers.
_MANY_LAYERS = frozenset(
    {Format.GPKG, Format.FILEGDB, Format.KML, Format.GML, Format.GPX, Format.SQLITE, Format.SPREADSHEET}
)


def list_layers(dataset: Dataset, *, attributes: bool = False) -> list[LayerRef]:
    """Return the layers of a dataset that may have geometry, or all.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, a driver other than the expected one opened the file.
    """
    if dataset.format in _OURS:
        return [LayerRef(dataset)]
    from geo_assets.vector.reader.ogr import check_driver

    with reading(dataset):
        listing = _listing(dataset)
        layers = [
            (index, name)
            for index, (name, kind) in enumerate(listing.kinds)
            if (kind is not None or attributes or dataset.format is Format.SPREADSHEET) and name not in dataset.left_out
        ]
        if layers and listing.driver:
            check_driver(dataset, listing.driver)
        return [LayerRef(dataset, index, name if dataset.format in _MANY_LAYERS else None) for index, name in layers]


def foreign_layers(dataset: Dataset) -> dict[str, str]:
    """Return layers that are SQL written by the dataset's author, which are not read; what each is, by its name."""
    if not dataset.left_out:
        return {}
    with reading(dataset):
        names = [name for name, kind in _listing(dataset).kinds if name in dataset.left_out and kind is not None]
    return {name: dataset.left_out[name] for name in names}


def without_column(dataset: Dataset, columns: Iterable[str]) -> list[str]:
    """Return a note about values of a text of which GDAL makes no column.

    Args:
        dataset: the text.
        columns: of all its layers.
    """
    known = {name.casefold() for name in columns}
    known |= {name.partition("_")[2] for name in known}  # of a GPX: prefix_name
    names = [name for name, column in dataset.named.items() if not column or column.casefold() not in known]
    return [f"{dataset.name} has values that become no column: {listed(names)}"] if names else []


def _listing(dataset: Dataset) -> Listing:
    return dataset.listing or layers_of(gpkg_alone.whole_of(dataset.path), dataset.format)


def tile_tables(dataset: Dataset) -> tuple[list[str], bool]:
    """Return the tables of a GeoPackage that hold tiles, which are rasters; and whether it holds nothing else."""
    if dataset.format is not Format.GPKG:
        return [], False
    try:
        with closing(read_only(gpkg_alone.whole_of(dataset.path))) as database:
            rows = database.execute("select table_name, lower(data_type) from gpkg_contents limit 1000").fetchall()
    except sqlite3.Error:
        return [], False  # the error is reported where its layers are listed
    tiles = [str(name) for name, kind in rows if kind in TILES]
    return tiles, len(tiles) == len(rows) > 0


@contextmanager
def open_layer(ref: LayerRef, *, attributes: bool = False) -> Iterator[OpenLayer]:
    """Open a layer for one pass over its features, at most `BATCH_ROWS` at a time.

    Args:
        ref: the layer.
        attributes: accept a layer without geometry; its WKB is then all null.

    Raises:
        GeoAssetsError: UNREADABLE, also from the batches; VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED.
    """
    if ref.layer is not None and ref.opened_by == ref.layer:
        with damage(ref.title):
            gpkg_alone.show(ref.dataset.path, ref.layer)
    with reading(ref.dataset), _opener(ref.dataset.format)(ref, attributes=attributes) as layer:
        layer.warnings = [*ref.dataset.notes, *layer.warnings]
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
    said = dataset.in_words(str(error))
    if "Too large feature" in said:
        return GeoAssetsError("TOO_LARGE", f"{dataset.name} has a feature larger than {BATCH_BYTES >> 20} MiB")
    said = without_name(said.partition(".; It might help")[0], dataset.name).replace(
        "it not recognized", "it is not recognized"
    )
    return GeoAssetsError("UNREADABLE", f"{dataset.name} is not readable as {dataset.format.value}: {said[:300]}")
