"""The `container_inventory` assets: what the container of a submission holds."""

from typing import Any

import dagster as dg

from geo_assets.defs.claim import claim
from geo_assets.defs.partitions import PARTITIONS, key_of
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.stages.contracts import InventoryRef
from geo_assets.stages.inventory import take_inventory
from geo_assets.stages.retire import refuse_mass_retire


def _list_blobs(job_type: str) -> dg.OpDefinition:
    @dg.op(name=f"list_blobs_for_{job_type}", out=dg.Out(InventoryRef))
    def list_blobs(context: dg.OpExecutionContext, stages: Stages) -> dg.Output[InventoryRef]:
        """Claim the job, list its container, classify what it holds."""
        job = claim(context, stages, job_type)
        with plain_failures(stages), stages.get().lease_or_nothing(job):
            inventory = take_inventory(stages.get(), job)
            refuse_mass_retire(stages.get(), job)
        return dg.Output(inventory, metadata=_metadata(inventory))

    return list_blobs


def _metadata(inventory: InventoryRef) -> dict[str, Any]:
    rows = "".join(f"| {kind} | {count} |\n" for kind, count in sorted(inventory.sources.items()))
    return {
        "files": inventory.files,
        "bytes": inventory.bytes,
        "ignored": inventory.ignored,
        "sources": dg.MetadataValue.md(f"| kind | sources |\n|---|---|\n{rows}"),
        "owner run": inventory.job.owner_run_id,
    }


def container_inventory(job_type: str) -> dg.AssetsDefinition:
    """The asset of a job type."""
    list_blobs = _list_blobs(job_type)

    @dg.graph_asset(
        key=key_of(job_type, "container_inventory"), partitions_def=PARTITIONS[job_type], kinds={"obstore"}, group_name=job_type
    )
    def build() -> Any:
        """What the container holds: rows of `geo.inventory`, by reference."""
        return list_blobs()

    return build
