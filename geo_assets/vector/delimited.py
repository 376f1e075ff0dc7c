"""Delimited text (CSV, TSV): encoding, delimiter, geometry columns and types, all found out and none guessed beyond the text.

Here: pyarrow's CSV reader, which tells an empty field (NULL) from a quoted empty one ('').
Not here: other formats (`layers.py`).

A column is a number or a date only if every one of its values is, written as PostgreSQL would write it: `007` stays text.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geo_assets.errors import GeoAssetsError

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLE_CHARACTERS = 65_536
_SAMPLE_ROWS = 100
_DELIMITERS = (",", ";", "\t", "|")

#: A row must fit into one; pyarrow parses block by block.
_BLOCK_BYTES = 8 * 1024**2

_LONGITUDE_LATITUDE = (
    ({"longitude", "lon", "lng", "long", "decimallongitude"}, {"latitude", "lat", "decimallatitude"}, "EPSG:4326"),
    ({"x", "easting", "x_coord", "xcoord"}, {"y", "northing", "y_coord", "ycoord"}, None),  # metres or degrees: the file does not say
)
_WKT_NAMES = {"wkt", "geometry", "geom", "the_geom", "wkt_geom", "geom_wkt", "geometry_wkt"}
_WKT = re.compile(r"\s*(?:MULTI)?(?:POINT|LINESTRING|POLYGON|GEOMETRYCOLLECTION)\b", re.IGNORECASE)

_COORDINATE = r"^[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?$"
_INTEGER = r"^(0|-?[1-9]\d{0,18})$"
_FLOAT = r"^-?(0|[1-9]\d{0,14})(\.\d+)?([eE][+-]?\d{1,3})?$"  # 15 digits are exact in a double; longer ones are identifiers
_DATE = r"^\d{4}-\d{2}-\d{2}$"

NOT_NUMBERS = "coordinates are not numbers"
NOT_WKT = "unreadable WKT"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written and which columns locate its rows."""

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    x: int | None
    y: int | None
    wkt: int | None
    crs: str | None

    @property
    def attributes(self) -> list[int]:
        """Positions of the columns that become columns of the table; WKT becomes its geometry."""
        return [i for i in range(len(self.header)) if i != self.wkt]


def sniff(path: Path, name: str, *, attributes: bool = False) -> Dialect:
    """Find out how a file is written.

    Args:
        path: the file.
        name: what it is called in messages.
        attributes: no column need locate its rows.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_NO_GEOMETRY, no columns locate its rows.
    """
    encoding = _encoding(path)
    with path.open(encoding=encoding, errors="strict", newline="") as file:
        sample = file.read(_SAMPLE_CHARACTERS)
    rows, delimiter = max(((_rows(sample, d), d) for d in _DELIMITERS), key=lambda found: _score(found[0]))
    if not rows:
        raise GeoAssetsError("UNREADABLE", f"{name} has no header line")
    header = tuple(rows[0])
    names = [column.strip().casefold() for column in header]
    wkt = _wkt_column(names, rows[1:])
    if wkt is not None:
        return Dialect(encoding, delimiter, header, None, None, wkt, None)
    for xs, ys, crs in _LONGITUDE_LATITUDE:
        x, y = _first(names, xs), _first(names, ys)
        if x is not None and y is not None:
            return Dialect(encoding, delimiter, header, x, y, None, crs)
    if attributes:
        return Dialect(encoding, delimiter, header, None, None, None, None)
    shown = ", ".join(repr(column[:40]) for column in header[:8])
    raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{name} has no longitude/latitude or WKT columns; its columns are {shown}")


