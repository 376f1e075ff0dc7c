"""Connections of the server to the database: of the read-only role, few enough to leave it some for others.

Here: pools. Not here: statements.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import asyncpg
import orjson
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from geo_assets.database.connections import DictConnection, check_not_ended
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings

#: Of the reader's twenty sessions, for each of the three services.
CONNECTIONS = 5

_NAME = "geo_assets serve"

#: Seconds that a request waits for a connection before it is told to come again.
_PATIENCE = 5.0

#: Of one statement; clients give up sooner.
_STATEMENT = "10s"


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is given back without releasing advisory locks, for which the reader has no right."""

    def get_reset_query(self) -> str:
        """The statements after each use."""
        return "close all; unlisten *; reset all;"


class _Pool(asyncpg.Pool):  # type: ignore[misc]
    """A pool for which nobody waits without end."""

    def acquire(self, *, timeout: float | None = None) -> Any:
        """A connection, or TimeoutError."""
        return super().acquire(timeout=_PATIENCE if timeout is None else timeout)


def open_reader_for_threads(settings: Settings) -> ConnectionPool[DictConnection]:
    """The same for what runs in threads. Close it.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    settings.credentials("reader")  # where there is no token, its reason is the error
    pool: ConnectionPool[DictConnection] = ConnectionPool(
        partial(settings.dsn, "reader"),  # for each connection: a token expires
        min_size=1,
        max_size=CONNECTIONS,
        timeout=_PATIENCE,
        open=False,
        check=check_not_ended,
        kwargs={
            "row_factory": dict_row,
            "autocommit": True,
            "options": f"-c search_path=pgstac,public -c timezone=UTC -c statement_timeout={_STATEMENT}",
            "application_name": _NAME,
        },
    )
    try:
        pool.open(wait=True, timeout=10)
    except PoolTimeout as error:
        pool.close()
        raise _unavailable(settings) from error
    return pool


def _unavailable(settings: Settings) -> GeoAssetsError:
    return GeoAssetsError(
        "DATABASE_UNAVAILABLE", f"PostgreSQL at {settings.pg_host}:{settings.pg_port} does not answer"
    )


async def open_reader(settings: Settings) -> asyncpg.Pool[Any]:
    """A pool of connections as the reader, which find pgstac's functions. Close it.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    try:
        pool = _Pool(
            host=settings.pg_host,
            port=settings.pg_port,
            user=settings.reader_user,
            password=lambda: settings.credentials("reader")[1],
            database=settings.pg_database,
            min_size=1,
            max_size=CONNECTIONS,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            timeout=10,
            init=_with_json,
            loop=None,
            connection_class=_Connection,
            record_class=asyncpg.Record,
            server_settings={
                "search_path": "pgstac,public",
                "application_name": _NAME,
                "timezone": "UTC",
                "statement_timeout": _STATEMENT,
            },
        )
        await pool
    except (TimeoutError, OSError, asyncpg.PostgresError) as error:
        raise _unavailable(settings) from error
    return pool


async def _with_json(connection: asyncpg.Connection[Any]) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=_dumps, decoder=orjson.loads, schema="pg_catalog")


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()
