"""An ADBC connection, which loads Arrow batches by binary COPY.

Here: one transaction at a time. Not here: what is done in it (`load.py`).

By the driver's own interface, not by that of Python's databases above it: this imports pyarrow's datasets and NumPy, a
sixth of a second that a small file would pay for, and prepares each statement before it executes it. Nor is psycopg
imported with this module: a command opens a session before it has imported anything else.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from adbc_driver_manager import (
    INGEST_OPTION_MODE,
    INGEST_OPTION_MODE_APPEND,
    INGEST_OPTION_TARGET_TABLE,
    AdbcConnection,
    AdbcDatabase,
    AdbcStatement,
    Error,
)
from adbc_driver_manager import StatementOptions as IngestOptions
from adbc_driver_manager._lib import _blocking_call as interruptible  # Ctrl-C ends the statement, not the wait for it
from adbc_driver_postgresql import StatementOptions, connect

from geo_assets.errors import GeoAssetsError
from geo_assets.kept import Kept

if TYPE_CHECKING:
    import pyarrow as pa
    from psycopg import sql

    from geo_assets.settings import Settings


#: How the driver begins, and how PostgreSQL ends: with the place in a COPY, and with the statement, which both name a
#: table that nobody knows.
_STATEMENT = re.compile(r"Failed to execute query '.*': ", re.DOTALL)
_COPY = re.compile(r"\w+: \[libpq\] Failed to execute COPY statement: \w+ ERROR: ")
_PLACE = re.compile(r" CONTEXT: COPY \w+, (line \d+(?:, column \w+)?)")
_CONTEXT = re.compile(r" CONTEXT: .*?(?= SQLSTATE: |$)")


class Session:
    """An ADBC connection, in one transaction at a time. Not thread-safe."""

    def __init__(self, database: AdbcDatabase, connection: AdbcConnection) -> None:
        self._database = database
        self._connection = connection

    def __call__(self, statement: sql.Composable) -> list[tuple[Any, ...]]:
        """Execute one statement; returns its rows, which should be few."""
        return self._rows(statement.as_string(None))

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        # what is asked here is answered in a few rows: to prepare it first, as a COPY, would take longer
        with self._executed(statement, **{StatementOptions.USE_COPY.value: "false"}) as reader:
            return [row for batch in reader for row in zip(*(column.to_pylist() for column in batch), strict=True)]

    def all_of(self, statements: Sequence[sql.Composable]) -> None:
        """Execute several statements without results, in one round trip: the driver takes one statement at a time."""
        from psycopg import sql

        block = sql.SQL("begin {}; end").format(sql.SQL("; ").join(statements))
        self(sql.SQL("do {}").format(sql.Literal(block.as_string(None))))

    def batches(self, query: sql.Composable) -> AbstractContextManager[pa.RecordBatchReader]:
        """Yield the rows of a query as a stream of Arrow batches, of some megabytes each."""
        return self._executed(query.as_string(None))

    @contextlib.contextmanager
    def _executed(self, query: str, **options: str) -> Iterator[pa.RecordBatchReader]:
        import pyarrow as pa

        with AdbcStatement(self._connection) as statement:
            statement.set_options(**options)
            statement.set_sql_query(query)
            stream, _ = interruptible(statement.execute_query, (), {}, statement.cancel)
            with pa.RecordBatchReader.from_stream(stream) as reader:
                yield reader

    def ingest(self, schema: str, name: str, reader: pa.RecordBatchReader) -> None:
        """Append batches to a table by binary COPY."""
        with AdbcStatement(self._connection) as statement:
            statement.set_options(
                **{
                    INGEST_OPTION_MODE: INGEST_OPTION_MODE_APPEND,
                    INGEST_OPTION_TARGET_TABLE: name,
                    IngestOptions.INGEST_TARGET_DB_SCHEMA.value: schema,
                }
            )
            statement.bind_stream(reader)
            interruptible(statement.execute_update, (), {}, statement.cancel)

    def commit(self) -> None:
        """Commit the transaction."""
        self._connection.commit()

    def tidied(self) -> bool:
        """Undo what was not committed, and let go all locks; whether the connection is of further use."""
        try:
            self._rows("select pg_advisory_unlock_all()")
            self._connection.rollback()
        except Error:
            return False
        return True

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        self._connection.close()
        self._database.close()

    def answers(self) -> bool:
        """Whether the connection is still there."""
        try:
            self._rows("select 1")
            self._connection.rollback()
        except Error:
            return False
        return True

    def rollback(self) -> None:
        """Undo the transaction; harmless if the connection is lost."""
        with contextlib.suppress(Error):
            self._connection.rollback()


def connected(dsn: str) -> Session:
    """Open a session. It costs 50 ms, because the driver reads all types of the database.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    try:
        database = connect(dsn)
        try:
            connection = AdbcConnection(database)
            connection.set_autocommit(False)
        except Error:
            database.close()
            raise
    except Error as error:
        raise GeoAssetsError(
            "DATABASE_UNAVAILABLE", f"PostgreSQL does not accept the connection: {message_of(error)}"
        ) from error
    return Session(database, connection)


def kept_sessions(settings: Settings) -> Kept[Session]:
    """Sessions that are kept; one that is left holds no lock any more."""

    def make() -> Session:
        return connected(settings.dsn("pipeline"))  # for each: a token expires

    return Kept(make, Session.close, tidy=Session.tidied, answers=Session.answers)


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
    said = " ".join(_STATEMENT.sub("the statement failed: ", str(error)).split())
    return _CONTEXT.sub("", _PLACE.sub(r" (\1)", _COPY.sub("", said)))[:300]
