"""The `stac_setup` job: is the catalogue there, current, and open to the pipeline?"""

import dagster as dg

from geo_assets.defs.claim import claim
from geo_assets.defs.partitions import PARTITIONS
from geo_assets.defs.resources import JOB_TAGS, Stages, plain_failures
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.listing import check_catalogue


@dg.op(out=dg.Out(JobRef))
def check_pgstac(context: dg.OpExecutionContext, stages: Stages) -> JobRef:
    """Claim the job, check version and rights."""
    job = claim(context, stages, "stac_setup")
    if not job.stood_aside:
        with plain_failures(stages):
            with stages.get().lease(job):
                found = check_catalogue(stages.get(), job)
            stages.get().complete(job)
        context.add_output_metadata(found)
    return job


@dg.job(partitions_def=PARTITIONS["stac_setup"], executor_def=dg.in_process_executor, tags=JOB_TAGS)
def stac_setup() -> None:
    """Checks pgstac: its version, and that the pipeline may write to it."""
    check_pgstac()
