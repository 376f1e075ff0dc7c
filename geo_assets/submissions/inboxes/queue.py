"""The Azure Storage Queue inbox: `geospatial-jobs`, its poison in `geospatial-jobs-poison`.

Here: receive with a visibility that is long enough, delete, put to poison. Not here: what a message means.

It pulls, so that it can stop pulling: while the database does not answer nothing is dequeued, no dequeue count grows,
and nothing drifts into poison without a record.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.messages import MessageRecord, RawMessage
from geo_assets.settings import Settings
from geo_assets.storage.faults import made_unless_it_exists
from geo_assets.submissions.inboxes.base import Waiting
from geo_assets.submissions.messages import Message, read_message, trace_of

#: A message is not given out again while it is in hand. A page of them is dequeued at once, and each waits for its
#: turn: a message that has waited for half of the time is requested again before it is handled.
_VISIBILITY_SECONDS = 300

#: Seconds until a message is delivered again after a transient fault.
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
        """Return the message."""
        return read_message(body)

    def keep(self) -> None:
        """Renew its visibility if it has waited for long.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE; also where somebody else was given it already.
        """
        if time.monotonic() - self._since < _VISIBILITY_SECONDS / 2:
            return
        with _told("the claim of a message could not be renewed"):
            self._message = self._queue.update_message(self._message, visibility_timeout=_VISIBILITY_SECONDS)
        self._since = time.monotonic()

    def done(self) -> None:
        """Delete it. If it expired meanwhile, or could not be deleted, it is delivered again, and its row is found.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE.
        """
        from azure.core.exceptions import ResourceNotFoundError

        with _told("a message could not be deleted"), suppress(ResourceNotFoundError):
            self._queue.delete_message(self._message)

    def poison(self, record: MessageRecord) -> None:
        """Put a pointer to its record into the poison queue, which is created if needed; the pointer never
        expires. Then delete the message.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE; QUEUE_NOT_FOUND, there is no poison queue and we may not make one.
        """
        pointer = {
            "message_id": record.message_id,
            "correlation_id": record.correlation_id,
            "source_id": record.source_id,
            "head": record.head,
        }
        with _told("a message could not be put to poison"):
            _with_queue(self._poison, lambda: self._poison.send_message(json.dumps(pointer), time_to_live=-1))
        self.done()

    def release(self) -> None:
        """Make it visible again soon, so that a short outage does not cost five minutes."""
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
                "INVALID_PARAMETERS",
                "no queue is configured",
                remedy="set GEO_ASSETS_QUEUE_URL or GEO_ASSETS_QUEUE_CONNECTION_STRING",
            )

        def client(name: str) -> Any:
            if settings.queue_connection_string:
                return QueueClient.from_connection_string(
                    settings.queue_connection_string.get_secret_value(), name, **_RAW
                )
            from azure.identity import DefaultAzureCredential

            return QueueClient(settings.queue_url or "", name, credential=DefaultAzureCredential(), **_RAW)

        self._queue, self._poison = client(settings.queue_name), client(f"{settings.queue_name}-poison")
        self.name = f"queue:{settings.queue_name}"

    def receive(self, limit: int) -> Iterator[QueueDelivery]:
        """Dequeue up to `limit` messages.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE; QUEUE_NOT_FOUND, it is not there and we may not make it.
        """
        with _told(f"{self.name} does not answer"):
            pages = iter(
                self._queue.receive_messages(
                    visibility_timeout=_VISIBILITY_SECONDS, messages_per_page=min(limit, _PAGE), max_messages=limit
                )
            )
        while True:
            with _told(f"{self.name} does not answer"):
                message = _with_queue(self._queue, lambda: next(pages, None))
            if message is None:
                return
            yield QueueDelivery(self._queue, self._poison, message, self._raw(message))

    def _raw(self, message: Any) -> RawMessage:
        body = _decoded(
            message.content
            if isinstance(message.content, bytes)
            else str(message.content).encode("utf-8", "surrogatepass")
        )
        trace = trace_of(body)
        return RawMessage(
            source=self.name,
            source_id=message.id,
            body=body,
            size_bytes=len(body),
            dequeue_count=message.dequeue_count or 1,
            correlation_id=trace.correlation_id,
            traceparent=trace.traceparent,
        )

    def ensure(self) -> list[str]:
        """See that both queues are there; returns the names of those that were made now.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE; QUEUE_NOT_FOUND, one is not there and we may not make it.
        """
        made = self.missing()
        for queue in (self._queue, self._poison):
            with _told(f"queue {queue.queue_name} does not answer"):
                _with_queue(queue, queue.get_queue_properties)
        return made

    def missing(self) -> list[str]:
        """The names of those of the two queues that are not there.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE.
        """
        from azure.core.exceptions import ResourceNotFoundError

        missing = []
        for queue in (self._queue, self._poison):
            with _told(f"queue {queue.queue_name} does not answer"):
                try:
                    queue.get_queue_properties()
                except ResourceNotFoundError:
                    missing.append(str(queue.queue_name))
        return missing

    def waiting(self) -> Waiting:
        """What the service says of it. Messages are not in strict order: the oldest is that of the first it shows.

        Raises:
            GeoAssetsError: QUEUE_UNAVAILABLE.
        """
        with _told(f"{self.name} does not answer"):
            count = int(self._queue.get_queue_properties().approximate_message_count or 0)
            came = [message.inserted_on.timestamp() for message in self._queue.peek_messages(_PAGE)] if count else []
        return Waiting(count, max(0.0, time.time() - min(came)) if came else 0)

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


@contextmanager
def _told(what: str) -> Iterator[None]:
    """The SDK's errors, as ours."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise GeoAssetsError("QUEUE_UNAVAILABLE", f"{what}: {_service_code(error)}") from error


def _service_code(error: Exception) -> str:
    """The service's own error code, or the kind of the error if there is none."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or type(error).__name__)


def _with_queue(queue: Any, ask: Callable[[], Any]) -> Any:
    """Return what `ask` returns; if the queue does not exist, create it and ask again.

    Raises:
        GeoAssetsError: QUEUE_NOT_FOUND, it is not there and we may not make it.
    """
    from azure.core.exceptions import (
        ClientAuthenticationError,
        HttpResponseError,
        ResourceNotFoundError,
    )

    try:
        return ask()
    except ResourceNotFoundError as error:
        if _service_code(error) != "QueueNotFound":
            raise
    try:
        made_unless_it_exists(queue.create_queue)
    except (ClientAuthenticationError, HttpResponseError) as error:
        if error.status_code not in {401, 403}:
            raise
        raise GeoAssetsError(
            "QUEUE_NOT_FOUND",
            f"there is no queue {queue.queue_name}, and we may not create it",
            remedy=f"az storage queue create --account-name {queue.account_name} --name {queue.queue_name}",
        ) from error
    return ask()


def _decoded(content: bytes) -> bytes:
    """A body decoded from base64, as Azure's tools send it, or unchanged: other programs send JSON as it is."""
    stripped = content.strip()
    if stripped.startswith(b"{"):
        return content
    try:
        return base64.b64decode(stripped, validate=True)
    except (binascii.Error, ValueError):
        return content
