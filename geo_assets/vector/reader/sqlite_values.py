"""Values in SQLite tables that do not have their column's type: SQLite stores any value, and GDAL converts it.

Here: for each batch from GDAL, the rows with an invalid number, date or boolean, found by SQLite itself; these values
become NULL, or their plain meaning, and are counted; and geometries that GDAL reads as missing. Not here: times, which
are read as text (`ogr.py`).
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import BoundingBox
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.stated import Outline, Scan
from geo_assets.vector.reader.text_values import parse_moment
from geo_assets.vector.reader.wkb import Headers

if TYPE_CHECKING:
    import pyarrow as pa

NO_INTEGER = "not an integer that the column can hold, now NULL"
NO_NUMBER = "not a number, now NULL"
NO_BOOLEAN = "neither 0 nor 1, now NULL"
NO_GEOMETRY = "bytes that are no geometry"
NO_DATE = "not a date, now NULL"
NO_TIME = "not a time, now NULL"
TIME_DROPPED = "with a time of day, which a date does not have"

_DATE = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})")

#: Dates that exist in every month of every year: most dates, and checked in a third of the time that SQLite's date
#: functions take.
_PLAIN_DATES = ("[12][0-9][0-9][0-9]-0[1-9]-[012][1-8]", "[12][0-9][0-9][0-9]-1[012]-[012][1-8]")

#: Conditions on the column `{0}` that hold for no valid value of a type, in SQL, without functions where possible: this
#: reads the table a second time, and typeof() alone costs as much as the reading. Shifts and casts turn anything into
#: an integer, and only an integer into itself; text and blobs sort after every number; NULL is never odd.
_ODD = {
    "bool": "{0} is not ({0} & 1)",
    "int16": "{0} is not ({0} << 48 >> 48)",
    "int32": "{0} is not ({0} << 32 >> 32)",
    "int64": "{0} is not cast({0} as integer)",
    "float": "{0} not between -3.4028235e38 and 3.4028235e38",  # beyond it GDAL makes it infinite
    "double": "{0} >= ''",
    "date32[day]": (
        f"case when {' or '.join(f'{{0}} glob {p!r}' for p in _PLAIN_DATES)} then 0 else date(julianday({{0}})) is not"
        " {0} end"
    ),
}

_MOMENT, _TIME = "timestamp[us, tz=UTC]", "time32[ms]"
_PLAIN_TIMES = ("[01][0-9]:[0-5][0-9]:[0-5][0-9]", "2[0-3]:[0-5][0-9]:[0-5][0-9]")

#: The same of times, for a database that is no GeoPackage: GDAL reads its text to the millisecond, and what it cannot
#: read is NULL.
_ODD_TIMES = {
    _MOMENT: "not ({})".format(
        " or ".join(f"{{0}} glob '{day}[ T]{time}'" for day in _PLAIN_DATES for time in _PLAIN_TIMES)
    ),
    _TIME: "not ({})".format(" or ".join(f"{{0}} glob '{time}'" for time in _PLAIN_TIMES)),
}

_RANGES = {"int16": 2**15, "int32": 2**31, "int64": 2**63}


#: In a GeoPackage's geometry: bytes before the WKB by the code of its envelope, and flags that mark it as not plain
#: (empty, extended).
_ENVELOPES = {0: 8, 1: 40, 2: 56, 3: 56, 4: 72}
_NOT_PLAIN = 0b110000

#: Bytes of a WKB: byte order and type code; then, except for a point, the number of vertices, rings or members.
_WKB_HEADER, _WKB_COUNT = 5, 4
_POINT = 1

#: The greatest number of single precision.
_MOST = 3.4028234663852886e38

#: Columns that are named of those that cannot be read.
_SHOWN = 20

#: What SQLite calls the number of a row of a table without a key of its own.
_ROWID = "rowid"

#: Declared kinds of geometry of which the first says nothing about the others.
_ANY_KIND = frozenset({"GEOMETRY", "GEOMETRYCOLLECTION"})


@dataclass
class SQLiteCheck:
    """The check of one table."""

    connection: sqlite3.Connection
    table: str
    key: str | None  # None: GDAL does not know the numbers of its rows, and invents some
    columns: dict[int, tuple[str, str]] = field(default_factory=dict)  # by position: name and Arrow type
    notes: tuple[str, ...] = ()
    hidden: frozenset[int] = frozenset()
    looked_at: set[tuple[int, ...]] = field(default_factory=set)  # columns, where rows have no number

    @classmethod
    def of(cls, path: Path, table: str, key: str) -> SQLiteCheck:
        """Make the check, of no column yet. Its connection is the caller's to close.

        Args:
            path: of the database.
            table: its layer.
            key: how GDAL calls the numbers of its rows.

        Raises:
            GeoAssetsError: VECTOR_UNSUPPORTED.
        """
        connection = read_only(path)
        return cls(connection, table, key_of(connection, table, key))

    def watch(self, names: list[str], types: list[pa.DataType], *, times: bool = False) -> None:
        """Check the columns that could hold an invalid value.

        Args:
            names: of all columns; the first is the key, if there is one.
            types: as GDAL delivers them.
            times: whether times are checked.
        """
        found = _columns_of(self.connection, self.table)
        checked = {*_ODD, *(_ODD_TIMES if times else ())}
        self.columns = {
            i: (name, str(kind))
            for i, (name, kind) in enumerate(zip(names, types, strict=True))
            if (i or self.key is None) and str(kind) in checked and name.lower() in found
        }

    def unread(self, names: Collection[str]) -> str | None:
        """Name the columns of a GeoPackage that are not among those that GDAL reads: it knows the types of the standard
        alone, not those of other databases (varchar, decimal, timestamp), and one geometry.
        """
        geometry = "select lower(column_name) from gpkg_geometry_columns where lower(table_name) = lower(?)"
        known = {name.lower() for name in (*names, self.key or "")}
        with suppress(sqlite3.OperationalError):  # there is no such table where no layer has a geometry
            known.update(name for (name,) in self.connection.execute(geometry, (self.table,)))
        there = self.connection.execute(f"pragma table_xinfo({quoted(self.table)})").fetchall()
        lost = [f"{name!r} ({kind})" for _, name, kind, *_ in there if name.lower() not in known]
        if not lost:
            return None
        shown = ", ".join(lost[:_SHOWN]) + (f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
        return f"columns whose type is none of a GeoPackage's are left out: {shown}; declare them TEXT, INTEGER or REAL"

    def correct(self, columns: list[pa.Array | None], fids: pa.Array, findings: Findings) -> None:
        """Check the rows of a batch in the file."""
        present = [i for i in self.columns if columns[i] is not None]
        if not present or not len(fids):
            return
        if self.key is None:
            self._refuse_odd(present)
            return
        numbers = fids.to_numpy(zero_copy_only=False)
        odd = self._odd(present)
        names = ", ".join(quoted(self.columns[i][0]) for i in present)
        key = quoted(self.key)
        table = quoted(self.table)
        query = f"select {key}, {names} from {table} where {key} between ? and ? and ({odd})"  # noqa: S608
        found = self.connection.execute(query, (int(numbers.min()), int(numbers.max()))).fetchall()
        if found:
            self._put_right(present, found, columns, numbers, findings)

    def _refuse_odd(self, positions: list[int]) -> None:
        """Refuse a table of which GDAL changes a value in a row that cannot be found."""
        if tuple(positions) in self.looked_at:
            return
        self.looked_at.add(tuple(positions))
        for position in positions:
            column = quoted(self.columns[position][0])
            query = f"select {column} from {quoted(self.table)} where {self._odd([position])} limit 1"  # noqa: S608
            if found := self.connection.execute(query).fetchone():
                what = f"{self.columns[position][0][:63]!r} has {str(found[0])[:40]!r}, which its type cannot hold"
                raise without_numbers(self.table, what)

    def _odd(self, positions: Collection[int]) -> str:
        odd = ((_ODD | _ODD_TIMES)[self.columns[i][1]].format(quoted(self.columns[i][0])) for i in positions)
        return " or ".join(odd) or "false"

    @cached_property
    def rows(self) -> int | None:
        """The number of rows; None where SQLite knows the layer by another name than GDAL."""
        try:
            found = self.connection.execute(f"select count(*) from {quoted(self.table)}").fetchone()  # noqa: S608
        except sqlite3.OperationalError:
            return None
        return int(found[0])

    def last(self) -> int | None:
        """The greatest id of a feature; None where it is no number. Of a table with a damaged page GDAL reads what is
        before it, and says nothing.
        """
        if self.key is None:
            return None
        try:
            query = f"select max({quoted(self.key)}) from {quoted(self.table)}"  # noqa: S608 - quoted names
            (found,) = self.connection.execute(query).fetchone()
        except sqlite3.OperationalError:
            return None
        return found if type(found) is int else None

    def may_be_repeated(self) -> bool:
        """Whether GDAL would read rows twice: it takes ids for complete where the number of features that the file
        states is the greatest id (GDAL 3.12.4), and some may be missing.
        """
        stated = self._stated()
        return stated is not None and stated[0] == self.last() and self.rows != stated[0]

    def _stated(self) -> tuple[Any, Any] | None:
        """The number of features and the kind of geometry that the file states; None where it states none."""
        query = (
            "select feature_count, upper(geometry_type_name) from gpkg_ogr_contents join gpkg_geometry_columns using"
            " (table_name) where table_name = ?"
        )
        try:
            found: tuple[Any, Any] | None = self.connection.execute(query, (self.table,)).fetchone()
        except sqlite3.OperationalError:
            return None
        return found

    def outline(self, geometry: str) -> Outline | None:
        """What the file states of the table; None where it states too little: the number of features, which GDAL
        writes and keeps by triggers (its table gpkg_ogr_contents), or one kind of geometry.
        """
        import pyarrow as pa

        stated = self._stated()
        if stated is None or type(stated[0]) is not int or stated[0] < 1 or stated[1] in _ANY_KIND:
            return None
        if self.key in {None, _ROWID}:  # GDAL gives no ids, by which to tell that nothing is missing
            return None
        found = self._first(geometry)
        return None if found is None else Outline(Headers.of(pa.array([found[1] + bytes(16)])), stated[0])

    def _first(self, geometry: str) -> tuple[bytes, bytes] | None:
        """How the first geometry of a table begins: its own header, and that of its WKB; None where it is not plain."""
        table, column = quoted(self.table), quoted(geometry)
        kind = self.connection.execute("select type from sqlite_master where name = ?", (self.table,)).fetchone()
        if kind != ("table",):
            return None
        query = f"select {column} from {table} where {column} is not null limit 1"  # noqa: S608 - quoted names
        first = self.connection.execute(query).fetchone()
        start = _start_of_wkb(first[0]) if first else None
        return None if start is None else (first[0][:8], first[0][start : start + _WKB_HEADER])

    def scan(self, geometry: str, bounds: BoundingBox) -> Scan | None:
        """Check values and geometry headers in one scan; None where the headers differ, or are not plain.

        Args:
            geometry: the name of its column.
            bounds: the extent that the file states.
        """
        import pyarrow as pa

        found = self._first(geometry)
        if found is None:
            return None
        table, column = quoted(self.table), quoted(geometry)
        head, wkb = found
        start = _ENVELOPES[head[3] >> 1 & 7]
        least = (
            bytes(_WKB_COUNT) if int.from_bytes(wkb[1:], "little") % 1000 == _POINT else b"\0\0\0\1"
        )  # what follows is a coordinate, or a count that is not 0
        alike = (
            f"{column} between ? and ? and substr({column}, {start + 1}, {_WKB_HEADER + _WKB_COUNT}) between ? and ?"
        )
        sums = f"count({column}), sum({column} is null), sum(not ({alike})), sum({self._odd(self.columns)})"
        query = f"select {sums} from {table}"  # noqa: S608
        counted = self.connection.execute(
            query, (head, head + b"\xff" * 5, wkb + least, wkb + b"\xff" * _WKB_COUNT)
        ).fetchone()
        geometries, nulls, others, odd = (int(count or 0) for count in counted)
        return None if others else Scan(Headers.of(pa.array([wkb + bytes(16)])), geometries, nulls, odd, bounds)

    def _put_right(
        self, present: list[int], found: list[Any], columns: list[pa.Array | None], fids: np.ndarray, findings: Findings
    ) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        places = {int(fid): place for place, fid in enumerate(fids.tolist())}
        rows = sorted((places[row[0]], row[1:]) for row in found if row[0] in places)
        for at, position in enumerate(present):
            name, kind = self.columns[position]
            mask, values = np.zeros(len(fids), dtype=bool), []
            for place, row in rows:
                value, fault = _value(row[at], kind)
                if fault is not None:
                    findings.add(name, fault, (row[at],))
                if fault is not None or value != row[at]:
                    mask[place] = True
                    values.append(value)
            column = columns[position]
            if kind == _TIME and column is not None:
                column = column.cast(pa.time64("us"))
            if values and column is not None:
                columns[position] = pc.replace_with_mask(column, pa.array(mask), pa.array(values, column.type))


def _start_of_wkb(blob: Any) -> int | None:
    """Return where in a GeoPackage's geometry its WKB begins; None where it is not a geometry, or not a plain one.
    Source: GeoPackage 1.3, 2.1.3.
    """
    if not isinstance(blob, bytes) or len(blob) < 8 or blob[:3] != b"GP\0" or blob[3] & _NOT_PLAIN:
        return None
    start = _ENVELOPES.get(blob[3] >> 1 & 7)
    return start if start is not None and len(blob) >= start + _WKB_HEADER else None


def unread_geometry(path: Path, table: str, key: str, column: str) -> Callable[[list[int]], dict[int, str]]:
    """Return a function that, given features for which GDAL returned no geometry, says what is wrong with those that
    have one.
    """
    missing: set[int] = set()

    def faults(fids: list[int]) -> dict[int, str]:
        with closing(read_only(path)) as connection:
            if column.lower() not in _columns_of(connection, table):
                return {}
            own = key_of(connection, table, key)
            if own is None:
                missing.update(fids)
                query = f"select count(*) from {quoted(table)} where {quoted(column)} is null"  # noqa: S608
                if len(missing) > connection.execute(query).fetchone()[0]:
                    raise without_numbers(table, f"one of its geometries is {NO_GEOMETRY}")
                return {}
            there = f"{quoted(own)} between ? and ? and {quoted(column)} is not null"
            query = f"select {quoted(own)} from {quoted(table)} where {there}"  # noqa: S608 - quoted names
            present = {row[0] for row in connection.execute(query, (min(fids), max(fids)))}
        return dict.fromkeys(present.intersection(fids), NO_GEOMETRY)

    return faults


def without_numbers(table: str, what: str) -> GeoAssetsError:
    """The refusal of a table of which a faulty row cannot be found."""
    return GeoAssetsError(
        "VECTOR_UNSUPPORTED",
        f"the table {table[:63]!r} has no key of integers, so that a faulty row cannot be found in it, and {what}",
        remedy="correct the value, or copy the rows to a table with an INTEGER PRIMARY KEY",
    )


def _value(value: Any, kind: str) -> tuple[Any, str | None]:
    """Return the value for its column, and what is wrong with it."""
    if value is None:
        return None, None
    if kind == "bool":
        return (bool(value), None) if type(value) is int and value in {0, 1} else (None, NO_BOOLEAN)
    if kind in _RANGES:
        whole = int(value) if isinstance(value, int | float) and value == value // 1 else None
        return (whole, None) if whole is not None and -_RANGES[kind] <= whole < _RANGES[kind] else (None, NO_INTEGER)
    if kind in {"float", "double"}:
        held = isinstance(value, int | float) and (kind == "double" or not _MOST < abs(value) < math.inf)
        return (float(value), None) if held else (None, NO_NUMBER)
    return {_MOMENT: _moment, _TIME: _time}.get(kind, _date)(value)


def _moment(value: Any) -> tuple[datetime | None, str | None]:
    """Return an instant; without an offset it is in UTC, as GeoPackage's standard says."""
    found = parse_moment(value) if isinstance(value, str) else None
    if found is None:
        day, fault = _date(value)
        found = None if day is None or fault is not None else datetime(day.year, day.month, day.day, tzinfo=UTC)
    if found is None:
        return None, NO_TIME
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC), None


