"""Setup that only an administrator can do, once per cluster: the database, its roles and its extensions.

Here: idempotent statements for a superuser (local) or `azure_pg_admin`. Not here: anything that the migrator may do
itself (`migrate.py`, `sql/`).
"""

from __future__ import annotations

import logging
from contextlib import suppress

import psycopg
from psycopg import sql

from geo_assets.settings import Role, Settings

_log = logging.getLogger(__name__)

ROLES: tuple[Role, ...] = ("migrator", "pipeline", "reader")

#: pgstac's roles are cluster-wide and must exist before a migrator without superuser rights can migrate it.
_PGSTAC_ROLES = ("pgstac_admin", "pgstac_read", "pgstac_ingest")

#: Sessions of the reader; the pipeline needs the rest of PostgreSQL's hundred.
_READER_CONNECTIONS = 20

#: Temporary files of each session of the reader, for sorts and joins that do not fit into memory.
_READER_TEMPORARY_FILES = "1GB"

EXTENSIONS = ("postgis", "btree_gist", "unaccent")


def bootstrap(admin_dsn: str, settings: Settings) -> None:
    """Create the database, the three login roles, pgstac's roles and the extensions. Safe to repeat; passwords are set
    each time.

    Args:
        admin_dsn: an administrator's connection to any database of the cluster, usually `postgres`.
        settings: names and passwords.

    Raises:
        psycopg.Error: the connection is refused, or its user may not do this.
    """
    with psycopg.connect(admin_dsn, autocommit=True) as conn:
        for role in ROLES:
            _create_login(conn, *settings.credentials(role))
        conn.execute(
            sql.SQL("alter role {} createrole").format(sql.Identifier(settings.migrator_user))
        )  # pgstac's migration asks for it
        for name in _PGSTAC_ROLES:
            _create_role(conn, name)
        _grant_memberships(conn, settings)
        _limit_reader(conn, settings.credentials("reader")[0])
        _create_database(conn, settings)
    with psycopg.connect(admin_dsn, autocommit=True, dbname=settings.pg_database) as conn:
        for extension in EXTENSIONS:
            conn.execute(sql.SQL("create extension if not exists {}").format(sql.Identifier(extension)))
        with suppress(
            psycopg.errors.InsufficientPrivilege
        ):  # not every host allows this: then a missing CRS is refused by name
            conn.execute(
                sql.SQL("grant insert on spatial_ref_sys to {}").format(sql.Identifier(settings.migrator_user))
            )
        _close_to_readers(conn, settings)
        _find_pgstac(conn, settings)


def _find_pgstac(conn: psycopg.Connection, settings: Settings) -> None:
    """Let sessions of people find pgstac's tables: its functions name them without their schema."""
    for role in ("pipeline", "reader"):
        conn.execute(
            sql.SQL('alter role {} in database {} set search_path = "$user", public, pgstac').format(
                sql.Identifier(settings.credentials(role)[0]), sql.Identifier(settings.pg_database)
            )
        )


def _close_to_readers(conn: psycopg.Connection, settings: Settings) -> None:
    """Revoke what PostgreSQL grants to everybody and a reader could do harm with: large objects and messages in the
    write-ahead log, which fill the disk, and advisory locks, whose keys anybody could hold that our own work waits for.

    Where the administrator does not own PostgreSQL's functions (a managed server), PostgreSQL warns and leaves them as
    they are.
    """
    functions = conn.execute(
        r"select oid::regprocedure::text, proname like '%%advisory%%' from pg_proc where pronamespace ="
        r" 'pg_catalog'::regnamespace"
        r" and (proname ~ '^pg_(try_)?advisory_' or proname ~ '^lo_' or proname in ('loread', 'lowrite',"
        r" 'pg_logical_emit_message'))"
    ).fetchall()
    names = [settings.credentials(role)[0] for role in ("migrator", "pipeline")]
    workers = sql.SQL(", ").join(
        sql.Identifier(name) for name in (*names, "pgstac_admin", "pgstac_ingest")
    )  # its functions lock, too
    for signature, is_lock in functions:
        function = sql.SQL(signature)
        conn.execute(sql.SQL("revoke execute on function {} from public").format(function))
        if is_lock:
            conn.execute(sql.SQL("grant execute on function {} to {}").format(function, workers))


def _exists(conn: psycopg.Connection, role: str) -> bool:
    return conn.execute("select from pg_roles where rolname = %s", (role,)).fetchone() is not None


def _create_role(conn: psycopg.Connection, name: str) -> None:
    if not _exists(conn, name):
        conn.execute(sql.SQL("create role {}").format(sql.Identifier(name)))


def _create_login(conn: psycopg.Connection, name: str, password: str) -> None:
    _create_role(conn, name)
    conn.execute(sql.SQL("alter role {} login password {}").format(sql.Identifier(name), sql.Literal(password)))


def _grant_memberships(conn: psycopg.Connection, settings: Settings) -> None:
    migrator, pipeline, reader = (sql.Identifier(settings.credentials(role)[0]) for role in ROLES)
    conn.execute(sql.SQL("grant pgstac_admin, pgstac_read, pgstac_ingest to {} with admin option").format(migrator))
    conn.execute(
        sql.SQL("grant {} to {}").format(pipeline, migrator)
    )  # the migrator creates schemas that the pipeline owns
    conn.execute(sql.SQL("grant pgstac_ingest, pgstac_read to {}").format(pipeline))
    conn.execute(sql.SQL("grant pgstac_read to {}").format(reader))
    for role, timeout in ((pipeline, "10min"), (reader, "1min")):
        conn.execute(sql.SQL("alter role {} set statement_timeout = {}").format(role, sql.Literal(timeout)))
        conn.execute(
            sql.SQL("alter role {} set idle_in_transaction_session_timeout = {}").format(role, sql.Literal("10min"))
        )


def _limit_reader(conn: psycopg.Connection, reader: str) -> None:
    """Sessions, temporary files, and that pgstac's searches note nothing (`sql/0017_reader_limits.sql` builds on it).

    The limit of files is a superuser's setting: the reader cannot undo it, and not every administrator can make it.
    """
    role = sql.Identifier(reader)
    conn.execute(sql.SQL("alter role {} connection limit {}").format(role, sql.Literal(_READER_CONNECTIONS)))
    for setting, value in (("temp_file_limit", _READER_TEMPORARY_FILES), ("pgstac.readonly", "true")):
        try:
            conn.execute(sql.SQL("alter role {} set {} = {}").format(role, sql.SQL(setting), sql.Literal(value)))
        except psycopg.errors.InsufficientPrivilege as error:
            _log.warning("%s may use more of the disk than is good: %s", reader, error.diag.message_primary)


def _create_database(conn: psycopg.Connection, settings: Settings) -> None:
    if conn.execute("select from pg_database where datname = %s", (settings.pg_database,)).fetchone() is not None:
        return
    conn.execute(
        sql.SQL("create database {} owner {} template template0 encoding 'UTF8'").format(
            sql.Identifier(settings.pg_database), sql.Identifier(settings.migrator_user)
        )
    )
