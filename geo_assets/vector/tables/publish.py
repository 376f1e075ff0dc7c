"""A staged table becomes `vector.<name>`: in one commit, under the eyes of readers and of views over the old one.

Here: the swap, the versions that it keeps and the way back to them, and getting rid of what is not to be published.
Not here: making the staged table (`load.py`), adding to a published one (`merge.py`).

Order matters. The advisory lock queues publishers before any lock timeout runs. Dependent views are locked before the
table, as their readers do: the other way round each waits for the other (68 timeouts in 6 swaps, measured; 0 this way).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, LiteralString, TypeVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import StreamReport
from geo_assets.vector.tables.introspection import SCHEMA, columns, drifts, find, first_line, refuse_drift, run
from geo_assets.vector.tables.load import STAGING_SCHEMA, StagedTable, check_table_name, staging_lock

T = TypeVar("T")

#: Where replaced tables wait to be called back; not for readers.
VERSIONS_SCHEMA = "vector_versions"

#: Where loaded tables wait until they may be seen; not for readers.
WAITING_SCHEMA = "vector_waiting"

#: Called in the publishing transaction, last, with what is about to be published; what it raises undoes everything.
BeforeCommit = Callable[[psycopg.Connection[Any], "PublishedTable"], None]

#: Longer, and readers that queue behind us would notice. Milliseconds.
_LOCK_TIMEOUT_MS = 2000

_ATTEMPTS = 8
_LONGEST_PAUSE_SECONDS = 1.0


class _Changed(Exception):  # noqa: N818 - an event inside this module
    """A view came or went while its table was being locked."""


_CONTENDED = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, _Changed)

#: What is defined by a query over the table, directly (depth 1) or over another such; the outermost first.
_DEPENDENTS = """
with recursive dependents(oid, depth) as (
    select r.ev_class, 1
    from pg_depend d join pg_rewrite r on r.oid = d.objid
    where d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass and d.refobjid = %(table)s and r.ev_class <> %(table)s
    union
    select r.ev_class, p.depth + 1
    from dependents p join pg_depend d on d.refobjid = p.oid join pg_rewrite r on r.oid = d.objid
    where d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass and r.ev_class <> p.oid and p.depth < 64
)
select n.nspname, c.relname, c.relkind::text, pg_get_viewdef(c.oid), coalesce(c.reloptions, '{}'), min(d.depth) = 1
from dependents d join pg_class c on c.oid = d.oid join pg_namespace n on n.oid = c.relnamespace
group by c.oid, n.nspname, c.relname, c.relkind, c.reloptions
order by max(d.depth) desc, n.nspname, c.relname
"""

#: What hangs on a table and would be lost with it, by what it is called.
_ATTACHED = """
select 'trigger ' || tgname from pg_trigger where tgrelid = %(table)s and not tgisinternal
union all select 'row security policy ' || polname from pg_policy where polrelid = %(table)s
union all select 'foreign key ' || conname from pg_constraint where contype = 'f' and (confrelid = %(table)s or conrelid = %(table)s)
union all select 'child table ' || inhrelid::regclass from pg_inherits where inhparent = %(table)s
union all select 'privilege on column ' || attname from pg_attribute where attrelid = %(table)s and attacl is not null
union all select 'publication ' || pubname from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where prrelid = %(table)s
"""

_GRANTS = """
select case a.grantee when 0 then null else pg_get_userbyid(a.grantee) end, a.privilege_type, a.is_grantable
from pg_class c, aclexplode(c.relacl) a where c.oid = %(table)s and a.grantee <> c.relowner
"""

#: Primary key, geometry index and sequence as they are called now, and what they shall be called.
_PARTS = """
select 'constraint', conname, '_pkey' from pg_constraint where conrelid = %(table)s and contype = 'p'
union all
select 'index', c.relname, case when i.indisunique then '_key_idx' else '_geom_idx' end
from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = %(table)s and not i.indisprimary
union all
select 'sequence', c.relname, '_gid_seq' from pg_depend d join pg_class c on c.oid = d.objid
where d.refobjid = %(table)s and d.refclassid = 'pg_class'::regclass and d.classid = 'pg_class'::regclass and d.deptype = 'i' and c.relkind = 'S'
"""

_SHORT = {"_pkey": "_p", "_geom_idx": "_g", "_key_idx": "_k", "_gid_seq": "_s"}

_RENAME: dict[str, LiteralString] = {
    "constraint": "alter table {table} rename constraint {old} to {new}",
    "index": "alter index {schema}.{old} rename to {new}",
    "sequence": "alter sequence {schema}.{old} rename to {new}",
}

#: A view that cannot be carried over to the new table: a column is gone or has another type.
_VIEW_DOES_NOT_FIT = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidTableDefinition,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.UndefinedFunction,
)

_VIEW_OPTIONS = frozenset({"security_barrier", "security_invoker", "check_option"})
_PRIVILEGES: dict[str, LiteralString] = {
    p.upper(): p for p in ("select", "insert", "update", "delete", "truncate", "references", "trigger")
}


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table that readers see."""

    table: str  # schema.name
    rows: int  # read back after the commit
    srid: int
    geometry_type: str | None
    has_z: bool
    drift: tuple[str, ...] = ()  # how it differs from the one that it replaced
    version: str | None = None  # what that one is now called
    inserted: int = 0
    updated: int = 0
    superseded: str | None = None  # why the table holds something else: a load that was submitted later was there first


