"""A layer's stream into a table of `vector_staging`: created, filled, counted and indexed in one transaction.

Here: the parent's half up to a table that nobody reads yet. Plain WKB goes straight into the typed geometry column by
binary COPY (ADBC): the column gives it its SRID and refuses what is of another type.
Not here: making it visible (`publish.py`), reading files (`../reader/`).

The stream comes from a child that opened an untrusted file. No message of it may take more memory than its bytes
(`../ipc.py`), its schema must be the plan's to the letter, every batch is validated before it is used, and the plan's
names and types can only be what `../models.py` lets through.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.ipc import Batches, StreamViolationError
from geo_assets.vector.models import LayerPlan, StreamReport
from geo_assets.vector.names import MAX_TABLE_NAME_BYTES
from geo_assets.vector.schemas import REJECT_COLUMNS, reject_schema, wire_schema
from geo_assets.vector.types import GEOMETRY_COLUMN, sql_type

if TYPE_CHECKING:
    import pyarrow as pa

STAGING_SCHEMA = "vector_staging"

_TABLE_NAME = re.compile(r"[a-z_][a-z0-9_]*")

#: `<table>__<suffix>` and `<table>__<suffix>r`, its rejects, stay within 63 bytes.
_SUFFIX = re.compile(r"[a-z0-9]{1,10}")

#: How the geometry is indexed. GiST serves everything; SP-GiST builds faster over many points that do not overlap;
#: BRIN is a thousand times smaller and of use only where the rows lie in spatial order (`cluster`).
IndexMethod = Literal["gist", "spgist", "brin"]

#: A leftover of our own suffix may still be held by the worker that made it. Milliseconds.
_LOCK_TIMEOUT_MS = 2000

#: SQLSTATE classes of a refused value; XX000 is what PostGIS raises for a geometry that it cannot take.
_REFUSED_VALUE = ("22", "23", "XX000", "54")
_UNAVAILABLE = ("08", "57P", "53300")
_DISK_FULL = "53100"


@dataclass(frozen=True, slots=True)
class StagedTable:
    """A table in `vector_staging`, complete but for its place."""

    staging_name: str
    table: str  # its name in `vector`
    rows: int
    srid: int  # 0 without geometry
    geometry_type: str | None
    has_z: bool
    report: StreamReport
    features: int = 0  # of the source: rows + rejected + filtered
    columns: tuple[str, ...] = ()  # attributes, in order
    rejects_name: str | None = None  # where there are rejected features
    home: str = STAGING_SCHEMA


@dataclass(frozen=True, slots=True)
class StageOptions:
    """How a table is made."""

    reader_role: str | None = None  # may select from it
    index: IndexMethod = "gist"
    cluster: bool = False  # rows in the order of the index, which is Hilbert's curve: neighbours share pages


def check_table_name(table: str) -> None:
    """Refuse a name that `names.table_name` would not give.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    if not _TABLE_NAME.fullmatch(table) or len(table) > MAX_TABLE_NAME_BYTES or "__" in table:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{table[:80]!r} is not a table name: at most {MAX_TABLE_NAME_BYTES} of a-z, 0-9 and single _, not starting"
            " with a digit",
            remedy="choose a plain name, for example vector.roads",
        )


