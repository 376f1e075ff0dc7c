"""The sets of partitions, one per job type: a partition is a job, never a file. Files are rows of the ledger.

An asset has one set, so each job type that makes assets has assets of its own, below its name (docs/decisions/0020).
"""

import dagster as dg

from geo_assets.parameters import JOB_TYPES

#: Job type -> its partitions. The launcher adds a job's key to the set of that name.
PARTITIONS = {job_type: dg.DynamicPartitionsDefinition(name=job_type) for job_type in JOB_TYPES}


def key_of(job_type: str, asset: str) -> dg.AssetKey:
    """The key of an asset of a job type."""
    return dg.AssetKey([job_type, asset])