@dataclass(frozen=True, slots=True)
class _View:
    schema: str
    name: str
    definition: str
    options: tuple[str, ...]
    direct: bool  # over the table itself

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def publish(
    conn: psycopg.Connection[Any],
    staged: StagedTable,
    *,
    before_commit: BeforeCommit | None = None,
    keep_versions: int = 0,
    schema_drift: Literal["allow", "refuse"] = "allow",
) -> PublishedTable:
    """Make a staged table `vector.<table>`, replacing the one that is there. If it fails, the old one stays and the
    staged one is dropped.

    Args:
        conn: not in a transaction; the owner of the tables.
        staged: from `load.stage_table`.
        before_commit: runs again if the swap is retried.
        keep_versions: how many replaced tables stay in `vector_versions`, the newest.
        schema_drift: whether the columns may differ from those of the table that is replaced.

    Raises:
        GeoAssetsError: what `before_commit` raised; SCHEMA_DRIFT; SCHEMA_MISMATCH, a view, grant or trigger of the old
            table cannot be carried over; DATABASE_UNAVAILABLE, others hold the table's lock.
        psycopg.Error: the database is away.
    """

    def swap() -> tuple[int, PublishedTable]:
        oid, done = _swap(conn, staged, keep_versions=keep_versions, may_drift=schema_drift == "allow")
        if before_commit is not None:
            before_commit(conn, done)
        return oid, done

    with discarded_on_failure(conn, staged):
        oid, done = with_patience(conn, staged.table, swap)
    _read_back(conn, staged, oid)
    return done


def rehearse(
    conn: psycopg.Connection[Any],
    staged: StagedTable,
    *,
    before_commit: BeforeCommit,
    schema_drift: Literal["allow", "refuse"] = "allow",
) -> PublishedTable:
    """Do everything that `publish` does and undo it: what would stop it is known before anything is seen.

    Raises:
        GeoAssetsError: as `publish`.
    """

    def swap() -> PublishedTable:
        with conn.transaction(force_rollback=True):
            _, done = _swap(conn, staged, keep_versions=0, may_drift=schema_drift == "allow")
            before_commit(conn, done)
        return done

    return with_patience(conn, staged.table, swap)


def set_aside(conn: psycopg.Connection[Any], staged: StagedTable) -> StagedTable:
    """Move a staged table where nobody sweeps it, in a transaction of the caller's, who then answers for it."""
    for name in filter(None, (staged.staging_name, staged.rejects_name)):
        run(
            conn,
            sql.SQL("alter table {} set schema {}").format(
                sql.Identifier(staged.home, name), sql.Identifier(WAITING_SCHEMA)
            ),
        )
    return replace(staged, home=WAITING_SCHEMA)


