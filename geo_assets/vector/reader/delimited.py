"""Delimited text (CSV, TSV): encoding, delimiter, geometry columns and types, all determined from the text.

Here: pyarrow's CSV reader, which tells an empty field (NULL) from a quoted empty one ('').
Not here: which columns locate a row (`placing.py`), which type a column has (`text_values.py`).
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.encodings import FALLBACK, encoding_of_text, find_codec
from geo_assets.vector.reader.batches import BATCH_ROWS, EMPTY_ROWS, Batch, LayerRef, OpenLayer, holds_something
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.placed_once import Place, placed
from geo_assets.vector.reader.placing import Placing, find_placing, geometry_columns
from geo_assets.vector.reader.text_values import TypeGuess

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import WriteableBuffer

    from geo_assets.vector.models import LayerOptions

_SAMPLE_CHARACTERS = 65_536
_SAMPLE_ROWS = 100
_DELIMITERS = (",", ";", "\t", "|")

#: Bytes of a block, into which a row must fit; pyarrow parses block by block.
_BLOCK_BYTES = 8 * 1024**2

csv.field_size_limit(_BLOCK_BYTES)  # Python's own limit is less than a polygon in WKT may have

#: Excel's first line, which declares the delimiter.
_SEP = "sep="

#: What a row of nothing holds: blanks, and the sign with which DOS ended a file.
_NOTHING = " \t\r\n\x1a"

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written and which columns locate its rows."""

    encoding: str
    delimiter: str
    skipped: int  # lines before the header
    header: tuple[str, ...]
    placing: Placing | None

    @property
    def attributes(self) -> list[int]:
        """Return positions of the columns that become columns of the table; one that holds geometry becomes its
        geometry.
        """
        return [i for i in range(len(self.header)) if self.placing is None or i != self.placing.geometry]


