"""The assets of `ingest_container` and of the job types that are a part of it: all that a container holds, by steps.

Here: which assets these job types have. Not here: how each is made (`container_inventory.py`, `cogs.py`, …).
"""

from geo_assets.defs.catalogue import stac_collection, stac_items, submission_report
from geo_assets.defs.cogs import cogs
from geo_assets.defs.container_inventory import container_inventory
from geo_assets.defs.vector_tables import vector_tables

#: What makes the assets of a job type that ingests, in the order of the flow.
_FLOW = (container_inventory, cogs, vector_tables, stac_items, stac_collection, submission_report)

ASSETS = [make(job_type) for job_type in ("ingest_container", "stage_raster", "stage_vector") for make in _FLOW]
