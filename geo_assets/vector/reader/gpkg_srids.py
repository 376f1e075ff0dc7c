"""Geometries of a GeoPackage that name another SRID than their layer.

Here: one look at the headers of a table, by SQLite; GDAL passes over what they say. Not here: their WKB, other values
(`sqlite_values.py`).

A layer that is read as its file states it is read while its headers are looked at, which takes
0.16 s for 500,000 of them.

Many programs write no SRID (0, -1), or one of their own into every geometry: then the layer's counts. One that differs
from the others is of another place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_assets.once import remembered_of_file
from geo_assets.vector.reader.batches import LayerRef, NotAsStated, geometry_position
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.formats import Format
from geo_assets.vector.reader.read_once import FID
from geo_assets.vector.reader.sqlite_values import key_of, quoted, read_only, without_numbers
from geo_assets.vector.reader.stated import damage

if TYPE_CHECKING:
    import pyarrow as pa

#: Of a geometry's header: what it begins with, and its length to the end of the SRID; the flag of the byte order.
_MAGIC, _HEADER, _LITTLE = b"GP", 8, 1

#: SRIDs of no CRS.
_NONE = frozenset({0, -1})


@dataclass(frozen=True, slots=True)
class Srids:
    """What the geometries of a layer name."""

    strays: NDArray[np.int64]  # ids of those that name another SRID than the others
    note: str | None = None  # where all name another than the layer
    count: int = 0  # of those


_NOTHING = Srids(np.zeros(0, dtype=np.int64))


@contextmanager
def stray_ids(ref: LayerRef, schema: pa.Schema, findings: Findings) -> Iterator[NDArray[np.int64]]:
    """Yield the ids of features of a GeoPackage whose geometry names another SRID than the others, for as long as a
    layer is read; none where it is read as its file states it.

    Args:
        ref: the layer, of any format.
        schema: of its batches.
        findings: take the note.

    Raises:
        NotAsStated: on leaving, there are some.
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED.
    """
    geometry = geometry_position(schema)
    if geometry is None or ref.dataset.format is not Format.GPKG:
        yield _NOTHING.strays
        return
    names = schema.field(FID).name, schema.field(geometry).name
    with ThreadPoolExecutor(1) as other:
        look = other.submit(srids_of_layer, ref.dataset.path, ref.layer or "", *names)
        if ref.as_stated:
            yield _NOTHING.strays
        with damage(ref.title):
            found = look.result()
        if found.note is not None:
            findings.add(None, found.note, (), found.count)
        if not ref.as_stated:
            yield found.strays
        elif len(found.strays):
            raise NotAsStated


@remembered_of_file  # it is asked for when the file is inspected, and when it is loaded
def srids_of_layer(path: Path, table: str, key: str, column: str) -> Srids:
    """Look at every geometry of a layer.

    Args:
        path: of the GeoPackage.
        table: its layer.
        key: how GDAL calls the numbers of its rows.
        column: of the geometries.

    Raises:
        GeoAssetsError: VECTOR_UNSUPPORTED, one that differs is in a row without number.
    """
    geometry = quoted(column)
    source, header = f"from {quoted(table)}", f"substr({geometry}, 1, {_HEADER})"
    with closing(read_only(path)) as connection:
        layers = "select srs_id from gpkg_geometry_columns where lower(table_name) = lower(?)"
        layer = connection.execute(layers, (table,)).fetchone()
        first = connection.execute(f"select {header} {source} where {geometry} is not null limit 1").fetchone()
        if layer is None or first is None:
            return _NOTHING
        unlike = connection.execute(f"select 1 {source} where {header} <> ? limit 1", first).fetchone()
        if unlike is None and _srid(first[0]) in {*_NONE, layer[0], None}:  # mostly
            return _NOTHING
        counts = dict(connection.execute(f"select {header}, count(*) {source} where {geometry} is not null group by 1"))
        named = Counter[int]()
        for each, count in counts.items():
            if (srid := _srid(each)) is not None and srid not in _NONE:
                named[srid] += count
        if not named.keys() - {layer[0]}:
            return _NOTHING
        taken = layer[0] if layer[0] in named else named.most_common(1)[0][0]
        note = None
        if taken != layer[0]:
            note = f"geometries that name SRID {taken}, which were taken for those of their layer, {layer[0]}"
        strays = [each for each in counts if _srid(each) not in {*_NONE, None, taken}]
        if not strays:
            return Srids(_NOTHING.strays, note, named[taken])
        if (own := key_of(connection, table, key)) is None:
            raise without_numbers(table, "one of its geometries names another SRID than the others")
        marks = ", ".join("?" * len(strays))
        found = connection.execute(f"select {quoted(own)} {source} where {header} in ({marks})", strays)
        return Srids(np.array([row[0] for row in found], dtype=np.int64), note, named[taken])


def _srid(header: object) -> int | None:
    """Return the SRID in a header; None where it is none of a geometry."""
    if not isinstance(header, bytes) or len(header) < _HEADER or not header.startswith(_MAGIC):
        return None
    return int.from_bytes(header[4:8], "little" if header[3] & _LITTLE else "big", signed=True)
