"""The lease of a job: one run at a time may publish in its name.

Here: what is done on a connection of the caller's: the proof, inside a transaction, that a run still owns its job, the
error where it does not, renewing the lease by the run alone, and its sign of life without a lease. Not here: taking a
job over, giving it back (`claims.py`).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import psycopg

from geo_assets.errors import GeoAssetsError

#: A run that has not renewed its lease for this long counts as dead, whatever Dagster says about it.
LEASE_SECONDS = 30

#: SQLSTATE of `geo.assert_lease` (sql/0002_ledger.sql).
_NOT_OWNED = "GA001"


class Renewal(Enum):
    """What became of the lease of a run."""

    DONE = auto()
    NOT_HELD = auto()  # it has claimed no job, stood aside, or completed its job
    LOST = auto()


def assert_lease(conn: psycopg.Connection[Any] | psycopg.Cursor[Any], job_id: str, run_id: str) -> None:
    """Raise if the run no longer owns the job; no other run can take the job over before the transaction ends.

    Raises:
        GeoAssetsError: LEASE_LOST.
    """
    try:
        conn.execute("select geo.assert_lease(%s, %s)", (job_id, run_id))
    except psycopg.errors.Error as error:
        if error.sqlstate == _NOT_OWNED:
            raise lease_lost(job_id, run_id) from error
        raise


def keep(conn: psycopg.Connection[Any], run_id: str) -> Renewal:
    """Renew the lease of the job that a run works on."""
    run = {"run": run_id}
    if conn.execute("update geo.jobs set lease_heartbeat = now() where lease_run_id = %(run)s", run).rowcount:
        return Renewal.DONE
    at_work = "select from geo.attempts where run_id = %(run)s and outcome is distinct from 'completed'"
    return Renewal.NOT_HELD if conn.execute(at_work, run).fetchone() is None else Renewal.LOST


def give_sign(conn: psycopg.Connection[Any], run_id: str) -> None:
    """Record that a run is alive that holds no lease. It counts for as long as a lease."""
    conn.execute("insert into geo.beats values (%s) on conflict (run_id) do update set beat = now()", (run_id,))


def lease_lost(job_id: str, run_id: str) -> GeoAssetsError:
    """The error of a run whose job another run took over."""
    return GeoAssetsError("LEASE_LOST", f"run {run_id} no longer owns job {job_id[:12]}")
