"""What Dagster's storage says, as numbers, where it is in this database: runs, daemons, sensors, the daily comparison.

Here: questions and the metrics that each answers. Not here: those about the ledger and PostgreSQL, and asking all of
them (`measurements.py`).
"""

from __future__ import annotations

from typing import LiteralString

from geo_assets.ledger.questions import Metric, Question

#: A daemon that has not said for so long that it is alive is not healthy; it says so every 30 s.
DAEMON_SECONDS = 300

_RUNS: LiteralString = """
select status, count(r.status) as n,
       coalesce(extract(epoch from now() - min(r.create_timestamp at time zone 'UTC')), 0) as age
  from (values ('QUEUED'), ('NOT_STARTED'), ('STARTING'), ('STARTED'), ('CANCELING')) as active (status)
  left join dagster.runs r using (status)
 group by 1
"""

_DAEMONS: LiteralString = """
select daemon_type as daemon, extract(epoch from timestamp at time zone 'UTC') as at,
       (timestamp at time zone 'UTC' > now() - make_interval(secs => %(daemon)s))::int as healthy
  from dagster.daemon_heartbeats
"""

_SENSORS: LiteralString = """
select i.instigator_body::jsonb #>> '{origin,job_name}' as sensor, extract(epoch from max(last.at)) as at,
       sum(failed.n) as failed
  from dagster.instigators i
 cross join lateral (select max(timestamp) at time zone 'UTC' as at from dagster.job_ticks t
                      where t.selector_id = i.selector_id) as last
 cross join lateral (select count(*) as n from dagster.job_ticks t
                      where t.selector_id = i.selector_id and t.status = 'FAILURE'
                        and t.timestamp > now() at time zone 'UTC' - interval '1 hour') as failed
 where i.instigator_type = 'SENSOR' and i.status <> 'STOPPED'
 group by 1
"""

#: The classes of differences (`stages/reconcile.py`, which is above this), from nought on.
CLASSES: LiteralString = (
    "NOT_INGESTED,MISSING_SOURCE,LOOSE_TABLE,STAGING_LEFTOVER,UNACCOUNTED,UNPUBLISHED,MISSING_ITEM,ORPHAN_ITEM,"
    "DANGLING_HREF,MISSING_COG,ORPHAN_COG,CHECKSUM_MISMATCH,MISSING_TABLE,ROWCOUNT_MISMATCH,ORPHAN_TABLE,STUCK_JOB,"
    "RUN_STATE_DRIFT,POISON_WITHOUT_RECORD"
)

#: Those that the newest check names in its metadata.
DIFFERENCES: LiteralString = f"""
with newest as (
    select evaluation_event::jsonb #> '{{dagster_event,event_specific_data,metadata}}' as told
      from dagster.asset_check_executions
     where asset_key = '["reconcile", "agreement"]' and check_name = 'agrees' and execution_status <> 'PLANNED'
     order by id desc limit 1)
select class, coalesce((select (told #>> array[class, 'value'])::bigint from newest), 0) as n
  from unnest('{{{CLASSES}}}'::text[]) as every (class)
"""  # noqa: S608

#: The asset `reconcile/agreement` (`defs/reconcile.py`) and its check. Before the first time it counts from when its
#: schedule was first seen.
RECONCILED: LiteralString = """
with newest as (
    select create_timestamp as at, execution_status = 'SUCCEEDED' as agrees from dagster.asset_check_executions
     where asset_key = '["reconcile", "agreement"]' and check_name = 'agrees' and execution_status <> 'PLANNED'
     order by id desc limit 1),
scheduled as (
    select create_timestamp as at from dagster.instigators
     where instigator_type = 'SCHEDULE' and instigator_body::jsonb #>> '{origin,job_name}' = 'reconcile'
     order by id limit 1)
select extract(epoch from coalesce(newest.at, scheduled.at) at time zone 'UTC') as at,
       coalesce(agrees, true)::int as agrees
  from (select) as one left join newest on true left join scheduled on true
"""

OF_DAGSTER: tuple[Question, ...] = (
    Question(
        (
            Metric("dagster_active_runs", "gauge", "n", "Runs of Dagster that have not ended."),
            Metric("dagster_oldest_active_run_age_seconds", "gauge", "age", "Time since the oldest of them was made."),
        ),
        _RUNS,
        ("status",),
        ("dagster.runs",),
    ),
    Question(
        (
            Metric(
                "dagster_daemon_last_heartbeat_timestamp_seconds",
                "gauge",
                "at",
                "When a daemon last said it is alive.",
            ),
            Metric("dagster_daemon_healthy", "gauge", "healthy", f"Whether that was in the last {DAEMON_SECONDS} s."),
        ),
        _DAEMONS,
        ("daemon",),
        ("dagster.daemon_heartbeats",),
    ),
    Question(
        (
            Metric("dagster_sensor_last_tick_timestamp_seconds", "gauge", "at", "When a sensor last began a tick."),
            Metric("dagster_sensor_failed_ticks", "gauge", "failed", "Its ticks of the last hour that failed."),
        ),
        _SENSORS,
        ("sensor",),
        ("dagster.instigators", "dagster.job_ticks"),
    ),
    Question(
        (
            Metric("geo_assets_last_reconcile_timestamp_seconds", "gauge", "at", "When all was last compared."),
            Metric("geo_assets_reconcile_agrees", "gauge", "agrees", "Whether no fault was found then: 0 or 1."),
        ),
        RECONCILED,
        (),
        ("dagster.asset_check_executions", "dagster.instigators"),
    ),
    Question(
        (Metric("geo_assets_reconcile_differences", "gauge", "n", "Differences of each class that were found then."),),
        DIFFERENCES,
        ("class",),
        ("dagster.asset_check_executions",),
    ),
)
