"""The `container_inventory` assets: what the container of a submission holds."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from geo_assets.defs.assets import NO_BAD_FILES, check_results, outputs, pipeline_asset
from geo_assets.defs.claim import Options, claim
from geo_assets.defs.metadata import log_line, step_logger
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.stages import checks
from geo_assets.stages.chunks import log_known
from geo_assets.stages.container_inventory import STAGE, described, take_inventory
from geo_assets.stages.contracts import InventoryRef
from geo_assets.stages.retire import refuse_mass_retire

(_GOOD,) = NO_BAD_FILES


def _list_blobs(job_type: str) -> dg.OpDefinition:
    @dg.op(name=f"list_blobs_for_{job_type}", out=outputs(InventoryRef, NO_BAD_FILES))
    def list_blobs(context: dg.OpExecutionContext, stages: Stages, config: Options) -> Iterator[Any]:
        """Claim the job, list its container, classify what it holds."""
        job = claim(context, stages, job_type, config)
        with plain_failures(stages), stages.get().lease_or_nothing(job, "list the container"):
            inventory = take_inventory(stages.get(), job)
            log_line(context, described(inventory))
            log_known(stages.get(), job, STAGE, step_logger(context, stages.get()))
            refuse_mass_retire(stages.get(), job)
            results = check_results(
                stages.get(), job, "container_inventory", {_GOOD: checks.no_bad_files(stages.get(), job, STAGE)}
            )
        yield dg.Output(inventory, "result", metadata=_metadata(inventory))
        yield from results

    return list_blobs


def _metadata(inventory: InventoryRef) -> dict[str, Any]:
    rows = "".join(f"| {kind} | {count} |\n" for kind, count in sorted(inventory.sources.items()))
    return {
        "files": inventory.files,
        "bytes": inventory.bytes,
        "ignored": inventory.ignored,
        "sources": dg.MetadataValue.md(f"| kind | sources |\n|---|---|\n{rows}"),
        "owner run": inventory.job.owner_run_id,
        "parameters": dg.MetadataValue.json(inventory.job.parameters.stored()),
    }


def container_inventory(job_type: str) -> dg.AssetsDefinition:
    """The asset of a job type."""
    list_blobs = _list_blobs(job_type)

    @pipeline_asset(job_type, kinds={"obstore"}, checks=NO_BAD_FILES, table="geo.inventory")
    def container_inventory() -> Any:
        """Every file of the container with its role, as rows of `geo.inventory`."""
        return list_blobs()

    return container_inventory


ASSETS = [container_inventory("list_container")]