def stage_table(
    database: str | Session,
    plan: LayerPlan,
    table: str,
    file: BinaryIO,
    report: Callable[[], StreamReport],
    *,
    staging_suffix: str,
    source: str,
    comment: str = "",
    options: StageOptions | None = None,
) -> StagedTable:
    """Load one layer's streams into `vector_staging.<table>__<suffix>`, its rejects beside it. Whatever fails, no table
    is left.

    Args:
        database: of a role that may create in `vector_staging`: a libpq connection string, or a session to be used
            again.
        plan: what the stream is.
        table: the name that it will have in `vector`.
        file: the two Arrow IPC streams that `read.stream` writes.
        report: gives what `read.stream` returned, once the stream is at its end.
        staging_suffix: of this attempt, 1-10 of a-z and 0-9; a leftover with the same suffix is replaced.
        source: what the layer came from, for messages and the table's comment.
        comment: more lines for the table's comment.
        options: how the table is made.

    Raises:
        GeoAssetsError: what befell the child; SCHEMA_MISMATCH; VECTOR_UNSUPPORTED_TYPE, a value that PostgreSQL
            refuses; INVALID_CRS, PostGIS does not know the SRID; DATABASE_UNAVAILABLE; DISK_FULL.
    """
    from adbc_driver_manager import Error

    check_table_name(table)
    if not _SUFFIX.fullmatch(staging_suffix):
        raise GeoAssetsError("INTERNAL", f"{staging_suffix!r} is not a staging suffix")
    name = f"{table}__{staging_suffix}"
    options = options or StageOptions()
    incoming = _Incoming(file, report, plan, source)
    with contextlib.nullcontext(database) if isinstance(database, Session) else open_session(database) as run:
        try:
            _create(run, plan, name, source)
            incoming.copy(run, name)
            rejected = incoming.copy_rejects(run, f"{name}r")
            sent = incoming.finish()
            _check_count(run, plan, name, sent, incoming.rows, source)
            _check_rejects(run, f"{name}r", sent, rejected, source)
            _complete(run, plan, name, _table_comment(plan, source, comment), options)
            if rejected:
                _complete_rejects(run, f"{name}r", table, options)
            run.commit()
        except Error as error:
            run.rollback()
            incoming.abandon()
            raise _database_error(error, source) from error
        except BaseException:
            run.rollback()
            incoming.abandon()
            raise
    return StagedTable(
        name,
        table,
        sent.rows,
        plan.srid,
        plan.geometry_type,
        plan.has_z,
        sent,
        features=plan.feature_count,
        columns=tuple(column.name for column in plan.columns),
        rejects_name=f"{name}r" if rejected else None,
    )


class Session:
    """An ADBC connection, in one transaction at a time. Not for several threads at once."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __call__(self, statement: sql.Composable) -> list[tuple[Any, ...]]:
        """Execute one statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement.as_string(None))
            return cursor.fetchall() if cursor.description else []

    def ingest(self, name: str, reader: pa.RecordBatchReader) -> None:
        """Append batches to a table of `vector_staging` by binary COPY."""
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(name, reader, mode="append", db_schema_name=STAGING_SCHEMA)

    def commit(self) -> None:
        """Keep what was done."""
        self._connection.commit()

    def rollback(self) -> None:
        """Forget what was done; a connection that is lost has forgotten it already."""
        from adbc_driver_manager import Error

        with contextlib.suppress(Error):
            self._connection.rollback()


