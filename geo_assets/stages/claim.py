"""The first step of every run: find the job of its partition, and claim it.

Here: claiming. Not here: the rules of the lease (`ledger/claims.py`).
"""

from __future__ import annotations

from geo_assets.database.migrate import insist_on_release
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef


def claim_job(
    context: StageContext,
    *,
    partition_key: str,
    run_id: str,
    attempt: int | None,
    job_types: frozenset[str],
    options: dict[str, bool] | None = None,
) -> JobRef:
    """The job of a partition, owned by this run, or by another one (`stood_aside`).

    Raises:
        GeoAssetsError: JOB_NOT_FOUND; PARTITION_MISMATCH, the partition belongs to another job type; CANCELLED;
            RELEASE_DIFFERS, another release has migrated the database, or this one has not yet; LAUNCHES_PAUSED.
    """
    insist_on_release(context.settings)
    claim = context.jobs.claim(partition_key, run_id, attempt, job_types=job_types, options=options)
    context.run_id = run_id
    return JobRef(
        job_id=claim.job_id,
        job_type=claim.job_type,
        partition_key=partition_key,
        run_id=run_id,
        owner_run_id=claim.owner_run_id,
        submitted_by=claim.submitted_by,
        force=claim.force,
        allow_mass_retire=claim.allow_mass_retire,
        correlation_id=claim.correlation_id,
        parameters=claim.parameters,
    )
