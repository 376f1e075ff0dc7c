"""Spreadsheets (.xlsx): each sheet is a table whose first row names its columns and whose rows are located by some of
them.

Here: the cells from GDAL, joined with the location of each row; the dates of workbooks that count days from 1904, which
GDAL counts from 1900. Not here: GDAL's reading (`ogr.py`), which columns locate a row (`placing.py`).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.batches import Batch, LayerRef, OpenLayer
from geo_assets.vector.reader.ogr import open_ogr
from geo_assets.vector.reader.placing import Placing, find_placing

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.sources import Dataset

_SAMPLE_ROWS = 100

#: Days are counted from 1904 in workbooks of Excel for the Mac of old, and in those where somebody chose so.
_FROM_1904 = re.compile(rb"<(?:\w+:)?workbookPr\s[^>]*\bdate1904\s*=\s*[\"'](?:1|true|on)[\"']")
_LATER = timedelta(days=1462)

_WORKBOOK = "xl/workbook.xml"

#: The properties of a workbook come first in it. Bytes.
_PROPERTIES_BYTES = 1 << 20

#: A date as GDAL writes it into a column that also has other values.
_DATE_AS_TEXT = r"^\d{4}/\d{2}/\d{2}( \d{2}:\d{2}:\d{2}(\.\d+)?)?$"


@contextmanager
def open_spreadsheet(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    """One pass over a sheet.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_NO_GEOMETRY, no columns place its rows; VECTOR_UNSUPPORTED_TYPE, dates that
            are counted from 1904 stand among other values.
    """
    late = _counts_from_1904(ref.dataset)
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
        if late:
            early = layer.read
            layer.read = lambda only: _dated(early(only), names, ref.title)
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


def _counts_from_1904(dataset: Dataset) -> bool:
    try:
        with zipfile.ZipFile(dataset.path) as archive:
            if _WORKBOOK not in archive.namelist():
                return False
            with archive.open(_WORKBOOK) as workbook:
                properties = workbook.read(_PROPERTIES_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise GeoAssetsError("UNREADABLE", f"{dataset.name} is damaged: {_WORKBOOK} is ({error})") from error
    return _FROM_1904.search(properties.replace(b"\0", b"")) is not None  # also UTF-16


def _dated(batches: Iterator[Batch], names: list[str], title: str) -> Iterator[Batch]:
    """Put right the dates of a workbook that counts from 1904."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in batches:
        for position, column in enumerate(batch.columns):
            if column is None:
                continue
            if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
                moments = pc.add(column.cast(pa.timestamp("us")), pa.scalar(_LATER, pa.duration("us")))
                batch.columns[position] = moments.cast(column.type)
            elif pa.types.is_string(column.type) and pc.any(pc.match_substring_regex(column, _DATE_AS_TEXT)).as_py():
                raise GeoAssetsError(
                    "VECTOR_UNSUPPORTED_TYPE",
                    f"column {names[position]!r} of {title} has dates among other values, and its workbook counts days"
                    " from 1904, which is not known of text",
                    remedy="put nothing but dates into the column, or save it as text: 2024-01-31",
                )
        yield batch
