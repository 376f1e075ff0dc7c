"""Objects that depend on a published table: views, grants, and the names of its indexes and sequence.

Here: finding it, and carrying it over to the table that replaces it. Not here: the exchange itself (`publish.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.tables.introspection import SCHEMA, first_line, run
from geo_assets.vector.tables.staging import StagedTable

#: Views over the table, directly (depth 1) or over another such view; the outermost first.
_DEPENDENTS = """
with recursive dependents(oid, depth) as (
    select r.ev_class, 1
    from pg_depend d join pg_rewrite r on r.oid = d.objid
    where d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass and d.refobjid = %(table)s
      and r.ev_class <> %(table)s
    union
    select r.ev_class, p.depth + 1
    from dependents p join pg_depend d on d.refobjid = p.oid join pg_rewrite r on r.oid = d.objid
    where d.refclassid = 'pg_class'::regclass and d.classid = 'pg_rewrite'::regclass and r.ev_class <> p.oid
      and p.depth < 64
)
select n.nspname, c.relname, c.relkind::text, pg_get_viewdef(c.oid), coalesce(c.reloptions, '{}'), min(d.depth) = 1
from dependents d join pg_class c on c.oid = d.oid join pg_namespace n on n.oid = c.relnamespace
group by c.oid, n.nspname, c.relname, c.relkind, c.reloptions
order by max(d.depth) desc, n.nspname, c.relname
"""

#: Objects attached to a table that would be lost with it, by kind.
ATTACHED = """
select 'trigger ' || tgname from pg_trigger where tgrelid = %(table)s and not tgisinternal
union all select 'row security policy ' || polname from pg_policy where polrelid = %(table)s
union all select 'foreign key ' || conname from pg_constraint where contype = 'f'
      and (confrelid = %(table)s or conrelid = %(table)s)
union all select 'child table ' || inhrelid::regclass from pg_inherits where inhparent = %(table)s
union all select 'privilege on column ' || attname from pg_attribute where attrelid = %(table)s and attacl is not null
union all select 'publication ' || pubname from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
      where prrelid = %(table)s
"""

_GRANTS = """
select case a.grantee when 0 then null else pg_get_userbyid(a.grantee) end, a.privilege_type, a.is_grantable
from pg_class c, aclexplode(c.relacl) a where c.oid = %(table)s and a.grantee <> c.relowner
"""

#: Current and future names of primary key, geometry index and sequence.
_PARTS = """
select 'constraint', conname, '_pkey' from pg_constraint where conrelid = %(table)s and contype = 'p'
union all
select 'index', c.relname, case when i.indisunique then '_key_idx' else '_geom_idx' end
from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = %(table)s and not i.indisprimary
union all
select 'sequence', c.relname, '_gid_seq' from pg_depend d join pg_class c on c.oid = d.objid
where d.refobjid = %(table)s and d.refclassid = 'pg_class'::regclass and d.classid = 'pg_class'::regclass
      and d.deptype = 'i' and c.relkind = 'S'
"""

_SHORT = {"_pkey": "_p", "_geom_idx": "_g", "_key_idx": "_k", "_gid_seq": "_s"}

_RENAME: dict[str, LiteralString] = {
    "constraint": "alter table {table} rename constraint {old} to {new}",
    "index": "alter index {schema}.{old} rename to {new}",
    "sequence": "alter sequence {schema}.{old} rename to {new}",
}

#: Errors for a view that cannot be defined over the new table: a column is gone or has another type.
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
class View:
    """A view over a table, as it is defined."""

    schema: str
    name: str
    definition: str
    options: tuple[str, ...]
    direct: bool  # over the table itself

    @property
    def identifier(self) -> sql.Identifier:
        """Return schema and name."""
        return sql.Identifier(self.schema, self.name)


def views_over(conn: psycopg.Connection[Any], oid: int, table: str) -> list[View]:
    """Return the views over a table, the outermost first.

    Raises:
        GeoAssetsError: SCHEMA_MISMATCH, something other than a view depends on it.
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
        views.append(View(schema, name, definition, tuple(options), direct))
    return views


def move_view(conn: psycopg.Connection[Any], view: View, label: str) -> None:
    """Define a view again from its text, so that it reads the new table. Owner, grants and comment stay."""
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


def copy_grants(conn: psycopg.Connection[Any], old: int, staged: StagedTable) -> None:
    """Give the staged table the grants of the one that it replaces."""
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


def rename_parts(conn: psycopg.Connection[Any], oid: int, schema: str, table: str, *, short: bool = False) -> None:
    """Rename primary key, indexes and sequence after the table; a name that is already taken is left.

    `short` is for versions, whose own names leave no room.
    """
    parts: dict[str, tuple[str, str]] = {}  # by their new names: of two that are alike the first gets it
    for kind, name, ending in run(conn, _PARTS, table=oid):
        parts.setdefault(f"{table}{_SHORT[ending] if short else ending}", (kind, name))
    taken = run(
        conn,
        "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %(schema)s"
        " and c.relname = any(%(names)s)",
        schema=schema,
        names=list(parts),
    )
    renames = [
        sql.SQL(_RENAME[kind]).format(
            schema=sql.Identifier(schema),
            table=sql.Identifier(schema, table),
            old=sql.Identifier(name),
            new=sql.Identifier(new),
        )
        for new, (kind, name) in parts.items()
        if (new,) not in taken
    ]
    if renames:
        run(conn, sql.SQL("; ").join(renames))
