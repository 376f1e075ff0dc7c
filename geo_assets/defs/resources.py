"""What ops are given, and how the failures of plain code become Dagster's.

Here: the resource around `StageContext`, the retry policy, the translation of errors. Not here: settings (`settings.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import PrivateAttr

from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.settings import load_settings
from geo_assets.stages.context import StageContext

#: For a step that was killed under us or found the database away; a bad file never gets here.
RETRY = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)

#: Re-execution from failure can drop mapped steps silently; a run of a partition skips what is done by itself.
JOB_TAGS = {"dagster/retry_strategy": "ALL_STEPS"}


class Stages(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The stage context of a process: opened when a run starts, closed when it ends."""

    _context: StageContext = PrivateAttr()

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Stages"]:  # noqa: ARG002
        """Dagster's hook: the context lives as long as the run does in this process."""
        with StageContext(load_settings()) as stages:
            self._context = stages
            yield self

    def get(self) -> StageContext:
        """The context."""
        return self._context


@contextmanager
def plain_failures() -> Iterator[None]:
    """A `GeoAssetsError` becomes a Dagster failure with its code and remedy; only transient ones are worth another try."""
    try:
        yield
    except GeoAssetsError as error:
        raise dg.Failure(
            description=error.message,
            metadata={"code": error.code, "remedy": error.remedy},
            allow_retries=error.error_class is ErrorClass.TRANSIENT,
        ) from error
