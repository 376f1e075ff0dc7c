"""The asset of `stac_setup`: is the catalogue there, current, and open to the pipeline?"""

import dagster as dg

from geo_assets.defs.claim import claim
from geo_assets.defs.partitions import PARTITIONS, key_of
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.stac_setup import check_catalogue


@dg.asset(
    key=key_of("stac_setup", "catalogue"),
    partitions_def=PARTITIONS["stac_setup"],
    kinds={"postgres"},
    group_name="stac_setup",
)
def catalogue(context: dg.AssetExecutionContext, stages: Stages) -> JobRef:
    """Checks pgstac: its version, and that the pipeline may write to it."""
    job = claim(context.op_execution_context, stages, "stac_setup")
    if not job.stood_aside:
        with plain_failures(stages):
            with stages.get().lease(job, "prepare the catalogue"):
                found = check_catalogue(stages.get(), job)
            stages.get().complete(job)
        context.add_output_metadata(found.stored())
    return job
