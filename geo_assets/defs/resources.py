"""Resources of ops, and how our errors become Dagster's.

Here: the resource around `StageContext`, retries, the translation of errors. Not here: settings (`settings.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException
from pydantic import PrivateAttr
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from geo_assets import logs, spans
from geo_assets.correlation import process_about
from geo_assets.defs.executors import steps_of
from geo_assets.defs.process_title import titled
from geo_assets.errors import ErrorClass, GeoAssetsError, unforeseen
from geo_assets.hints import runnable
from geo_assets.settings import Settings
from geo_assets.stages.chunks import INFRASTRUCTURE
from geo_assets.stages.context import StageContext
from geo_assets.stages.cutting import Steps
from geo_assets.submissions.launch import CORRELATION_TAG, JOB_TAG, TRACEPARENT_TAG

#: For a step whose dependency did not answer; a bad file never gets here. Not a `RetryPolicy` of the ops: Dagster
#: applies that to interrupts too, and a run that somebody terminates would continue (seen in its 1.13).
_RETRIES, _RETRY_SECONDS = 2, 2

#: What Dagster's own storage raises while its database is away or has no room.
STORAGE_AWAY = (OperationalError, InterfaceError, NoConnection, DagsterPostgresException)

#: Re-execution from failure can drop mapped steps silently; a run of a partition skips what is done by itself. New
#: attempts are the janitor's, whatever the instance says of retries (docs/decisions/0005-resume-by-ledger.md).
JOB_TAGS = {"dagster/retry_strategy": "ALL_STEPS", "dagster/max_retries": "0"}


class Stages(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The stage context of a process, which may execute a whole run or a single step of it."""

    settings: dg.ResourceDependency[Settings]
    _context: StageContext = PrivateAttr()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Stages"]:
        """Dagster's hook: the context lives as long as the run, or its step, does in this process."""
        run = context.run
        run_id = run.run_id if run else ""
        steps = steps_of(self.settings, run.run_config) if run else Steps()
        logs.configure(self.settings)
        spans.configure(self.settings)
        ids, parent = _ids(run), run.tags.get(TRACEPARENT_TAG) if run else None
        name = "run" if steps == Steps() else "step"  # this process executes all of them, or one
        with (
            titled(f"geo_assets: {run.job_name if run else ''} of run {run_id}"),
            process_about(**ids),
            spans.span_of_process(name, parent=parent, **ids),
            StageContext(self.settings, run_id=run_id, steps=steps) as stages,
        ):
            self._context = stages
            yield self

    def get(self) -> StageContext:
        """The context."""
        return self._context


def _ids(run: dg.DagsterRun | None) -> dict[str, str | None]:
    """By which ids what a run says is found. Of one that somebody launched by hand more is known once it has claimed
    its job.
    """
    tags = run.tags if run else {}
    known = {"correlation_id": tags.get(CORRELATION_TAG), "job_id": tags.get(JOB_TAG)}
    return {**known, "run_id": run.run_id if run else None}


@contextmanager
def plain_failures(stages: Stages) -> Iterator[None]:
    """Raise the failures of plain code as Dagster's.

    After a transient failure the step is retried; if that does not help, the run fails without an outcome and the
    janitor requests a new attempt. A store that did not answer was waited for already: no step is retried for it. Any
    other failure is recorded as the attempt's outcome before the run fails. An interrupt stops all work under way; so
    does the loss of the job, and what fails then fails for that alone.
    """
    try:
        yield
    except BaseException as error:
        failure = _translated(stages.get(), error)
        if failure is error:
            raise
        raise failure from error


def _translated(context: StageContext, error: BaseException) -> BaseException:
    interrupt = interrupt_in(error)
    if interrupt is not None:
        context.stop()
        return interrupt
    if context.stopped:
        error = GeoAssetsError("LEASE_LOST", f"run {context.run_id} no longer owns its job")
    if isinstance(error, (*INFRASTRUCTURE, *STORAGE_AWAY)):
        return _again()
    if not isinstance(error, GeoAssetsError):
        error = unforeseen(error)  # type: ignore[arg-type]
    if error.error_class is ErrorClass.TRANSIENT and error.code != "STORAGE_UNAVAILABLE":
        return _again()
    if error.code != "STORAGE_UNAVAILABLE":
        context.give_up(error)
    return dg.Failure(
        description=error.message,
        metadata={"code": error.code, "remedy": runnable(error.remedy, context.settings.home)},
        allow_retries=False,
    )


def interrupt_in(error: BaseException | None) -> BaseException | None:
    """The interrupt that an error is, or that it followed: a connection that was interrupted may fail while it is
    closed.
    """
    while isinstance(error, Exception):
        error = error.__cause__ or error.__context__
    return error


def _again() -> dg.RetryRequested:
    return dg.RetryRequested(max_retries=_RETRIES, seconds_to_wait=_RETRY_SECONDS)