def _time(value: Any) -> tuple[time | None, str | None]:
    try:
        found = time.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        found = None
    return (None, NO_TIME) if found is None or found.tzinfo is not None else (found, None)


def _date(value: Any) -> tuple[date | None, str | None]:
    if not isinstance(value, str):
        return None, NO_DATE
    if match := _DATE.fullmatch(value.strip()):
        try:
            return date(*map(int, match.groups())), None
        except ValueError:
            return None, NO_DATE
    moment = parse_moment(value)
    if moment is None:
        return None, NO_DATE
    return moment.date(), (
        TIME_DROPPED
        if (moment.hour, moment.minute, moment.second, moment.microsecond)
        != (
            0,
            0,
            0,
            0,
        )
        else None
    )


def read_only(path: Path) -> sqlite3.Connection:
    """Open a connection that changes nothing, loads no extension and calls no function of the file's author; text need
    not be UTF-8.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    connection.execute("pragma trusted_schema = off")
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def _columns_of(connection: sqlite3.Connection, table: str) -> dict[str, int]:
    """Return the names of the columns in lower case, also of generated ones, with the place of each in the primary
    key, from 1; 0: not in it.
    """
    return {row[1].lower(): row[5] for row in connection.execute(f"pragma table_xinfo({quoted(table)})")}


def key_of(connection: sqlite3.Connection, table: str, key: str) -> str | None:
    """Return the column by whose numbers GDAL identifies rows, which it names, else SQLite's own; None where it has no
    numbers: of a table WITHOUT ROWID, and of one of a GeoPackage whose key is not one column of integers.

    Raises:
        GeoAssetsError: VECTOR_UNSUPPORTED, an attribute has the name of the number.
    """
    found = _columns_of(connection, table)
    if key.lower() == _ROWID and found.get(_ROWID) == 0:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"the table {table[:63]!r} has a column {_ROWID!r} that is not its key and hides the numbers of its rows",
            remedy="rename the column, and upload the file again",
        )
    return key if key.lower() == _ROWID or found.get(key.lower()) else None


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
