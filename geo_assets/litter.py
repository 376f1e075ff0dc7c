"""Litter: what operating systems and programs leave behind, and people do not mean to deliver.

Here: the one rule for it, by names alone. It holds alike in containers, archives and folders. Not here: what else files
are by their names (`storage/sources.py`).
"""

from __future__ import annotations

#: Whole names of files.
_FILES = frozenset(
    {".ds_store", "thumbs.db", "desktop.ini", ".directory", ".localized", ".gitkeep", ".gitignore", ".gitattributes"}
)

#: Beginnings of names of files that a program made for itself: macOS's forks, locks of Office programs.
_BEGINNINGS = ("._", "~$", ".~lock.")

#: Ends of names: SQLite's index of a journal, which it makes anew.
_ENDS = (".gpkg-shm", ".sqlite-shm", ".sqlite3-shm", ".db-shm", ".mbtiles-shm")

#: Folders that hold nothing else: of macOS, of Windows, of git. Any other hidden folder may be a person's.
_FOLDERS = frozenset(
    {
        "__macosx", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd",
        "$recycle.bin", "system volume information", ".git",
    }
)  # fmt: skip


def is_litter(path: str) -> bool:
    """Whether a file, by its path with `/`, was left by an operating system or a program, not by a person."""
    *folders, name = path.lower().split("/")
    own = name in _FILES or name.startswith(_BEGINNINGS) or name.endswith(_ENDS)
    return own or not _FOLDERS.isdisjoint(folders)
