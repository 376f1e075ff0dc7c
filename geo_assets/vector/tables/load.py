"""A layer's stream into a table of `vector_staging`: created, filled, counted and indexed in one transaction.

Here: the parent's part, up to a table that is not visible yet. Plain WKB goes directly into the typed geometry column
by binary COPY (ADBC): the column gives it its SRID and refuses other types.
Not here: making it visible (`publish.py`), reading files (`../reader/`).

The stream comes from a child that opened an untrusted file. No message of it may take more memory than its bytes
(`../ipc.py`), its schema must be exactly the plan's, every batch is validated before it is used, and the plan's names
and types are limited to what `../models.py` accepts.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from adbc_driver_manager import Error
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import LayerPlan, StreamReport
from geo_assets.vector.tables.incoming import Incoming
from geo_assets.vector.tables.session import Session, message_of, open_session
from geo_assets.vector.tables.staging import (
    STAGING_SCHEMA,
    StagedTable,
    check_table_name,
    staged_table,
    staging_lock,
    text_literal,
)
from geo_assets.vector.types import FEWER_COLUMNS, GEOMETRY_COLUMN, KEY

#: `<table>__<suffix>` and `<table>__<suffix>r`, its rejects, stay within 63 bytes.
_SUFFIX = re.compile(r"[a-z0-9]{1,10}")

#: How the geometry is indexed. GiST serves everything; SP-GiST builds faster over many points that do not overlap; BRIN
#: is a thousand times smaller and useful only where the rows are in spatial order (`cluster`).
IndexMethod = Literal["gist", "spgist", "brin"]

#: Milliseconds to wait for a leftover of our own suffix, which the worker that made it may still hold.
_LOCK_TIMEOUT_MS = 2000

#: SQLSTATE classes of a refused value; PostGIS raises XX000 for a geometry that it cannot accept.
_REFUSED_VALUE = ("22", "23", "XX000", "54")
_WIDE_ROW = re.compile(r"row is too big: size (\d+), maximum size (\d+)")
_UNAVAILABLE = ("08", "57P", "53300")
_DISK_FULL = "53100"

#: Whole numbers from here on are not all exact in single precision.
_INEXACT_FLOAT4 = 1 << 24


@dataclass(frozen=True, slots=True)
class StageOptions:
    """How a table is created."""

    reader_role: str | None = None  # may select from it
    index: IndexMethod = "gist"
    cluster: bool = False  # rows in the order of the index, which is Hilbert's curve: neighbours share pages


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
    """Load one layer's streams into `vector_staging.<table>__<suffix>`, its rejects into a second table. On failure no
    table is left.

    Args:
        database: a libpq connection string of a role that may create in `vector_staging`, or a session to reuse.
        plan: the plan of the layer.
        table: the name that it will have in `vector`.
        file: the two Arrow IPC streams that `stream` writes.
        report: returns what `stream` returned, once the stream has ended.
        staging_suffix: identifies this attempt, 1-10 of a-z and 0-9; a leftover with the same suffix is replaced.
        source: what the layer came from, for messages and the table's comment.
        comment: more lines for the table's comment.
        options: how the table is created.

    Raises:
        GeoAssetsError: what happened to the child; SCHEMA_MISMATCH; VECTOR_UNSUPPORTED_TYPE, a value that PostgreSQL
            refuses; INVALID_CRS, PostGIS does not know the SRID; DATABASE_UNAVAILABLE; DISK_FULL.
    """
    check_table_name(table)
    if not _SUFFIX.fullmatch(staging_suffix):
        raise GeoAssetsError("INTERNAL", f"{staging_suffix!r} is not a staging suffix")
    name = f"{table}__{staging_suffix}"
    options = options or StageOptions()
    incoming = Incoming(file, report, plan, source)
    with contextlib.nullcontext(database) if isinstance(database, Session) else open_session(database) as run:
        try:
            _create(run, plan, name, source)
            incoming.copy(run, name)
            rejected = incoming.copy_rejects(run, f"{name}r")
            sent = incoming.finish()
            stored = _keyed(run, name, incoming.rows)
            _check_count(plan, stored, sent, incoming.rows, source)
            _check_rejects(run, f"{name}r", sent, rejected, source)
            _complete(run, plan, name, _table_comment(plan, source, comment), options)
            if rejected:
                _complete_rejects(run, f"{name}r", table, options)
            run.commit()
        except Error as error:
            run.rollback()
            incoming.abandon()
            raise _database_error(error, source, run) from error
        except BaseException:
            run.rollback()
            incoming.abandon()
            raise
    return _staged(plan, table, name, sent, rejected)


def _staged(plan: LayerPlan, table: str, name: str, sent: StreamReport, rejected: int) -> StagedTable:
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


def _create(run: Session, plan: LayerPlan, name: str, source: str) -> None:
    is_known = _begin(run, plan.srid, name.rpartition("__")[2])
    if plan.srid and not is_known:
        _add_reference(run, plan, source)
    columns: list[sql.Composable] = [sql.SQL("{} bigint generated always as identity").format(sql.Identifier(KEY))]
    columns += [
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.sql_type)) for column in plan.columns
    ]
    if plan.geometry_type is not None:
        columns.append(sql.SQL("{} {}").format(sql.Identifier(GEOMETRY_COLUMN), _geometry_sql(plan)))
    run.all_of(
        [
            sql.SQL("drop table if exists {}, {}").format(staged_table(name), staged_table(f"{name}r")),
            sql.SQL("create table {} ({})").format(staged_table(name), sql.SQL(", ").join(columns)),
        ]
    )


def _begin(run: Session, srid: int, suffix: str) -> bool:
    """Limit the transaction, and take the lock of its tables, which are not swept while the session lives; whether
    PostGIS knows the SRID.

    The commit does not wait for the disk: that of the publication comes after it, and waits for both.
    """
    settings = {"lock_timeout": _LOCK_TIMEOUT_MS, "statement_timeout": 0, "synchronous_commit": "off"}
    limits = [
        sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(str(value)))
        for name, value in settings.items()  # the child's deadline ends the COPY
    ]
    known = sql.SQL("exists (select from spatial_ref_sys where srid = {})").format(sql.Literal(srid))
    lock = sql.SQL("pg_advisory_lock_shared({})").format(staging_lock(suffix))
    ((is_known, *_),) = run(sql.SQL("select {}").format(sql.SQL(", ").join([known, *limits, lock])))
    return bool(is_known)


def _add_reference(run: Session, plan: LayerPlan, source: str) -> None:
    """Add a reference system of PROJ to PostGIS, by PROJ's own definition: the plan only names it."""
    from geo_assets.vector.crs import definition_of

    definition = definition_of(plan.authority, plan.srid)
    why = ""
    if definition is not None:
        values = sql.SQL(", ").join(map(sql.Literal, (plan.srid, plan.authority, *definition)))
        try:
            run(sql.SQL("select {}.add_spatial_reference({})").format(sql.Identifier(STAGING_SCHEMA), values))
        except Error as error:
            why = f", and does not take it: {message_of(error)}"
        else:
            return
    raise GeoAssetsError(
        "INVALID_CRS",
        f"{source}: this PostGIS does not know {plan.crs_code}{why}",
        remedy="submit with --param target_crs=EPSG:… of a CRS that it knows",
    )


