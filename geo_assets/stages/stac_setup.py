"""The stages of the small jobs: the listing as a task of its own, and the check of the catalogue.

Here: `list_container`'s one task and `stac_setup`'s. Not here: the inventory itself (`container_inventory.py`).
"""

from __future__ import annotations

from geo_assets.database.connections import connect
from geo_assets.database.migrate import PGSTAC_VERSION, pgstac_version
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import CATALOGUE, CatalogueOutputs, Outputs
from geo_assets.stac.collection import new_collection
from geo_assets.stac.pgstac import count_collections, insert_collection
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef


def record_single_task(context: StageContext, job: JobRef, stage: str, outputs: Outputs) -> None:
    """Record a stage of one task as done: its outputs are the job's result."""
    context.tasks.plan(job.job_id, job.run_id, stage, [PlannedTask(task_key=stage, kind=stage, fingerprint=job.run_id)])
    context.tasks.start(job.job_id, job.run_id, stage, stage)
    context.tasks.succeed(job.job_id, job.run_id, stage, stage, outputs=outputs)


def check_catalogue(context: StageContext, job: JobRef) -> CatalogueOutputs:
    """Prove that pgstac is the expected version and that the pipeline may write to it: a collection is made and undone.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE with what is wrong.
    """
    with connect(context.settings) as conn:
        version = pgstac_version(conn)
        if version != PGSTAC_VERSION:
            raise GeoAssetsError(
                "DATABASE_UNAVAILABLE",
                f"pgstac is {version or 'not there'}; {PGSTAC_VERSION} is expected",
                remedy="geo-assets up",
            )
        count = count_collections(conn)
        insert_collection(conn, new_collection("geo-assets-setup-check"))
        conn.rollback()
    outputs = CatalogueOutputs(pgstac_version=version, collections=count)
    record_single_task(context, job, CATALOGUE, outputs)
    return outputs