def _encoding(path: Path) -> str:
    """UTF-8 where the whole file is, UTF-16 by its mark, else Windows-1252."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        if file.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
            return "utf-16"
        file.seek(0)
        try:
            while part := file.read(1 << 20):
                decoder.decode(part)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _rows(sample: str, delimiter: str) -> list[list[str]]:
    """The sample's records; the last one may be cut off and is left out."""
    rows = []
    try:
        for row in csv.reader(io.StringIO(sample), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return rows[:-1] if len(rows) > 2 and len(sample) == _SAMPLE_CHARACTERS and len(rows) <= _SAMPLE_ROWS else rows


def _score(rows: list[list[str]]) -> tuple[float, int]:
    """Share of rows as wide as the header, then the width; one column is the last resort."""
    if not rows:
        return (0.0, 0)
    width = len(rows[0])
    return (sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0, width)


def _first(names: list[str], wanted: set[str]) -> int | None:
    return next((i for i, name in enumerate(names) if name in wanted), None)


def _wkt_column(names: list[str], rows: list[list[str]]) -> int | None:
    for i, name in enumerate(names):
        if name in _WKT_NAMES:
            value = next((row[i] for row in rows if len(row) > i and row[i].strip()), "")
            if _WKT.match(value):
                return i
    return None


def read(path: Path, dialect: Dialect, rows: int) -> Iterator[tuple[list[pa.Array], pa.Array, dict[int, str]]]:
    """Attribute columns (all text), WKB and faulty rows of each batch of at most `rows`.

    Raises:
        pyarrow.ArrowInvalid: a row has another number of fields than the header.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = [f"c{i}" for i in range(len(dialect.header))]
    reader = arrow_csv.open_csv(
        path,
        # the header is skipped as a record, not as a line: a quoted name may hold a line break
        read_options=arrow_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, column_names=names, skip_rows_after_names=1, encoding=dialect.encoding
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""]
        ),
    )
    with reader:
        for block in reader:
            for start in range(0, len(block), rows):
                batch = block.slice(start, rows)
                wkb, faults = _locate(batch, dialect)
                yield [batch.column(i) for i in dialect.attributes], wkb, faults


def _locate(batch: pa.RecordBatch, dialect: Dialect) -> tuple[pa.Array, dict[int, str]]:
    if dialect.wkt is not None:
        return _from_wkt(batch.column(dialect.wkt))
    if dialect.x is None or dialect.y is None:
        import pyarrow as pa

        return pa.nulls(len(batch), pa.binary()), {}
    return _from_coordinates(batch.column(dialect.x), batch.column(dialect.y))


def _from_coordinates(x_text: pa.Array, y_text: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    import pyarrow as pa

    (x, x_empty), (y, y_empty) = _numbers(x_text), _numbers(y_text)
    wkb = np.zeros(len(x), dtype=[("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")])
    wkb["order"], wkb["type"], wkb["x"], wkb["y"] = 1, 1, x, y
    missing = x_empty & y_empty
    faulty = ~missing & (np.isnan(x) | np.isnan(y))
    valid = pa.array(~(missing | faulty))
    points = pa.Array.from_buffers(pa.binary(wkb.dtype.itemsize), len(x), [None, pa.py_buffer(wkb)]).cast(pa.binary())
    return pa.compute.if_else(valid, points, pa.scalar(None, pa.binary())), dict.fromkeys(np.flatnonzero(faulty).tolist(), NOT_NUMBERS)


def _numbers(text: pa.Array) -> tuple[Any, Any]:
    """Values (NaN where there is none) and where the field is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(text)
    empty = pc.fill_null(pc.equal(trimmed, ""), fill_value=True)
    numeric = pc.fill_null(pc.match_substring_regex(trimmed, _COORDINATE), fill_value=False)
    plain = pc.replace_substring(pc.replace_substring_regex(trimmed, r"^\+", ""), ",", ".")
    values = pc.if_else(numeric, plain, pa.scalar(None, pa.string())).cast(pa.float64())
    return values.to_numpy(zero_copy_only=False), empty.to_numpy(zero_copy_only=False)


def _from_wkt(text: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    import pyarrow as pa
    import shapely

    values = np.asarray([value or None for value in text.to_pylist()], dtype=object)
    try:
        geometries = shapely.from_wkt(values)
    except shapely.errors.ShapelyError:
        geometries = np.asarray([_wkt_or_none(value) for value in values], dtype=object)
    faulty = [i for i, (value, geometry) in enumerate(zip(values, geometries, strict=True)) if value is not None and geometry is None]
    return pa.array(shapely.to_wkb(geometries, flavor="iso"), pa.binary()), dict.fromkeys(faulty, NOT_WKT)


def _wkt_or_none(value: str | None) -> Any:
    import shapely

    try:
        return shapely.from_wkt(value)
    except shapely.errors.ShapelyError:
        return None


class TypeGuess:
    """The narrowest type that holds every value of a text column, batch after batch."""

    def __init__(self) -> None:
        self._candidates = {"int64": _INTEGER, "float64": _FLOAT, "date32": _DATE}
        self._seen = False

    def add(self, text: pa.Array) -> None:
        """Take in one batch of values."""
        values = text.drop_null()
        if len(values) == 0:
            return
        self._seen = True
        self._candidates = {wire: pattern for wire, pattern in self._candidates.items() if _all_are(values, wire, pattern)}

    @property
    def wire(self) -> str:
        """The wire type (`types.py`)."""
        return next(iter(self._candidates)) if self._seen and self._candidates else "string"


def _all_are(values: pa.Array, wire: str, pattern: str) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.all(pc.match_substring_regex(values, pattern)).as_py():
        return False
    try:
        values.cast(wire)
    except pa.ArrowInvalid:  # 2021-02-30; an integer beyond 64 bits
        return False
    return True
