"""The asset that deletes what is old enough, and its daily schedule: what has gone is its metadata.

It belongs to no job type and has no partitions: nobody submits it. Files on the disk of a machine go where its run is
executed.
"""

import dagster as dg

from geo_assets.defs.resources import JOB_TAGS, Stages, plain_failures
from geo_assets.retention.purge import purge
from geo_assets.settings import Settings
from geo_assets.submissions.size import size_tags

#: Of the asset's group, of the job and of the schedule.
NAME = "retention"

#: In the night of Greenwich, an hour after the comparison of all parts.
_WHEN = "17 3 * * *"


@dg.asset(key=dg.AssetKey([NAME, "purged"]), kinds={"postgres"}, group_name=NAME)
def purged(stages: Stages) -> dg.MaterializeResult:  # type: ignore[type-arg]  # it has no value
    """What was deleted because of its age, and what killed processes had left."""
    with plain_failures(stages):
        done = purge(stages.get().settings, dry_run=False)
    return dg.MaterializeResult(metadata={each.kind.name: each.extent.count for each in done})


def build_retention(settings: Settings) -> dg.ScheduleDefinition:
    """The schedule, with its job; it runs by itself, as the sensors do."""
    job = dg.define_asset_job(
        NAME,
        selection=[dg.AssetKey([NAME, "purged"])],
        tags={**JOB_TAGS, **size_tags(settings, large=True)},
        description="deletes what is old enough",
    )
    return dg.ScheduleDefinition(
        name=NAME,
        job=job,
        cron_schedule=_WHEN,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="once a day",
    )
