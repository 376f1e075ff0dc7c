"""Features and vector tiles of the published tables: tipg as the reader, with a catalogue of tables that is asked for
without making anything in the database.

tipg makes functions in a temporary schema for its catalogue. The reader has no right to temporary objects, since these
fill the disk without a limit (`sql/0011_reader.sql`), so the same questions are asked here by plain statements.
Here: the application and the catalogue. Not here: features and tiles themselves (tipg).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tipg.collections import Catalog, Column, PgCollection
from tipg.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from tipg.factory import Endpoints

from geo_assets import __version__
from geo_assets.serving.answers import problem
from geo_assets.serving.filters import fault_of_filter
from geo_assets.serving.questions import (
    COORDINATES,
    YES_OR_NO,
    ZOOM,
    checked,
    fault_of_path,
    numbers,
    one_of,
    query_of,
    real,
    text,
    whole,
    with_query,
)
from geo_assets.serving.reader import open_reader
from geo_assets.settings import Settings

#: Tables that are listed: of the schema that they are published in.
_SCHEMA = "vector"

#: Age of the catalogue from which on it is asked for again before an answer. A table is listed this long after its
#: publication at the latest.
_FRESH_SECONDS = 2.0

_OF_TABLE = re.compile(r"/collections/(?P<table>[^/]+)(?:/items(?P<item>/[^/]+)?)?")

#: Coordinate systems that a client may name; tipg answers in one only.
_CRS = frozenset({"crs", "bbox-crs"})

#: All that is asked of tables; beside them the columns of each.
_PARAMETERS = {
    "bbox": numbers(6, -1e9, 1e9),
    "bbox-crs": COORDINATES,
    "bbox-only": YES_OR_NO,
    "crs": COORDINATES,
    "datetime": text(100),
    "datetime-column": text(100),
    "f": text(40),
    "filter": text(16_000),
    "filter-crs": COORDINATES,
    "filter-lang": one_of("cql2-text", "cql2-json"),
    "geom-column": text(100),
    "ids": text(4000),
    "limit": whole(0, 10_000),
    "maxzoom": ZOOM,
    "minzoom": ZOOM,
    "offset": whole(0, 10**12),
    "properties": text(4000),
    "simplify": real(0, 1e7),
    "sortby": text(1000),
    "type": one_of("Function", "Table"),
}

#: Of a whole number that fits into eight bytes.
_MOST_DIGITS = 18

#: What PostgreSQL says of a filter that does not suit the columns.
_OF_FILTERS = (
    asyncpg.AmbiguousFunctionError,
    asyncpg.CannotCoerceError,
    asyncpg.DatatypeMismatchError,
    asyncpg.IndeterminateDatatypeError,
    asyncpg.InternalServerError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
)

#: The names of tipg for types whose values it treats in a way of their own.
_TABLES = """
select c.oid::bigint as oid, pg_relation_filenode(c.oid)::bigint as node, pg_relation_size(c.oid) as size,
       c.relname::text as name, obj_description(c.oid, 'pg_class') as description,
       (select k.attname::text
          from pg_index i join pg_attribute k on k.attrelid = i.indrelid and k.attnum = i.indkey[0]
         where i.indrelid = c.oid and i.indnatts = 1 and i.indisunique and i.indpred is null
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
select st_xmin(b), st_ymin(b), st_xmax(b), st_ymax(b)
  from (select st_transform(st_setsrid(coalesce(
            (select st_estimatedextent({schema}, {table}, {column})::geometry),
            (select st_extent({quoted}::geometry)::geometry from {qualified})), {srid}), 4326) as b) as of_all
"""


class Tables:
    """The catalogue of the published tables, asked for again when it is no longer fresh."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool
        self._lock = asyncio.Lock()
        self._asked = 0.0
        self._extents: dict[tuple[Any, ...], list[float] | None] = {}
        self.catalogue = Catalog(collections={}, last_updated=dt.datetime.now(dt.UTC))

    async def refresh(self) -> Catalog:
        """Return the catalogue; it is at most `_FRESH_SECONDS` old, unless the database has no time for us."""
        async with self._lock:
            if time.monotonic() - self._asked > _FRESH_SECONDS:
                try:
                    async with self._pool.acquire() as connection:
                        rows = await connection.fetch(_TABLES, _SCHEMA)
                        found = [await self._collection(connection, row) for row in rows]
                except (TimeoutError, asyncpg.QueryCanceledError):
                    if not self._asked:
                        raise
                    # others took all connections: the old one serves, and those behind us do not wait in vain too
                    self._asked = time.monotonic()
                    return self.catalogue
                now = dt.datetime.now(dt.UTC)
                self.catalogue = Catalog(collections={c.id: c for c in found}, last_updated=now)
                self._asked = time.monotonic()
        return self.catalogue

    async def _collection(self, connection: asyncpg.Connection[Any], row: Any) -> PgCollection:
        columns = []
        for told in row["columns"] or []:
            column = {name: value for name, value in told.items() if value is not None}
            if "geometry_type" in column and (extent := await self._extent(connection, row, column)):
                column["bounds"] = extent
            columns.append(Column(**column))
        by_name = {column.name: column for column in columns}
        return PgCollection(
            type="Table",
            id=f"{_SCHEMA}.{row['name']}",
            table=row["name"],
            schema=_SCHEMA,
            description=row["description"],
            table_columns=columns,
            properties=columns,
            id_column=by_name.get(row["key"]),
            geometry_column=next((c for c in columns if c.type in {"geometry", "geography"}), None),
            datetime_column=next((c for c in columns if c.type in {"timestamp", "timestamptz", "date"}), None),
        )

    async def _extent(self, connection: asyncpg.Connection[Any], row: Any, column: Any) -> list[float] | None:
        """West, south, east, north in degrees; None where there are no rows, or the CRS has no way to degrees."""
        key = (row["oid"], row["node"], row["size"], column["name"])
        if key not in self._extents:
            self._extents = {k: v for k, v in self._extents.items() if (k[0], k[3]) != (key[0], key[3])}
            self._extents[key] = await _extent_of(connection, row["name"], column)
        return self._extents[key]


async def _extent_of(connection: asyncpg.Connection[Any], table: str, column: Any) -> list[float] | None:
    quoted, name = _identifier(column["name"]), _identifier(table)
    query = _EXTENT.format(
        schema=_literal(_SCHEMA),
        table=_literal(table),
        column=_literal(column["name"]),
        quoted=quoted,
        qualified=f"{_identifier(_SCHEMA)}.{name}",
        srid=int(column["srid"]),
    )
    try:
        row = await connection.fetchrow(query)
    except asyncpg.PostgresError:
        return None
    return [float(side) for side in row] if row and row[0] is not None else None


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class _WithFreshTables:
    """Asks for the catalogue before each answer, and refuses what tipg has no answer for."""

    def __init__(self, app: ASGIApp, state: Any) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        catalogue = self._state.collection_catalog = await self._state.tables.refresh()
        path = scope["path"].removeprefix(scope["root_path"])
        found = _OF_TABLE.match(path)
        table = catalogue["collections"].get(found["table"]) if found else None
        given = query_of(scope)
        query, fault = checked(given, _PARAMETERS, {c.name for c in table.properties} if table else ())
        if fault := fault_of_path(path) or fault or _fault(dict(query), table, found and found["item"]):
            await problem(400, fault)(scope, receive, send)
        elif table and found and found["item"] and table.id_column is None:
            await problem(404, f"the rows of {table.id} have no key")(scope, receive, send)
        else:
            await _with_empty_csv(self._app, with_query(scope, [q for q in query if q[0] not in _CRS]), receive, send)


def _fault(query: dict[str, str], table: PgCollection | None, item: str | None) -> str | None:
    if table and (fault := _fault_of_values(query, table, item)):
        return fault
    if "filter" in query and (fault := fault_of_filter(query["filter"], query.get("filter-lang"))):
        return fault
    if "ids" in query and table is not None and table.id_column is None:
        return f"the rows of {table.id} have no key, so there are no ids"
    if any(query.get(name, "OGC:CRS84") not in {"OGC:CRS84", "EPSG:4326"} for name in _CRS):
        return "features are answered in OGC:CRS84"
    if box := query.get("bbox"):
        sides = [float(side) for side in box.split(",")]
        half = len(sides) // 2
        if len(sides) not in {4, 6} or sides[0] > sides[half] or sides[1] > sides[half + 1]:
            return "bbox is west,south,east,north, with west <= east; ask for each side of 180 degrees"
    return None


def _fault_of_values(query: dict[str, str], table: PgCollection, item: str | None) -> str | None:
    """Tipg makes whole numbers of what is compared with such; a number that is none for PostgreSQL ends in a fault."""
    key = table.id_column.name if table.id_column else None
    given = [(key, value) for value in [*query.get("ids", "").split(","), (item or "/")[1:]]]
    whole_columns = {column.name for column in table.properties if "int" in column.type}
    for name, value in [*given, *query.items()]:
        if name in whole_columns and value.lstrip("+-").isdigit() and len(value) > _MOST_DIGITS:
            return f"{name} is a whole number of at most {_MOST_DIGITS} digits"
    return None


async def _with_empty_csv(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let tipg answer; where it finds no row for a CSV, it fails after the beginning of its answer."""
    held: list[Message] = []

    async def after_start(message: Message) -> None:
        headers = dict(message.get("headers", ()))
        if message["type"] == "http.response.start" and headers.get(b"content-type", b"").startswith(b"text/csv"):
            held.append(message)
            return
        while held:
            await send(held.pop())
        await send(message)

    try:
        await app(scope, receive, after_start)
    except (RuntimeError, ExceptionGroup):
        if not held:
            raise
        await send(held.pop())
        await send({"type": "http.response.body", "body": b""})


def features_app(settings: Settings) -> FastAPI:
    """The application, to be served below /features."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = await open_reader(settings)
        app.state.tables = Tables(app.state.pool)
        yield
        await app.state.pool.close()

    app = FastAPI(
        title="geo_assets features and vector tiles",
        version=__version__,
        openapi_url="/api",
        docs_url="/api.html",
        redoc_url=None,
        lifespan=lifespan,
    )
    endpoints = Endpoints(title="geo_assets features and vector tiles", with_tiles_viewer=False)
    app.include_router(endpoints.router)
    add_exception_handlers(
        app, {**DEFAULT_STATUS_CODES, ValueError: 422, asyncpg.DataError: 422, **dict.fromkeys(_OF_FILTERS, 400)}
    )
    app.add_middleware(_WithFreshTables, state=app.state)
    return app
