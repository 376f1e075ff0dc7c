"""Names of published tables: which source owns which.

Here: statements on `geo.table_names`. Not here: how a name is made (`vector/names.py`), the tables themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying

if TYPE_CHECKING:
    from geo_assets.ledger.models import TableItem


class TableNames:
    """The owner of each table name: the first source that asks for it keeps it."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def allot(
        self, candidates: list[str], *, account: str, container: str, path: str, layer: str, collection: str
    ) -> str:
        """The table name of a source's layer: the one it has, else the first free of `candidates`.

        The last candidate must be unique by construction (it carries a hash of the source).
        """
        key = (account, container, path, layer, collection)
        with self._pool.connection() as conn:
            conn.execute("select pg_advisory_xact_lock(hashtextextended('geo_assets:table_names', 0))")
            row = conn.execute(
                "select table_name from geo.table_names where (account, container, path, layer, collection) = (%s, %s,"
                " %s, %s, %s)",
                key,
            ).fetchone()
            if row:
                return str(row["table_name"])
            for name in candidates:
                if conn.execute(
                    "insert into geo.table_names values (%s, %s, %s, %s, %s, %s) on conflict do nothing", (name, *key)
                ).rowcount:
                    return name
        msg = f"no table name is free for {path}"
        raise RuntimeError(msg)

    @retrying
    def published_as(self, table: str) -> TableItem:
        """Whose table it is, by its name without the schema: of a published source, or of nobody that is known here."""
        from geo_assets.ledger.models import (
            TableItem,
        )  # with the parameters of all job types, which a command has no use for

        with self._pool.connection() as conn:
            row = conn.execute(
                """select p.stac_item, p.task_key as source
                     from geo.table_names n
                     join geo.published p
                       on p.task_key = n.path
                      and p.outputs->'tables' @> jsonb_build_array(jsonb_build_object('table', %(published)s::text))
                    where n.table_name = %(name)s""",
                {"name": table, "published": f"vector.{table}"},
            ).fetchone()
        return TableItem.model_validate(row or {})


def claim_name(conn: psycopg.Connection[Any], table: str, source: str) -> str | None:
    """Reserve a table's name, so that no source of the pipeline takes it; returns the source of the pipeline that has
    it already.

    Args:
        conn: on which no other name was reserved since the last commit.
        table: its name in the schema of published tables.
        source: the file that it was loaded from.
    """
    conn.execute(
        "insert into geo.table_names (table_name, account, container, path, layer, collection) values (%s, '', '', %s,"
        " '', '') on conflict do nothing",
        (table, f"{table} < {source}"),
    )
    row = conn.execute(
        "select account, container, path from geo.table_names where table_name = %s", (table,)
    ).fetchone()
    values = tuple(row.values()) if isinstance(row, dict) else tuple(row or ())
    return "/".join(map(str, values)) if values and values[0] else None


def release_name(conn: psycopg.Connection[Any], name: str) -> None:
    """Free the name of a dropped table; the name is without the schema."""
    conn.execute("delete from geo.table_names where table_name = %s", (name,))
