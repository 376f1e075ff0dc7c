"""The `container_inventory` asset: what the container of a submission holds."""

from typing import Any

import dagster as dg

from geo_assets.defs.claim import claim
from geo_assets.defs.partitions import submissions
from geo_assets.defs.resources import RETRY, Stages, plain_failures
from geo_assets.stages.contracts import InventoryRef
from geo_assets.stages.inventory import take_inventory
from geo_assets.submissions.parameters import JOB_TYPES

#: The job types that begin with a listing.
CONTAINER_JOBS = tuple(name for name, model in JOB_TYPES.items() if model.reads_container)


@dg.op(retry_policy=RETRY, out=dg.Out(InventoryRef))
def list_blobs(context: dg.OpExecutionContext, stages: Stages) -> dg.Output[InventoryRef]:
    """Claim the job, list its container, classify what it holds."""
    job = claim(context, stages, *CONTAINER_JOBS)
    with plain_failures(stages), stages.get().lease_or_nothing(job):
        inventory = take_inventory(stages.get(), job)
    rows = "".join(f"| {kind} | {count} |\n" for kind, count in sorted(inventory.sources.items()))
    metadata: dict[str, Any] = {
        "files": inventory.files,
        "bytes": inventory.bytes,
        "ignored": inventory.ignored,
        "sources": dg.MetadataValue.md(f"| kind | sources |\n|---|---|\n{rows}"),
        "owner run": job.owner_run_id,
    }
    return dg.Output(inventory, metadata=metadata)


@dg.graph_asset(partitions_def=submissions, kinds={"obstore"}, group_name="ingest")
def container_inventory() -> Any:
    """What the container holds: rows of `geo.inventory`, by reference."""
    return list_blobs()
