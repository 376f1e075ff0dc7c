"""The inventory stage: list a container into the ledger, and say what each file is.

Here: listing, filtering, classification of a whole container in bounded memory. Not here: opening any file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import InventoryRef, JobRef
from geo_assets.storage.containers import Blob
from geo_assets.storage.sources import Source, group_sources, is_litter, matches


def take_inventory(context: StageContext, job: JobRef) -> InventoryRef:
    """List the job's container anew; the globs are applied before the limit.

    Raises:
        GeoAssetsError: CONTAINER_NOT_FOUND.
    """
    if job.stood_aside:
        return InventoryRef(job=job, files=0, bytes=0, sources={})
    ignored = 0

    def pages() -> Iterator[list[Blob]]:
        nonlocal ignored
        for page in context.source_container(job).list(job.parameters["prefix"]):
            kept = [b for b in page if not is_litter(b.path) and matches(b.path, job.parameters["include"], job.parameters["exclude"])]
            ignored += len(page) - len(kept)
            yield kept

    context.inventory.replace(job.job_id, pages())
    files, size = context.inventory.totals(job.job_id)
    kinds: Counter[str] = Counter()
    limit = job.parameters["limit"]
    truncated = False
    for index, source in enumerate(group_sources(context.inventory.members(job.job_id))):
        if limit is not None and index >= limit:
            truncated = True
            break
        kinds[source.kind] += 1
    return InventoryRef(job=job, files=files, bytes=size, ignored=ignored, sources=dict(kinds), truncated=truncated)


def sources_of(context: StageContext, job: JobRef) -> Iterator[Source]:
    """The sources that the job works on, in path order, within its limit."""
    limit = job.parameters["limit"]
    for index, source in enumerate(group_sources(context.inventory.members(job.job_id))):
        if limit is not None and index >= limit:
            return
        yield source
