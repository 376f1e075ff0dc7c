"""Reading the items of pgstac as they were loaded.

Here: that, for the adapter of pgstac and for what takes whole collections along. Not here: collections, and whatever
changes something (`pgstac.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from geo_assets.database.connections import connect
from geo_assets.settings import Settings
from geo_assets.text import batched

#: Items that are read at a time.
_BATCH = 500


@contextmanager
def at_one_moment(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """A transaction in which all reading is as of one moment. Keep it short: whoever adds a partition waits for its
    end, and all others then wait for that.
    """
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read")
        conn.execute("set local search_path to pgstac, public")
        yield


@contextmanager
def at_any_moment(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection that nobody waits for: each statement reads what is there then."""
    with connect(settings, autocommit=True) as conn:
        conn.execute("set search_path to pgstac, public")
        yield conn


def items_of(
    conn: psycopg.Connection[Any], collection: str, loads: Callable[[str], Any] = json.loads
) -> Iterator[dict[str, Any]]:
    """Yield every item of a collection, by id; `search` drops nulls. What is deleted meanwhile is left out.

    Args:
        conn: a connection that finds pgstac's functions.
        collection: its id.
        loads: reads the JSON of an item.
    """
    query = """select id from items where collection = %s order by id collate "C" """
    ids = [row[0] for row in conn.execute(query, (collection,))]
    for batch in batched(ids, _BATCH):
        found = stored_items(conn, collection, batch, loads)
        yield from (found[identity] for identity in batch if identity in found)


def stored_items(
    conn: psycopg.Connection[Any], collection: str, ids: Sequence[str], loads: Callable[[str], Any] = json.loads
) -> dict[str, dict[str, Any]]:
    """Id -> item. pgstac keeps of an item what differs from its collection's base item, in the version of its load; its
    own function for putting it together takes a millisecond an item.
    """
    from pypgstac.hydration import hydrate

    rows = conn.execute(
        """select (content || jsonb_build_object('type', 'Feature', 'id', id, 'collection', collection,
                                                 'geometry', st_asgeojson(geometry, 20)::jsonb))::text
             from items where collection = %s and id = any(%s)""",
        (collection, list(ids)),
    ).fetchall()
    bases: dict[str | None, dict[str, Any]] = {}
    found = {}
    for (text,) in rows:
        item = loads(text)
        version = item.pop("pgstac:base_item", None)
        if version not in bases:
            row = conn.execute("select collection_base_item(%s, %s::int)", (collection, version)).fetchone()
            bases[version] = row[0] if row and row[0] else {}
        found[item["id"]] = hydrate(bases[version], item)
    return found


def state_of_items(conn: psycopg.Connection[Any], collection: str) -> str | None:
    """Return a hash of all items of a collection; None without any."""
    row = conn.execute(
        """select md5(string_agg(md5(concat(id, content::text, geometry::text)), '' order by id collate "C"))
             from pgstac.items where collection = %s""",
        (collection,),
    ).fetchone()
    return row[0] if row else None


def items_by_id(conn: psycopg.Connection[Any], collection: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return id -> item as it was loaded, within the caller's transaction; those that are gone are left out."""
    conn.execute("set local search_path to pgstac, public")
    return stored_items(conn, collection, ids)


def collection_row(conn: psycopg.Connection[Any], collection: str) -> dict[str, Any] | None:
    """Return a collection as stored, and how its items are partitioned."""
    row = conn.execute(
        "select content, partition_trunc from pgstac.collections where id = %s", (collection,)
    ).fetchone()
    return {"content": row[0], "partition_trunc": row[1]} if row else None
