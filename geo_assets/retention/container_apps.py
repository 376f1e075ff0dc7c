"""Jobs of Azure's Container Apps: Dagster's launcher makes one for each run, and nobody deletes it.

Here: which of them go, and asking Azure. Not here: making one (`deploy/azure/dagster.yaml`), other kinds (`kinds.py`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from geo_assets.database.connections import connect
from geo_assets.ledger import retention as ledger
from geo_assets.ledger.retention import Extent
from geo_assets.settings import Settings

#: The tag of Dagster's launcher.
_RUN = "dagster-run-id"

#: By the names that the launcher's configuration gives them.
_SUBSCRIPTION, _GROUP = "AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP"


def count_jobs(settings: Settings, _: timedelta) -> Extent:
    """Jobs whose run ended; none where runs are no jobs of Container Apps."""
    return Extent(sum(1 for _ in _ended(settings)), None)


def delete_jobs(settings: Settings, _: timedelta) -> Extent:
    """Have them deleted; Azure takes its time. What it refuses is tried again the next time."""
    from azure.core.exceptions import AzureError

    asked = 0
    for jobs, name in _ended(settings):
        try:
            jobs.begin_delete(os.environ[_GROUP], name)
        except AzureError as error:
            logging.getLogger(__name__).warning("job %s could not be deleted: %s", name, error)
            continue
        asked += 1
    return Extent(asked, None)


def _ended(settings: Settings) -> Iterator[tuple[Any, str]]:
    """The client and the name of each job whose run the ledger or Dagster knows to have ended."""
    if not (os.environ.get(_SUBSCRIPTION) and os.environ.get(_GROUP)):
        return
    jobs = _client().jobs
    by_run = {
        job.tags[_RUN]: job.name for job in jobs.list_by_resource_group(os.environ[_GROUP]) if _RUN in (job.tags or {})
    }
    with connect(settings, autocommit=True) as conn:
        ended = ledger.over(conn, by_run)
    yield from ((jobs, by_run[run]) for run in sorted(ended))


def _client() -> Any:
    from azure.identity import DefaultAzureCredential
    from azure.mgmt.appcontainers import ContainerAppsAPIClient

    return ContainerAppsAPIClient(DefaultAzureCredential(), os.environ[_SUBSCRIPTION])
