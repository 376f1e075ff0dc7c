"""Layers: the features of a dataset as Arrow batches, whatever library reads the format.

Here: what a batch and a layer are, which reader takes which format, and the translation of their failures.
Not here: the readers (`ogr.py`, `geojson.py`, `parquet.py`, `delimited.py`), what a file is (`sources.py`), what
becomes of a geometry (`geometry.py`).
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

#: Rows that are read, worked on and sent at once: 65,536 cost twice the memory and save nothing.
BATCH_ROWS = 8192

#: GDAL ends a batch here (`ogr.py`). MiB.
_LARGEST_FEATURE_MIB = 256

#: Formats that are one layer and are read by ourselves.
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
    sound_values: bool = False  # an earlier scan found each value to be of its column's type

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"layer {self.layer!r} of {self.dataset.name}" if self.layer else self.dataset.name


@dataclass(slots=True)
class Batch:
    """Some features: one array for each attribute, WKB (null: none), and the rows whose geometry the reader could not
    make out.
    """

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

    `read` gives the batches, once. It is told which columns are needed, by position (None: all); others may be left
    out.
    """

    names: list[str]
    arrow_types: list[pa.DataType]
    crs: str | None
    read: Callable[[Collection[int] | None], Iterator[Batch]]
    declared: int | None = None  # features, where the file says so itself and a cut-off one goes unnoticed
    types: Callable[[], list[str]] | None = None  # wire types, where the reader decides them
    bounds: tuple[float, float, float, float] | None = None  # where the file says so without being read
    scan: Callable[[], Scan | None] = lambda: (
        None
    )  # values and beginnings of geometries at once, where that is quicker than `read`
    encoding: str | None = None  # of its text, where the format does not fix it
    unused: Callable[[], set[int]] = set  # columns that the file itself does not have
    warnings: Sequence[str] = ()
    findings: Findings = field(
        default_factory=Findings
    )  # values that could not be taken as they are written; whole once the batches are used up


def list_layers(dataset: Dataset, *, attributes: bool = False) -> list[LayerRef]:
    """The layers of a dataset that may have geometry, or all.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, another driver than the expected one took the file.
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
    """Layers of a dataset that are SQL of its author, and are not read."""
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
    """Names of the tables of a GeoPackage that hold tiles, which are rasters; and whether it holds nothing else."""
    if dataset.format is not Format.GPKG:
        return [], False
    try:
        with closing(read_only(Path(dataset.path))) as database:
            rows = database.execute("select table_name, lower(data_type) from gpkg_contents limit 1000").fetchall()
    except sqlite3.Error:
        return [], False  # what is wrong with it is found where its layers are listed
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
        attributes: it may be without geometry; all its WKB is then null.

    Raises:
        GeoAssetsError: UNREADABLE, also from the batches; VECTOR_NO_GEOMETRY; VECTOR_UNSUPPORTED.
    """
    with reading(ref.dataset), _opener(ref.dataset.format)(ref, attributes=attributes) as layer:
        unguarded = layer.read
        layer.read = lambda only: _guarded(unguarded(only), ref.dataset)
        yield layer


def _opener(kind: Format) -> Callable[..., AbstractContextManager[OpenLayer]]:
    """What reads a format."""
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
    """The first column of WKB."""
    return next((i for i, column in enumerate(schema) if extension_name(column) in WKB_EXTENSIONS), None)


def extension_name(column: pa.Field) -> bytes:
    """Of an Arrow extension type, whether pyarrow knows it or not; empty where there is none."""
    name = (column.metadata or {}).get(b"ARROW:extension:name") or getattr(column.type, "extension_name", "").encode()
    return bytes(name)


def storage(array: pa.Array) -> pa.Array:
    """What an array of an extension type is made of."""
    import pyarrow as pa

    return array.storage if isinstance(array, pa.ExtensionArray) else array


def places(first: int, count: int) -> pa.Array:
    """Feature ids where the source has none: the place in the file, from 1."""
    import pyarrow as pa

    return pa.array(np.arange(first, first + count, dtype=np.int64))


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
