"""Spreadsheets (.xlsx): each sheet is a table whose first row names its columns and whose rows are located by some of
them.

Here: the cells from GDAL, joined with the location of each row. Not here: GDAL's reading (`ogr.py`), which columns
locate a row (`placing.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geo_assets.vector.reader.batches import Batch, LayerRef, OpenLayer
from geo_assets.vector.reader.ogr import open_ogr
from geo_assets.vector.reader.placing import Placing, find_placing

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE_ROWS = 100


@contextmanager
def open_spreadsheet(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    """One pass over a sheet.

    Raises:
        GeoAssetsError: VECTOR_NO_GEOMETRY, no columns place its rows.
    """
    with open_ogr(ref, attributes=True) as first:
        sample = next(first.read(None), None)
        names = first.names
    columns = (
        []
        if sample is None
        else [column.slice(0, _SAMPLE_ROWS).to_pylist() for column in sample.columns if column is not None]
    )
    rows = [["" if value is None else str(value) for value in row] for row in zip(*columns, strict=True)]
    placing = find_placing(names, rows, ref.dataset.options, ref.title, attributes=attributes)
    with open_ogr(ref, attributes=True) as layer:
        if placing is None:
            yield layer
            return
        kept = [i for i in range(len(names)) if i != placing.geometry]
        unplaced = layer.read
        layer.read = lambda _: _placed(unplaced(None), placing, names, kept)
        layer.names = [names[i] for i in kept]
        layer.arrow_types = [layer.arrow_types[i] for i in kept]
        layer.crs = placing.crs
        yield layer


def _placed(batches: Iterator[Batch], placing: Placing, names: list[str], kept: Collection[int]) -> Iterator[Batch]:
    import pyarrow as pa

    for batch in batches:
        columns: list[pa.Array] = [pa.nulls(len(batch.wkb)) if column is None else column for column in batch.columns]
        whole = pa.record_batch(columns, names=[str(i) for i in range(len(names))])
        wkb, faults = placing.place(whole)
        yield Batch([columns[i] for i in kept], wkb, faults, batch.fids)
