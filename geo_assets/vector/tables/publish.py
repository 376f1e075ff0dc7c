"""Publishing staged tables as `vector.<name>` in one commit, while readers and views use the old one.

Here: the swap, the versions that it keeps, the rollback to them, and discarding what is not to be published.
Not here: making the staged table (`load.py`), adding to a published one (`merge.py`).

Order matters. The advisory lock queues publishers before any lock timeout runs. Dependent views are locked before the
table, as their readers do: the other way round each waits for the other (68 timeouts in 6 swaps, measured; 0 this way).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import psycopg
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import StreamReport
from geo_assets.vector.tables.attached import ATTACHED, View, copy_grants, move_view, rename_parts, views_over
from geo_assets.vector.tables.introspection import SCHEMA, columns, drifts, find, refuse_drift, run
from geo_assets.vector.tables.locks import Changed, lock_name, lock_names, retry_while_locked
from geo_assets.vector.tables.staging import StagedTable, check_table_name, discarded_on_failure

T = TypeVar("T")

#: Schema of replaced tables that can be restored; not for readers.
VERSIONS_SCHEMA = "vector_versions"

#: Called last in the transaction of a rollback, with what is about to be published; an exception undoes everything.
BeforeCommit = Callable[[psycopg.Connection[Any], "PublishedTable"], None]


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table that readers see."""

    table: str  # schema.name
    rows: int  # read back after the commit
    srid: int
    geometry_type: str | None
    has_z: bool
    drift: tuple[str, ...] = ()  # how it differs from the one that it replaced
    version: str | None = None  # the name of the replaced table now
    inserted: int = 0
    updated: int = 0
    superseded: str | None = None  # why the table holds something else: a load that was submitted later published first


def in_one_commit(conn: psycopg.Connection[Any], staged: Sequence[StagedTable], work: Callable[[], T]) -> T:
    """Run `work`, which publishes staged tables, in one transaction under the locks of all their names. If it fails,
    the old tables stay and the staged ones are dropped.

    Args:
        conn: not in a transaction; the owner of the tables.
        staged: from `load.stage_table`.
        work: called again if others hold one of the tables; an exception undoes everything.

    Raises:
        GeoAssetsError: what `work` raised; DATABASE_UNAVAILABLE, others hold the lock of a table.
        psycopg.Error: the database is unavailable.
    """
    oids: list[int | None] = []

    def attempt() -> T:
        _lock_all(conn, staged)
        oids[:] = [find(conn, table.home, table.staging_name) for table in staged]
        return work()

    with discarded_on_failure(conn, staged):
        done = retry_while_locked(conn, _in_words(staged), attempt)
    for table, oid in zip(staged, oids, strict=True):
        _read_back(conn, table, oid)
    return done


def rehearse(conn: psycopg.Connection[Any], staged: Sequence[StagedTable], work: Callable[[], T]) -> T:
    """Do everything that `in_one_commit` does and undo it: obstacles are known before anything is published.

    Raises:
        GeoAssetsError: as `in_one_commit`.
    """

    def attempt() -> T:
        _lock_all(conn, staged)
        with conn.transaction(force_rollback=True):
            return work()

    return retry_while_locked(conn, _in_words(staged), attempt)


def _lock_all(conn: psycopg.Connection[Any], staged: Sequence[StagedTable]) -> None:
    lock_names(conn, [table.table for table in staged])


def _in_words(staged: Sequence[StagedTable]) -> str:
    """The names of the tables for an error message; a source may have hundreds."""
    first, more = [table.table for table in staged[:5]], len(staged) - 5
    return ", ".join(first) + (f" or one of {more} more" if more > 0 else "")


