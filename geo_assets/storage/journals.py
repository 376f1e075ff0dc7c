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
_LOG, _ROLLBACK = "-wal", "-journal"

#: How a rollback journal begins that is to be played back; https://www.sqlite.org/fileformat2.html#the_rollback_journal
_IN_USE = bytes.fromhex("d9d505f920a163d7")

#: Endings of SQLite files: of vectors, of tiles, of both.
_SQLITE = (".gpkg", ".sqlite", ".sqlite3", ".db", ".mbtiles")

#: How the name of a write-ahead log ends, and that of any journal.
_LOGS = tuple(f"{ending}{_LOG}" for ending in _SQLITE)
_NAMES = (*_LOGS, *(f"{ending}{_ROLLBACK}" for ending in _SQLITE))


def file_of_journal(path: str) -> str | None:
    """Return the path of the SQLite file whose journal this is, by its name; None for other files."""
    if not path.lower().endswith(_NAMES):
        return None
    return path[: path.rindex("-")]


def unwritten(files: Iterable[tuple[str, int]], name: str) -> GeoAssetsError | None:
    """Return the refusal of a SQLite file, UNREADABLE, if one of these files is a write-ahead log that holds something.
    Whether a rollback journal does is told by its bytes alone: see `refuse_unwritten`.

    Args:
        files: the paths of what belongs to it, and their bytes.
        name: of the file, for messages.
    """
    for path, size in files:
        if size and path.lower().endswith(_LOGS):
            return _refusal(path, name)
    return None


def refuse_unwritten(file: Path, name: str) -> None:
    """Refuse a SQLite file beside which a journal lies that holds something: an empty one is harmless, and so is a
    rollback journal that a program keeps without its header (`journal_mode=PERSIST`).

    Raises:
        GeoAssetsError: UNREADABLE.
    """
    if not file.name.lower().endswith(_SQLITE):
        return
    if _size(f"{file}{_LOG}"):
        raise _refusal(f"{file.name}{_LOG}", name)
    if _size(f"{file}{_ROLLBACK}"):
        with Path(f"{file}{_ROLLBACK}").open("rb") as journal:
            if journal.read(len(_IN_USE)) == _IN_USE:
                raise _refusal(f"{file.name}{_ROLLBACK}", name)


def _refusal(journal: str, name: str) -> GeoAssetsError:
    return GeoAssetsError(
        "UNREADABLE",
        f"{name} is being written to: {journal.rpartition('/')[2]} holds changes",
        remedy="close the program that has it open",
    )


def _size(path: str) -> int:
    """Return the bytes of a file; 0 where there is none, or none can be: its name would be too long."""
    return os.path.getsize(path) if os.path.isfile(path) else 0  # noqa: PTH113, PTH202 - pathlib raises for long names
