"""The feed of changes: what was created, updated and deleted in the catalogue, in the order of the commits.

Here: reading `geo.changes` from a cursor on, and deleting what is old. Not here: who writes it (the triggers of
`sql/0021_changes.sql`, in the transaction of the change itself).

A mirror that applies every change in order, and for a create or an update reads the item or collection as it is then,
equals the catalogue as soon as it has reached the newest change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from psycopg import IsolationLevel
from psycopg_pool import ConnectionPool
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.errors import GeoAssetsError

#: In place of a cursor: no change so far, only those from now on.
NOW = "now"

#: The feed and the number of the last change that was seen; the numbers of another feed mean nothing here.
_CURSOR = re.compile(r"([0-9a-f]{8})-(\d{1,18})")


class Change(BaseModel):
    """One change of an item or of a collection."""

    model_config = ConfigDict(frozen=True)
    op: Literal["create", "update", "delete"]
    type: Literal["item", "collection"]
    collection: str
    id: str = Field(description="of the item or the collection; with a collection all its items are deleted")
    at: datetime


@dataclass(frozen=True, slots=True)
class _Feed:
    feed: str
    gone: int  # the last number that was deleted
    newest: int

    def start(self, since: str | None) -> int:
        """The number after which to read.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, CURSOR_TOO_OLD.
        """
        if since == NOW:
            return self.newest
        cursor = _CURSOR.fullmatch(since) if since else None
        if since and cursor is None:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"since: {since[:64]!r} is no cursor",
                remedy=f"send the `next` of an answer, `{NOW}`, or nothing to begin with the first change",
            )
        if cursor and cursor[1] != self.feed:
            raise GeoAssetsError("CURSOR_TOO_OLD", f"since: {since} is of a catalogue that was made anew since")
        number = int(cursor[2]) if cursor else 0
        if number > self.newest:
            raise GeoAssetsError("CURSOR_TOO_OLD", f"since: {since} is of a catalogue that was restored since")
        if number < self.gone:
            told = f"since: the changes after {since}" if since else "the first changes"
            raise GeoAssetsError("CURSOR_TOO_OLD", f"{told} are not kept any more")
        return number


class Changes:
    """Statements on `geo.changes`."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def since(self, cursor: str | None, *, limit: int) -> tuple[list[Change], str]:
        """The changes after a cursor, in the order of their commits, and the cursor after the last of them.

        Args:
            cursor: as it was returned; `NOW` for none of those that there are; None for all.
            limit: most that are returned.

        Raises:
            GeoAssetsError: CURSOR_TOO_OLD; INVALID_PARAMETERS, it is no cursor.
        """
        with self._pool.connection() as conn:
            conn.isolation_level = IsolationLevel.REPEATABLE_READ  # nothing is deleted between the two statements
            try:
                (state,) = conn.execute(
                    """select feed, gone, coalesce((select max(number) from geo.changes), gone) as newest
                         from geo.change_feed"""
                ).fetchall()
                feed = _Feed(**state)  # type: ignore[arg-type]
                number = feed.start(cursor)
                rows = conn.execute(
                    """select number, op::text, case when item is null then 'collection' else 'item' end as type,
                              collection, coalesce(item, collection) as id, at
                         from geo.changes where number > %s order by number limit %s""",
                    (number, limit),
                ).fetchall()
                conn.commit()
            finally:
                conn.rollback()
                conn.isolation_level = None
        last = rows[-1]["number"] if rows else number
        return [Change.model_validate(row) for row in rows], f"{feed.feed}-{last}"

    @retrying
    def forget(self, older_than: timedelta) -> int:
        """Delete the changes that are older, from the beginning; returns how many. A cursor among them is too old
        then.
        """
        with self._pool.connection() as conn:
            (row,) = conn.execute(
                """with old as (delete from geo.changes
                                 where number <= (select max(number) from geo.changes where at < now() - %s)
                             returning number),
                        noted as (update geo.change_feed set gone = (select max(number) from old)
                                   where exists (select from old))
                   select count(*) as count from old""",
                (older_than,),
            ).fetchall()
        return int(str(row["count"]))
