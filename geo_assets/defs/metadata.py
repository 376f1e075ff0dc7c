"""Metadata of the assets in the UI: counts, the table of bad files, the outputs.

Here: metadata of a stage, and its lines in the run's log. Not here: results of checks (`assets.py`), the text of
tables and lists (`stages/report.py`).
"""

import logging
from collections.abc import Sequence
from posixpath import commonpath
from typing import Any

import dagster as dg

from geo_assets.defs.resources import STORAGE_AWAY, interrupt_in
from geo_assets.hints import runnable
from geo_assets.ledger.models import TaskRecord
from geo_assets.stages import report as reports
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef, StageReport
from geo_assets.stages.progress_log import LogLine
from geo_assets.storage.blobs import BlobRef
from geo_assets.task_status import BAD_INPUT, MADE, TaskStatus

_log = logging.getLogger(__name__)

#: The most files of a stage that the metadata in the UI shows.
_LOOKED_AT = 20


def markdown(context: StageContext, name: str, text: str) -> dict[str, Any]:
    """A markdown entry; none if there is nothing to say."""
    return {name: dg.MetadataValue.md(runnable(text, context.settings.home))} if text else {}


def delta_metadata(context: StageContext, job: JobRef) -> dict[str, Any]:
    """How many files the delivery changed: numbers, which Dagster plots."""
    counts = context.jobs.find(job.job_id).delta
    return counts.model_dump() if counts else {}


def progress_metadata(context: StageContext, job: JobRef) -> dict[str, Any]:
    """How far the job is, how fast, and when it will have ended, as it is now: numbers, and a line for people."""
    now = None if job.stood_aside else context.jobs.find(job.job_id).progress
    if now is None:
        return {}
    numbers = now.model_dump(exclude={"at", "ends_at"}, exclude_none=True)
    ends = {"ends_at": dg.MetadataValue.timestamp(now.ends_at)} if now.ends_at else {}  # shown in the zone of who looks
    return {"progress": str(now), **numbers, **ends}


def log_line(context: dg.OpExecutionContext, line: str, level: int = logging.INFO) -> None:
    """Write a line to the run's log.

    Dagster swallows that it could not be stored, to fail no step for a line; but it stores that then, which fails as
    well while its database has no room. No file is to pay for it. The handler that stores lines is the first, so the
    others, as that of the process's own log, have not seen this one.
    """
    try:
        context.log.log(level, line)
    except STORAGE_AWAY as error:
        if interrupt_in(error) is not None:
            raise
        _log.log(level, line)


def step_logger(context: dg.OpExecutionContext, stages: StageContext) -> LogLine:
    """A function that writes one line to the run's log."""
    home = stages.settings.home
    return lambda line: log_line(context, runnable(line, home))


def _places(context: StageContext, made: Sequence[TaskRecord]) -> dict[str, Any]:
    """The places of all outputs, by Dagster's names for them: the address of the COG, or of the folder of all; rows;
    name and columns of the table if there is one.
    """
    files = [blob for task in made for blob in (*(cog.cog for cog in task.outputs.all_cogs), *task.outputs.all_files)]
    refs = [BlobRef.parse(blob) for blob in files]
    rows = {table.table: table.rows for task in made for table in task.outputs.all_tables}
    places: dict[str, Any] = {}
    if refs:
        folder = context.picture_container(refs[0].container).href(commonpath([ref.path for ref in refs]))
        places["dagster/uri"] = dg.MetadataValue.url(folder)
    if rows:
        places["dagster/partition_row_count"] = sum(rows.values())
    if len(rows) == 1:
        ((table, count),) = rows.items()
        columns = [dg.TableColumn(name, kind) for name, kind in reports.table_columns(context, table).items()]
        places |= {
            "dagster/table_name": f"{context.settings.pg_database}.{table}",
            "dagster/row_count": count,
            "dagster/column_schema": dg.TableSchema(columns=columns),
        }
    return places


def _work(context: StageContext, report: StageReport) -> dict[str, Any]:
    """How busy the children of the stage were in this run: numbers, which Dagster plots. None where all was done."""
    done = context.ledger.work.of_run(report.job.job_id, report.job.run_id).get(report.stage)
    return done.model_dump() if done else {}


def stage_metadata(context: StageContext, report: StageReport) -> dict[str, Any]:
    """The account of a stage, its bad files, and its first outputs."""
    counts = report.counts
    made = context.tasks.records(report.job.job_id, stage=report.stage, statuses=MADE, limit=_LOOKED_AT)
    return {
        "total": counts.total,
        "converted now": report.awaiting,
        **{str(status): counts[status] for status in (TaskStatus.SKIPPED, BAD_INPUT, TaskStatus.FAILED)},
        **_work(context, report),
        **progress_metadata(context, report.job),
        **(_places(context, made) if counts.sum_of(MADE) <= _LOOKED_AT else {}),
        **markdown(context, "bad files", reports.failure_table(context, report.job, report.stage)),
        **markdown(context, "warnings", reports.warning_table(context, report.job, report.stage)),
        **markdown(context, "made", reports.output_list(made) if made else ""),
        **markdown(context, "thumbnails", reports.thumbnail_strip(context, made)),
    }
