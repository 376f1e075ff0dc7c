"""The assets `stac_items`, `stac_collection` and `submission_report`: outputs become searchable, then the
report.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from geo_assets.defs.assets import NO_BAD_FILES, check_results, outputs, pipeline_asset
from geo_assets.defs.metadata import delta_metadata, markdown, progress_metadata
from geo_assets.defs.resources import Stages, plain_failures
from geo_assets.file_stages import COGS, TABLES
from geo_assets.parameters import PublishContainer
from geo_assets.receipts.write import write_due
from geo_assets.stac.pgstac import footprints
from geo_assets.stages import catalogue, checks, report, retire, vector_tables
from geo_assets.stages.contracts import CatalogueReport, JobReport, StageReport

#: The checks of assets, each with the question that it answers.
ITEM_CHECKS = {"every_item_found": "Does a search in the catalogue find the item of every finished file?"}
_REPORT_CHECKS = {
    "every_file_accounted_for": "Does every file of the submission have a final status?",
    **NO_BAD_FILES,
}
(_FOUND,) = ITEM_CHECKS
_COMPLETE, _GOOD = _REPORT_CHECKS


@dg.op(out=outputs(CatalogueReport, ITEM_CHECKS))
def register_items(stages: Stages, done: list[StageReport]) -> Iterator[Any]:
    """Load the items of converted files, in batches; each is read back."""
    context, job = stages.get(), done[0].job
    if any(report.job != job for report in done):
        runs = ", ".join(f"{report.stage} are of run {report.job.run_id}" for report in done)
        raise dg.Failure(f"{runs}: launch them together", allow_retries=False)
    with plain_failures(stages), context.lease_or_nothing(job, "register items"):
        catalogue.gate(context, job)
        vector_tables.publish_waiting(context, job)
        registered = catalogue.register(context, job)
        retired, stale = retire.retire(context, job)
        found = checks.items_found(context, job, job.parameters_as(PublishContainer).stages)
        results = check_results(context, job, "stac_items", {_FOUND: found})
    yield dg.Output(
        registered,
        "result",
        metadata={
            "items": registered.items,
            "retired": retired,
            "kept though their source is gone or bad": stale,
            "failed": registered.failed,
            "collections": ", ".join(registered.collections),
            **delta_metadata(context, job),
            **progress_metadata(context, job),
        },
    )
    yield from results


def stac_items(job_type: str, stages: Sequence[str] = (COGS, TABLES)) -> dg.AssetsDefinition:
    """The asset of a job type, after those of its stages."""

    @pipeline_asset(job_type, kinds={"stac"}, checks=ITEM_CHECKS, table="pgstac.items", takes=stages)
    def stac_items(**done: Any) -> Any:
        """One STAC item per source."""
        return register_items(list(done.values()))

    return stac_items


@dg.op(out=dg.Out(CatalogueReport))
def refresh_collections(stages: Stages, items: CatalogueReport) -> dg.Output[CatalogueReport]:
    """The collections: what was submitted of them, and what their items say."""
    context = stages.get()
    with plain_failures(stages), context.lease_or_nothing(items.job, "refresh collections"):
        extents = catalogue.refresh_collections(context, items)
        shapes = footprints(context.settings, items.collections)
    return dg.Output(
        items,
        metadata={
            "extents": dg.MetadataValue.json(extents),
            **markdown(context, "footprints", report.footprint_map(shapes)),
        },
    )


def stac_collection(job_type: str) -> dg.AssetsDefinition:
    """The asset of a job type."""

    @pipeline_asset(job_type, kinds={"stac"}, table="pgstac.collections")
    def stac_collection(stac_items: CatalogueReport) -> Any:
        """The submission's STAC collections, with the extents of their items."""
        return refresh_collections(stac_items)

    return stac_collection


@dg.op(out=outputs(JobReport, _REPORT_CHECKS))
def write_report(stages: Stages, collection: CatalogueReport) -> Iterator[Any]:
    """The account of the whole job."""
    context, job = stages.get(), collection.job
    with plain_failures(stages), context.signs_of_life():  # a large receipt takes its time
        account = report.report_job(context, job)
        bad, warned = report.failure_table(context, job), report.warning_table(context, job)
        verdicts = {_COMPLETE: checks.whole_account(account.stages), _GOOD: checks.no_bad_files(context, job)}
        results = check_results(context, job, "submission_report", verdicts)
        if not job.stood_aside:
            write_due(context.settings, only=[job.job_id])
    metadata = {
        "job": job.job_id,
        "status": dg.MetadataValue.url(f"{context.settings.api_url}/api/jobs/status/{job.job_id}"),
        "tasks": dg.MetadataValue.url(f"{context.settings.api_url}/api/db/tasks/{job.job_id}"),
        "stages": dg.MetadataValue.md(report.stage_table(account.stages)),
        "owner run": job.owner_run_id,
        "parameters": dg.MetadataValue.json(job.parameters.stored()),
        **delta_metadata(context, job),
        **markdown(context, "delta", report.delta_table(context, job)),
        **markdown(context, "bad files", bad),
        **markdown(context, "warnings", warned),
    }
    yield dg.Output(account, "result", metadata=metadata)
    yield from results


def submission_report(job_type: str) -> dg.AssetsDefinition:
    """The asset of a job type."""

    @pipeline_asset(job_type, kinds={"postgres"}, checks=_REPORT_CHECKS, table="geo.tasks")
    def submission_report(stac_collection: CatalogueReport) -> Any:
        """The report on the submission: the final status of every file."""
        return write_report(stac_collection)

    return submission_report
