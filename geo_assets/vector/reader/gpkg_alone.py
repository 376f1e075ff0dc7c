"""A GeoPackage of many layers, of which GDAL and SQLite see one at a time.

Here: a copy of the file whose schema has one layer, and the change from one layer to the next, which touches no page of
a layer. Not here: reading one (`ogr.py`, `sqlite_values.py`).

Whoever opens a GeoPackage reads the schema of all layers, and GDAL (3.12.4) compares each name in it with each: 5 ms of
25 layers, 24 of 100, 240 of 400. A layer is opened some times before it is loaded.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypedDict

from geo_assets.once import remembered_of_file
from geo_assets.vector.reader.sqlite_values import read_only

#: Bytes that are copied in the time that it takes to open one of `n` layers some times, by n²: measured, see above.
_BYTES = 3500

#: Fewest layers for which it is worth looking, and most bytes that are ever copied.
_FEWEST, _MOST_BYTES = 20, 8 << 30

#: Tables of the standard with a row for each layer. GDAL has a layer for each row.
_LISTS = ("gpkg_contents", "gpkg_geometry_columns")

_WHOLE, _SCHEMA = "whole.gpkg", "schema.json"

_COLUMNS = "type, name, tbl_name, rootpage, sql"
_Row = tuple[str, str, str, int, str | None]


class _Schema(TypedDict):
    """Of each layer, by its name in lower case, and of all that is not of one."""

    layers: dict[str, list[_Row]]
    others: list[_Row]


def whole_of(path: Path) -> Path:
    """Return the file with all layers, beside that which has one of them."""
    whole = path.with_name(_WHOLE)
    return whole if whole.exists() else path


def is_alone(path: Path) -> bool:
    """Whether a GeoPackage has one layer at a time: that of which `show` was told."""
    return path.with_name(_SCHEMA).exists()


def set_apart(path: Path) -> None:
    """Put a copy that has one layer at a time in the place of a GeoPackage for which it is worth it; one that is not
    understood stays as it is. GDAL or SQLite will say what is wrong with it.
    """
    copy = path.with_name("copy.gpkg")
    try:
        schema = _schema_of(path)
        if schema is None:
            return
        shutil.copyfile(path, copy)
        with _changing(copy) as database:
            _write(database, schema["others"])
        with _changing(copy) as database:  # which does not know the triggers any more
            for each in _LISTS:
                database.execute(f"create table all_{each} as select * from {each}")  # noqa: S608 - names of ours
            schema["others"] = database.execute(f"select {_COLUMNS} from sqlite_master").fetchall()  # noqa: S608
    except (sqlite3.Error, UnicodeError, OSError):
        copy.unlink(missing_ok=True)
        return
    path.with_name(_SCHEMA).write_text(json.dumps(schema))
    path.rename(path.with_name(_WHOLE))
    copy.rename(path)


def show(path: Path, layer: str) -> None:
    """Have a GeoPackage that has one layer at a time have this one.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    schema = _kept(path.with_name(_SCHEMA))
    with _changing(path) as database:
        _write(database, [*schema["others"], *schema["layers"].get(layer.lower(), ())])
        for each in _LISTS:
            database.execute(f"delete from {each}")  # noqa: S608 - names of ours
            database.execute(
                f"insert into {each} select * from all_{each} where lower(table_name) = lower(?)",  # noqa: S608
                (layer,),
            )


@remembered_of_file
def _kept(path: Path) -> _Schema:
    found: _Schema = json.loads(path.read_text())
    return found


@contextmanager
def _changing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the copy for changes that nobody reads meanwhile. SQLite undoes those of a process that was killed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("pragma trusted_schema = off")
        database.execute("pragma journal_mode = delete")
        database.execute("pragma synchronous = off")
        database.execute("pragma writable_schema = on")
        database.execute("begin immediate")
        yield database
        database.execute("commit")


def _write(database: sqlite3.Connection, rows: list[_Row]) -> None:
    """Give a database this schema: pages that it does not name stay as they are."""
    database.execute("delete from sqlite_master")
    database.executemany(f"insert into sqlite_master ({_COLUMNS}) values (?, ?, ?, ?, ?)", rows)  # noqa: S608


def _schema_of(path: Path) -> _Schema | None:
    """Return the schema of a GeoPackage without its triggers; None where a copy is not worth it."""
    size = path.stat().st_size
    with closing(read_only(path)) as database:
        database.text_factory = str  # names in another encoding could not be written as they are
        if database.execute("pragma auto_vacuum").fetchone()[0]:
            return None  # SQLite would move pages, of which some are not in the schema
        names = {str(name).lower() for (name,) in database.execute("select table_name from gpkg_contents")}
        if len(names) < _FEWEST or size > min(_MOST_BYTES, _BYTES * len(names) ** 3):
            return None
        indexes = {
            f"rtree_{table}_{column}{end}".lower(): str(table).lower()
            for table, column in database.execute("select table_name, column_name from gpkg_geometry_columns")
            for end in ("", "_node", "_parent", "_rowid")
        }
        rows = database.execute(
            f"select {_COLUMNS} from sqlite_master where type <> 'trigger' order by rowid"  # noqa: S608
        ).fetchall()
    layers: dict[str, list[_Row]] = {name: [] for name in names}
    others: list[_Row] = []
    for row in rows:
        table = row[2].lower()
        layers.get(indexes.get(table, table), others).append(row)
    return {"layers": layers, "others": others}
