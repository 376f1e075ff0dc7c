"""The adapter of pgstac: items are loaded in batches, under a lock per collection, and read back; collections are made,
renewed, read and deleted.

Here: pypgstac's loader, adapted to work inside our transaction, and every other statement on schema pgstac that changes
something. Not here: building items (`item.py`) and collections (`collection.py`).

Without a lock, concurrent loaders of one collection have lost writes; in batches, 20,000 items load in seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.types.json import Jsonb

from geo_assets.database.connections import Backoff, KeptConnection, connect, retrying_also_on
from geo_assets.errors import GeoAssetsError, for_collection
from geo_assets.settings import Settings
from geo_assets.stac.collection import Described, Holdings, new_collection, renewed
from geo_assets.stac.item import UNKNOWN_TIME
from geo_assets.stac.locks import alone, queue_up
from geo_assets.stac.reading import at_one_moment, items_of, stored_items
from geo_assets.stac.validation import validated
from geo_assets.text import how_many

if TYPE_CHECKING:
    from pypgstac.db import PgstacDB

T = TypeVar("T")

#: Called at the beginning of a transaction that changes a collection; an exception undoes the change.
Guard = Callable[[psycopg.Connection[Any]], None]

#: How often, and how long, a load is tried.
BACKOFF = Backoff(attempts=5, total_seconds=20.0, first_wait_seconds=0.2, longest_wait_seconds=5.0)

#: Items that describe the assets of a collection.
_SAMPLE = 500

#: Longitudes as disjoint stretches, so that the gap across the antimeridian can be told; the least and most latitude.
_SPACE = """
with boxes as (select content->'bbox' as b, jsonb_array_length(content->'bbox') / 2 as half
                 from pgstac.items where collection = %(collection)s and jsonb_typeof(content->'bbox') = 'array'),
     sides as (select (b->>0)::numeric as west, (b->>half)::numeric as east,
                      (b->>1)::numeric as south, (b->>(half + 1))::numeric as north from boxes)
select range_agg(numrange(stretch.west, stretch.east, '[]')), min(south), max(north)
  from sides, lateral (values (sides.west, case when sides.west <= sides.east then sides.east else 180 end),
                              (case when sides.west > sides.east then -180 end, sides.east)) as stretch (west, east)
 where stretch.west is not null