@contextmanager
def open_csv(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:
    """One pass over a file; the types of its columns are known at its end.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_NO_GEOMETRY, no columns place its rows; UNKNOWN_COLUMN.
    """
    import pyarrow as pa

    dialect = sniff(ref.dataset.path, ref.dataset.name, ref.dataset.options, attributes=attributes)
    names = [dialect.header[i] for i in dialect.attributes]
    guesses = [TypeGuess() for _ in names]
    findings = Findings()

    def batches(_: Collection[int] | None) -> Iterator[Batch]:
        with _placing(ref, dialect) as place:
            for batch in _read(ref.dataset.path, ref.dataset.name, dialect, place, findings):
                for guess, column in zip(guesses, batch.columns, strict=True):
                    guess.add(column)
                yield batch

    guessed = dialect.encoding == FALLBACK and not ref.dataset.options.encoding
    notes = ["it is not UTF-8; its text was read as Windows-1252"] if guessed else []
    notes += dialect.placing.notes if dialect.placing else ()
    yield OpenLayer(
        names,
        [pa.string()] * len(names),
        dialect.placing.crs if dialect.placing else None,
        batches,
        types=lambda: [guess.wire for guess in guesses],
        encoding=dialect.encoding.removesuffix("-sig"),
        warnings=notes,
        findings=findings,
    )


@contextmanager
def _placing(ref: LayerRef, dialect: Dialect) -> Iterator[Place]:
    """Yield what places the rows of one pass over a file."""
    import pyarrow as pa

    placing = dialect.placing
    if placing is None:
        yield lambda batch: (pa.nulls(len(batch), pa.binary()), {})
    elif placing.geometry is None:  # a pair of numbers is soon read
        yield placing.place
    else:
        with placed(ref, placing.place, repr(dialect)) as place:
            yield place


def sniff(path: Path, name: str, options: LayerOptions, *, attributes: bool = False) -> Dialect:
    """Find out how a file is written; options that are given are used as they are.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_NO_GEOMETRY, no columns place its rows; UNKNOWN_COLUMN.
    """
    encoding = (find_codec(options.encoding) if options.encoding else None) or encoding_of_text(path)
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    with path.open(encoding=encoding, errors="strict", newline="") as file:
        sample = file.read(_SAMPLE_CHARACTERS)
    is_cut, delimiter = len(sample) == _SAMPLE_CHARACTERS, options.delimiter
    skipped, sample = _without_blank_lines(sample)
    first, *rest = _LINE_END.split(sample, maxsplit=1)
    if first.strip().lower().startswith(_SEP) and len(first.strip()) == len(_SEP) + 1:
        more, sample = _without_blank_lines("".join(rest))
        skipped, delimiter = skipped + 1 + more, delimiter or first.strip()[-1]
    rows, delimiter = max(
        ((_rows(sample, d, cut=is_cut), d) for d in ((delimiter,) if delimiter else _DELIMITERS)),
        key=lambda found: _score(found[0]),
    )
    if not rows:
        raise GeoAssetsError("UNREADABLE", f"{name} has no header line")
    header = tuple(rows[0])
    sample_rows = rows[1:]
    if is_cut and len(sample_rows) == 1:  # it is larger than the sample
        with path.open(encoding=encoding, newline="") as file:
            sample_rows = _filled(file, delimiter, header, range(len(header)), most=1) or sample_rows
    placing = _placing_of(header, sample_rows, options, name)
    if placing is None:  # its first rows may have no geometry
        with path.open(encoding=encoding, newline="") as file:
            later = _filled(file, delimiter, header, geometry_columns(header, options, name))
        placing = find_placing(header, later or sample_rows, options, name, attributes=attributes)
    return Dialect(encoding, delimiter, skipped, header, placing)


def _placing_of(header: Sequence[str], rows: list[list[str]], options: LayerOptions, name: str) -> Placing | None:
    try:
        return find_placing(header, rows, options, name)
    except GeoAssetsError as error:
        if error.code != "VECTOR_NO_GEOMETRY":
            raise
        return None


def _filled(
    file: Iterable[str], delimiter: str, header: tuple[str, ...], columns: Sequence[int], most: int = _SAMPLE_ROWS
) -> list[list[str]]:
    """Return the first rows of a file that have a value in one of some columns."""
    if not columns:
        return []
    found: list[list[str]] = []
    with suppress(csv.Error):
        for row in csv.reader(file, delimiter=delimiter):
            if len(row) == len(header) and any(row[i].strip() for i in columns) and tuple(row) != header:
                found.append(row)
            if len(found) == most:
                break
    return found


def _without_blank_lines(text: str) -> tuple[int, str]:
    """Return the number of lines of nothing but blanks at the beginning of a text, and what follows them."""
    blank = text[: len(text) - len(text.lstrip())]
    ends = [match.end() for match in _LINE_END.finditer(blank)]
    return len(ends), text[ends[-1] :] if ends else text


def _rows(sample: str, delimiter: str, *, cut: bool) -> list[list[str]]:
    """Return the sample's records; the last one, which is truncated where the sample is cut, is left out."""
    rows = []
    try:
        for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return rows[:-1] if cut and 2 < len(rows) <= _SAMPLE_ROWS else rows


def _score(rows: list[list[str]]) -> tuple[float, int]:
    """Return the share of rows as wide as the header, then the width; one column is the last resort."""
    if not rows:
        return (0.0, 0)
    width = len(rows[0])
    return (sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0, width)


@dataclass(frozen=True, slots=True)
class _OddRow:
    """A row of another width than the header."""

    place: int
    width: int  # 0: it holds nothing
    values: list[str | None]  # as many as the header has


class _OddRows:
    """Rows of another width than the header, which pyarrow leaves out: they are features that cannot be located."""

    def __init__(self, dialect: Dialect) -> None:
        self._width, self._delimiter = len(dialect.header), dialect.delimiter
        self._before = 1 + dialect.skipped
        self._waiting: deque[_OddRow] = deque()  # in their order

    def take(self, row: Any) -> str:
        """Answer pyarrow's question what to do with a row."""
        values: list[str | None] = [
            value or None for value in next(csv.reader(io.StringIO(row.text), delimiter=self._delimiter), [])
        ]
        values = [*values[: self._width], *[None] * (self._width - len(values))]
        width = row.actual_columns if row.text.strip(_NOTHING) else 0
        self._waiting.append(_OddRow(row.number - self._before, width, values))
        return "skip"

    def pop(self, first: int, count: int, *, last: bool = False) -> tuple[np.ndarray[Any, Any], list[_OddRow]]:
        """Return the positions of `count` rows from `first` on, and the odd rows among them (at the end of the file
        also after them).
        """
        waiting = self._waiting
        places: list[int] = []
        taken: list[_OddRow] = []
        at = first
        while len(places) < count or (last and waiting):
            if waiting and waiting[0].place == at:
                taken.append(waiting.popleft())
            else:
                places.append(at)
            at += 1
        return np.array(places, dtype=np.int64), taken


class _Ended(io.RawIOBase):
    """The bytes of a file, and after them a row of ours. Where that row is not read as one, a quote is open."""

    def __init__(self, file: io.FileIO, end: bytes) -> None:
        self._file, self._end = file, io.BytesIO(end)

    def readable(self) -> bool:
        """Answer `io`."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read on, past the end of the file."""
        return self._file.readinto(buffer) or self._end.readinto(buffer)


def _read(path: Path, name: str, dialect: Dialect, place: Place, findings: Findings) -> Iterator[Batch]:
    """Yield batches of all columns but the geometry's, as text.

    Raises:
        pyarrow.ArrowInvalid: the text is damaged.
        GeoAssetsError: UNREADABLE, a quote is never closed.
    """
    import pyarrow as pa

    names = [f"c{i}" for i in range(len(dialect.header))]
    odd = _OddRows(dialect)
    mark = secrets.token_hex(16)
    first, closed = 1, False
    try:
        with _reader(path, dialect, names, odd, mark) as reader:
            for read_block in reader:
                block = read_block
                if len(block) and block.column(0)[-1].as_py() == mark:
                    block, closed = block.slice(0, len(block) - 1), True
                for start in range(0, len(block), BATCH_ROWS):
                    batch = block.slice(start, BATCH_ROWS)
                    places, taken = odd.pop(first, len(batch))
                    first += len(batch) + len(taken)
                    yield _batch(batch, places, taken, dialect, place, findings)
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error):
            raise
        raise _open_quote(path, name, dialect) from error
    if not closed:
        raise _open_quote(path, name, dialect)
    places, taken = odd.pop(first, 0, last=True)
    if taken:
        nothing = pa.record_batch([pa.nulls(0, pa.string())] * len(names), names=names)
        yield _batch(nothing, places[:0], taken, dialect, place, findings)