@contextmanager
def discarded_on_failure(conn: psycopg.Connection[Any], staged: StagedTable) -> Iterator[None]:
    """Whatever stops a publication, nothing staged is left; what was set aside waits on."""
    check_table_name(staged.table)
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise GeoAssetsError("INTERNAL", f"{SCHEMA}.{staged.table} cannot be published from within another transaction")
    try:
        yield
    except BaseException:
        if not conn.broken and staged.home != WAITING_SCHEMA:
            discard(conn, staged)
        raise


def discard(conn: psycopg.Connection[Any], staged: StagedTable) -> None:
    """Drop a staged table; harmless if it is gone."""
    with conn.transaction():
        for name in filter(None, (staged.staging_name, staged.rejects_name)):
            run(conn, sql.SQL("drop table if exists {}").format(sql.Identifier(staged.home, name)))


def sweep(conn: psycopg.Connection[Any]) -> list[str]:
    """Drop what is left in `vector_staging` by processes that were killed: whoever is at work holds the lock of its
    suffix.

    Args:
        conn: not in a transaction.
    """
    swept = []
    with conn.transaction():
        names = [
            str(name)
            for (name,) in run(
                conn, "select tablename from pg_tables where schemaname = %(schema)s", schema=STAGING_SCHEMA
            )
        ]
    for name in names:
        suffix = name.rpartition("__")[2]
        with conn.transaction():  # rejects have an r behind their table's suffix, which may itself end in one
            locks = [
                sql.SQL("pg_try_advisory_xact_lock({})").format(staging_lock(s))
                for s in {suffix, suffix.removesuffix("r")}
            ]
            if all(run(conn, sql.SQL("select {}").format(lock))[0][0] for lock in locks):
                run(conn, sql.SQL("drop table if exists {}").format(sql.Identifier(STAGING_SCHEMA, name)))
                swept.append(name)
    return swept


def rollback(conn: psycopg.Connection[Any], table: str, *, before_commit: BeforeCommit | None = None) -> PublishedTable:
    """Put the newest kept version back in the place of `vector.<table>`, which is dropped.

    Raises:
        GeoAssetsError: NO_VERSION; what `publish` raises.
    """
    check_table_name(table)

    def swap() -> tuple[int, PublishedTable]:
        lock_name(conn, table)
        kept = _versions(conn, table)
        if not kept:
            raise GeoAssetsError("NO_VERSION", f"no earlier version of {SCHEMA}.{table} is kept")
        oid, done = _swap(conn, _version_as_staged(conn, table, kept[-1]), keep_versions=0, may_drift=True)
        if before_commit is not None:
            before_commit(conn, done)
        return oid, done

    return with_patience(conn, table, swap)[1]


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


def _versions(conn: psycopg.Connection[Any], table: str) -> list[int]:
    """Numbers of the versions that are kept, the newest last."""
    names = [
        str(name)
        for (name,) in run(
            conn, "select tablename from pg_tables where schemaname = %(schema)s", schema=VERSIONS_SCHEMA
        )
    ]
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"{table}__v(\d+)", name)))