def publish(
    conn: psycopg.Connection[Any],
    staged: StagedTable,
    *,
    keep_versions: int = 0,
    schema_drift: Literal["allow", "refuse"] = "allow",
) -> PublishedTable:
    """Publish a staged table as `vector.<table>`, replacing the existing one, in the caller's transaction
    (`in_one_commit`), which has the lock of its name.

    Args:
        conn: of the transaction.
        staged: complete.
        keep_versions: how many replaced tables stay in `vector_versions`, the newest.
        schema_drift: whether the columns may differ from those of the table that is replaced.

    Raises:
        GeoAssetsError: SCHEMA_DRIFT; SCHEMA_MISMATCH, a view, grant or trigger of the old table cannot be carried over.
    """
    label = f"{SCHEMA}.{staged.table}"
    ((search_path, _),) = run(  # without one, a view's definition has every name qualified
        conn, "select current_setting('search_path'), set_config('search_path', 'pg_catalog', true)"
    )
    new, old = find(conn, staged.home, staged.staging_name), find(conn, SCHEMA, staged.table)
    if new is None:
        raise GeoAssetsError("INTERNAL", f"{staged.home}.{staged.staging_name} is gone")
    differences = drifts(columns(conn, old), columns(conn, new)) if old is not None else []
    if differences and schema_drift == "refuse":
        raise refuse_drift(label, differences)
    views = [] if old is None else _lock_old(conn, old, staged.table)
    if old is not None:
        copy_grants(conn, old, staged)
        _rename(conn, SCHEMA, staged.table, _retired(staged))
    _move(conn, staged.home, staged.staging_name, SCHEMA, staged.table)
    for view in views:
        if view.direct:
            move_view(conn, view, label)
    version = _retire(conn, staged, old, keep_versions) if old is not None else None
    _place_rejects(conn, staged)
    rename_parts(conn, new, SCHEMA, staged.table)
    run(conn, sql.SQL("select set_config('search_path', {}, true)").format(sql.Literal(search_path)))
    return PublishedTable(
        label,
        staged.rows,
        staged.srid,
        staged.geometry_type,
        staged.has_z,
        tuple(map(str, differences)),
        version,
        inserted=staged.rows,
    )


def rollback(conn: psycopg.Connection[Any], table: str, *, before_commit: BeforeCommit | None = None) -> PublishedTable:
    """Restore the newest kept version as `vector.<table>`; the current one is dropped.

    Raises:
        GeoAssetsError: NO_VERSION; what `publish` raises.
    """
    check_table_name(table)

    def swap() -> PublishedTable:
        lock_name(conn, table)
        kept = _versions(conn, table)
        if not kept:
            raise GeoAssetsError("NO_VERSION", f"no earlier version of {SCHEMA}.{table} is kept")
        done = publish(conn, _version_as_staged(conn, table, kept[-1]))
        if before_commit is not None:
            before_commit(conn, done)
        return done

    return retry_while_locked(conn, table, swap)


def _version_as_staged(conn: psycopg.Connection[Any], table: str, number: int) -> StagedTable:
    name, rejects = f"{table}__v{number}", f"{table}__r{number}"
    oid = find(conn, VERSIONS_SCHEMA, name)
    ((rows,),) = run(conn, sql.SQL("select count(*) from {}").format(sql.Identifier(VERSIONS_SCHEMA, name)))
    typed = run(
        conn,
        "select srid, type, coord_dimension from public.geometry_columns where f_table_schema = %(schema)s and"
        " f_table_name = %(name)s",
        schema=VERSIONS_SCHEMA,
        name=name,
    )
    srid, kind, dimension = typed[0] if typed else (0, None, 2)
    return StagedTable(
        name,
        table,
        rows,
        srid,
        kind,
        dimension == 3,
        StreamReport(rows=rows),
        features=rows,
        columns=tuple(columns(conn, oid or 0)),
        rejects_name=rejects if find(conn, VERSIONS_SCHEMA, rejects) else None,
        home=VERSIONS_SCHEMA,
    )


def kept_tables(conn: psycopg.Connection[Any], table: str) -> list[sql.Identifier]:
    """The kept versions of a table, each with its rejects, of which there may be none."""
    return [
        sql.Identifier(VERSIONS_SCHEMA, f"{table}__{letter}{number}")
        for number in _versions(conn, table)
        for letter in "vr"
    ]


def _versions(conn: psycopg.Connection[Any], table: str) -> list[int]:
    """Return the numbers of the kept versions, the newest last."""
    names = [
        str(name)
        for (name,) in run(
            conn, "select tablename from pg_tables where schemaname = %(schema)s", schema=VERSIONS_SCHEMA
        )
    ]
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"{table}__v(\d+)", name)))


