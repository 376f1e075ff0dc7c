"""The `vector_tables` asset: every vector source of a submission becomes PostGIS tables, one a layer."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from geo_assets.defs.partitions import submissions
from geo_assets.defs.resources import RETRY, Stages, plain_failures
from geo_assets.stages import vectors
from geo_assets.stages.chunks import close_stage
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, StagePlan, StageReport


@dg.op(out={"plan": dg.Out(StagePlan), "chunks": dg.DynamicOut(Chunk)})
def plan_vectors(stages: Stages, inventory: InventoryRef) -> Iterator[Any]:
    """What is to be loaded, cut into chunks."""
    with plain_failures():
        plan, chunks = vectors.plan(stages.get(), inventory)
    yield dg.Output(plan, "plan")
    for chunk in chunks:
        yield dg.DynamicOutput(chunk, chunk.mapping_key, "chunks")


@dg.op(retry_policy=RETRY, out=dg.Out(ChunkReport))
def load_vectors(stages: Stages, chunk: Chunk) -> ChunkReport:
    """Load a chunk; a bad file is quarantined, the rest goes on."""
    with plain_failures():
        return vectors.load_chunk(stages.get(), chunk)


@dg.op(out=dg.Out(StageReport))
def report_vectors(stages: Stages, plan: StagePlan, reports: list[ChunkReport]) -> dg.Output[StageReport]:
    """The fan-in: every chunk reported, every vector accounted for."""
    with plain_failures():
        report = close_stage(stages.get(), plan, reports)
    return dg.Output(report, metadata=report.counts.model_dump())


@dg.graph_asset(partitions_def=submissions, kinds={"postgis"})
def vector_tables(container_inventory: InventoryRef) -> StageReport:
    """One typed, indexed PostGIS table per layer."""
    plan, chunks = plan_vectors(container_inventory)
    return report_vectors(plan, chunks.map(load_vectors).collect())
