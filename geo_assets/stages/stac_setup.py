"""The stages of the small jobs: the listing as a task of its own, and the check of the catalogue.

Here: `list_container`'s one task and `stac_setup`'s. Not here: the inventory itself (`container_inventory.py`).
"""

from __future__ import annotations

from typing import Any

import psycopg

from geo_assets.database.connections import connect
from geo_assets.database.migrate import PGSTAC_VERSION, pgstac_version
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import CATALOGUE, CatalogueOutputs, Outputs
from geo_assets.parameters import StacSetup
from geo_assets.stac.collection import new_collection
from geo_assets.stac.pgstac import count_collections, insert_collection
from geo_assets.stac.queryables import QUERYABLES, install
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef


def record_single_task(context: StageContext, job: JobRef, stage: str, outputs: Outputs) -> None:
    """Record a stage of one task as done: its outputs are the job's result."""
    context.tasks.plan(job.job_id, job.run_id, stage, [PlannedTask(task_key=stage, kind=stage, fingerprint=job.run_id)])
    context.tasks.start(job.job_id, job.run_id, stage, stage)
    context.tasks.succeed(job.job_id, job.run_id, stage, stage, outputs=outputs)


def check_catalogue(context: StageContext, job: JobRef) -> CatalogueOutputs:
    """Prove that pgstac is the expected version, that the pipeline may write to it (a collection is made and undone)
    and that readers may search it; install the queryables and the indexes that the job asks for.

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
        _insist_on_readers(conn, context.settings.reader_user)
        indexed = job.parameters_as(StacSetup).indexed
        with conn.transaction():
            install(conn, indexed)
    outputs = CatalogueOutputs(
        pgstac_version=version, collections=count, queryables=tuple(QUERYABLES), indexed=tuple(sorted(set(indexed)))
    )
    record_single_task(context, job, CATALOGUE, outputs)
    return outputs


def _insist_on_readers(conn: psycopg.Connection[Any], reader: str) -> None:
    row = conn.execute(
        "select pg_has_role(rolname, 'pgstac_read', 'usage') and not pg_has_role(rolname, 'pgstac_ingest', 'usage')"
        " from pg_roles where rolname = %s",
        (reader,),
    ).fetchone()
    conn.rollback()
    if row != (True,):
        raise GeoAssetsError(
            "DATABASE_UNAVAILABLE",
            f"the role {reader} is not there, may not search pgstac, or may change it",
            remedy="geo-assets up",
        )