def with_patience(conn: psycopg.Connection[Any], table: str, work: Callable[[], T]) -> T:
    """Do something in a transaction, again while others hold the table's lock.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE, they do not let go; SCHEMA_MISMATCH, the table is not ours.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.02, min(_LONGEST_PAUSE_SECONDS, 0.05 * 2**attempt)))  # noqa: S311 - jitter
        try:
            with conn.transaction():
                return work()
        except _CONTENDED:
            continue
        except psycopg.errors.InsufficientPrivilege as error:
            raise GeoAssetsError(
                "SCHEMA_MISMATCH",
                f"{SCHEMA}.{table} cannot be replaced: {first_line(error)}",
                remedy="let its owner drop it or what depends on it",
            ) from error
    raise GeoAssetsError(
        "DATABASE_UNAVAILABLE",
        f"{SCHEMA}.{table} was locked by others {_ATTEMPTS} times for {_LOCK_TIMEOUT_MS / 1000:g} s",
        remedy="end the session that holds it, then submit again",
    )


def lock_name(conn: psycopg.Connection[Any], table: str) -> None:
    """Queue up with the other publishers of a table; only then may a lock time out."""
    run(
        conn,
        sql.SQL("select pg_advisory_xact_lock(hashtextextended({}, 0))").format(
            sql.Literal(f"geo_assets:{SCHEMA}.{table}")
        ),
    )
    run(conn, sql.SQL("set local lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT_MS)))


def _swap(
    conn: psycopg.Connection[Any], staged: StagedTable, *, keep_versions: int, may_drift: bool
) -> tuple[int, PublishedTable]:
    """The whole exchange inside one transaction; returns the new table's oid."""
    label = f"{SCHEMA}.{staged.table}"
    lock_name(conn, staged.table)
    ((search_path,),) = run(conn, sql.SQL("show search_path"))
    run(conn, sql.SQL("set local search_path = pg_catalog"))  # a view's definition comes with every name qualified
    new, old = find(conn, staged.home, staged.staging_name), find(conn, SCHEMA, staged.table)
    if new is None:
        raise GeoAssetsError("INTERNAL", f"{staged.home}.{staged.staging_name} is gone")
    differences = drifts(columns(conn, old), columns(conn, new)) if old is not None else []
    if differences and not may_drift:
        raise refuse_drift(label, differences)
    views = [] if old is None else _lock_old(conn, old, staged.table)
    if old is not None:
        _copy_grants(conn, old, staged)
        _rename(conn, SCHEMA, staged.table, _retired(staged))
    _move(conn, staged.home, staged.staging_name, SCHEMA, staged.table)
    for view in views:
        if view.direct:
            _move_view(conn, view, label)
    version = _retire(conn, staged, old, keep_versions) if old is not None else None
    _place_rejects(conn, staged)
    _rename_parts(conn, new, SCHEMA, staged.table)
    run(conn, sql.SQL("select set_config('search_path', {}, true)").format(sql.Literal(search_path)))
    done = PublishedTable(
        label,
        staged.rows,
        staged.srid,
        staged.geometry_type,
        staged.has_z,
        tuple(map(str, differences)),
        version,
        inserted=staged.rows,
    )
    return new, done


def _move(conn: psycopg.Connection[Any], schema: str, name: str, to_schema: str, to_name: str) -> None:
    """A table into another schema under another name; the names never meet those that are there."""
    run(conn, sql.SQL("alter table {} set schema {}").format(sql.Identifier(schema, name), sql.Identifier(to_schema)))
    _rename(conn, to_schema, name, to_name)


def _retire(conn: psycopg.Connection[Any], staged: StagedTable, old: int, keep: int) -> str | None:
    """Drop the old table and its rejects, or move them to the versions; returns what the table is then called."""
    rejects = f"{staged.table}__rejects"
    if keep <= 0:
        _drop_old(conn, staged, _retired(staged))
        if find(conn, SCHEMA, rejects) is not None:
            _drop_old(conn, staged, rejects)
        return None
    with conn.transaction(force_rollback=True):  # what stands in the way of dropping it would follow it unseen
        _drop_old(conn, staged, _retired(staged))
    kept = _versions(conn, staged.table)
    number = kept[-1] + 1 if kept else 1
    _rename_parts(conn, old, SCHEMA, _retired(staged), short=True)  # their names are wanted by those that come
    _move(conn, SCHEMA, _retired(staged), VERSIONS_SCHEMA, f"{staged.table}__v{number}")
    _rename_parts(conn, old, VERSIONS_SCHEMA, f"{staged.table}__v{number}", short=True)
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
    """What the old table is called while both are there; `names.table_name` never gives two underscores."""
    return f"{staged.table}__old"


def _lock_old(conn: psycopg.Connection[Any], old: int, table: str) -> list[_View]:
    """Lock the table and the views over it against readers, views first; returns the views as they then are."""
    views = _views(conn, old, table)
    locked = [view.identifier for view in views] + [sql.Identifier(SCHEMA, table)]
    run(conn, sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(", ").join(locked)))
    attached = run(conn, _ATTACHED, table=old)
    if attached:
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{SCHEMA}.{table} cannot be replaced: it has the {attached[0][0]}",
            remedy="drop that, then submit again",
        )
    if find(conn, SCHEMA, table) != old or _views(conn, old, table) != views:
        raise _Changed
    return views


