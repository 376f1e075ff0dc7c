"""What clients may ask for in a filter: the queryables of pgstac, and which of them have an index.

Here: their definitions, and installing them. Not here: items and collections (`pgstac.py`).

pgstac filters by any property; a queryable tells clients that it is there, of which type it is, and so how values are
compared. An index is made in every partition and slows each load, so there is none that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from geo_assets.parameter_types import Searched

_STRING, _NUMBER = {"type": "string"}, {"type": "number"}
_TIME = {"type": "string", "format": "date-time"}

#: Property -> its JSON schema. What is a column of pgstac's items (id, collection, geometry, datetime, end_datetime)
#: has its index there.
QUERYABLES: dict[Searched, dict[str, Any]] = {
    "title": {**_STRING, "title": "Path of the source in its container"},
    "proj:code": {**_STRING, "title": "CRS, as EPSG:code"},
    "gsd": {**_NUMBER, "title": "Size of a pixel in metres", "exclusiveMinimum": 0},
    "eo:cloud_cover": {**_NUMBER, "title": "Share of clouds in percent", "minimum": 0, "maximum": 100},
    "start_datetime": {**_TIME, "title": "Start of the capture"},
    "created": {**_TIME, "title": "When the item was registered first"},
    "updated": {**_TIME, "title": "When the item's content changed last"},
    "processing:lineage": {**_STRING, "title": "What it was made of, and how"},
    "geo_assets:datetime_from": {**_STRING, "title": "What told the time of capture"},
}

#: Of a property with an index.
_INDEX = "BTREE"


def install(conn: psycopg.Connection[Any], indexed: Collection[str]) -> list[Searched]:
    """Install the queryables, in the caller's transaction; return the names of those that were not as they should be.
    One that somebody defined for single collections stays.

    Args:
        conn: of the pipeline.
        indexed: the properties that get an index; those of others is dropped.
    """
    conn.execute("set local search_path to pgstac, public")
    rows = conn.execute(
        "select name, definition, property_index_type, collection_ids from queryables where name = any(%s)",
        (list(QUERYABLES),),
    ).fetchall()
    known = {name: (definition, index) for name, definition, index, collections in rows if collections is None}
    elsewhere = {name for name, *_, collections in rows if collections is not None}
    wanted = {name: (schema, _INDEX if name in indexed else None) for name, schema in QUERYABLES.items()}
    changed = [name for name in wanted if name not in elsewhere and known.get(name) != wanted[name]]
    for name in changed:
        schema, index = wanted[name]
        conn.execute("select upsert_queryable(%s, %s, null, %s)", (name, Jsonb(schema), index))
    if any(known[name][1] and not wanted[name][1] for name in changed if name in known):
        conn.execute("select maintain_partitions('items', true)")
    return changed
