"""The `cogs` and `stac_items` assets: every raster source of a submission becomes a validated COG that is found by search."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from geo_assets.defs.partitions import submissions
from geo_assets.defs.resources import RETRY, Stages, plain_failures
from geo_assets.stages import catalogue, rasters
from geo_assets.stages.chunks import close_stage
from geo_assets.stages.contracts import CatalogueReport, Chunk, ChunkReport, InventoryRef, StagePlan, StageReport


@dg.op(out={"plan": dg.Out(StagePlan), "chunks": dg.DynamicOut(Chunk)})
def plan_rasters(stages: Stages, inventory: InventoryRef) -> Iterator[Any]:
    """What is to be converted, cut into chunks."""
    with plain_failures():
        plan, chunks = rasters.plan(stages.get(), inventory)
    yield dg.Output(plan, "plan")
    for chunk in chunks:
        yield dg.DynamicOutput(chunk, chunk.mapping_key, "chunks")


@dg.op(retry_policy=RETRY, out=dg.Out(ChunkReport))
def convert_rasters(stages: Stages, chunk: Chunk) -> ChunkReport:
    """Convert a chunk; a bad file is quarantined, the rest goes on."""
    with plain_failures():
        return rasters.convert_chunk(stages.get(), chunk)


@dg.op(out=dg.Out(StageReport))
def report_rasters(stages: Stages, plan: StagePlan, reports: list[ChunkReport]) -> dg.Output[StageReport]:
    """The fan-in: every chunk reported, every raster accounted for."""
    with plain_failures():
        report = close_stage(stages.get(), plan, reports)
    return dg.Output(report, metadata=report.counts.model_dump())


@dg.graph_asset(partitions_def=submissions, kinds={"cog", "gdal"})
def cogs(container_inventory: InventoryRef) -> StageReport:
    """One COG per raster source, at its place in the output container."""
    plan, chunks = plan_rasters(container_inventory)
    return report_rasters(plan, chunks.map(convert_rasters).collect())


@dg.op(retry_policy=RETRY, out=dg.Out(CatalogueReport))
def register_items(stages: Stages, report: StageReport, tables: StageReport) -> dg.Output[CatalogueReport]:
    """Load the items of what was converted; each is read back."""
    if report.job != tables.job:
        raise dg.Failure(f"cogs are of job {report.job.job_id[:12]}, vector_tables of {tables.job.job_id[:12]}", allow_retries=False)
    with plain_failures(), stages.get().lease_or_nothing(report.job):
        done = catalogue.register(stages.get(), report.job)
    return dg.Output(done, metadata={"items": done.items, "failed": done.failed})


@dg.graph_asset(partitions_def=submissions, kinds={"stac"})
def stac_items(cogs: StageReport, vector_tables: StageReport) -> CatalogueReport:
    """One STAC item per source."""
    return register_items(cogs, vector_tables)
