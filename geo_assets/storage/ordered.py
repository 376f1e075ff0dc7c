"""A listing in the order in which its files are grouped into sources, however long it is.

Here: sorting. Not here: listing (`containers.py`), grouping (`sources.py`), the listing of a job, which the database
keeps and orders (`ledger/inventory.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Self

from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, name_key


class OrderedMembers:
    """Files that come in any order and go in the order of `name_key`, then of their paths. A context manager.

    SQLite keeps and sorts them, in a file without a name where some MB of memory are not enough. Its order of texts is
    that of their code points, like PostgreSQL's `collate "C"`.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("")
        self._db.execute("pragma journal_mode = off")  # nothing is undone, and nothing is there tomorrow
        self._db.execute("create table members (folder, stem, path, size, etag, holds)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, members: Iterable[Member]) -> None:
        """Add some files."""
        self._db.executemany(
            "insert into members values (?, ?, ?, ?, ?, ?)",
            (
                (*name_key(m.path), m.path, m.size, m.etag, None if m.holds is None else ",".join(m.holds))
                for m in members
            ),
        )

    def __iter__(self) -> Iterator[Member]:
        rows = self._db.execute("select path, size, etag, holds from members order by folder, stem, path")
        for path, size, etag, holds in rows:
            kinds = None if holds is None else tuple(Kind(kind) for kind in holds.split(",") if kind)
            yield Member(path=path, size=size, etag=etag, holds=kinds)
