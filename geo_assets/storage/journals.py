"""Journals of SQLite files: changes that a program has not written into the file itself, so that it is of yesterday, or
half of today.

Here: which files are journals, of which file, and the one refusal. Not here: where they lie (`storage/sources.py`), the
index of a journal, which holds nothing (`litter.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from geo_assets.errors import GeoAssetsError

#: SQLite's write-ahead log and its rollback journal, by what they append to the name of their file.
_JOURNALS = ("-wal", "-journal")

#: Endings of SQLite files: of vectors, of tiles, of both.
_SQLITE = (".gpkg", ".sqlite", ".sqlite3", ".db", ".mbtiles")

#: Ends of a journal's name.
_NAMES = tuple(f"{ending}{journal}" for ending in _SQLITE for journal in _JOURNALS)


def file_of_journal(path: str) -> str | None:
    """Return the path of the SQLite file whose journal this is, by its name; None for other files."""
    if not path.lower().endswith(_NAMES):
        return None
    return path[: path.rindex("-")]


def unwritten(files: Iterable[tuple[str, int]], name: str) -> GeoAssetsError | None:
    """Return the refusal of a SQLite file, UNREADABLE, if one of these files is a journal that holds something.

    Args:
        files: the paths of what belongs to it, and their bytes.
        name: of the file, for messages.
    """
    for path, size in files:
        if size and file_of_journal(path) is not None:
            return GeoAssetsError(
                "UNREADABLE",
                f"{name} is being written to: {path.rpartition('/')[2]} holds changes",
                remedy="close the program that has it open",
            )
    return None


def refuse_unwritten(file: Path, name: str) -> None:
    """Refuse a SQLite file beside which a journal lies that holds something; an empty one is harmless.

    Raises:
        GeoAssetsError: UNREADABLE.
    """
    if not file.name.lower().endswith(_SQLITE):
        return
    error = unwritten([(f"{file.name}{ending}", _size(f"{file}{ending}")) for ending in _JOURNALS], name)
    if error is not None:
        raise error


def _size(path: str) -> int:
    """Return the bytes of a file; 0 where there is none, or none can be: its name would be too long."""
    return os.path.getsize(path) if os.path.isfile(path) else 0  # noqa: PTH113, PTH202 - pathlib raises for long names
