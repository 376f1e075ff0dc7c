"""What is known of a layer before its features are read: by its header, or by a scan of their headers.

Here: what a reader tells of that, and what GDAL and SQLite know of a layer. Not here: a plan made of it (`inspect.py`),
scans (`sqlite_values.py`, `alike.py`).
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import BoundingBox
from geo_assets.vector.reader.formats import Format
from geo_assets.vector.reader.listing import KNOW_THEMSELVES, info_of
from geo_assets.vector.reader.wkb import COLLECTION, TYPE_NAMES, Headers

if TYPE_CHECKING:
    from geo_assets.vector.reader.batches import LayerRef
    from geo_assets.vector.reader.sqlite_values import SQLiteCheck

T = TypeVar("T")

#: Formats of one layer, whose header states its kind of geometry, and whose features are numbered from 0.
_NUMBERED = frozenset({Format.SHAPEFILE, Format.FLATGEOBUF})

#: How GDAL ends the name of a kind with heights.
_WITH_Z = " Z"

#: WKB's codes by the name of a kind.
_CODES = {name: code for code, name in TYPE_NAMES.items() if code != COLLECTION}


@dataclass(frozen=True, slots=True)
class Scan:
    """What is found in a layer in which all geometries have the same header."""

    headers: Headers  # of one WKB; the same in all
    geometries: int
    nulls: int
    odd: int  # rows with a value that does not have its column's type
    bounds: BoundingBox


@dataclass(frozen=True, slots=True)
class Outline:
    """What a file states of a layer, which is known without a look at its features, and may be wrong."""

    headers: Headers  # of one WKB
    features: int


def widest(kinds: Sequence[str]) -> str | None:
    """Return the kind among some whose table takes them all: `MultiPolygon` of it and `Polygon`; None where no kind
    does, or there is none.
    """
    names = {kind.replace("Multi", "") for kind in kinds}
    return max(kinds, key=len) if len(names) == 1 else None


def outline_of(kind: str | None, features: int) -> Outline | None:
    """Return what a header states; None where it states too little.

    Args:
        kind: of geometry, as GDAL names it: `Polygon Z`.
        features: their number.
    """
    import pyarrow as pa

    name = kind or ""
    code = _CODES.get(name.removesuffix(_WITH_Z))
    if code is None or features < 1:
        return None
    header = struct.pack("<BI", 1, code + (1000 if name.endswith(_WITH_Z) else 0))
    return Outline(Headers.of(pa.array([header + bytes(16)])), features)


@dataclass(frozen=True, slots=True)
class Stated:
    """What GDAL and SQLite know of a layer.

    Attributes:
        ref: the layer.
        table: of a GeoPackage or another SQLite database, else None.
        geometry: the name of its column.
    """

    ref: LayerRef
    table: SQLiteCheck | None
    geometry: str | None

    def look(self) -> dict[str, Any]:
        """Return what pyogrio says of it; nothing where its format states nothing. GDAL opens a file for it, and with
        that all its layers: it is not asked where nobody wants to know.
        """
        dataset = self.ref.dataset
        return info_of(dataset.path, self.ref.opened_by) if dataset.format in KNOW_THEMSELVES else {}

    def bounds(self) -> BoundingBox | None:
        """Return the extent; None where none is stated, or it is none."""
        bounds = self.look().get("total_bounds")
        if bounds is None or not np.isfinite(bounds).all():
            return None
        west, south, east, north = map(float, bounds)
        return west, south, east, north

    def declared(self) -> int | None:
        """Return how many features there must be; None where the format does not state it. Of a table with a damaged
        page GDAL reads what comes before it, and says nothing: SQLite counts its rows.
        """
        dataset = self.ref.dataset
        if dataset.format in {Format.FLATGEOBUF, Format.FILEGDB}:
            return int(self.look()["features"])
        if self.table is not None:
            with damage(self.ref.title):
                return self.table.rows
        return dataset.features.get(self.ref.layer or "")

    def outline(self) -> Outline | None:
        """Return what the file states of kind and number."""
        if self.ref.dataset.format in _NUMBERED:
            return outline_of(self.look()["geometry_type"], int(self.look()["features"]))
        geometry = self.geometry
        return None if geometry is None else self._of_geopackage(lambda table: table.outline(geometry))

    def scan(self) -> Scan | None:
        """Return what SQLite finds, which takes less time than to read the layer by GDAL."""
        geometry, bounds = self.geometry, self.bounds()
        if geometry is None or bounds is None:
            return None
        return self._of_geopackage(lambda table: table.scan(geometry, bounds))

    def last(self) -> int | None:
        """Return the id of the last feature."""
        if self.ref.dataset.format in _NUMBERED:
            return int(self.look()["features"]) - 1
        return self._of_geopackage(lambda table: table.last())

    def _of_geopackage(self, ask: Callable[[SQLiteCheck], T | None]) -> T | None:
        if self.table is None or self.ref.dataset.format is not Format.GPKG:
            return None
        with damage(self.ref.title):
            return ask(self.table)


@contextmanager
def damage(title: str) -> Iterator[None]:
    """Say that a table is damaged, where SQLite does; `title` is its layer's."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise GeoAssetsError("UNREADABLE", f"{title} is damaged: {error}") from error
