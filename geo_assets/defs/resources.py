"""What ops are given, and how the failures of plain code become Dagster's.

Here: the resource around `StageContext`, the retry policy, the translation of errors. Not here: settings (`settings.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import PrivateAttr

from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.settings import load_settings
from geo_assets.stages.chunks import INFRASTRUCTURE
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
def plain_failures(stages: Stages) -> Iterator[None]:
    """The failures of plain code, as Dagster's.

    A transient one goes up as it is and the step is tried again; if that does not help, the run dies without a word and the
    janitor asks for a new attempt. Any other ends the attempt, in writing, before the run fails.
    """
    try:
        yield
    except INFRASTRUCTURE:
        raise
    except GeoAssetsError as error:
        transient = error.error_class is ErrorClass.TRANSIENT
        if not transient:
            stages.get().give_up(error)
        raise _failure(error, allow_retries=transient) from error
    except Exception as error:
        internal = GeoAssetsError("INTERNAL", f"{type(error).__name__}: {error}"[:1000])
        stages.get().give_up(internal)
        raise _failure(internal, allow_retries=False) from error


def _failure(error: GeoAssetsError, *, allow_retries: bool) -> dg.Failure:
    return dg.Failure(description=error.message, metadata={"code": error.code, "remedy": error.remedy}, allow_retries=allow_retries)
