"""The interface of an inbox, and draining one in bounded batches.

Here: the interface and the loop. Not here: any source (`blobs.py`, `queue.py`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from geo_assets.crash import crash_point
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.ledger.messages import MessageRecord, RawMessage
from geo_assets.submissions.boundary import Outcome, handle
from geo_assets.submissions.messages import Message
from geo_assets.submissions.submit import Submitter


class Delivery(Protocol):
    """One received message. Until `done` or `poison` is called it stays in its source, which delivers it again if this
    process dies.
    """

    raw: RawMessage

    def read(self, body: bytes) -> Message:
        """Return the message.

        Raises:
            GeoAssetsError: it cannot be read.
        """

    def keep(self) -> None:
        """Extend the claim before the message is handled, so that no other process receives it."""

    def done(self) -> None:
        """Remove the accepted message from the source."""

    def poison(self, record: MessageRecord) -> None:
        """Move the rejected message, whose error is recorded, to where poison is kept."""

    def release(self) -> None:
        """Give back a message that could not be handled now; it is delivered again soon."""


class Waiting(NamedTuple):
    """What is in an inbox and nobody has taken: how many messages, about, and how long the oldest has been there."""

    messages: int
    oldest_seconds: float


class Inbox(Protocol):
    """A source of messages."""

    name: str

    def receive(self, limit: int) -> Iterator[Delivery]:
        """Up to `limit` messages.

        Raises:
            GeoAssetsError: CIRCUIT_OPEN or another transient error: the source is away.
        """

    def waiting(self) -> Waiting:
        """What is in it; nothing is taken.

        Raises:
            GeoAssetsError: the source is away, or refuses.
        """


def drain(inbox: Inbox, submitter: Submitter, *, limit: int, seconds: float) -> Counter[str]:
    """Handle up to `limit` messages within about `seconds`; returns how many were accepted, poisoned, seen before.

    Raises:
        GeoAssetsError: transient ones; what is not handled comes again.
    """
    counts: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    for delivery in inbox.receive(limit):
        try:
            delivery.keep()
            outcome = handle(submitter, delivery.raw, delivery.read)
        except BaseException as error:
            delivery.release()
            if not isinstance(error, GeoAssetsError) or error.error_class is ErrorClass.TRANSIENT:
                raise
            counts["to be tried again"] += 1  # it is noted; the others do not wait for it
        else:
            _finish(delivery, outcome)
            counts["poison" if outcome.error else "accepted" if outcome.submitted else "seen before"] += 1
        if time.monotonic() > deadline:
            break
    return counts


def _finish(delivery: Delivery, outcome: Outcome) -> None:
    crash_point("inbox.handled")
    if outcome.error:
        delivery.poison(outcome.record)
    else:
        delivery.done()
    crash_point("inbox.finished")
