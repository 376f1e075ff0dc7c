"""Tombstones: what was withdrawn from the catalogue on request, what it led to, and whether that is gone.

Here: statements on `geo.tombstones`, and the rows of `geo.published` that become one. Not here: items
(`stac/pgstac.py`), deleting files and tables (`stages/unpublish.py`), what is replaced or retired by a job
(`published.py`). All work on a connection of the caller's, within its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from geo_assets.outcomes import Outputs, read_outputs

#: The ledger's row leaves together with the item. Its task is no longer listed, in whichever job of the container and
#: the collection did it: the next submission does it again, and these jobs get new receipts. Its tables are loose until
#: they are dropped.
_BURY = """
with gone as (
    delete from geo.published where stac_item = any(%(names)s) returning stac_item, job_id, stage, task_key, outputs),
buried as (
    insert into geo.tombstones (collection, item, withdrawn_by, job_id, stage, task_key, outputs)
    select split_part(name, '/', 1), substr(name, strpos(name, '/') + 1), %(by)s, job_id, stage, task_key,
           coalesce(outputs, '{}')
      from unnest(%(names)s::text[]) as name left join gone on stac_item = name),
noted as (
    insert into geo.loose_tables (table_name)
    select distinct made->>'table' from gone, jsonb_path_query(outputs, '$.tables[*]') as made where made ? 'table'
        on conflict do nothing),
unlisted as (
    update geo.tasks t set listed = false
      from gone join geo.jobs mine using (job_id)
      join geo.jobs other
        on (other.parameters->>'account', other.parameters->>'container', other.parameters->>'collection')
         = (mine.parameters->>'account', mine.parameters->>'container', mine.parameters->>'collection')
     where t.job_id = other.job_id and t.stage = gone.stage and t.task_key = gone.task_key
       and t.status in ('succeeded', 'skipped') and t.outputs->>'stac_item' = gone.stac_item
    returning t.job_id)
insert into geo.receipt_changes (job_id) select distinct job_id from unlisted
"""

#: A tombstone whose files and tables nobody has to delete any more.
_SETTLE = """
update geo.tombstones t set data_gone_at = now()
 where data_gone_at is null
   and not exists (select from geo.loose_blobs where blob = any(geo.blobs_of(t.outputs)))
   and not exists (select from geo.loose_tables l join jsonb_path_query(t.outputs, '$.tables[*]') as made
                       on made->>'table' = l.table_name)
"""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An item that was withdrawn, and whose data may be there still."""

    collection: str
    item: str
    outputs: Outputs


def published_by(conn: psycopg.Connection[Any], job_id: str, *, limit: int) -> list[str]:
    """The names, collection/id, of items that a job published and nobody replaced or withdrew; of one collection."""
    rows = conn.execute(
        """select stac_item from geo.published where job_id = %s and split_part(stac_item, '/', 1) =
                  (select split_part(min(stac_item), '/', 1) from geo.published where job_id = %s)
            order by stac_item limit %s""",
        (job_id, job_id, limit),
    )
    return [row[0] for row in rows.fetchall()]


def published_in(conn: psycopg.Connection[Any], collection: str, *, limit: int) -> list[str]:
    """The names of items of a collection that the ledger knows."""
    rows = conn.execute(
        "select stac_item from geo.published where stac_item ^@ %s order by stac_item limit %s",
        (f"{collection}/", limit),
    )
    return [row[0] for row in rows.fetchall()]


def still_of(conn: psycopg.Connection[Any], job_id: str, names: Sequence[str]) -> list[str]:
    """Those of these items that are still of the job; they stay so until the transaction ends."""
    rows = conn.execute(
        "select stac_item from geo.published where job_id = %s and stac_item = any(%s) for update",
        (job_id, list(names)),
    )
    return [row[0] for row in rows.fetchall()]


def unnamed(conn: psycopg.Connection[Any], names: Sequence[str]) -> list[str]:
    """Those of these items that no row of the ledger names."""
    rows = conn.execute(
        """select name from unnest(%s::text[]) as name
            where not exists (select from geo.published where stac_item = name) order by name""",
        (list(names),),
    )
    return [row[0] for row in rows.fetchall()]


def is_published(conn: psycopg.Connection[Any], name: str) -> bool:
    """Whether the ledger knows the item, collection/id."""
    return conn.execute("select from geo.published where stac_item = %s", (name,)).fetchone() is not None


def bury_items(conn: psycopg.Connection[Any], names: Sequence[str], by: str) -> None:
    """Make tombstones of items, in the transaction that deletes them from the catalogue.

    Args:
        conn: of the transaction.
        names: collection/id of each; also those that the ledger never knew.
        by: through which door it was requested.
    """
    conn.execute(_BURY, {"names": list(names), "by": by})


def bury_collection(conn: psycopg.Connection[Any], collection: str, by: str) -> None:
    """Make the tombstone of a collection, in the transaction that deletes it."""
    conn.execute(
        "insert into geo.tombstones (collection, withdrawn_by, data_gone_at) values (%s, %s, now())", (collection, by)
    )


def was_buried(conn: psycopg.Connection[Any], collection: str, item: str | None = None) -> bool:
    """Whether there is a tombstone of the collection, or of one of its items."""
    row = conn.execute(
        "select from geo.tombstones where collection = %s and item is not distinct from %s limit 1", (collection, item)
    ).fetchone()
    return row is not None


def settle(conn: psycopg.Connection[Any]) -> None:
    """Record of which tombstones the data are gone."""
    conn.execute(_SETTLE)


def unsettled(
    conn: psycopg.Connection[Any], *, job_id: str | None = None, collection: str | None = None, item: str | None = None
) -> list[Tombstone]:
    """The tombstones of items whose data may be there still: of a job, of a collection, or of one of its items."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """select collection, item, stage, outputs from geo.tombstones
                where data_gone_at is null and item is not null
                  and coalesce(job_id = %(job)s, %(job)s::text is null)
                  and coalesce(collection = %(collection)s, true) and coalesce(item = %(item)s, true)""",
            {"job": job_id, "collection": collection, "item": item},
        ).fetchall()
    return [Tombstone(r["collection"], r["item"], read_outputs(str(r["stage"]), r["outputs"])) for r in rows]
