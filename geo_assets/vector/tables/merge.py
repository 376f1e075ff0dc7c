"""Adding a staged table to a published one: `append`, or `upsert` by a key, in one commit.

Here: the two statements, and the comparison of the schemas before them. Not here: replacing a table (`publish.py`).

Readers see the old table until the commit; they are not locked out unless a column is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import psycopg
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.text import how_many
from geo_assets.vector.tables.introspection import SCHEMA, Drift, columns, drifts, find, first_line, refuse_drift, run
from geo_assets.vector.tables.publish import PublishedTable, publish
from geo_assets.vector.tables.staging import StagedTable
from geo_assets.vector.types import GEOMETRY_COLUMN

Mode = Literal["replace", "append", "upsert"]


def merge(
    conn: psycopg.Connection[Any],
    staged: StagedTable,
    mode: Literal["append", "upsert"],
    *,
    key: Sequence[str] = (),
    schema_drift: Literal["allow", "refuse"] = "refuse",
) -> PublishedTable:
    """Add the rows of a staged table to `vector.<table>`; if that does not exist yet, the staged table becomes it. In
    the caller's transaction (`in_one_commit`), which has the lock of its name.

    Args:
        conn: of the transaction.
        staged: from `load.stage_table`.
        mode: append, or upsert: a row whose key exists replaces that row, if it differs.
        key: columns of the table, for upsert; the table gets a unique index on them.
        schema_drift: with `allow`, new columns are added and missing ones are null; types may only be narrower than the
            table's.

    Raises:
        GeoAssetsError: INVALID_KEY; SCHEMA_DRIFT; what `publish` raises.
    """
    if mode == "upsert":
        _check_key(staged, key)
        _index_key(conn, staged, key)
    old, new = find(conn, SCHEMA, staged.table), find(conn, staged.home, staged.staging_name)
    if old is None:
        return publish(conn, staged)
    if new is None:
        raise GeoAssetsError("INTERNAL", f"{staged.home}.{staged.staging_name} is gone")
    label = f"{SCHEMA}.{staged.table}"
    differences, empty = _by_values(conn, staged, drifts(columns(conn, old), columns(conn, new)))
    _fit_columns(conn, label, staged, differences, allowed=schema_drift == "allow")
    inserted, updated = _insert(conn, staged, mode, key, empty)
    _merge_rejects(conn, staged)
    run(conn, sql.SQL("analyze {}").format(sql.Identifier(SCHEMA, staged.table)))
    run(conn, sql.SQL("drop table {}").format(sql.Identifier(staged.home, staged.staging_name)))
    ((rows,),) = run(conn, sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, staged.table)))
    return PublishedTable(
        label,
        rows,
        staged.srid,
        staged.geometry_type,
        staged.has_z,
        tuple(map(str, differences)),
        inserted=inserted,
        updated=updated,
    )


def _check_key(staged: StagedTable, key: Sequence[str]) -> None:
    unknown = [column for column in key if column not in staged.columns]
    if not key or unknown:
        said = f"{unknown[0]!r} is not a column of {staged.table}" if unknown else "upsert needs a key"
        raise GeoAssetsError("INVALID_KEY", f"{said}; its columns are {', '.join(staged.columns[:20])}")


def _index_key(conn: psycopg.Connection[Any], staged: StagedTable, key: Sequence[str]) -> None:
    """Index the key of the staged table, which must be present and distinct."""
    table, names = sql.Identifier(staged.home, staged.staging_name), sql.SQL(", ").join(map(sql.Identifier, key))
    missing = sql.SQL(" or ").join(sql.SQL("{} is null").format(sql.Identifier(column)) for column in key)
    ((nulls,),) = run(conn, sql.SQL("select count(*) from {} where {}").format(table, missing))
    if nulls:
        raise GeoAssetsError(
            "INVALID_KEY",
            f"{how_many(nulls, 'row of the source has', 'rows of the source have')} no {', '.join(key)}",
        )
    try:
        run(conn, sql.SQL("create unique index on {} ({})").format(table, names))
    except psycopg.errors.UniqueViolation as error:
        raise GeoAssetsError("INVALID_KEY", f"the source has several rows of one key: {_detail(error)}") from error
    except psycopg.errors.UndefinedObject as error:
        raise GeoAssetsError("INVALID_KEY", f"{', '.join(key)} cannot be a key: {first_line(error)}") from error


def _detail(error: psycopg.Error) -> str:
    return " ".join((error.diag.message_detail or first_line(error)).split())[:200]


def _by_values(
    conn: psycopg.Connection[Any], staged: StagedTable, differences: list[Drift]
) -> tuple[list[Drift], dict[str, str]]:
    """Look at the values of columns that have another type than in the table: a text format tells a type by its values.

    Returns:
        the differences without those of columns that are null throughout, which fit any type; and the types in the
        table of these columns.
    """
    retyped = [each for each in differences if each.retypes and each.column != GEOMETRY_COLUMN]
    if not retyped:
        return differences, {}
    table = sql.Identifier(staged.home, staged.staging_name)
    sums = sql.SQL(", ").join(
        sql.SQL("count({0}), coalesce(bool_and({1}), false)").format(
            sql.Identifier(each.column), _is_exact(each, sql.Identifier(each.column))
        )
        for each in retyped
    )
    (found,) = run(conn, sql.SQL("select {} from {}").format(sums, table))
    counted = dict(zip([each.column for each in retyped], zip(found[::2], found[1::2], strict=True), strict=True))
    empty = {each.column: str(each.old) for each in retyped if not counted[each.column][0]}
    left = [
        replace(each, is_exact=counted[each.column][1]) if each.column in counted else each
        for each in differences
        if each.column not in empty
    ]
    return left, empty


def _is_exact(drift: Drift, column: sql.Identifier) -> sql.Composable:
    """The condition that a value of one type is the same in the other; null where it is not asked."""
    if (drift.new, drift.old) == ("bigint", "double precision"):  # no number beyond it is sure to be a double
        return sql.SQL("{} between -(1::bigint << 53) and (1::bigint << 53)").format(column)
    return sql.SQL("null")


def _fit_columns(
    conn: psycopg.Connection[Any], label: str, staged: StagedTable, differences: list[Drift], *, allowed: bool
) -> None:
    """Add new columns where drift is allowed; refuse what the table cannot hold."""
    if differences and not allowed:
        raise refuse_drift(label, differences)
    hopeless = [d for d in differences if (d.retypes and not d.widens) or d.column == GEOMETRY_COLUMN]
    if hopeless:
        error = refuse_drift(label, hopeless)
        raise GeoAssetsError(
            error.code,
            error.message,
            remedy="replace the table, or bring the source to its types (--target-crs for its SRID)",
        )
    for drift in differences:
        if drift.old is None and drift.new is not None:
            run(
                conn,
                sql.SQL("alter table {} add column {} {}").format(
                    sql.Identifier(SCHEMA, staged.table),
                    sql.Identifier(drift.column),
                    sql.SQL(drift.new),
                ),
            )


def _insert(
    conn: psycopg.Connection[Any], staged: StagedTable, mode: str, key: Sequence[str], empty: dict[str, str]
) -> tuple[int, int]:
    """Copy the rows; return how many were inserted and how many replaced a row. `empty`: columns without a value, with
    their types in the table.
    """
    names = [*staged.columns, *([GEOMETRY_COLUMN] if staged.geometry_type is not None else [])]
    listed = sql.SQL(", ").join(map(sql.Identifier, names))
    values = sql.SQL(", ").join(
        sql.SQL("null::{}").format(sql.SQL(empty[name])) if name in empty else sql.Identifier(name)  # of our own types
        for name in names
    )
    target, source = sql.Identifier(SCHEMA, staged.table), sql.Identifier(staged.home, staged.staging_name)
    statement = sql.SQL("insert into {} as t ({}) select {} from {} order by gid").format(
        target, listed, values, source
    )
    if mode == "append":
        with conn.cursor() as cursor:
            try:
                cursor.execute(statement)
            except psycopg.errors.UniqueViolation as error:
                raise GeoAssetsError(
                    "INVALID_KEY",
                    f"{SCHEMA}.{staged.table} holds such a row: {_detail(error)}",
                    remedy="use --mode upsert with its key",
                ) from error
            return cursor.rowcount, 0
    _index_table(conn, staged, key)
    rest = [name for name in names if name not in key]
    return _upsert(conn, statement, key, rest)


def _upsert(
    conn: psycopg.Connection[Any], statement: sql.Composed, key: Sequence[str], rest: list[str]
) -> tuple[int, int]:
    keys = sql.SQL(", ").join(map(sql.Identifier, key))
    if not rest:
        action: sql.Composable = sql.SQL("do nothing")
    else:
        assignments = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in rest)
        ours = sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in rest)
        theirs = sql.SQL(", ").join(sql.SQL("excluded.{}").format(sql.Identifier(name)) for name in rest)
        action = sql.SQL("do update set {} where ({}) is distinct from ({})").format(assignments, ours, theirs)
    counted = sql.SQL(
        "with done as ({} on conflict ({}) {} returning xmax = 0 as fresh) select count(*) filter (where fresh),"
        " count(*) from done"
    )
    ((inserted, touched),) = run(conn, counted.format(statement, keys, action))
    return inserted, touched - inserted


def _index_table(conn: psycopg.Connection[Any], staged: StagedTable, key: Sequence[str]) -> None:
    """Make sure that the published table has a unique index on the key."""
    name = f"{staged.table}_key_idx"
    try:
        run(
            conn,
            sql.SQL("create unique index if not exists {} on {} ({})").format(
                sql.Identifier(name), sql.Identifier(SCHEMA, staged.table), sql.SQL(", ").join(map(sql.Identifier, key))
            ),
        )
    except psycopg.errors.UniqueViolation as error:
        raise GeoAssetsError(
            "INVALID_KEY", f"{SCHEMA}.{staged.table} has several rows of one key: {_detail(error)}"
        ) from error
    found = run(
        conn,
        "select array_agg(a.attname::text order by a.attname) from pg_index i join pg_class c on c.oid = i.indexrelid"
        " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey) where c.oid ="
        " to_regclass(%(name)s)",
        name=f"{SCHEMA}.{name}",
    )
    if sorted(found[0][0] or ()) != sorted(key):
        raise GeoAssetsError(
            "INVALID_KEY", f"the key of {SCHEMA}.{staged.table} is {', '.join(found[0][0] or ())}, not {', '.join(key)}"
        )


def _merge_rejects(conn: psycopg.Connection[Any], staged: StagedTable) -> None:
    if staged.rejects_name is None:
        return
    target = f"{staged.table}__rejects"
    if find(conn, SCHEMA, target) is None:
        home = sql.Identifier(staged.home, staged.rejects_name)
        run(conn, sql.SQL("alter table {} set schema {}").format(home, sql.Identifier(SCHEMA)))
        run(
            conn,
            sql.SQL("alter table {} rename to {}").format(
                sql.Identifier(SCHEMA, staged.rejects_name), sql.Identifier(target)
            ),
        )
        return
    listed = sql.SQL("src_fid, reason, geom_wkb, attributes")
    source = sql.Identifier(staged.home, staged.rejects_name)
    run(
        conn,
        sql.SQL("insert into {} ({}) select {} from {} order by reject_id").format(
            sql.Identifier(SCHEMA, target), listed, listed, source
        ),
    )
    run(conn, sql.SQL("drop table {}").format(source))
