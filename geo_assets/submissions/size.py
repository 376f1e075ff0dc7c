"""Whether a job is a small one, before it has a run: Dagster's queue keeps places for those.

Here: a look at its container, the tags of its run. Not here: how many large runs there may be at a time
(`dagster.yaml`), launching (`launch.py`), who gives way on a host (`sandbox/host.py`).

A run cannot be put back into the queue, so its size must be known before. The look reads as many names as a small job
may have, and no more. Whatever is not known to be small counts as large: then it is the job that waits, not others.
"""

from __future__ import annotations

import time

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.circuits import circuit_of
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import Attempt
from geo_assets.parameters import JOB_TYPES, ListContainer
from geo_assets.settings import Settings
from geo_assets.storage.containers import existing_container

#: Files and bytes that a small job may find below its prefix: minutes of work on two cores.
MOST_FILES, MOST_BYTES = 1_000, 10 * 10**9

#: What `dagster.yaml` limits.
SIZE_TAG = "geo_assets/size"

#: What Dagster's Celery adds to the priority of the steps of a run, which is 5, or that of a whole run, which is 0.
_CELERY_TAG, _CELERY_MORE = "dagster-celery/run_priority", "4"


def size_tags(settings: Settings, *, large: bool) -> dict[str, str]:
    """The tags of a large run, or of a small one. With Celery the small ones are taken first."""
    tags, (broker, _) = {SIZE_TAG: "large" if large else "small"}, settings.celery_urls
    if broker:
        smaller_is_first = broker.startswith(("redis", "sentinel"))
        tags[_CELERY_TAG] = _CELERY_MORE if large is smaller_is_first else "0"
    return tags


def may_be_large(job_type: str) -> bool:
    """Whether a job is large as long as nothing else is known of it."""
    return issubclass(JOB_TYPES[job_type], ListContainer)


class Sizes:
    """Looks at what jobs would read."""

    def __init__(self, settings: Settings, ledger: Ledger, *, seconds: float | None = None) -> None:
        """Begin.

        Args:
            settings: where containers are.
            ledger: it knows what was asked for, and which accounts do not answer.
            seconds: after which no other look begins; None: there is no such time.
        """
        self._settings, self._ledger = settings, ledger
        self._until = None if seconds is None else time.monotonic() + seconds

    def tags(self, attempt: Attempt) -> dict[str, str]:
        """The tags of an attempt's run."""
        return size_tags(self._settings, large=may_be_large(attempt.job_type) and not self._is_small(attempt))

    def _is_small(self, attempt: Attempt) -> bool:
        if self._until and time.monotonic() > self._until:
            return False
        try:
            asked = self._ledger.jobs.parameters(attempt.job_id)
            if not isinstance(asked, ListContainer):
                return True
            with self._ledger.circuits.guard(circuit_of(asked.account)):
                return self._has_few(asked)
        except GeoAssetsError:  # the account does not answer: the run waits for it, or says what is wrong
            return False

    def _has_few(self, asked: ListContainer) -> bool:
        container = existing_container(self._settings, asked.account, asked.container, hasty=True)
        files = size = 0
        for page in container.list(asked.prefix):
            files, size = files + len(page), size + sum(blob.size for blob in page)
            if files > MOST_FILES or size > MOST_BYTES:
                return False
        return True
