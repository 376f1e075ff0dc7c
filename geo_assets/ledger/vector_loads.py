"""The record of loads into published tables: written in the transaction that publishes, so that it is there exactly if
the table is.

Here: statements on `geo.vector_loads`. Not here: loading (`vector/`), who calls when (`stages/vector_load.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from geo_assets.errors import GeoAssetsError


@dataclass(frozen=True, slots=True)
class Load:
    """One load; all counts are features. PostgreSQL checks that they add up."""

    table: str  # schema.name
    source: str
    layer: str
    mode: str
    submitted_at: datetime
    features: int
    loaded: int
    rejected: int = 0
    filtered: int = 0
    repaired: int = 0
    load_keys: tuple[str, ...] = ()  # the first is recorded; appended under any of them, it is not appended again


def now(conn: psycopg.Connection[Any]) -> datetime:
    """The database's clock: the one that all submissions share."""
    row = conn.execute("select clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - a select without from has one row
    return next(iter(row.values())) if isinstance(row, dict) else row[0]  # type: ignore[no-any-return]


def submitted_at(conn: psycopg.Connection[Any], run_id: str) -> datetime:
    """The time of the submission that the attempt of a run goes on with, or is."""
    row = conn.execute(
        "select coalesce(submitted_at, requested_at) as at from geo.attempts where run_id = %s", (run_id,)
    ).fetchone()
    if row is None:
        return now(conn)
    return row["at"] if isinstance(row, dict) else row[0]  # type: ignore[no-any-return]


def record(
    conn: psycopg.Connection[Any], load: Load, *, rows: int, drift: tuple[str, ...] = (), is_new: bool = False
) -> None:
    """Record a load, inside its transaction and under its table's lock.

    Args:
        conn: of the transaction.
        load: with its account.
        rows: of the table afterwards.
        drift: how its schema differs from before.
        is_new: there was no such table: what was loaded into an earlier one of this name has no part in it.

    Raises:
        GeoAssetsError: SUPERSEDED, one that was submitted later has replaced the table; ALREADY_LOADED, this was
            appended before.
    """
    if load.mode in {"replace", "rollback"}:
        later = None if is_new else _submitted_later(conn, load)
        if later is not None:
            raise GeoAssetsError("SUPERSEDED", f"{load.table} holds {later}")
        forget_keys(conn, load.table)
    written = conn.execute(
        "insert into geo.vector_loads (table_name, source, layer, mode, load_key, submitted_at, features, loaded,"
        " rejected, filtered, repaired, table_rows, drift)"
        " select %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s"
        " where %s <> 'append' or not exists (select from geo.vector_loads where table_name = %s and mode = 'append'"
        "                                        and load_key = any(%s))",
        (
            load.table, load.source, load.layer, load.mode, next(iter(load.load_keys), None), load.submitted_at,
            load.features, load.loaded, load.rejected, load.filtered, load.repaired, rows, list(drift),
            load.mode, load.table, list(load.load_keys),
        ),
    ).rowcount  # fmt: skip
    if not written:
        raise GeoAssetsError("ALREADY_LOADED", f"{load.source} was appended to {load.table} before")


def _submitted_later(conn: psycopg.Connection[Any], load: Load) -> str | None:
    """The newest load into a table that was submitted later than this one, and when both were, in words."""
    row = conn.execute(
        "select source, load_key, submitted_at from geo.vector_loads where table_name = %s and"
        " mode in ('replace', 'rollback') and submitted_at > %s order by load_id desc limit 1",
        (load.table, load.submitted_at),
    ).fetchone()
    if row is None:
        return None
    source, key, at = row.values() if isinstance(row, dict) else row
    of, own = _job_of(key), _job_of(next(iter(load.load_keys), None))
    return (
        f"{source}{of and f' of {of}'}, which was submitted at {_when(at)}, later than {own or load.source} at"
        f" {_when(load.submitted_at)}"
    )


def _job_of(load_key: str | None) -> str:
    """Whose load it is, by its key; nothing of one by hand, and of one that has been appended to since."""
    return f"job {load_key.partition('/')[0][:12]}" if load_key else ""


def _when(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def loaded_over(conn: psycopg.Connection[Any], table: str, job_id: str, task_key: str) -> str | None:
    """What a table holds in place of, or beside, what a job's task loaded, in words; None if it is the task's."""
    row = conn.execute(
        """select format('%%s, which was loaded %%s at %%s', source,
                         case mode when 'replace' then 'over it' else 'into it, too,' end,
                         to_char(loaded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) as told
             from geo.loaded_over(%s, %s, %s)""",
        (table, job_id, task_key),
    ).fetchone()
    if row is None:
        return None
    return str(row["told"] if isinstance(row, dict) else row[0])


def forget_keys(conn: psycopg.Connection[Any], table: str) -> None:
    """Allow files that were appended to a table to be appended again: what it held is gone."""
    conn.execute("update geo.vector_loads set load_key = null where table_name = %s and load_key is not null", (table,))


def account(conn: psycopg.Connection[Any], table: str) -> dict[str, int] | None:
    """The account of the newest load of a table."""
    names = ("features", "loaded", "rejected", "filtered", "table_rows")
    row = conn.execute(
        "select features, loaded, rejected, filtered, table_rows from geo.vector_loads where table_name = %s order by"
        " load_id desc limit 1",
        (table,),
    ).fetchone()
    if row is None:
        return None
    return dict(row) if isinstance(row, dict) else dict(zip(names, row, strict=True))
