"""What the assets show in the UI: counts, the table of bad files, what was made.

Here: metadata of a stage, and what tells of files in a run's log. Not here: results of checks (`assets.py`), the text of
tables and lists (`stages/report.py`).
"""

from typing import Any

import dagster as dg

from geo_assets.hints import runnable
from geo_assets.ledger.models import MADE
from geo_assets.stages import report as reports
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import StageReport
from geo_assets.stages.telling import Say


def markdown(context: StageContext, name: str, text: str) -> dict[str, Any]:
    """A markdown entry, left out where there is nothing to say."""
    return {name: dg.MetadataValue.md(runnable(text, context.settings.home))} if text else {}


def teller(context: dg.OpExecutionContext, stages: StageContext) -> Say:
    """What tells of files in the run's log."""
    home = stages.settings.home
    return lambda line: context.log.info(runnable(line, home))


def stage_metadata(context: StageContext, report: StageReport) -> dict[str, Any]:
    """The account of a stage, its bad files, and what was made of the first files."""
    counts = report.counts
    made = context.tasks.records(report.job.job_id, stage=report.stage, statuses=MADE, limit=20)
    return {
        "total": counts.total,
        "converted now": report.awaiting,
        "skipped": counts.skipped,
        "quarantined": counts.quarantined,
        "failed": counts.failed,
        **markdown(context, "bad files", reports.failure_table(context, report.job, report.stage)),
        **markdown(context, "warnings", reports.warning_table(context, report.job, report.stage)),
        **markdown(context, "made", reports.output_list(made) if made else ""),
        **markdown(context, "thumbnails", reports.thumbnail_strip(context, made)),
    }
