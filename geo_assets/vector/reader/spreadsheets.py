"""Spreadsheets (.xlsx): each sheet is a table whose first row names its columns and whose rows are located by some of
them.

Here: the cells from GDAL, joined with the location of each row; what GDAL reads as another value than Excel shows: days
before March 1900, and all where a workbook counts from 1904, numbers among booleans. Not here: GDAL's reading
(`ogr.py`), which columns locate a row (`placing.py`).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.batches import EMPTY_ROWS, Batch, LayerRef, OpenLayer, holds_something
from geo_assets.vector.reader.dbf import true
from geo_assets.vector.reader.declared import NO_BOOLEAN
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.ogr import open_ogr
from geo_assets.vector.reader.placing import Placing, find_placing
from geo_assets.vector.reader.read_once import FID, arguments_of
from geo_assets.vector.reader.sqlite_values import NO_NUMBER

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.sources import Dataset

#: Days are counted from 1904 in workbooks of Excel for the Mac of old, and in those where somebody chose so.
_FROM_1904 = re.compile(rb"<(?:\w+:)?workbookPr\s[^>]*\bdate1904\s*=\s*[\"'](?:1|true|on)[\"']")
_LATER = np.timedelta64(1462, "D")

#: What GDAL makes of two numbers, and the days that a workbook can have. Excel shows number 60 as 1900-02-29.
_NUMBER_0, _NUMBER_60 = np.datetime64("1899-12-30", "us"), np.datetime64("1900-02-28", "us")
_FIRST_OF_1900, _FIRST_OF_1904 = np.datetime64("1900-01-01", "us"), np.datetime64("1904-01-01", "us")
_AFTER_9999 = np.datetime64("10000-01-01", "us")
_DAY = np.timedelta64(1, "D")

NO_DAY = "of no day that Excel has, now NULL"

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
    with open_ogr(ref, attributes=True) as first:
        sample = next(first.read(None), None)
        names = first.names
    columns = [] if sample is None else [_shown(column) for column in sample.columns if column is not None]
    placing = find_placing(
        names, list(map(list, zip(*columns, strict=True))), ref.dataset.options, ref.title, attributes=attributes
    )
    with open_ogr(ref, attributes=True) as layer:
        read_all = layer.read
        corrected = _Corrected(ref, names, layer.arrow_types, layer.findings)
        layer.read = lambda _: corrected.of(read_all(None))
        if placing is None:
            yield layer
            return
        kept = [i for i in range(len(names)) if i != placing.geometry]
        layer.read = lambda _: _placed(corrected.of(read_all(None)), placing, names, kept)
        layer.names = [names[i] for i in kept]
        layer.arrow_types = [layer.arrow_types[i] for i in kept]
        layer.crs = placing.crs
        layer.warnings = (*layer.warnings, *placing.notes)
        yield layer


def _shown(column: pa.Array) -> list[str]:
    """Return the values of a column as text, also days that Python does not have."""
    import pyarrow as pa

    shown: list[str] = column.cast(pa.string()).fill_null("").to_pylist()
    return shown


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


class _Corrected:
    """Puts right what GDAL makes of the cells of a sheet, and leaves out rows of nothing, which may have a style."""

    def __init__(self, ref: LayerRef, names: list[str], types: list[pa.DataType], findings: Findings) -> None:
        import pyarrow as pa

        self._names, self._title, self._findings = names, ref.title, findings
        self._late = _counts_from_1904(ref.dataset)
        booleans = [i for i, kind in enumerate(types) if pa.types.is_boolean(kind)]
        self._no_booleans = _no_booleans(ref, booleans) if booleans else {}

    def of(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches of the sheet."""
        for batch in batches:
            present = holds_something([column for column in batch.columns if column is not None], len(batch.wkb))
            self._findings.add(None, EMPTY_ROWS, (), int(len(present) - present.sum()))
            kept = batch if present.all() else batch.keep(present)
            for position, column in enumerate(kept.columns):
                if column is not None:
                    kept.columns[position] = self._column(column, position, kept.fids)
            yield kept

    def _column(self, column: pa.Array, position: int, fids: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        t, kind, name = pa.types, column.type, self._names[position]
        if t.is_date(kind) or t.is_timestamp(kind):
            return self._days(column, name)
        if t.is_floating(kind):
            return self._nulled(column, pc.is_inf(column), ["inf"], name, NO_NUMBER)
        if position in self._no_booleans:
            odd = self._no_booleans[position]
            texts = [odd[fid] for fid in fids.to_pylist() if fid in odd]
            return self._nulled(column, pc.is_in(fids, pa.array(odd, fids.type)), texts, name, NO_BOOLEAN)
        if self._late and t.is_string(kind) and pc.any(pc.match_substring_regex(column, _DATE_AS_TEXT)).as_py():
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED_TYPE",
                f"column {name!r} of {self._title} has dates among other values, and its workbook counts days from"
                " 1904, which is not known of text",
                remedy="put nothing but dates into the column, or save it as text: 2024-01-31",
            )
        return column

    def _days(self, column: pa.Array, name: str) -> pa.Array:
        """Return the days that Excel shows. To it 1900 was a leap year: GDAL counts those before March from a day
        earlier, and the 29th of February, number 60, is none.
        """
        import pyarrow as pa

        counted = column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
        if self._late:
            days = counted + _LATER
            odd = days < _FIRST_OF_1904
        else:
            days = np.where(counted < _NUMBER_60, counted + _DAY, counted)
            odd = (days < _FIRST_OF_1900) | ((counted >= _NUMBER_60) & (counted < _NUMBER_60 + _DAY))
        odd |= days >= _AFTER_9999
        numbers = [f"{number:.10g}" for number in ((counted[odd] - _NUMBER_0) / _DAY).tolist()]
        shown = pa.array(days, mask=np.isnat(days)).cast(column.type)
        return self._nulled(shown, pa.array(odd), numbers, name, NO_DAY)

    def _nulled(self, column: pa.Array, odd: pa.Array, originals: list[str], name: str, fault: str) -> pa.Array:
        """Return a column without some of its values, which are counted."""
        import pyarrow as pa
        import pyarrow.compute as pc

        count = pc.sum(odd).as_py() or 0
        if not count:
            return column
        self._findings.add(name, fault, originals, count)
        return pc.if_else(odd, pa.scalar(None, column.type), column)


def _no_booleans(ref: LayerRef, positions: list[int]) -> dict[int, dict[int, str]]:
    """Return by column and row the numbers among booleans, each of which GDAL takes for true."""
    import pyarrow.compute as pc
    from pyogrio.raw import open_arrow

    odd: dict[int, dict[int, str]] = {}
    arguments = arguments_of(ref.dataset.format, ref.index) | {"FIELD_TYPES": "STRING"}
    with open_arrow(ref.dataset.path, **arguments) as (_, reader):
        for batch in reader:
            for position in positions:
                column = batch.column(FID + 1 + position)
                none = true(pc.invert(pc.match_substring_regex(column, r"^[01]?$")))
                rows, texts = batch.column(FID).filter(none).to_pylist(), column.filter(none).to_pylist()
                odd.setdefault(position, {}).update(zip(rows, texts, strict=True))
    return {position: found for position, found in odd.items() if found}
