"""All configured inboxes, drained one after the other, each behind its circuit breaker.

Here: which inboxes there are, and the message about one that does not answer. Not here: how one works.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.submissions.inboxes.base import Inbox, Waiting, drain
from geo_assets.submissions.inboxes.blobs import BlobInbox
from geo_assets.submissions.submit import Submitter


def inboxes(settings: Settings) -> dict[str, Callable[[], Inbox]]:
    """Dependency -> a function that opens its inbox; the queue only if one is configured."""
    found: dict[str, Callable[[], Inbox]] = {"blob inbox": lambda: BlobInbox(settings)}
    if settings.queue_connection_string or settings.queue_url:

        def open_queue() -> Inbox:
            from geo_assets.submissions.inboxes.queue import QueueInbox

            return QueueInbox(settings)

        found["queue"] = open_queue
    return found


def drain_inboxes(settings: Settings, submitter: Submitter, *, limit: int, seconds: float) -> list[str]:
    """Drain each inbox; returns a sentence for each that had messages or does not answer."""
    said = []
    for name, open_inbox in inboxes(settings).items():
        try:
            with submitter.circuit(name):
                counts = drain(open_inbox(), submitter, limit=limit, seconds=seconds)
        except GeoAssetsError as error:
            said.append(f"{name}: {error.message}")
            continue
        if counts:
            said.append(f"{name}: " + ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    return said


def waiting(settings: Settings) -> dict[str, Waiting]:
    """Inbox -> what nobody has taken yet; one that does not answer is left out."""
    found = {}
    for name, open_inbox in inboxes(settings).items():
        with suppress(GeoAssetsError):
            found[name] = open_inbox().waiting()
    return found
