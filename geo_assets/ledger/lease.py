"""The lease of a job: one run at a time may publish in its name.

Here: the proof, inside a transaction, that a run still owns its job, and the error where it does not. Not here: taking
a job over and renewing its lease (`jobs.py`).
"""

from __future__ import annotations

from typing import Any

import psycopg

from geo_assets.errors import GeoAssetsError

#: A run that has not renewed its lease for this long counts as dead, whatever Dagster says about it.
LEASE_SECONDS = 30

#: SQLSTATE of `geo.assert_lease` (sql/0002_ledger.sql).
_NOT_OWNED = "GA001"


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


def lease_lost(job_id: str, run_id: str) -> GeoAssetsError:
    """The error of a run whose job another run took over."""
    return GeoAssetsError("LEASE_LOST", f"run {run_id} no longer owns job {job_id[:12]}")
