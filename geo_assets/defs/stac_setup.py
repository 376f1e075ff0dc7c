"""The `stac_setup` job: is the catalogue there, current, and open to the pipeline?"""

import dagster as dg

from geo_assets.defs.claim import claim
from geo_assets.defs.partitions import submissions
from geo_assets.defs.resources import JOB_TAGS, RETRY, Stages, plain_failures
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.listing import check_catalogue


@dg.op(retry_policy=RETRY, out=dg.Out(JobRef))
def check_pgstac(context: dg.OpExecutionContext, stages: Stages) -> JobRef:
    """Claim the job, check version and rights."""
    job = claim(context, stages, "stac_setup")
    if not job.stood_aside:
        with plain_failures(stages), stages.get().lease(job):
            context.add_output_metadata(check_catalogue(stages.get(), job))
    return job


@dg.job(partitions_def=submissions, executor_def=dg.in_process_executor, tags=JOB_TAGS)
def stac_setup() -> None:
    """Checks pgstac: its version, and that the pipeline may write to it."""
    check_pgstac()
