"""GeoJSON and newline-delimited GeoJSON: ids, numbers, times and geometry as they are written.

Here: batches of a layer. Not here: the text and its features (`geojson_text.py`), the type of each property
(`geojson_columns.py`), what becomes of geometries (`geometry.py`).

GDAL is not used: its driver drops ids that repeat or are text, makes 2**53 + 1 a double beside 1.5, makes NULL of a
geometry that it cannot read, and parses the text five times until it is in a table; this one is parsed once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geo_assets.vector.encodings import encoding_of_text, find_codec
from geo_assets.vector.reader.batches import Batch, LayerRef, OpenLayer, places
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.geojson_columns import Column, array_of
from geo_assets.vector.reader.geojson_text import Rows, parsed
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def open_geojson(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:  # noqa: ARG001 - as every opener
    """One pass over a file, whose text is parsed before.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, it is JSON of another kind; TOO_LARGE.
    """
    dataset = ref.dataset
    given = find_codec(dataset.options.encoding) if dataset.options.encoding else None
    encoding = given or encoding_of_text(dataset.path)
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    text = parsed(dataset.path, dataset.name, encoding)
    crs = text.declared.settle(dataset.name, overridden=dataset.options.override_crs)
    findings = Findings()
    columns = text.schema.columns(findings)

    def batches(only: Collection[int] | None) -> Iterator[Batch]:
        first = 1
        for rows in text.rows():
            yield _batch(rows, columns, only, first, findings)
            first += len(rows)

    yield OpenLayer(
        [column.name for column in columns],
        [arrow_type(column.wire) for column in columns],
        crs,
        batches,
        bounds=lambda: text.alike.bounds if text.alike else None,
        scan=lambda: text.alike.scan if text.alike else None,
        last=lambda: text.features,
        warnings=[] if encoding.startswith("utf") else [f"it is not UTF-8; its text was read as {encoding}"],
        findings=findings,
    )


def _batch(rows: Rows, columns: list[Column], only: Collection[int] | None, first: int, findings: Findings) -> Batch:
    arrays: list[pa.Array | None] = []
    for position, column in enumerate(columns):
        if only is not None and position not in only:
            arrays.append(None)
            continue
        values = rows.idents if column.key is None else [row.get(column.key) for row in rows.properties]
        arrays.append(array_of(values, column, findings))
    return Batch(arrays, rows.geometries, rows.faults, places(first, len(rows)))
