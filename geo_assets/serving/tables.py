"""The catalogue of the published tables, asked for without making anything in the database.

tipg makes functions in a temporary schema for its catalogue. The reader has no right to temporary objects, since these
fill the disk without a limit (`sql/0011_reader.sql`), so the same questions are asked here by plain statements.
Here: which tables there are, and where they have rows. Not here: their rows (`rows.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import time
from typing import Any

import asyncpg
from tipg.collections import Catalog, Column

from geo_assets.serving.places import Box, Placed, geographic_extent, identifier, literal
from geo_assets.serving.rows import Table

_log = logging.getLogger(__name__)

#: Tables that are listed: of the schema that they are published in.
SCHEMA = "vector"

#: Age of the catalogue from which on it is asked for again before an answer. A table is listed this long after its
#: publication at the latest.
_FRESH_SECONDS = 2.0

#: An answer waits so many seconds for extents that are not known yet. They are told as soon as they are.
_EXTENT_PATIENCE = 5.0

#: After so many seconds an extent is asked for again that could not be told.
_EXTENT_AGAIN = 60.0

#: The names of tipg for types whose values it treats in a way of their own. Nothing here waits for a table that is
#: locked; the size of one would.
_TABLES = """
select c.oid::bigint as oid, c.relkind::text as kind, c.relname::text as name,
       obj_description(c.oid, 'pg_class') as description,
       array[pg_relation_filenode(c.oid)::bigint, pg_stat_get_tuples_inserted(c.oid),
             pg_stat_get_tuples_updated(c.oid), pg_stat_get_tuples_deleted(c.oid)] as version,
       (select k.attname::text
          from pg_index i join pg_attribute k on k.attrelid = i.indrelid and k.attnum = i.indkey[0]
         where i.indrelid = c.oid and i.indnatts = 1 and i.indisunique and i.indpred is null and k.attnotnull
         order by i.indisprimary desc limit 1) as key,
       (select json_agg(json_build_object(
                 'name', a.attname,
                 'type', case format_type(a.atttypid, null) when 'double precision' then 'float8'
                              when 'timestamp with time zone' then 'timestamptz'
                              when 'timestamp without time zone' then 'timestamp'
                              when 'character varying' then 'text'
                              else replace(format_type(a.atttypid, null), 'character varying', 'text') end,
                 'description', col_description(a.attrelid, a.attnum),
                 'geometry_type', case when t.typname in ('geometry', 'geography')
                                       then postgis_typmod_type(a.atttypmod) end,
                 'srid', case when t.typname in ('geometry', 'geography')
                              then coalesce(nullif(postgis_typmod_srid(a.atttypmod), 0), 4326) end)
                 order by a.attnum)
          from pg_attribute a join pg_type t on t.oid = a.atttypid
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
           and has_column_privilege(c.oid, a.attnum, 'SELECT')) as columns
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm') and has_table_privilege(c.oid, 'SELECT')
 order by c.relname
"""

#: The extent from the spatial index where there is one, else from the statistics, else from all rows.
_EXTENT = """
select st_xmin(b), st_ymin(b), st_xmax(b), st_ymax(b),
       (select coalesce(auth_name || ':' || auth_srid, srtext) from spatial_ref_sys where srid = {srid})
  from (select coalesce(
            (select st_estimatedextent({schema}, {table}, {column})::geometry),
            (select st_extent({quoted}::geometry)::geometry from {qualified})) as b) as of_all
