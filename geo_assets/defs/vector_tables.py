"""The `vector_tables` asset: every vector source of a submission becomes PostGIS tables, one a layer, or is quarantined."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from geo_assets.defs.metadata import check_result, stage_metadata
from geo_assets.defs.partitions import submissions
from geo_assets.defs.resources import RETRY, Stages, plain_failures
from geo_assets.stages import checks, vectors
from geo_assets.stages.chunks import close_stage
from geo_assets.stages.contracts import Chunk, ChunkReport, InventoryRef, StagePlan, StageReport

_ACCOUNTED, _VALID, _FEATURES = "every_vector_accounted_for", "tables_sound", "every_feature_accounted_for"


@dg.op(out={"plan": dg.Out(StagePlan), "chunks": dg.DynamicOut(Chunk)})
def plan_vectors(stages: Stages, inventory: InventoryRef) -> Iterator[Any]:
    """What is to be loaded, cut into chunks."""
    with plain_failures(stages):
        plan, chunks = vectors.plan(stages.get(), inventory)
    yield dg.Output(plan, "plan")
    for chunk in chunks:
        yield dg.DynamicOutput(chunk, chunk.mapping_key, "chunks")


@dg.op(retry_policy=RETRY, out=dg.Out(ChunkReport))
def load_vectors(stages: Stages, chunk: Chunk) -> ChunkReport:
    """Load a chunk; a bad file is quarantined, the rest goes on."""
    with plain_failures(stages):
        return vectors.load_chunk(stages.get(), chunk)


@dg.op(out={"result": dg.Out(StageReport), _ACCOUNTED: dg.Out(dg.Nothing), _VALID: dg.Out(dg.Nothing), _FEATURES: dg.Out(dg.Nothing)})
def report_vectors(stages: Stages, plan: StagePlan, reports: list[ChunkReport]) -> Iterator[Any]:
    """The fan-in: every chunk reported, every vector accounted for, every feature too, every table as it should be."""
    with plain_failures(stages):
        report = close_stage(stages.get(), plan, reports)
        verdict = checks.tables_sound(stages.get(), report.job, report.stage)
        features = checks.features_accounted_for(stages.get(), report.job, report.stage)
        metadata = stage_metadata(stages.get(), report)
    yield dg.Output(report, "result", metadata=metadata)
    yield check_result("vector_tables", _ACCOUNTED, checks.accounted_for(report.counts))
    yield check_result("vector_tables", _VALID, verdict)
    yield check_result("vector_tables", _FEATURES, features)


@dg.graph_asset(
    partitions_def=submissions,
    kinds={"postgis"},
    group_name="ingest",
    check_specs=[dg.AssetCheckSpec(name, asset="vector_tables") for name in (_ACCOUNTED, _VALID, _FEATURES)],
)
def vector_tables(container_inventory: InventoryRef) -> Any:
    """One typed, indexed PostGIS table per layer."""
    plan, chunks = plan_vectors(container_inventory)
    result, accounted, valid, features = report_vectors(plan, chunks.map(load_vectors).collect())
    return {
        "result": result,
        f"vector_tables_{_ACCOUNTED}": accounted,
        f"vector_tables_{_VALID}": valid,
        f"vector_tables_{_FEATURES}": features,
    }