def _geometry_sql(plan: LayerPlan) -> sql.Composed:
    """Return `geometry(MULTIPOLYGONZ, 2193)`; the model accepts five types and a range of numbers."""
    return sql.SQL("geometry({}, {})").format(
        sql.SQL(f"{plan.geometry_type}{'Z' if plan.has_z else ''}"), sql.Literal(plan.srid)
    )


def _keyed(run: Session, name: str, last: int) -> int:
    """Add the primary key, and have its sequence go on after the last number; returns the number of rows. PostgreSQL
    counts them while it builds the index, so that the table need not be read once more for it: exactly, because all
    are of this transaction, and as a float4, which is exact below 2^24. It says -1 of an empty table, and PostgreSQL 18
    of any where autovacuum is off.
    """
    table = staged_table(name)
    run(sql.SQL("alter table {} add primary key ({})").format(table, sql.Identifier(KEY)))
    ((counted, _),) = run(
        sql.SQL(
            "select reltuples::bigint, setval(pg_get_serial_sequence({0}, {1}), {2}, {3}) from pg_class where oid ="
            " {0}::regclass"
        ).format(sql.Literal(table.as_string(None)), sql.Literal(KEY), sql.Literal(max(last, 1)), sql.Literal(last > 0))
    )
    if 0 <= counted < _INEXACT_FLOAT4:
        return int(counted)
    ((counted,),) = run(sql.SQL("select count(*) from {}").format(table))
    return int(counted)


def _check_count(plan: LayerPlan, stored: int, sent: StreamReport, received: int, source: str) -> None:
    if not stored == received == sent.rows:
        raise GeoAssetsError(
            "SCHEMA_MISMATCH", f"{source}: {sent.rows} rows were sent, {received} received and {stored} stored"
        )
    if plan.looked_at_later and not sent.as_planned:
        return  # the layer is not what its file states: it is looked at, and loaded again
    if plan.feature_count != sent.rows + sum(sent.rejected.values()) + sent.filtered:
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{source}: {plan.feature_count} features are not {sent.rows} loaded, {sum(sent.rejected.values())}"
            f" rejected and {sent.filtered} filtered",
        )


