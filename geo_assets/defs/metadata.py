"""What the assets show in the UI: counts, the table of bad files, what was made; and the results of checks."""

from typing import Any

import dagster as dg

from geo_assets.stages import report as reports
from geo_assets.stages.checks import Verdict
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import StageReport


def markdown(name: str, text: str) -> dict[str, Any]:
    """A markdown entry, left out where there is nothing to say."""
    return {name: dg.MetadataValue.md(text)} if text else {}


def stage_metadata(context: StageContext, report: StageReport) -> dict[str, Any]:
    """The account of a stage, its bad files, and what was made of the first files."""
    counts = report.counts
    made = context.tasks.records(report.job.job_id, stage=report.stage, statuses=("succeeded", "skipped", "running"), limit=20)
    return {
        "total": counts.total,
        "converted now": report.awaiting,
        "skipped": counts.skipped,
        "quarantined": counts.quarantined,
        "failed": counts.failed,
        **markdown("bad files", reports.failure_table(context, report.job, report.stage)),
        **markdown("made", reports.output_table(made) if made else ""),
        **markdown("thumbnails", reports.thumbnail_strip(context, made)),
    }


def check_result(asset: dg.AssetKey, name: str, verdict: Verdict) -> dg.AssetCheckResult:
    """A verdict as Dagster's. A failed check is an error: something was made that is not as it should be."""
    return dg.AssetCheckResult(
        passed=verdict.passed, asset_key=asset, check_name=name, metadata=verdict.metadata, severity=dg.AssetCheckSeverity.ERROR
    )
