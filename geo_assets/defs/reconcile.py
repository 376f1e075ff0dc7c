"""The asset that says whether all agrees, and its daily schedule: the newest report is its metadata.

It belongs to no job type and has no partitions: it is about all jobs, and nobody submits it.
"""

import dagster as dg

from geo_assets.defs.resources import JOB_TAGS, Stages, plain_failures
from geo_assets.hints import runnable
from geo_assets.settings import Settings
from geo_assets.stages.reconcile import ReconcileReport
from geo_assets.stages.reconcile import reconcile as compare
from geo_assets.submissions.size import size_tags
from geo_assets.text import how_many

#: Of the asset's group, of the job and of the schedule.
NAME = "reconcile"

KEY = dg.AssetKey([NAME, "agreement"])

#: In the night of Greenwich, beside the full hour, at which others begin.
_WHEN = "17 2 * * *"

#: Differences that are shown; the counts include all.
_SHOWN = 20


@dg.asset(
    key=KEY,
    kinds={"postgres", "stac"},
    group_name=NAME,
    check_specs=[
        dg.AssetCheckSpec("agrees", asset=KEY, description="Do containers, ledger, catalogue, tables and runs agree?")
    ],
)
def agreement(stages: Stages) -> dg.MaterializeResult:  # type: ignore[type-arg]  # it has no value
    """The comparison of containers, ledger, catalogue, tables and runs, of all jobs."""
    with plain_failures(stages):
        report = compare(stages.get().settings).report()
    home = stages.get().settings.home
    first = runnable(_first(report), home)
    return dg.MaterializeResult(
        metadata={
            "faults": report.faults,
            "differences": len(report.differences),
            **{str(kind): count for kind, count in report.counts.items() if count},
            **({"first": dg.MetadataValue.md(first)} if first else {}),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="agrees",
                passed=not report.faults,
                metadata={"faults": report.faults, **{str(kind): n for kind, n in report.counts.items() if n}},
                description=runnable(_verdict(report), home),
            )
        ],
    )


def _verdict(report: ReconcileReport) -> str:
    if not report.faults:
        return "all agrees"
    return f"{how_many(report.faults, 'fault')}; each, and what to do: geo-assets reconcile"


def _first(report: ReconcileReport) -> str:
    """The first differences as a table."""
    rows = [
        f"| {d.kind} | `{d.what}` | {d.detail} | {d.remedy} |".replace("\n", " ") for d in report.differences[:_SHOWN]
    ]
    return "\n".join(["| class | what | detail | what to do |", "|---|---|---|---|", *rows]) if rows else ""


def build_reconcile(settings: Settings) -> dg.ScheduleDefinition:
    """The schedule, with its job; it runs by itself, as the sensors do."""
    job = dg.define_asset_job(
        NAME,
        selection=[KEY],
        tags={**JOB_TAGS, **size_tags(settings, large=True)},
        description="compares containers, ledger, catalogue, tables and runs",
    )
    return dg.ScheduleDefinition(
        name=NAME,
        job=job,
        cron_schedule=_WHEN,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="once a day",
    )