def _move(conn: psycopg.Connection[Any], schema: str, name: str, to_schema: str, to_name: str) -> None:
    """Move a table into another schema under another name, without colliding with existing names."""
    move = sql.SQL("alter table {} set schema {}").format(sql.Identifier(schema, name), sql.Identifier(to_schema))
    run(conn, sql.SQL("; ").join([move, _renaming(to_schema, name, to_name)]))


def _retire(conn: psycopg.Connection[Any], staged: StagedTable, old: int, keep: int) -> str | None:
    """Drop the old table and its rejects, or move them to the versions; return the table's name there."""
    rejects = f"{staged.table}__rejects"
    if keep <= 0:
        _drop_old(conn, staged, _retired(staged))
        if find(conn, SCHEMA, rejects) is not None:
            _drop_old(conn, staged, rejects)
        return None
    with conn.transaction(force_rollback=True):  # whatever prevents dropping it would move with it unnoticed
        _drop_old(conn, staged, _retired(staged))
    kept = _versions(conn, staged.table)
    number = kept[-1] + 1 if kept else 1
    rename_parts(conn, old, SCHEMA, _retired(staged), short=True)  # the new table needs their names
    _move(conn, SCHEMA, _retired(staged), VERSIONS_SCHEMA, f"{staged.table}__v{number}")
    rename_parts(conn, old, VERSIONS_SCHEMA, f"{staged.table}__v{number}", short=True)
    if find(conn, SCHEMA, rejects) is not None:
        _move(conn, SCHEMA, rejects, VERSIONS_SCHEMA, f"{staged.table}__r{number}")
    for stale in [*kept, number][:-keep]:
        for letter in "vr":
            run(
                conn,
                sql.SQL("drop table if exists {}").format(
                    sql.Identifier(VERSIONS_SCHEMA, f"{staged.table}__{letter}{stale}")
                ),
            )
    return f"{VERSIONS_SCHEMA}.{staged.table}__v{number}"


def _place_rejects(conn: psycopg.Connection[Any], staged: StagedTable) -> None:
    if staged.rejects_name is not None:
        _move(conn, staged.home, staged.rejects_name, SCHEMA, f"{staged.table}__rejects")


def _retired(staged: StagedTable) -> str:
    """Return the old table's name while both exist; `names.table_name` never gives two underscores."""
    return f"{staged.table}__old"


def _lock_old(conn: psycopg.Connection[Any], old: int, table: str) -> list[View]:
    """Lock the table and the views over it against readers, views first; return the locked views."""
    views = views_over(conn, old, table)
    locked = [view.identifier for view in views] + [sql.Identifier(SCHEMA, table)]
    run(conn, sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(", ").join(locked)))
    attached = run(conn, ATTACHED, table=old)
    if attached:
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{SCHEMA}.{table} cannot be replaced: it has the {attached[0][0]}",
            remedy="drop that, then submit again",
        )
    if find(conn, SCHEMA, table) != old or views_over(conn, old, table) != views:
        raise Changed
    return views


def _drop_old(conn: psycopg.Connection[Any], staged: StagedTable, name: str) -> None:
    try:
        run(conn, sql.SQL("drop table {}").format(sql.Identifier(SCHEMA, name)))
    except psycopg.errors.DependentObjectsStillExist as error:
        detail = " ".join((error.diag.message_detail or "").replace(_retired(staged), staged.table).split())
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{SCHEMA}.{staged.table} cannot be replaced: {detail}",
            remedy="drop what depends on it, then submit again",
        ) from error


def _rename(conn: psycopg.Connection[Any], schema: str, old: str, new: str) -> None:
    run(conn, _renaming(schema, old, new))


def _renaming(schema: str, old: str, new: str) -> sql.Composed:
    return sql.SQL("alter table {} rename to {}").format(sql.Identifier(schema, old), sql.Identifier(new))


def _read_back(conn: psycopg.Connection[Any], staged: StagedTable, oid: int | None) -> None:
    """Check what readers see now. A table that was merged, or replaced by a newer load meanwhile, is not the staged
    one.
    """
    with conn.transaction():
        if find(conn, SCHEMA, staged.table) != oid:
            return
        ((rows,),) = run(conn, sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, staged.table)))
        still_ours = find(conn, SCHEMA, staged.table) == oid
    if still_ours and rows != staged.rows:
        raise GeoAssetsError(
            "INTERNAL", f"{SCHEMA}.{staged.table} was published with {staged.rows} rows and has {rows}"
        )
