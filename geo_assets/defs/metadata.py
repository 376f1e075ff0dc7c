"""What the assets show in the UI: counts, the table of bad files, what was made; and the results of checks."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from geo_assets.defs.partitions import key_of
from geo_assets.hints import runnable
from geo_assets.stages import report as reports
from geo_assets.stages.checks import Verdict, nothing_looked_at
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef, StageReport
from geo_assets.stages.telling import Say


def markdown(name: str, text: str) -> dict[str, Any]:
    """A markdown entry, left out where there is nothing to say."""
    return {name: dg.MetadataValue.md(runnable(text))} if text else {}


def teller(context: dg.OpExecutionContext) -> Say:
    """What tells of files in the run's log."""
    return lambda line: context.log.info(runnable(line))


def stage_metadata(context: StageContext, report: StageReport) -> dict[str, Any]:
    """The account of a stage, its bad files, and what was made of the first files."""
    counts = report.counts
    made = context.tasks.records(
        report.job.job_id, stage=report.stage, statuses=("succeeded", "skipped", "running"), limit=20
    )
    return {
        "total": counts.total,
        "converted now": report.awaiting,
        "skipped": counts.skipped,
        "quarantined": counts.quarantined,
        "failed": counts.failed,
        **markdown("bad files", reports.failure_table(context, report.job, report.stage)),
        **markdown("warnings", reports.warning_table(context, report.job, report.stage)),
        **markdown("made", reports.output_list(made) if made else ""),
        **markdown("thumbnails", reports.thumbnail_strip(context, made)),
    }


#: Every check by its name, and what it asks.
CHECKS = {
    "no_bad_files": (
        "Is every file good? Where one is not, the run has done its work, and a person is to look at the file."
    ),
    "every_raster_accounted_for": (
        "Has every raster that was listed come to an end: converted, skipped, quarantined or failed?"
    ),
    "cogs_readable": "Does every COG lie where the ledger says, with a TIFF header?",
    "every_vector_accounted_for": (
        "Has every vector that was listed come to an end: loaded, skipped, quarantined or failed?"
    ),
    "tables_sound": (
        "Has every table the rows that the ledger says, a primary key, a declared type, an SRID and a GiST index?"
    ),
    "every_feature_accounted_for": (
        "Are the features of every file loaded, rejected with a reason, or filtered, and nothing else?"
    ),
    "every_item_found": "Does the catalogue's search find the item of every file that is done?",
    "every_file_accounted_for": "Has every file of the submission come to an end?",
}


def check_specs(asset: dg.AssetKey, names: Iterable[str]) -> list[dg.AssetCheckSpec]:
    """The checks of an asset."""
    return [dg.AssetCheckSpec(name, asset=asset, description=CHECKS[name]) for name in names]


def check_results(
    context: StageContext, job: JobRef, asset: str, verdicts: Mapping[str, Verdict]
) -> list[dg.AssetCheckResult]:
    """Verdicts as Dagster's. A run that had nothing to look at has passed nothing."""
    nothing = nothing_looked_at(context, job)
    return [_check_result(key_of(job.job_type, asset), name, nothing or verdict) for name, verdict in verdicts.items()]


def _check_result(asset: dg.AssetKey, name: str, verdict: Verdict) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=asset,
        check_name=name,
        metadata=verdict.metadata,
        severity=dg.AssetCheckSeverity.ERROR if verdict.serious else dg.AssetCheckSeverity.WARN,
        description=runnable(verdict.description),
    )
