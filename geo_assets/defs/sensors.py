"""The submissions sensor: launches recorded submissions that are not launched yet.

A submission over the CLI or HTTP is launched at once by the process that accepted it; the sensor launches all others,
and those whose launcher died. The ledger lets exactly one process launch an attempt.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from geo_assets import logs, spans
from geo_assets.alerts.send import send_due
from geo_assets.defs.partitions import PARTITIONS
from geo_assets.defs.runs import Runs
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import Attempt
from geo_assets.receipts.write import write_due
from geo_assets.settings import Settings
from geo_assets.stages.janitor import run_janitor
from geo_assets.stages.orphans import sweep_orphans
from geo_assets.submissions.inboxes.intake import drain_inboxes
from geo_assets.submissions.launch import tags_of
from geo_assets.submissions.size import Sizes
from geo_assets.submissions.submit import Submitter
from geo_assets.text import how_many

#: Each costs the daemon a plan and a submit; a backlog drains over several ticks instead of one that times out.
LAUNCHES_PER_TICK = 50


#: A tick must end well within Dagster's 60 seconds; what is left comes with the next.
MESSAGES_PER_TICK, SECONDS_PER_TICK = 100, 15.0

#: A request over HTTP is answered, or nobody waits for it any more.
_LONGEST_ANSWER = timedelta(minutes=5)

#: How long it is known which alerts were sent.
_ALERTS_KEPT = timedelta(days=30)

#: How long the last sign of life of a run is kept.
_SIGNS_KEPT = timedelta(days=1)

#: After this time the janitor begins no other receipt.
_RECEIPT_SECONDS = 10.0

_log = logging.getLogger(__name__)


def requests_of(attempts: list[Attempt], size: Callable[[Attempt], Mapping[str, str]]) -> dg.SensorResult:
    """The tick's result: partitions first, then one run per attempt, with the attempt in its run key and the tags of
    its size.
    """
    return dg.SensorResult(
        run_requests=[
            dg.RunRequest(
                run_key=_run_key(a),
                job_name=a.job_type,
                partition_key=a.partition_key,
                tags={**tags_of(a), **size(a)},
            )
            for a in attempts
        ],
        dynamic_partitions_requests=[
            PARTITIONS[job_type].build_add_request([a.partition_key for a in attempts if a.job_type == job_type])
            for job_type in sorted({a.job_type for a in attempts})
        ],
    )


def _run_key(attempt: Attempt) -> str:
    """For Dagster, which makes one run of each key for ever: also of a database that was made again."""
    when = f":{attempt.requested_at:%Y%m%dT%H%M%S}" if attempt.requested_at else ""
    return f"{attempt.partition_key}:{attempt.attempt}{when}"


def build_submissions_sensor(settings: Settings, jobs: list[Any]) -> dg.SensorDefinition:
    """The sensor over these jobs."""

    @dg.sensor(
        name="submissions",
        jobs=jobs,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="takes messages from the inboxes; launches recorded submissions that are not launched yet",
    )
    def submissions_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        """Take messages from the inboxes; launch recorded submissions that nobody has launched."""
        logs.configure(settings)
        spans.configure(settings)
        with Submitter(settings, launches=False) as submitter:
            said = drain_inboxes(settings, submitter, limit=MESSAGES_PER_TICK, seconds=SECONDS_PER_TICK)
            spans.flush()
            taken = submitter.jobs.take_launches(LAUNCHES_PER_TICK, [job.name for job in jobs])
            attempts = Runs(context.instance).not_launched(taken)
            for a in attempts:
                ids = {"correlation_id": a.correlation_id, "job_id": a.job_id, "attempt": a.attempt}
                _log.info("run requested", extra=ids)
            if attempts:
                return requests_of(attempts, Sizes(settings, submitter.ledger, seconds=SECONDS_PER_TICK).tags)
        return dg.SkipReason("; ".join([*said, "every submission is launched"]))

    return submissions_sensor


def build_janitor(settings: Settings) -> dg.SensorDefinition:
    """The sensor that looks after jobs at work."""

    @dg.sensor(
        name="janitor",
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="finds runs that died or hang, and starts new attempts of their jobs",
    )
    def janitor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Find runs that died or hang, and ask for a new attempt of their jobs; the submissions sensor launches it."""
        logs.configure(settings)
        origin = context.code_location_origin
        runs = Runs(context.instance, origin.location_name if origin else "")
        with Ledger(settings, connections=1) as ledger:
            done = run_janitor(ledger.jobs, ledger.messages, runs.report_dead, runs.look, runs.at_work)
            ledger.messages.reject_unanswered(_LONGEST_ANSWER)
            ledger.jobs.forget_signs(_SIGNS_KEPT)
            ledger.changes.forget(timedelta(days=settings.change_feed_days))
            ledger.tallies.sum_up()
            ledger.alerts.forget(_ALERTS_KEPT, unsent=settings.alert_webhook is None)
        swept = sweep_orphans(settings)
        receipts = write_due(settings, seconds=_RECEIPT_SECONDS)
        said = [
            *(f"{p.partition_key}: {a}" for p, a in done),
            *([f"{how_many(swept, 'orphan')} deleted"] if swept else []),
        ]
        said += [f"{how_many(receipts, 'receipt')} written"] if receipts else []
        return dg.SkipReason("; ".join(said) or "all jobs are in order")

    return janitor


def build_alerts(settings: Settings) -> dg.SensorDefinition:
    """The sensor that tells somebody."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="posts what somebody is to hear of to the webhook of the settings, if there is one",
    )
    def alerts() -> dg.SkipReason:
        """Send the alerts that are due."""
        if settings.alert_webhook is None:
            return dg.SkipReason("GEO_ASSETS_ALERT_WEBHOOK is not set")
        logs.configure(settings)
        with Ledger(settings, connections=1) as ledger:
            return dg.SkipReason(send_due(settings, ledger))

    return alerts