def _check_rejects(run: Session, name: str, sent: StreamReport, received: int, source: str) -> None:
    stored = run(sql.SQL("select count(*) from {}").format(staged_table(name)))[0][0] if received else 0
    if not stored == received == sum(sent.rejected.values()):
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{source}: of {sum(sent.rejected.values())} rejected features {received} came and {stored} are stored",
        )


def _complete(run: Session, plan: LayerPlan, name: str, comment: str, options: StageOptions) -> None:
    """Create the geometry index after the load (a sorted build, a third of the work), statistics, comments, grants."""
    table = staged_table(name)
    statements: list[sql.Composed] = []
    if plan.geometry_type is not None:
        index = sql.Identifier(f"{name}_i"[:63])
        statements.append(
            sql.SQL("create index {} on {} using {} ({})").format(
                index, table, sql.SQL(options.index), sql.Identifier(GEOMETRY_COLUMN)
            )
        )
        if options.cluster:
            run.all_of(statements)
            statements = []
            _cluster(run, name, index, options)
    statements.append(sql.SQL("analyze {}").format(table))
    statements.append(sql.SQL("comment on table {} is {}").format(table, text_literal(comment)))
    for column in plan.columns:
        target = sql.Identifier(STAGING_SCHEMA, name, column.name)
        statements.append(sql.SQL("comment on column {} is {}").format(target, text_literal(column.source_name)))
    run.all_of(statements)
    _grant(run, name, options)


def _cluster(run: Session, name: str, index: sql.Identifier, options: StageOptions) -> None:
    """Rewrite the table in the order of a GiST index; PostGIS builds one along Hilbert's curve. The others have no
    order.
    """
    if options.index == "gist":
        run(sql.SQL("cluster {} using {}").format(staged_table(name), index))
        return
    sorted_by = sql.Identifier(f"{name[:60]}_h")
    run(
        sql.SQL("create index {} on {} using gist ({})").format(
            sorted_by, staged_table(name), sql.Identifier(GEOMETRY_COLUMN)
        )
    )
    run(sql.SQL("cluster {} using {}").format(staged_table(name), sorted_by))
    run(sql.SQL("drop index {}").format(sql.Identifier(STAGING_SCHEMA, f"{name[:60]}_h")))


def _complete_rejects(run: Session, name: str, table: str, options: StageOptions) -> None:
    text = (
        f"Features of the source of {table} that could not be loaded, as they lie in the file, and why. src_fid: the"
        " feature's id there, or its place from 1."
    )
    run(sql.SQL("comment on table {} is {}").format(staged_table(name), text_literal(text)))
    _grant(run, name, options)


def _grant(run: Session, name: str, options: StageOptions) -> None:
    if options.reader_role:
        run(sql.SQL("grant select on {} to {}").format(staged_table(name), sql.Identifier(options.reader_role)))


def _table_comment(plan: LayerPlan, source: str, comment: str) -> str:
    layer = f", layer {plan.layer}" if plan.layer else ""
    member = f", {plan.member}" if plan.member else ""
    moved = f"; transformed from {plan.crs_name}" if plan.transform_name else ""
    return "\n".join(filter(None, (f"{source}{member}{layer}{moved}", comment)))


def _database_error(error: Any, source: str, run: Session) -> GeoAssetsError:
    state = getattr(error, "sqlstate", None) or ""
    said = message_of(error)
    if not state and run.answers():  # the driver itself refused a value, and says neither which nor why
        state = _REFUSED_VALUE[0]
    if not state or state.startswith(_UNAVAILABLE):
        return GeoAssetsError("DATABASE_UNAVAILABLE", f"{source}: the database was lost while it was loaded: {said}")
    if state == _DISK_FULL:
        return GeoAssetsError("DISK_FULL", f"{source}: the database has no room left: {said}")
    if found := _WIDE_ROW.search(said):
        return GeoAssetsError(
            "VECTOR_UNSUPPORTED_TYPE",
            f"{source}: a row takes {int(found[1]):,} bytes, and PostgreSQL has at most {int(found[2]):,} for the"
            " values of a row that it cannot store apart: numbers, dates and times",
            remedy=FEWER_COLUMNS,
        )
    if state.startswith(_REFUSED_VALUE):
        return GeoAssetsError(
            "VECTOR_UNSUPPORTED_TYPE",
            f"{source}: PostgreSQL refused a value: {said}",
            remedy="correct the value and upload it again",
        )
    return GeoAssetsError("INTERNAL", f"{source}: the database refused the load ({state}): {said}")
