"""Claiming a run's job, for the first op of every job."""

from __future__ import annotations

import dagster as dg

from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.stages.claim import claim_job
from geo_assets.stages.contracts import JobRef
from geo_assets.submissions.launch import ATTEMPT_TAG


def claim(context: dg.OpExecutionContext, stages: Stages, *job_types: str) -> JobRef:
    """The job of this run's partition. A run that finds it owned by another says so and leaves it alone."""
    attempt = context.run.tags.get(ATTEMPT_TAG, "")
    with plain_failures(stages):
        job = claim_job(
            stages.get(),
            partition_key=context.partition_key,
            run_id=context.run_id,
            attempt=int(attempt) if attempt.isdigit() else None,
            job_types=frozenset(job_types),
        )
    if job.stood_aside:
        context.log.warning("run %s owns job %s; this run leaves it alone", job.owner_run_id, job.job_id[:12])
    return job
