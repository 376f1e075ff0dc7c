"""The Azure Storage Queue inbox: `geospatial-jobs`, its poison in `geospatial-jobs-poison`.

Here: receive with a visibility that is long enough, delete, put to poison. Not here: what a message means.

It pulls, so that it can stop pulling: while the database is away nothing is dequeued, no dequeue count grows, and nothing
drifts into poison without a record.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.messages import MessageRecord, RawMessage
from geo_assets.settings import Settings
from geo_assets.submissions.messages import Message, read_message

#: A message is not given out again while it is in hand. A page of them is dequeued at once, and each waits for its turn: what has
#: waited for half of the time is asked for anew before it is handled.
_VISIBILITY_SECONDS = 300

#: After a fault that will pass.
_RELEASE_SECONDS = 5

#: Azure's most for one call.
_PAGE = 32


class QueueDelivery:
    """One dequeued message."""

    def __init__(self, queue: Any, poison: Any, message: Any, raw: RawMessage) -> None:
        self._queue, self._poison, self._message = queue, poison, message
        self._since = time.monotonic()
        self.raw = raw

    def read(self, body: bytes) -> Message:
        """What it says."""
        return read_message(body)

    def keep(self) -> None:
        """Renew its visibility if it has waited for long.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE; also where somebody else was given it already.
        """
        from azure.core.exceptions import AzureError

        if time.monotonic() - self._since < _VISIBILITY_SECONDS / 2:
            return
        try:
            self._message = self._queue.update_message(self._message, visibility_timeout=_VISIBILITY_SECONDS)
        except AzureError as error:
            raise GeoAssetsError("QUEUE_UNAVAILABLE", f"a message could not be kept in hand: {type(error).__name__}") from error
        self._since = time.monotonic()

    def done(self) -> None:
        """Delete it. One that expired meanwhile comes again, and finds its row."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            self._queue.delete_message(self._message)
        except ResourceNotFoundError:
            return

    def poison(self, record: MessageRecord) -> None:
        """Put a pointer to its record into the poison queue, for ever, then delete it."""
        pointer = {
            "message_id": record.message_id,
            "correlation_id": record.correlation_id,
            "source_id": record.source_id,
            "head": record.head,
        }
        self._poison.send_message(json.dumps(pointer), time_to_live=-1)
        self.done()

    def release(self) -> None:
        """Visible again soon, so that a short outage does not cost five minutes."""
        from azure.core.exceptions import AzureError

        try:
            self._queue.update_message(self._message, visibility_timeout=_RELEASE_SECONDS)
        except AzureError:
            return  # it comes again by itself, later


class QueueInbox:
    """Messages of an Azure Storage Queue."""

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, no queue is configured.
        """
        from azure.storage.queue import QueueClient

        if settings.queue_connection_string is None and settings.queue_url is None:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", "no queue is configured", remedy="set GEO_ASSETS_QUEUE_URL or GEO_ASSETS_QUEUE_CONNECTION_STRING"
            )

        def client(name: str) -> Any:
            if settings.queue_connection_string:
                return QueueClient.from_connection_string(settings.queue_connection_string.get_secret_value(), name, **_RAW)
            from azure.identity import DefaultAzureCredential

            return QueueClient(settings.queue_url or "", name, credential=DefaultAzureCredential(), **_RAW)

        self._queue, self._poison = client(settings.queue_name), client(f"{settings.queue_name}-poison")
        self.name = f"queue:{settings.queue_name}"

    def receive(self, limit: int) -> Iterator[QueueDelivery]:
        """Dequeue up to `limit` messages.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE.
        """
        from azure.core.exceptions import AzureError

        try:
            pages = self._queue.receive_messages(
                visibility_timeout=_VISIBILITY_SECONDS, messages_per_page=min(limit, _PAGE), max_messages=limit
            )
            for message in pages:
                yield QueueDelivery(self._queue, self._poison, message, self._raw(message))
        except AzureError as error:
            raise GeoAssetsError("QUEUE_UNAVAILABLE", f"{self.name} does not answer: {type(error).__name__}") from error

    def _raw(self, message: Any) -> RawMessage:
        body = _decoded(message.content if isinstance(message.content, bytes) else str(message.content).encode("utf-8", "surrogatepass"))
        return RawMessage(
            source=self.name,
            source_id=message.id,
            body=body,
            size_bytes=len(body),
            dequeue_count=message.dequeue_count or 1,
            correlation_id=str(uuid.uuid4()),
        )

    def create(self) -> None:
        """Make both queues if they are not there."""
        from azure.core.exceptions import ResourceExistsError

        for queue in (self._queue, self._poison):
            try:
                queue.create_queue()
            except ResourceExistsError:
                continue

    def poisoned(self) -> int:
        """About how many messages the poison queue holds."""
        return int(self._poison.get_queue_properties().approximate_message_count or 0)


#: The SDK's own policies refuse a body that they cannot decode, before we could record it.
_RAW: dict[str, Any] = {
    "message_encode_policy": None,
    "message_decode_policy": None,
    "connection_timeout": 5,  # seconds; a tick has fifteen
    "read_timeout": 10,
    "retry_total": 1,
    "retry_connect": 1,
    "initial_backoff": 1,
}


def _decoded(content: bytes) -> bytes:
    """Azure's tools send base64, others send JSON as it is: a body that is base64 of something is that something."""
    stripped = content.strip()
    if stripped.startswith(b"{"):
        return content
    try:
        return base64.b64decode(stripped, validate=True)
    except (binascii.Error, ValueError):
        return content
