"""Queries of PostgreSQL's catalogue about published tables, and the differences between two of them.

Here: only reading. Not here: changing anything (`publish.py`, `merge.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.types import KEY

#: Where tables are published.
SCHEMA = "vector"

#: Types to which a column's values can be converted without loss.
_WIDER = {
    "smallint": {"integer", "bigint", "numeric", "real", "double precision"},
    "integer": {"bigint", "numeric", "double precision"},
    "bigint": {"numeric"},
    "real": {"double precision"},
}


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between the published table and the table that replaces it or is added to it."""

    column: str
    old: str | None  # old type; None: the column is new
    new: str | None  # new type; None: the column is gone
    is_exact: bool = False  # the old type holds the values that there are, though not every value of the new type

    @property
    def widens(self) -> bool:
        """Whether the old column holds every value of the new one."""
        return self.is_exact or (self.retypes and self.old in _WIDER.get(self.new or "", ()))

    @property
    def retypes(self) -> bool:
        """Whether both have the column, with different types."""
        return self.old is not None and self.new is not None

    def __str__(self) -> str:
        if self.old is None:
            return f"{self.column} ({self.new}) is new"
        if self.new is None:
            return f"{self.column} ({self.old}) is gone"
        return f"{self.column} is {self.new}, was {self.old}"


def run(
    conn: psycopg.Connection[Any], statement: LiteralString | sql.Composable, **parameters: object
) -> list[tuple[Any, ...]]:
    """Execute one statement; rows are tuples whatever the connection's row factory is."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def find(conn: psycopg.Connection[Any], schema: str, name: str) -> int | None:
    """Return the oid of a table.

    Raises:
        GeoAssetsError: SCHEMA_MISMATCH, the name belongs to something else.
    """
    found = run(
        conn,
        "select c.oid, c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname ="
        " %(schema)s and c.relname = %(name)s",
        schema=schema,
        name=name,
    )
    if not found:
        return None
    oid, kind = found[0]
    if kind != "r":
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{schema}.{name} exists already and is not a table",
            remedy="rename or drop it, then submit again",
        )
    return int(oid)


def columns(conn: psycopg.Connection[Any], oid: int) -> dict[str, str]:
    """Return names and types (`geometry(MultiPolygon,2193)`) of a table's columns without its key, in order."""
    found = run(
        conn,
        "select attname::text, public_type from (select attnum, attname, format_type(atttypid, atttypmod) as"
        " public_type from pg_attribute where attrelid = %(oid)s and attnum > 0 and not attisdropped) a order by"
        " attnum",
        oid=oid,
    )
    return {name: kind.removeprefix("public.") for name, kind in found if name != KEY}


def drifts(old: dict[str, str], new: dict[str, str]) -> list[Drift]:
    """Return the differences, in the order of the columns; a changed order is not a difference."""
    names = dict.fromkeys([*old, *new])
    return [Drift(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def refuse_drift(label: str, found: list[Drift]) -> GeoAssetsError:
    """Return the error for differences that are not allowed."""
    return GeoAssetsError("SCHEMA_DRIFT", f"{label} has another schema: {'; '.join(map(str, found))}")


def first_line(error: psycopg.Error) -> str:
    """Return PostgreSQL's message without its details."""
    return (error.diag.message_primary or str(error)).splitlines()[0]
