"""The one partitions definition: a partition is a job, never a file. Files are rows of the ledger."""

import dagster as dg

from geo_assets.submissions.launch import PARTITIONS

submissions = dg.DynamicPartitionsDefinition(name=PARTITIONS)
