"""Claiming a run's job, for the first op of every job."""

from __future__ import annotations

import logging

import dagster as dg
from pydantic import Field

from geo_assets.correlation import process_is_about
from geo_assets.defs.metadata import log_line
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.parameters import ListContainer, PublishContainer
from geo_assets.stages.claim import claim_job
from geo_assets.stages.contracts import JobRef
from geo_assets.submissions.launch import attempt_of

#: The prefix of our tags.
_PREFIX = "geo_assets/"


class Force(dg.Config):
    """Options of one run of any job, in Dagster's launchpad."""

    force: bool = Field(False, description="redo finished work too")


class Options(Force):
    """Options of a run that reads a container."""

    allow_mass_retire: bool = Field(
        False, description="with deleted=retire: withdraw even more than max_retire_percent"
    )
    verify_sources: bool = Field(
        False, description="hash files that seem unchanged: for directories, whose etags are only time and size"
    )


def claim(context: dg.OpExecutionContext, stages: Stages, job_type: str, options: Force | None = None) -> JobRef:
    """Claim the job of this run's partition. A run that finds it owned by another says so and leaves it alone."""
    with plain_failures(stages):
        with stages.get().signs_of_life():  # it may wait for who holds the job's row
            job = claim_job(
                stages.get(),
                partition_key=context.partition_key,
                run_id=context.run_id,
                attempt=attempt_of(context.run.tags),
                job_types=frozenset({job_type}),
                options=options.model_dump() if options else None,
                again=context.run.parent_run_id is not None,
            )
        process_is_about(correlation_id=job.correlation_id, job_id=job.job_id)
        context.instance.add_run_tags(context.run_id, _tags(job))
    if job.stood_aside:
        told = f"run {job.owner_run_id} owns job {job.job_id[:12]}; this run leaves it alone"
        log_line(context, told, logging.WARNING)
    return job


def _tags(job: JobRef) -> dict[str, str]:
    """Tags by which a run is found: its job, its container and collection, its submitter."""
    asked = job.parameters
    named = {
        "job_id": job.job_id,
        "container": asked.container if isinstance(asked, ListContainer) else None,
        "collection": asked.collection if isinstance(asked, PublishContainer) else None,
    }
    told = {**named, "submitter": job.submitted_by, "correlation_id": job.correlation_id}
    return {f"{_PREFIX}{name}": str(value) for name, value in told.items() if value}
