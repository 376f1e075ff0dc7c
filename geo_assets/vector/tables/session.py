"""An ADBC connection, which loads Arrow batches by binary COPY.

Here: one transaction at a time. Not here: what is done in it (`load.py`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.tables.staging import STAGING_SCHEMA

if TYPE_CHECKING:
    import pyarrow as pa


#: How the driver begins.
_STATEMENT = re.compile(r"Failed to execute query '.*': ", re.DOTALL)


class Session:
    """An ADBC connection, in one transaction at a time. Not thread-safe."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __call__(self, statement: sql.Composable) -> list[tuple[Any, ...]]:
        """Execute one statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement.as_string(None))
            return cursor.fetchall() if cursor.description else []

    def all_of(self, statements: Sequence[sql.Composable]) -> None:
        """Execute several statements without results, in one round trip: the driver takes one statement at a time."""
        block = sql.SQL("begin {}; end").format(sql.SQL("; ").join(statements))
        self(sql.SQL("do {}").format(sql.Literal(block.as_string(None))))

    @contextlib.contextmanager
    def batches(self, query: sql.Composable) -> Iterator[pa.RecordBatchReader]:
        """Yield the rows of a query as a stream of Arrow batches, of some megabytes each."""
        with self._connection.cursor() as cursor:
            cursor.execute(query.as_string(None))
            with cursor.fetch_record_batch() as reader:
                yield reader

    def ingest(self, name: str, reader: pa.RecordBatchReader) -> None:
        """Append batches to a table of `vector_staging` by binary COPY."""
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(name, reader, mode="append", db_schema_name=STAGING_SCHEMA)

    def commit(self) -> None:
        """Commit the transaction."""
        self._connection.commit()

    def tidied(self) -> bool:
        """Undo what was not committed, and let go all locks; whether the connection is of further use."""
        from adbc_driver_manager import Error

        try:
            self(sql.SQL("select pg_advisory_unlock_all()"))
            self._connection.rollback()
        except Error:
            return False
        return True

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        self._connection.close()

    def answers(self) -> bool:
        """Whether the connection is still there."""
        from adbc_driver_manager import Error

        try:
            self(sql.SQL("select 1"))
            self._connection.rollback()
        except Error:
            return False
        return True

    def rollback(self) -> None:
        """Undo the transaction; harmless if the connection is lost."""
        from adbc_driver_manager import Error

        with contextlib.suppress(Error):
            self._connection.rollback()


def connected(dsn: str) -> Session:
    """Open a session. It costs 50 ms, because the driver reads all types of the database.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    import adbc_driver_postgresql.dbapi as adbc
    from adbc_driver_manager import Error

    try:
        return Session(adbc.connect(dsn))
    except Error as error:
        raise GeoAssetsError(
            "DATABASE_UNAVAILABLE", f"PostgreSQL does not accept the connection: {message_of(error)}"
        ) from error


@contextlib.contextmanager
def open_session(dsn: str) -> Iterator[Session]:
    """Yield a session for several tables one after the other.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    with contextlib.closing(connected(dsn)) as session:
        yield session


def message_of(error: Exception) -> str:
    """Return an error's text on one line, truncated, without the statement, which comes before the reason."""
    return " ".join(_STATEMENT.sub("the statement failed: ", str(error)).split())[:300]
