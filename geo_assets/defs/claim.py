"""Claiming a run's job, for the first op of every job."""

from __future__ import annotations

import dagster as dg

from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.stages.claim import claim_job
from geo_assets.stages.contracts import JobRef
from geo_assets.submissions.launch import ATTEMPT_TAG

#: Before the name of each tag of ours.
_PREFIX = "geo_assets/"


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
    context.instance.add_run_tags(context.run_id, _tags(job))
    if job.stood_aside:
        context.log.warning("run %s owns job %s; this run leaves it alone", job.owner_run_id, job.job_id[:12])
    return job


def _tags(job: JobRef) -> dict[str, str]:
    """What a run is found by, whoever launched it: its job, what the job reads and writes, who wanted it."""
    named = {"job_id": job.job_id, "container": job.parameters.get("container"), "collection": job.parameters.get("collection")}
    return {f"{_PREFIX}{name}": str(value) for name, value in {**named, "submitter": job.submitted_by}.items() if value}