"""

#: (oid of the table, name of the column)
_Where = tuple[int, str]


class Tables:
    """The catalogue of the published tables, asked for again when it is no longer fresh. Close it."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._lock = asyncio.Lock()
        self._asked: float | None = None
        self._extents = _Extents(pool)
        self.catalogue = Catalog(collections={}, last_updated=dt.datetime.now(dt.UTC))

    async def refresh(self, *, now: bool = False) -> Catalog:
        """Return the catalogue; it is at most `_FRESH_SECONDS` old, unless the database has no time for us.

        Args:
            now: ask for it even if it is fresh.
        """
        began = time.monotonic()
        async with self._lock:
            since = self._asked
            if since is None or time.monotonic() - since > _FRESH_SECONDS or (now and since < began):
                try:
                    async with self._pool.acquire() as connection:
                        rows = await connection.fetch(_TABLES, SCHEMA)
                except (TimeoutError, asyncpg.QueryCanceledError):
                    if self._asked is None:
                        raise
                    # others took all connections: the old one serves, and those behind us do not wait in vain too
                    self._asked = time.monotonic()
                    return self.catalogue
                await self._extents.learn(rows)
                found = [self._table(row) for row in rows]
                self.catalogue = Catalog(collections={c.id: c for c in found}, last_updated=dt.datetime.now(dt.UTC))
                self._asked = time.monotonic()
        return self.catalogue

    async def close(self) -> None:
        """Leave what is still asked for."""
        await self._extents.close()

    def _table(self, row: Any) -> Table:
        columns = [self._column(row["oid"], told) for told in row["columns"] or []]
        by_name = {column.name: column for column in columns}
        return Table(
            type="Table",
            id=f"{SCHEMA}.{row['name']}",
            table=row["name"],
            schema=SCHEMA,
            kind=row["kind"],
            description=row["description"],
            table_columns=columns,
            properties=columns,
            id_column=by_name.get(row["key"]),
            geometry_column=next((c for c in columns if c.is_geometry), None),
            datetime_column=next((c for c in columns if c.is_datetime), None),
        )

    def _column(self, oid: int, told: dict[str, Any]) -> Column:
        known = {name: value for name, value in told.items() if value is not None}
        if "geometry_type" not in known:
            return Column(**known)
        return Placed(**known, **self._extents.of(oid, told["name"]))


class _Extents:
    """Where tables have rows. The question may take long for a table without an index, and waits for one that is
    locked, so it is asked beside the answers. Meanwhile the table is told as it was.
    """

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._known: dict[_Where, dict[str, Any]] = {}
        self._versions: dict[_Where, Any] = {}
        self._failed: dict[_Where, float] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, oid: int, column: str) -> dict[str, Any]:
        """What is known of a column of geometry, as `Placed` has it."""
        return self._known.get((oid, column), {})

    async def learn(self, rows: list[Any]) -> None:
        """Ask for the extents of tables that are new or were changed."""
        there = {
            (row["oid"], told["name"]): (row["name"], told, row["version"])
            for row in rows
            for told in row["columns"] or []
            if told["geometry_type"] is not None
        }
        for kept in (self._known, self._versions, self._failed):
            for gone in kept.keys() - there.keys():
                del kept[gone]
        asked = {
            where: what
            for where, what in there.items()
            if self._versions.get(where) != what[2]
            and time.monotonic() - self._failed.get(where, -_EXTENT_AGAIN) >= _EXTENT_AGAIN
        }
        if asked and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._ask(asked))
            await asyncio.wait({self._task}, timeout=_EXTENT_PATIENCE)

    async def close(self) -> None:
        """Leave what is still asked for."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _ask(self, asked: dict[_Where, Any]) -> None:
        try:
            async with self._pool.acquire() as connection:
                for where, (table, column, version) in asked.items():
                    try:
                        async with connection.transaction(readonly=True):
                            await connection.execute("set local lock_timeout = '200ms'")
                            row = await connection.fetchrow(_question(table, column))
                    except asyncpg.LockNotAvailableError:
                        continue
                    except asyncpg.PostgresError as error:
                        _log.warning("the extent of %s.%s is not known: %s", table, column["name"], error)
                        self._failed[where] = time.monotonic()
                        continue
                    extent: Box | None = None if row[0] is None else (row[0], row[1], row[2], row[3])
                    known = {"extent": extent, "crs": row[4], "geographic": geographic_extent(extent, row[4])}
                    self._known[where] = known
                    self._versions[where] = version
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            _log.warning("extents of tables are not known yet: %r", error)


def _question(table: str, column: dict[str, Any]) -> str:
    return _EXTENT.format(
        schema=literal(SCHEMA),
        table=literal(table),
        column=literal(column["name"]),
        quoted=identifier(column["name"]),
        qualified=f"{identifier(SCHEMA)}.{identifier(table)}",
        srid=int(column["srid"]),
    )
