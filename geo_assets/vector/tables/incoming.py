"""The streams of a child that opened an untrusted file, checked before they go into the database.

Here: schema, batches, end and report of the two streams. Not here: their framing (`../ipc.py`), the tables that receive
them (`load.py`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.ipc import Batches, StreamViolationError
from geo_assets.vector.models import LayerPlan, StreamReport
from geo_assets.vector.schemas import REJECT_COLUMNS, reject_schema, wire_schema
from geo_assets.vector.tables.session import Session
from geo_assets.vector.tables.staging import STAGING_SCHEMA, staged_table
from geo_assets.vector.types import KEY, sql_type

if TYPE_CHECKING:
    import pyarrow as pa


class Incoming:
    """The child's stream: its schema is checked first, every batch before it is passed on, its end by the child's
    report.
    """

    def __init__(self, file: BinaryIO, report: Callable[[], StreamReport], plan: LayerPlan, source: str) -> None:
        self._file = file
        self._report = report
        self._plan = plan
        self._source = source
        self._settled = False
        self._answer: StreamReport | None = None
        self.rows = 0

    def copy(self, run: Session, name: str) -> None:
        """Copy everything to the table, its rows numbered from 1: a number that the server takes from a sequence costs
        it 0.25 microseconds more than one that is sent.
        """
        import pyarrow as pa

        expected = wire_schema(self._plan.columns, geometry=self._plan.geometry_type is not None)
        try:
            reader = Batches.open(self._file)
        except (OSError, EOFError, StreamViolationError) as error:
            raise self._broken(error) from error
        if not reader.schema.equals(expected):
            raise GeoAssetsError(
                "SCHEMA_MISMATCH",
                f"{self._source}: the stream has the columns {_shown(reader.schema)}, the table has {_shown(expected)}",
            )
        numbered = pa.schema([pa.field(KEY, pa.int64()), *expected])
        self.rows = self._ingest(run, name, numbered, _numbered(reader, numbered))

    def copy_rejects(self, run: Session, name: str) -> int:
        """Copy the second stream to a table, which is created if there are rows for it; return their number."""
        try:
            reader = Batches.open(self._file)
            batches = iter(reader)
            first = next(batches, None)
        except (OSError, EOFError):
            self.finish()  # raises if the child failed; otherwise the counts show whether anything is missing
            return 0
        except StreamViolationError as error:
            raise self._broken(error) from error
        if not reader.schema.equals(reject_schema()):
            raise GeoAssetsError(
                "SCHEMA_MISMATCH", f"{self._source}: the rejects have the columns {_shown(reader.schema)}"
            )
        if first is None:
            return 0
        _create_rejects(run, name)
        return self._ingest(run, name, reject_schema(), itertools.chain([first], batches))

    def _ingest(self, run: Session, name: str, schema: pa.Schema, source: Iterable[pa.RecordBatch]) -> int:
        """Pass batches on; return the number of rows."""
        import pyarrow as pa

        failure: list[Exception] = []
        rows = 0

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            try:
                for batch in source:
                    rows += len(batch)
                    yield batch
            except Exception as error:
                failure.append(error)  # Arrow's C interface would keep its text only
                raise

        try:
            run.ingest(STAGING_SCHEMA, name, pa.RecordBatchReader.from_batches(schema, batches()))
        except Exception:
            if not failure:
                raise
            if isinstance(failure[0], (StreamViolationError, EOFError, OSError)):
                raise self._broken(failure[0]) from failure[0]
            raise failure[0] from None  # ours, not the stream's
        return rows

    def finish(self) -> StreamReport:
        """Return the child's report: only now is it known that the stream was complete.

        Raises:
            GeoAssetsError: the child's error.
        """
        if self._answer is None:
            self._settled = True
            self._answer = self._report()
        return self._answer

    def abandon(self) -> None:
        """Read the child's answer to an abandoned call, so that it is not taken for the answer to the next one."""
        if not self._settled:
            self._settled = True
            self._file.close()
            with contextlib.suppress(GeoAssetsError):
                self._report()

    def _broken(self, error: Exception) -> GeoAssetsError:
        """Return the child's error for a stream that broke off; if it reports success, the stream is at fault. A child
        that violated the protocol is not asked: it may wait for us to read on.
        """
        if isinstance(error, StreamViolationError):
            self._settled = True  # its child is ended with the call
            return GeoAssetsError("SANDBOX_CRASHED", f"{self._source}: the reader sent {error}")
        try:
            self.finish()
        except GeoAssetsError as cause:
            return cause
        return GeoAssetsError("INTERNAL", f"{self._source}: the stream from the reader broke off: {error}")


def _numbered(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    rows = 0
    for batch in batches:
        numbers = pa.arange(rows + 1, rows + len(batch) + 1)  # not by NumPy, which a command does without
        rows += len(batch)
        yield pa.record_batch([numbers, *batch.columns], schema)


def _create_rejects(run: Session, name: str) -> None:
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(sql_type(wire)))
        for column, wire in REJECT_COLUMNS.items()
    ]
    run(
        sql.SQL("create table {} (reject_id bigint generated always as identity primary key, {})").format(
            staged_table(name), sql.SQL(", ").join(columns)
        )
    )


def _shown(schema: pa.Schema) -> str:
    text = ", ".join(f"{field.name} {field.type}" for field in schema)
    return text if len(text) <= 500 else text[:500] + "…"