def _views(conn: psycopg.Connection[Any], oid: int, table: str) -> list[_View]:
    """Views over a table, the outermost first.

    Raises:
        GeoAssetsError: SCHEMA_MISMATCH, something else than a view is defined over it.
    """
    views = []
    for schema, name, kind, definition, options, direct in run(conn, _DEPENDENTS, table=oid):
        if kind != "v":
            what = {"m": "materialized view"}.get(kind, "rule of")
            raise GeoAssetsError(
                "SCHEMA_MISMATCH",
                f"{SCHEMA}.{table} cannot be replaced: the {what} {schema}.{name} depends on it",
                remedy="drop that, then submit again",
            )
        views.append(_View(schema, name, definition, tuple(options), direct))
    return views


def _move_view(conn: psycopg.Connection[Any], view: _View, label: str) -> None:
    """Define a view anew: by its text, and so over the new table. Owner, grants and comment stay."""
    options = [option.partition("=") for option in view.options if option.partition("=")[0] in _VIEW_OPTIONS]
    clause: sql.Composable = sql.SQL("")
    if options:
        clause = sql.SQL("with ({})").format(
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value)) for key, _, value in options
            )
        )
    definition = sql.SQL(view.definition.rstrip().rstrip(";"))  # as PostgreSQL itself wrote it
    try:
        run(conn, sql.SQL("create or replace view {} {} as {}").format(view.identifier, clause, definition))
    except _VIEW_DOES_NOT_FIT as error:
        raise GeoAssetsError(
            "SCHEMA_MISMATCH",
            f"{label} cannot be replaced: the view {view.schema}.{view.name} does not fit its new columns"
            f" ({first_line(error)})",
            remedy="drop or change the view, then submit again",
        ) from error


def _copy_grants(conn: psycopg.Connection[Any], old: int, staged: StagedTable) -> None:
    for role, privilege, grantable in run(conn, _GRANTS, table=old):
        if privilege not in _PRIVILEGES:
            continue  # MAINTAIN, from PostgreSQL 17
        run(
            conn,
            sql.SQL("grant {} on {} to {} {}").format(
                sql.SQL(_PRIVILEGES[privilege]),
                sql.Identifier(staged.home, staged.staging_name),
                sql.SQL("public") if role is None else sql.Identifier(role),
                sql.SQL("with grant option" if grantable else ""),
            ),
        )


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
    run(conn, sql.SQL("alter table {} rename to {}").format(sql.Identifier(schema, old), sql.Identifier(new)))


def _rename_parts(conn: psycopg.Connection[Any], oid: int, schema: str, table: str, *, short: bool = False) -> None:
    """Primary key, indexes and sequence are named for the table; a name that is taken by something else is left.

    `short` is for versions, whose own names leave no room.
    """
    for kind, name, ending in run(conn, _PARTS, table=oid):
        new = f"{table}{_SHORT[ending] if short else ending}"
        taken = run(
            conn,
            "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %(schema)s and"
            " c.relname = %(name)s",
            schema=schema,
            name=new,
        )
        if not taken:
            run(
                conn,
                sql.SQL(_RENAME[kind]).format(
                    schema=sql.Identifier(schema),
                    table=sql.Identifier(schema, table),
                    old=sql.Identifier(name),
                    new=sql.Identifier(new),
                ),
            )


def _read_back(conn: psycopg.Connection[Any], staged: StagedTable, oid: int) -> None:
    """What readers now see. A newer load may have replaced the table already; then its count is not ours to judge."""
    with conn.transaction():
        ((rows,),) = run(conn, sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, staged.table)))
        still_ours = find(conn, SCHEMA, staged.table) == oid
    if still_ours and rows != staged.rows:
        raise GeoAssetsError(
            "INTERNAL", f"{SCHEMA}.{staged.table} was published with {staged.rows} rows and has {rows}"
        )