"""

_FACTS = """
with of_items as (
    select i.datetime, i.end_datetime, content->'properties'->>'gsd' as gsd,
           array(select content->'properties'->>'proj:code'
                 union select jsonb_path_query(content, '$.assets.*."proj:code"') #>> '{}') as codes
      from pgstac.items i where collection = %(collection)s)
select count(*), min(datetime) filter (where end_datetime > %(unknown)s) at time zone 'UTC',
       max(end_datetime) filter (where end_datetime > %(unknown)s) at time zone 'UTC',
       (select array_agg(distinct code order by code) from of_items, unnest(codes) as code where code is not null),
       min(gsd::numeric), max(gsd::numeric)
  from of_items
"""

#: Some items, the same ones each time, and not those of one folder alone.
_SAMPLED = """
select id from pgstac.items where collection = %(collection)s order by md5(id) limit %(most)s
"""

#: Errors that pgstac raises, in addition to those of any statement, when others load or search at the same time: two
#: create the same partition, a constraint is narrower than the items, a range ends at a month's end (measured with
#: 0.10).
_retrying = retrying_also_on(
    psycopg.errors.CheckViolation,
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,
    psycopg.errors.ObjectInUse,
    psycopg.errors.RaiseException,
    backoff=BACKOFF,
)


@_retrying
def load_items(
    settings: Settings,
    collection: str,
    items: Sequence[dict[str, Any]],
    *,
    guard: Guard,
    record: Callable[[psycopg.Connection[Any]], T],
    beside: Callable[[psycopg.Connection[Any]], Iterable[str]] = lambda _: (),
    kept: KeptConnection | None = None,
) -> T:
    """Insert or replace items, verify that each can be found, and record that: all or nothing. Retried as a whole after
    errors that concurrent work can cause.

    An item that is there already keeps its `created`; one whose content is the same is not touched.

    Args:
        settings: where the database is.
        collection: the collection of all of them; created if it does not exist.
        items: validated items.
        guard: called in each transaction, under the collection's lock; if it raises, nothing is loaded.
        record: called last in the transaction of each try; an exception undoes the load.
        beside: called first in each try; the other collections that `record` changes, whose locks are held too.
        kept: the connection, where several loads follow each other; each load has one of its own without it.

    Returns:
        What `record` returned.

    Raises:
        GeoAssetsError: STAC_NOT_FOUND_AFTER_LOAD; what `guard` and `record` raise.
        psycopg.Error: the database was lost.
    """
    from pypgstac.load import Loader, Methods

    with (kept or partial(connect, settings))() as conn, alone(conn, {collection, *beside(conn)}):
        loader = Loader(db=_inside(conn))
        with conn.transaction():
            _begin(conn, collection, guard)
            if conn.execute("select from collections where id = %s", (collection,)).fetchone() is None:
                loader.load_collections(iter([validated(new_collection(collection))]), insert_mode=Methods.ignore)
            narrow = _too_narrow(loader, items)
        for partition in narrow:
            with conn.transaction():
                _begin(conn, collection, guard)
                _widen(conn, partition)
        with conn.transaction():
            _begin(conn, collection, guard)
            # a load ends with what takes an exclusive lock and is logged where it fails: after the commit, not within
            conn.execute("set local pgstac.use_queue to true")
            if changed := _changed(conn, collection, items):
                # an upsert looks for an id in one partition: an item that moves to another month would be there twice
                mode = Methods.delsert if _is_partitioned(conn, collection) else Methods.upsert
                loader.load_items(iter(changed), insert_mode=mode)
            _prove_found(conn, collection, [item["id"] for item in items])
            done = record(conn)
        _refresh_statistics(conn)
    return done


def _begin(conn: psycopg.Connection[Any], collection: str, guard: Guard) -> None:
    conn.execute("set local search_path to pgstac, public")
    queue_up(conn, collection)
    guard(conn)


def _is_partitioned(conn: psycopg.Connection[Any], collection: str) -> bool:
    """Whether the collection has a partition for each month or year."""
    row = conn.execute("select partition_trunc is not null from collections where id = %s", (collection,)).fetchone()
    return bool(row and row[0])


def _changed(conn: psycopg.Connection[Any], collection: str, items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that differ from what is stored under their ids, with the `created` that is stored."""
    stored = stored_items(conn, collection, [item["id"] for item in items])
    changed = []
    for item in items:
        known = stored.get(item["id"])
        if known is None:
            changed.append(item)
        elif _content(known) != _content(item):
            created = known["properties"].get("created", item["properties"].get("created"))
            changed.append({**item, "properties": {**item["properties"], "created": created}} if created else item)
    return changed


def _content(item: dict[str, Any]) -> dict[str, Any]:
    """An item without the times of its registration."""
    properties = {k: v for k, v in item["properties"].items() if k not in {"created", "updated"}}
    content: dict[str, Any] = _comparable({**item, "properties": properties})
    return content


def _comparable(value: Any) -> Any:
    """A value without what the database may change: nulls get lost, and a float of 1e37 returns as an integer."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if isinstance(value, dict):
        return {key: _comparable(inner) for key, inner in value.items() if inner is not None}
    return [_comparable(inner) for inner in value] if isinstance(value, list) else value


def _too_narrow(loader: Any, items: Sequence[dict[str, Any]]) -> list[Any]:
    """The partitions that do not exist, or whose constraints do not admit the items, with the ranges that do."""
    spans: dict[str, list[tuple[str, str, int]]] = {}
    for number, item in enumerate(items):
        times = item["properties"]
        start, end = (times.get(f"{edge}_datetime") or times["datetime"] for edge in ("start", "end"))
        spans.setdefault(start[:7], []).append((start, end, number))  # no partition is shorter than a month
    edges = {edge[2] for span in spans.values() for edge in (min(span), max(span), max(span, key=itemgetter(1)))}
    for _ in loader.read_hydrated(iter([items[number] for number in sorted(edges)])):
        pass
    return [p for p in loader._partition_cache.values() if p.requires_update]  # noqa: SLF001 - as its `load_items`


def _widen(conn: psycopg.Connection[Any], partition: Any) -> None:
    """Create a partition, or widen its constraints, in a commit of its own. This locks out every reader: with two at
    once, a search that has the one and waits for the other would be a deadlock.
    """
    conn.execute(
        "select check_partition(%s, tstzrange(%s, %s, '[]'), tstzrange(%s, %s, '[]'))",
        (
            partition.collection,
            partition.datetime_range_min,
            partition.datetime_range_max,
            partition.end_datetime_range_min,
            partition.end_datetime_range_max,
        ),
    )


def _inside(conn: psycopg.Connection[Any]) -> PgstacDB:
    """Return a database object for pypgstac that uses our connection, within its transaction, and neither begins nor
    ends one.
    """
    from pypgstac.db import PgstacDB

    class Inside(PgstacDB):  # type: ignore[misc]
        def connect(self) -> psycopg.Connection[Any]:
            return conn

        def get_pool(self) -> Any:
            return None

    return Inside(connection=conn)


def _prove_found(conn: psycopg.Connection, collection: str, ids: list[str]) -> None:
    row = conn.execute(
        "select count(*) from pgstac.items where collection = %s and id = any(%s)", (collection, ids)
    ).fetchone()
    if row is None or row[0] != len(set(ids)):
        raise GeoAssetsError(
            "STAC_NOT_FOUND_AFTER_LOAD",
            f"{collection}: after the load {row[0] if row else 0} of {how_many(len(set(ids)), 'item')} can be found",
        )


def anybody(conn: psycopg.Connection[Any]) -> None:
    """The guard of changes that no job makes."""


@_retrying
def create_collection(settings: Settings, identity: str, said: Described) -> dict[str, Any]:
    """Create an empty collection; return it as stored.

    Raises:
        GeoAssetsError: COLLECTION_EXISTS, STAC_INVALID.
        psycopg.Error: the database was lost.
    """
    collection = renewed(new_collection(identity), said, Holdings(0), title=None)
    with connect(settings) as conn, conn.transaction():
        _begin(conn, identity, anybody)
        if _collection(conn, identity) is not None:
            raise GeoAssetsError(
                "COLLECTION_EXISTS",
                f"there is a collection {identity} already",
                remedy=for_collection("COLLECTION_EXISTS", identity),
            )
        insert_collection(conn, collection)
    return collection


def insert_collection(conn: psycopg.Connection[Any], collection: dict[str, Any]) -> None:
    """Insert a collection, in the caller's transaction."""
    conn.execute("select pgstac.create_collection(%s)", (Jsonb(collection),))


def count_collections(conn: psycopg.Connection[Any]) -> int:
    """Return how many collections there are; each has a partition."""
    ((count,),) = conn.execute("select count(*) from pgstac.collections").fetchall()
    return int(count)


def hrefs(conn: psycopg.Connection[Any], collections: Sequence[str]) -> dict[str, list[str]]:
    """Return collection/id -> where its assets are, for each item of collections."""
    rows = conn.execute(
        """select collection || '/' || id, array(select jsonb_path_query(content, '$.assets.*.href') #>> '{}')
             from pgstac.items where collection = any(%s)""",
        (list(collections),),
    )
    return dict(rows.fetchall())


def refresh_collection(
    settings: Settings,
    collection: str,
    said: Described | None = None,
    *,
    title: str | None = None,
    guard: Guard = anybody,
) -> dict[str, Any]:
    """Update a collection with what is said of it and what its items say; return it as stored. One that would be the
    same is not written.

    Args:
        settings: where the database is.
        collection: its id.
        said: by whoever changes it.
        title: where it has none, and none is said.
        guard: called in each transaction, under the collection's lock.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND, STAC_INVALID; what `guard` raises.
        psycopg.Error: the database was lost.
    """
    return change_collection(
        settings,
        collection,
        lambda conn, stored: renewed(stored, said or Described(), _holdings(conn, collection), title=title),
        guard=guard,
    )


@_retrying
def change_collection(
    settings: Settings,
    collection: str,
    change: Callable[[psycopg.Connection[Any], dict[str, Any]], dict[str, Any]],
    *,
    guard: Guard = anybody,
) -> dict[str, Any]:
    """Replace a collection by what `change` makes of it, valid and in the same transaction; return it as stored. One
    that would be the same is not written.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND; what `change` and `guard` raise.
        psycopg.Error: the database was lost.
    """
    with connect(settings) as conn, conn.transaction():
        _begin(conn, collection, guard)
        stored = collection_of(conn, collection)
        new = change(conn, stored)
        if new != stored:
            conn.execute("select update_collection(%s)", (Jsonb(new),))
    return new


def read_collection(settings: Settings, collection: str) -> dict[str, Any]:
    """Return a collection as stored.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND.
    """
    with connect(settings, autocommit=True) as conn:
        return collection_of(conn, collection)


def list_collections(settings: Settings) -> list[tuple[dict[str, Any], int]]:
    """Return every collection as stored, with the number of its items, by id."""
    with connect(settings, autocommit=True) as conn:
        return conn.execute(
            """select c.content, (select count(*) from pgstac.items i where i.collection = c.id)
                 from pgstac.collections c order by c.id"""
        ).fetchall()


def read_items(settings: Settings, collection: str) -> Iterator[dict[str, Any]]:
    """Yield every item of a collection as it was loaded, by id, all as of one moment. `search` drops nulls."""
    with connect(settings) as conn, at_one_moment(conn):
        yield from items_of(conn, collection)


def collection_of(conn: psycopg.Connection[Any], collection: str) -> dict[str, Any]:
    """Return a collection as stored, in a transaction of the caller's.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND.
    """
    stored = _collection(conn, collection)
    if stored is None:
        raise _not_found(collection)
    return stored


def is_same(item: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two items are the same, but for what the database may change, and the times of their registration."""
    return _content(item) == _content(other)


@_retrying
def restore_collection(settings: Settings, row: dict[str, Any]) -> bool:
    """Create a collection as `collection_row` returned it, unless there is one; return whether it was created."""
    identity = str(row["content"]["id"])
    with connect(settings) as conn, conn.transaction():
        _begin(conn, identity, anybody)
        if _collection(conn, identity) is not None:
            return False
        insert_collection(conn, row["content"])
        if row.get("partition_trunc"):
            values = (row["partition_trunc"], identity)
            conn.execute("update pgstac.collections set partition_trunc = %s where id = %s", values)
    return True


def item_ids(conn: psycopg.Connection[Any], collection: str, *, limit: int) -> list[str]:
    """Return ids of the first items of a collection."""
    rows = conn.execute("select id from pgstac.items where collection = %s order by id limit %s", (collection, limit))
    return [row[0] for row in rows.fetchall()]


def has_item(conn: psycopg.Connection[Any], collection: str, identity: str) -> bool:
    """Whether the catalogue has an item."""
    row = conn.execute("select from pgstac.items where collection = %s and id = %s", (collection, identity)).fetchone()
    return row is not None


def has_collection(conn: psycopg.Connection[Any], collection: str) -> bool:
    """Whether the catalogue has a collection."""
    return _collection(conn, collection) is not None


def delete_items(conn: psycopg.Connection[Any], collection: str, ids: Sequence[str]) -> list[str]:
    """Delete items, in the caller's transaction, in which it has called `queue_up`; return the ids that were there."""
    rows = conn.execute(
        "delete from pgstac.items where collection = %s and id = any(%s) returning id", (collection, list(ids))
    )
    return [row[0] for row in rows.fetchall()]


def delete_collection(conn: psycopg.Connection[Any], collection: str) -> None:
    """Delete a collection without items, in the caller's transaction, in which it has called `queue_up`.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND, COLLECTION_NOT_EMPTY.
    """
    if _collection(conn, collection) is None:
        raise _not_found(collection)
    if item_ids(conn, collection, limit=1):
        remedy = for_collection("COLLECTION_NOT_EMPTY", collection)
        raise GeoAssetsError("COLLECTION_NOT_EMPTY", f"{collection} has items", remedy=remedy)
    conn.execute("select pgstac.delete_collection(%s)", (collection,))


def _collection(conn: psycopg.Connection[Any], collection: str) -> dict[str, Any] | None:
    row = conn.execute("select content from pgstac.collections where id = %s", (collection,)).fetchone()
    return dict(row[0]) if row else None


def _not_found(collection: str) -> GeoAssetsError:
    return GeoAssetsError("COLLECTION_NOT_FOUND", f"there is no collection {collection}")


def _holdings(conn: psycopg.Connection[Any], collection: str) -> Holdings:
    """What the items of a collection say together. Those of unknown time do not count in the temporal extent."""
    values = {"collection": collection, "unknown": UNKNOWN_TIME, "most": _SAMPLE}
    space = conn.execute(_SPACE, values).fetchone()
    facts = conn.execute(_FACTS, values).fetchone()
    sample = stored_items(conn, collection, [row[0] for row in conn.execute(_SAMPLED, values).fetchall()])
    if space is None or facts is None:
        return Holdings(0)
    items, start, end, codes, least, most = facts
    return Holdings(
        items=items,
        stretches=tuple((float(part.lower), float(part.upper)) for part in space[0] or ()),
        latitudes=(float(space[1]), float(space[2])) if space[0] else None,
        times=(start, end) if start else None,
        codes=tuple(codes or ()),
        gsd=(float(least), float(most)) if least is not None else None,
        sample=tuple(sample[identity] for identity in sorted(sample)),
    )


def count_found(settings: Settings, collection: str, ids: Sequence[str]) -> int:
    """Return how many of these items pgstac's search finds."""
    found, asked = 0, list(ids)
    with connect(settings, autocommit=True) as conn:
        conn.execute("set search_path to pgstac, public")  # its functions name their tables without a schema
        for start in range(0, len(asked), 500):
            body = {
                "collections": [collection],
                "ids": asked[start : start + 500],
                "limit": 500,
                "fields": {"include": ["id"]},
                "conf": {"nohydrate": True},  # to make them whole takes longer than to find them
            }
            row = conn.execute("select pgstac.search(%s)", (Jsonb(body),)).fetchone()
            found += len(row[0]["features"]) if row else 0
    return found


def footprints(settings: Settings, collections: Sequence[str], *, limit: int = 500) -> list[dict[str, Any]]:
    """Return geometries of a few items, as GeoJSON in EPSG:4326; for a map."""
    with connect(settings, autocommit=True) as conn:
        rows = conn.execute(
            "select st_asgeojson(geometry)::jsonb from pgstac.items where collection = any(%s) limit %s",
            (list(collections), limit),
        ).fetchall()
    return [row[0] for row in rows]


def _refresh_statistics(conn: psycopg.Connection[Any]) -> None:
    """Run what pgstac does after a load: it tightens the partitions' constraints, under a lock for which readers would
    wait.

    The load queued it in its own transaction: if it fails, or we die before it, it is done after the next load.
    """
    try:
        conn.autocommit = True  # the procedure commits after each statement
        conn.execute("set search_path to pgstac, public")
        conn.execute("call run_queued_queries()")
    except psycopg.Error as error:
        logging.getLogger(__name__).warning("pgstac's statistics are refreshed by the next load: %s", error)
