"""Migrations: pgstac first, then `sql/NNNN_name.sql` in order, all under one advisory lock.

Here: the runner and its record of what was applied. Not here: the statements (`sql/`), Dagster's own tables
(`dagster instance migrate`, which the local stack runs after this).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import tenacity
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from geo_assets.database.connections import away, log_try, refuses
from geo_assets.errors import GeoAssetsError
from geo_assets.home import project_file
from geo_assets.settings import Settings
from geo_assets.text import one_line

PGSTAC_VERSION = "0.10.0"

#: "geo_asst" as a bigint: the key of the lock that every migrator of this project takes.
_LOCK_KEY = int.from_bytes(b"geo_asst", "big", signed=True)

#: How long a statement waits for a lock, and how often all of its file is tried: about five minutes.
_LOCK_SECONDS, _TRIES = 5, 30

_FILE_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `sql/`."""

    name: str
    statements: str
    sha256: str


def migrations(folder: Path | None = None) -> list[Migration]:
    """The files of `sql/`, in order."""
    paths = sorted(p for p in (folder or project_file("sql")).iterdir() if _FILE_NAME.fullmatch(p.name))
    texts = [(p.name, p.read_text(encoding="utf-8")) for p in paths]
    return [Migration(name, text, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts]


def migrate(settings: Settings, *, folder: Path | None = None) -> list[str]:
    """Bring the database up to date; returns the names of the files that were applied now.

    Raises:
        GeoAssetsError: MIGRATION_CHANGED, an applied file differs from the one on disk.
        psycopg.Error: a statement failed; its file was rolled back, earlier ones stay.
    """
    with psycopg.connect(settings.dsn("migrator"), autocommit=True) as conn, _lock(conn):
        conn.execute(f"set lock_timeout = '{_LOCK_SECONDS}s'")
        _not_held_up(lambda: _migrate_pgstac(conn, settings))
        conn.execute(
            "create table if not exists public.geo_migrations (name text primary key, sha256 text not null, applied_at"
            " timestamptz not null default now())"
        )
        applied: dict[str, str] = dict(conn.execute("select name, sha256 from public.geo_migrations").fetchall())
        return [m.name for m in migrations(folder) if _apply(conn, m, applied)]


@contextmanager
def _lock(conn: psycopg.Connection) -> Iterator[None]:
    conn.execute("select pg_advisory_lock(%s)", (_LOCK_KEY,))
    try:
        yield
    finally:
        conn.execute("select pg_advisory_unlock(%s)", (_LOCK_KEY,))


def _apply(conn: psycopg.Connection, migration: Migration, applied: dict[str, str]) -> bool:
    known = applied.get(migration.name)
    if known == migration.sha256:
        return False
    if known is not None:
        raise GeoAssetsError(
            "MIGRATION_CHANGED", f"{migration.name} was applied as {known[:12]} and is {migration.sha256[:12]} now"
        )
    _not_held_up(lambda: _run(conn, migration))
    return True


def _run(conn: psycopg.Connection, migration: Migration) -> None:
    with conn.transaction():
        conn.execute(migration.statements)  # the whole file, as psql -f would send it
        conn.execute(
            "insert into public.geo_migrations (name, sha256) values (%s, %s)", (migration.name, migration.sha256)
        )


def _not_held_up(deed: Callable[[], None]) -> None:
    """Do what is all or nothing, again where somebody holds a lock: whoever waits for a lock of a whole table holds up
    all who come after it, so the wait is short, and readers get their turn in between.
    """
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)),
        stop=tenacity.stop_after_attempt(_TRIES),
        wait=tenacity.wait_exponential_jitter(max=_LOCK_SECONDS),
        before_sleep=log_try,
        reraise=True,
    ):
        with attempt:
            deed()


def pgstac_version(conn: psycopg.Connection) -> str | None:
    """The version of pgstac in the database, or None."""
    row = conn.execute("select to_regclass('pgstac.migrations') is not null").fetchone()
    if row is None or not row[0]:
        return None
    found = conn.execute(
        "select version from pgstac.migrations order by datetime desc, version desc limit 1"
    ).fetchone()
    return found[0] if found else None


def _migrate_pgstac(conn: psycopg.Connection, settings: Settings) -> None:
    """`pypgstac migrate` has no lock of its own: two at once on an empty database fail. Ours is held here."""
    if pgstac_version(conn) == PGSTAC_VERSION:
        return
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    known = conninfo_to_dict(settings.dsn("migrator"))
    options = f"{known.get('options', '')} -clock_timeout={_LOCK_SECONDS}s"
    patient = make_conninfo(settings.dsn("migrator"), options=options)
    with PgstacDB(dsn=patient) as db:
        Migrate(db).run_migration(toversion=PGSTAC_VERSION)


def up_to_date(settings: Settings) -> bool:
    """Whether nothing is to be migrated; false also if the database does not answer. Asked as the pipeline: whoever
    does not migrate has no password of the migrator.
    """
    try:
        with psycopg.connect(settings.dsn("pipeline"), connect_timeout=5) as conn:
            applied: dict[str, str] = dict(conn.execute("select name, sha256 from public.geo_migrations").fetchall())
            return pgstac_version(conn) == PGSTAC_VERSION and applied == {m.name: m.sha256 for m in migrations()}
    except psycopg.Error:
        return False


def insist_on_release(settings: Settings) -> None:
    """Raise unless the database has exactly the migrations of this release: a process of another one would fail in the
    middle of its work, or write what the others cannot read.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE; RELEASE_DIFFERS.
    """
    try:
        with psycopg.connect(settings.dsn("pipeline"), connect_timeout=10) as conn:
            applied: dict[str, str] = dict(conn.execute("select name, sha256 from public.geo_migrations").fetchall())
    except psycopg.OperationalError as error:
        if refuses(settings):
            raise away(settings) from None
        raise GeoAssetsError(
            "DATABASE_UNAVAILABLE", f"the database does not answer: {one_line(str(error))[:300]}"
        ) from None
    except psycopg.Error:
        applied = {}
    ours = {m.name: m.sha256 for m in migrations()}
    if applied != ours:
        newest = max(applied, default="none")
        raise GeoAssetsError(
            "RELEASE_DIFFERS", f"the database has migrations up to {newest}, this release up to {max(ours)}"
        )


def redeploy(settings: Settings) -> list[str]:
    """Drop the ledger and the published tables, then migrate. Everything recorded is lost."""
    with psycopg.connect(settings.dsn("migrator"), autocommit=True) as conn, _lock(conn), conn.transaction():
        conn.execute("drop schema if exists geo, vector, vector_staging, vector_versions, vector_waiting cascade")
        conn.execute("delete from public.geo_migrations")
    return migrate(settings)