@contextlib.contextmanager
def open_session(dsn: str) -> Iterator[Session]:
    """A connection for several tables one after the other: making one costs 50 ms, for the driver reads all types of
    the database.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    import adbc_driver_postgresql.dbapi as adbc
    from adbc_driver_manager import Error

    try:
        connection = adbc.connect(dsn)
    except Error as error:
        raise GeoAssetsError(
            "DATABASE_UNAVAILABLE", f"PostgreSQL does not take the connection: {_said(error)}"
        ) from error
    with connection:  # closing without commit rolls back
        yield Session(connection)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


class _Incoming:
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
        """Send everything to the table."""
        import pyarrow as pa

        expected = wire_schema(self._plan.columns, geometry=self._plan.geometry_type is not None)
        try:
            reader = Batches.open(self._file)
        except (pa.ArrowInvalid, OSError, EOFError, StreamViolationError) as error:
            raise self._broken(error) from error
        if not reader.schema.equals(expected):
            raise GeoAssetsError(
                "SCHEMA_MISMATCH",
                f"{self._source}: the stream has the columns {_shown(reader.schema)}, the table has {_shown(expected)}",
            )
        self.rows = self._ingest(run, name, expected, reader)

    def copy_rejects(self, run: Session, name: str) -> int:
        """Send the second stream to a table that is made if there is anything for it; returns its rows."""
        import pyarrow as pa

        try:
            reader = Batches.open(self._file)
            batches = iter(reader)
            first = next(batches, None)
        except (pa.ArrowInvalid, OSError, EOFError):
            self.finish()  # a child that fell says so; otherwise the count tells whether anything is missing
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
        """Pass batches on, each validated; returns the rows."""
        import pyarrow as pa

        failure: list[Exception] = []
        rows = 0

        def batches() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            try:
                for batch in source:
                    batch.validate(full=True)
                    rows += len(batch)
                    yield batch
            except Exception as error:
                failure.append(error)  # Arrow's C interface would pass on its text alone
                raise

        try:
            run.ingest(name, pa.RecordBatchReader.from_batches(schema, batches()))
        except Exception:
            if failure:
                raise self._broken(failure[0]) from failure[0]
            raise
        return rows

    def finish(self) -> StreamReport:
        """The child's report: only now is it known that the stream was whole.

        Raises:
            GeoAssetsError: what befell the child.
        """
        if self._answer is None:
            self._settled = True
            self._answer = self._report()
        return self._answer

    def abandon(self) -> None:
        """Take the child's answer to a call that came to nothing, so that it is not taken for the answer to
        its next.
        """
        if not self._settled:
            self._settled = True
            self._file.close()
            with contextlib.suppress(GeoAssetsError):
                self._report()

    def _broken(self, error: Exception) -> GeoAssetsError:
        """What the child says of a stream that breaks off; if it says that all is well, the stream is at fault. One
        that sends what no honest child does is not asked.
        """
        if isinstance(error, StreamViolationError):
            self._settled = True  # its child is ended with the call
            return GeoAssetsError("SANDBOX_CRASHED", f"{self._source}: the reader sent {error}")
        try:
            self.finish()
        except GeoAssetsError as cause:
            return cause
        return GeoAssetsError("INTERNAL", f"{self._source}: the stream from the reader broke off: {error}")


def _create(run: Session, plan: LayerPlan, name: str, source: str) -> None:
    run(sql.SQL("set local lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT_MS)))
    run(sql.SQL("set local statement_timeout = 0"))  # the child's deadline ends the COPY
    suffix = name.rpartition("__")[2]
    run(
        sql.SQL("select pg_advisory_lock_shared({})").format(staging_lock(suffix))
    )  # while the session lives, nobody sweeps its tables
    if plan.srid and not run(sql.SQL("select 1 from spatial_ref_sys where srid = {}").format(sql.Literal(plan.srid))):
        _add_reference(run, plan, source)
    run(sql.SQL("drop table if exists {}, {}").format(_staged(name), _staged(f"{name}r")))
    columns: list[sql.Composable] = [sql.SQL("gid bigint generated always as identity")]
    columns += [
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.sql_type)) for column in plan.columns
    ]
    if plan.geometry_type is not None:
        columns.append(sql.SQL("{} {}").format(sql.Identifier(GEOMETRY_COLUMN), _geometry_sql(plan)))
    run(sql.SQL("create table {} ({})").format(_staged(name), sql.SQL(", ").join(columns)))


def _add_reference(run: Session, plan: LayerPlan, source: str) -> None:
    """Teach PostGIS a reference system of PROJ's, from PROJ's own definition: the plan only names it."""
    from adbc_driver_manager import Error

    from geo_assets.vector.crs import definition_of

    definition = definition_of(plan.authority, plan.srid)
    why = ""
    if definition is not None:
        values = sql.SQL(", ").join(map(sql.Literal, (plan.srid, plan.authority, *definition)))
        try:
            run(sql.SQL("select {}.add_spatial_reference({})").format(sql.Identifier(STAGING_SCHEMA), values))
        except Error as error:
            why = f", and does not take it: {_said(error)}"
        else:
            return
    raise GeoAssetsError(
        "INVALID_CRS",
        f"{source}: this PostGIS does not know {plan.crs_code}{why}",
        remedy="submit with --param target_crs=EPSG:… of a CRS that it knows",
    )


def staging_lock(suffix: str) -> sql.Composed:
    """The number of the lock that says that an attempt's staged tables are somebody's."""
    return sql.SQL("hashtextextended({}, 0)").format(sql.Literal(f"geo_assets:staging:{suffix}"))


def _geometry_sql(plan: LayerPlan) -> sql.Composed:
    """`geometry(MULTIPOLYGONZ, 2193)`; the model lets five types and a range of numbers through."""
    return sql.SQL("geometry({}, {})").format(
        sql.SQL(f"{plan.geometry_type}{'Z' if plan.has_z else ''}"), sql.Literal(plan.srid)
    )


def _create_rejects(run: Session, name: str) -> None:
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(sql_type(wire)))
        for column, wire in REJECT_COLUMNS.items()
    ]
    run(
        sql.SQL("create table {} (reject_id bigint generated always as identity primary key, {})").format(
            _staged(name), sql.SQL(", ").join(columns)
        )
    )


def _staged(name: str) -> sql.Identifier:
    return sql.Identifier(STAGING_SCHEMA, name)


def _check_count(run: Session, plan: LayerPlan, name: str, sent: StreamReport, received: int, source: str) -> None:
    ((stored,),) = run(sql.SQL("select count(*) from {}").format(_staged(name)))
    if not stored == received == sent.rows:
        raise GeoAssetsError(
            "SCHEMA_MISMATCH", f"{source}: {sent.rows} rows were sent, {received} received and {stored} stored"
        )
    if plan.feature_count != sent.rows + sum(sent.rejected.values()) + sent.filtered:
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{source}: {plan.feature_count} features are not {sent.rows} loaded, {sum(sent.rejected.values())}"
            f" rejected and {sent.filtered} filtered",
        )


def _check_rejects(run: Session, name: str, sent: StreamReport, received: int, source: str) -> None:
    stored = run(sql.SQL("select count(*) from {}").format(_staged(name)))[0][0] if received else 0
    if not stored == received == sum(sent.rejected.values()):
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{source}: of {sum(sent.rejected.values())} rejected features {received} came and {stored} are stored",
        )


def _complete(run: Session, plan: LayerPlan, name: str, comment: str, options: StageOptions) -> None:
    """Indexes after the load (sorted builds, a third of the work), statistics, comments, grants."""
    run(sql.SQL("alter table {} add primary key (gid)").format(_staged(name)))
    if plan.geometry_type is not None:
        index = sql.Identifier(f"{name}_i"[:63])
        run(
            sql.SQL("create index {} on {} using {} ({})").format(
                index, _staged(name), sql.SQL(options.index), sql.Identifier(GEOMETRY_COLUMN)
            )
        )
        if options.cluster:
            _cluster(run, name, index, options)
    run(sql.SQL("analyze {}").format(_staged(name)))
    run(sql.SQL("comment on table {} is {}").format(_staged(name), _text(comment)))
    for column in plan.columns:
        target = sql.Identifier(STAGING_SCHEMA, name, column.name)
        run(sql.SQL("comment on column {} is {}").format(target, _text(column.source_name)))
    _grant(run, name, options)


def _cluster(run: Session, name: str, index: sql.Identifier, options: StageOptions) -> None:
    """Rewrite the table in the order of a GiST index; PostGIS builds one along Hilbert's curve. The others have no
    order.
    """
    if options.index == "gist":
        run(sql.SQL("cluster {} using {}").format(_staged(name), index))
        return
    sorted_by = sql.Identifier(f"{name[:60]}_h")
    run(
        sql.SQL("create index {} on {} using gist ({})").format(
            sorted_by, _staged(name), sql.Identifier(GEOMETRY_COLUMN)
        )
    )
    run(sql.SQL("cluster {} using {}").format(_staged(name), sorted_by))
    run(sql.SQL("drop index {}").format(sql.Identifier(STAGING_SCHEMA, f"{name[:60]}_h")))


def _complete_rejects(run: Session, name: str, table: str, options: StageOptions) -> None:
    text = (
        f"Features of the source of {table} that could not be loaded, as they lie in the file, and why. src_fid: the"
        " feature's id there, or its place from 1."
    )
    run(sql.SQL("comment on table {} is {}").format(_staged(name), _text(text)))
    _grant(run, name, options)


def _grant(run: Session, name: str, options: StageOptions) -> None:
    if options.reader_role:
        run(sql.SQL("grant select on {} to {}").format(_staged(name), sql.Identifier(options.reader_role)))


def _text(value: str) -> sql.Literal:
    return sql.Literal(value.replace("\0", "").encode("utf-8", "replace").decode())


def _table_comment(plan: LayerPlan, source: str, comment: str) -> str:
    layer = f", layer {plan.layer}" if plan.layer else ""
    member = f", {plan.member}" if plan.member else ""
    moved = f"; transformed from {plan.crs_name}" if plan.transform_name else ""
    return "\n".join(filter(None, (f"{source}{member}{layer}{moved}", comment)))


def _shown(schema: pa.Schema) -> str:
    text = ", ".join(f"{field.name} {field.type}" for field in schema)
    return text if len(text) <= 500 else text[:500] + "…"


def _database_error(error: Any, source: str) -> GeoAssetsError:
    state = getattr(error, "sqlstate", None) or ""
    said = _said(error)
    if not state or state.startswith(_UNAVAILABLE):
        return GeoAssetsError("DATABASE_UNAVAILABLE", f"{source}: the database was lost while it was loaded: {said}")
    if state == _DISK_FULL:
        return GeoAssetsError("DISK_FULL", f"{source}: the database has no room left: {said}")
    if state.startswith(_REFUSED_VALUE):
        return GeoAssetsError(
            "VECTOR_UNSUPPORTED_TYPE",
            f"{source}: PostgreSQL refused a value: {said}",
            remedy="correct the value and upload it again",
        )
    return GeoAssetsError("INTERNAL", f"{source}: the database refused the load ({state}): {said}")