@contextmanager
def _reader(path: Path, dialect: Dialect, names: list[str], odd: _OddRows, mark: str) -> Iterator[Any]:
    """Open pyarrow's reader of a file after whose last row another follows, which holds the mark."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with path.open("rb", buffering=0) as file:
        head = file.read(2)
        file.seek(0)
        big = head == codecs.BOM_UTF16_BE and dialect.encoding == "utf-16"
        encoder = codecs.getincrementalencoder("utf-16-be" if big else dialect.encoding)()
        encoder.encode("\n")  # with a byte order mark, where there is one
        end = encoder.encode(f"\n{mark}{dialect.delimiter * (len(names) - 1)}\n")
        with arrow_csv.open_csv(
            io.BufferedReader(_Ended(file, end)),
            # the header is skipped as a record, not as a line: a quoted name may hold a line break
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=names,
                skip_rows=dialect.skipped,
                skip_rows_after_names=1,
                encoding=dialect.encoding,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=odd.take
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        ) as reader:
            yield reader


def _open_quote(path: Path, name: str, dialect: Dialect) -> GeoAssetsError:
    """Return the error for the row that does not end: that of a quote which is never closed, or of one so long that
    nobody can have meant it.
    """
    line = end = 1
    with path.open(encoding=dialect.encoding, errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter=dialect.delimiter)
        try:
            for _ in rows:
                line, end = end, rows.line_num + 1
        except csv.Error:  # its field is too large
            line = end
    return GeoAssetsError(
        "UNREADABLE",
        f"{name} has a row that begins in line {line:,} and does not end: a quote in it is never closed, so that all"
        " that follows is one text",
        remedy='close the quote in that row; one that is text is written twice, in a field in quotes: "5"" pipe"',
    )


def _batch(
    batch: pa.RecordBatch,
    places: np.ndarray[Any, Any],
    taken: list[_OddRow],
    dialect: Dialect,
    place: Place,
    findings: Findings,
) -> Batch:
    """Return the rows that are not empty, the odd ones at the end with what is wrong with them. Whose their values are
    is not known: they are of no column.
    """
    import pyarrow as pa

    present, odd = holds_something(batch.columns, len(batch)), [row for row in taken if row.width]
    findings.add(None, EMPTY_ROWS, (), int(len(present) - present.sum()) + len(taken) - len(odd))
    if not present.all():
        batch, places = batch.filter(pa.array(present)), places[present]
    wkb, faults = place(batch)
    attributes = dialect.attributes
    columns = [batch.column(i) for i in attributes]
    fids = pa.array(places, pa.int64())
    texts = {}
    if odd:
        rows = range(len(batch), len(batch) + len(odd))
        width = len(dialect.header)
        faults |= {
            i: f"a row of {row.width} fields, where the header has {width}" for i, row in zip(rows, odd, strict=True)
        }
        columns = [pa.concat_arrays([column, pa.nulls(len(odd), pa.string())]) for column in columns]
        wkb = pa.concat_arrays([wkb, pa.nulls(len(odd), pa.binary())])
        fids = pa.concat_arrays([fids, pa.array([row.place for row in odd], pa.int64())])
        texts = {i: [row.values[j] for j in attributes] for i, row in zip(rows, odd, strict=True)}
    return Batch(list(columns), wkb, faults, fids, texts=texts)
