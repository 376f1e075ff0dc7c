"""Checks of a file before a library opens it: whether it is complete, and whether it refers to other files.

Here: one check per format, by the file's bytes and names. Not here: its format (`formats.py`), its values
(`sqlite_values.py`, `dbf.py`).
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from geo_assets.archives import check
from geo_assets.errors import GeoAssetsError
from geo_assets.once import remembered_of_file
from geo_assets.text import how_many
from geo_assets.vector.reader.flatgeobuf import stated_of_more
from geo_assets.vector.reader.formats import PARQUET, Format, head_of
from geo_assets.vector.reader.sqlite_values import read_only

SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg")  # index and attributes are required; GDAL can do without the rest
_REQUIRED_PARTS = (".shx", ".dbf")
MAPINFO_PARTS = (".dat", ".map", ".id", ".ind", ".dbf", ".mid")

#: Refused MapInfo tables: those that open others, and pictures.
_MAPINFO_REFERENCE = re.compile(rb"create\s+view|open\s+table|IsSeamless|type\s+(?!native|dbf)\"?\w", re.IGNORECASE)

#: Marks a MIF with columns.
_MIF_COLUMNS = re.compile(rb"^\s*columns\s+[1-9]", re.IGNORECASE | re.MULTILINE)

#: Modules of virtual tables that read only the file itself; others may open files and are refused.
_HARMLESS_MODULES = frozenset(
    {
        "rtree",
        "rtree_i32",
        "virtualspatialindex",
        "virtualelementary",
        "virtualknn",
        "virtualknn2",
        "fts3",
        "fts4",
        "fts5",
    }
)


def _check_sqlite(path: Path, name: str) -> dict[str, str]:
    """Refuse a truncated file; return the layers that are the author's SQL, which are left out. Triggers do not fire on
    reading.
    """
    with path.open("rb") as file:
        header = file.read(100)
    page_size = int.from_bytes(header[16:18], "big")
    declared = int.from_bytes(header[28:32], "big") * (65_536 if page_size == 1 else page_size)
    if len(header) < 100 or path.stat().st_size < declared:
        raise GeoAssetsError("UNREADABLE", f"{name} is cut off: it has {path.stat().st_size:,} of {declared:,} bytes")
    try:
        modules, foreign = _foreign_code(path)
    except sqlite3.Error as error:
        raise GeoAssetsError("UNREADABLE", f"{name} is not readable as SQLite: {error}") from error
    except UnicodeDecodeError as error:  # SQLite's message contains the damaged text
        raise GeoAssetsError("UNREADABLE", f"{name} is not readable as SQLite: its schema is damaged") from error
    if modules:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} has virtual tables of the module {modules[0][:63]!r}, which may open other files",
        )
    return foreign


@remembered_of_file  # it is asked for with each layer, and SQLite parses the schema of all
def _foreign_code(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return modules that may open other files; and everything that is not a plain table, with what it is."""
    connection = read_only(path)
    try:
        objects = connection.execute(
            "select type, name, coalesce(sql, '') from sqlite_master where type = 'view' or (type = 'table' and sql"
            " like 'create virtual%')"
        ).fetchall()
    finally:
        connection.close()
    using = {name: re.search(r"\busing\s+[\"'`\[]?(\w+)", statement, re.IGNORECASE) for _, name, statement in objects}
    modules = [
        match[1].lower() if match else name
        for (kind, name, _), match in zip(objects, using.values(), strict=True)
        if kind == "table"
    ]
    foreign = {name: "a view" if kind == "view" else "a virtual table" for kind, name, _ in objects}
    return [module for module in modules if module not in _HARMLESS_MODULES], foreign


def _check_mapinfo(path: Path, name: str) -> dict[str, str]:
    parts = parts_of(path, MAPINFO_PARTS)
    if path.suffix.lower() == ".tab":
        if match := _MAPINFO_REFERENCE.search(head_of(path)):
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED",
                f"{name} is a table of other tables or of a picture ({match[0].decode('ascii', 'replace')[:40]!r})",
            )
        if not {".dat", ".dbf"} & parts.keys():
            raise GeoAssetsError(
                "INCOMPLETE_SHAPEFILE",
                f"{name} comes without its .dat",
                remedy="upload the .tab, .dat, .map and .id parts together",
            )
    elif ".mid" not in parts and _MIF_COLUMNS.search(head_of(path)):
        raise GeoAssetsError(
            "INCOMPLETE_SHAPEFILE",
            f"{name} comes without its .mid, which holds its columns",
            remedy="upload the .mif and .mid parts together",
        )
    return {}


def _check_spreadsheet(path: Path, name: str) -> dict[str, str]:
    check(path, max_bytes=_MOST_SPREADSHEET_BYTES, name=name)
    return {}


#: XML that a spreadsheet may unpack to: a million cells are some 50 MB.
_MOST_SPREADSHEET_BYTES = 1024**3


def _check_shapefile(path: Path, name: str) -> dict[str, str]:
    found = parts_of(path, SHAPEFILE_PARTS)
    missing = [part for part in _REQUIRED_PARTS if part not in found]
    if missing:
        raise GeoAssetsError("INCOMPLETE_SHAPEFILE", f"{name} comes without its {' and '.join(missing)}")
    with path.open("rb") as file:
        declared = int.from_bytes(file.read(28)[24:28], "big") * 2  # in 16-bit words
    if path.stat().st_size < declared:
        raise GeoAssetsError("UNREADABLE", f"{name} is cut off: it has {path.stat().st_size:,} of {declared:,} bytes")
    return {}


def _check_parquet(path: Path, name: str) -> dict[str, str]:
    if path.is_dir():
        return {}
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        if file.read() != PARQUET:
            raise GeoAssetsError("UNREADABLE", f"{name} is cut off: its footer is missing")
    return {}


def _check_flatgeobuf(path: Path, name: str) -> dict[str, str]:
    if (count := stated_of_more(path)) is not None:
        raise GeoAssetsError(
            "UNREADABLE", f"{name} has more features than its header says, which is {how_many(count, 'feature')}"
        )
    return {}


_CHECKS = {
    Format.FLATGEOBUF: _check_flatgeobuf,
    Format.GPKG: _check_sqlite,
    Format.SQLITE: _check_sqlite,
    Format.SHAPEFILE: _check_shapefile,
    Format.PARQUET: _check_parquet,
    Format.MAPINFO: _check_mapinfo,
    Format.SPREADSHEET: _check_spreadsheet,
}


def check_file(path: Path, kind: Format, name: str) -> dict[str, str]:
    """Check one file by the rules of its format; returns the layers that are not to be read, and why.

    Raises:
        GeoAssetsError: UNREADABLE, it is truncated; VECTOR_UNSUPPORTED, it refers to other files; INCOMPLETE_SHAPEFILE;
            or what `archives.check` raises.
    """
    checker = _CHECKS.get(kind)
    return checker(path, name) if checker is not None else {}


def parts_of(path: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Return the other parts of a dataset by their lower-case ending; their names may differ in case."""
    siblings = [p for p in path.parent.iterdir() if p.stem.lower() == path.stem.lower() and p.suffix.lower() in endings]
    exact = [p for p in siblings if p.stem == path.stem]
    return {p.suffix.lower(): p for p in (*siblings, *exact)}
