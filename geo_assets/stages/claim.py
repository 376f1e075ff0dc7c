"""The first step of every run: find the job of its partition, and claim it.

Here: claiming. Not here: the rules of the lease (`ledger/claims.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from geo_assets.database.migrate import insist_on_release
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import Claim
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef

#: How often a run asks whether the pause is over that it waits for.
_PAUSED_SECONDS = 2.0

_log = logging.getLogger(__name__)


def claim_job(
    context: StageContext,
    *,
    partition_key: str,
    run_id: str,
    attempt: int | None,
    job_types: frozenset[str],
    options: dict[str, bool] | None = None,
    again: bool = False,
) -> JobRef:
    """The job of a partition, owned by this run, or by another one (`stood_aside`). A run that was launched before a
    pause waits for its end. The arguments are those of `Claims.claim`.

    Raises:
        GeoAssetsError: JOB_NOT_FOUND; PARTITION_MISMATCH, the partition belongs to another job type; CANCELLED;
            RELEASE_DIFFERS, another release has migrated the database, or this one has not yet; LAUNCHES_PAUSED, and
            somebody launched the run by hand.
    """

    def claim_now() -> Claim:
        insist_on_release(context.settings)
        return context.jobs.claim(partition_key, run_id, attempt, job_types=job_types, options=options, again=again)

    claim = claim_now() if attempt is None else _after_pauses(context, claim_now)
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


def _after_pauses(context: StageContext, claim_now: Callable[[], Claim]) -> Claim:
    told = False
    while True:
        try:
            return claim_now()
        except GeoAssetsError as error:
            if error.code != "LAUNCHES_PAUSED":
                raise
            if not told:
                _log.info("the run waits: %s", error.message)
                told = True
        if context.stopped:
            raise GeoAssetsError("CANCELLED", "the run was told to stop")
        time.sleep(_PAUSED_SECONDS)
