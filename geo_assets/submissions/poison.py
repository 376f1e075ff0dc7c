"""Taking messages out of poison again.

Here: replaying one, discarding one. Not here: how they got there (`boundary.py`).
"""

from __future__ import annotations

from typing import Any

from geo_assets.correlation import Trace
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.messages import MessageRecord
from geo_assets.ledger.models import MessageState
from geo_assets.submissions.messages import read_message
from geo_assets.submissions.submit import Submitter


def replay(submitter: Submitter, message_id: str) -> dict[str, Any]:
    """Read a poisoned message again and submit it; it leaves poison with the commit that accepts it.

    Returns:
        message_id, state, and job_id or error.

    Raises:
        GeoAssetsError: MESSAGE_NOT_FOUND, also where only its record is kept; INVALID_PARAMETERS, it is not in poison.
    """
    record, body = submitter.messages.body(message_id)
    if record.size_bytes and not body:
        raise GeoAssetsError(
            "MESSAGE_NOT_FOUND",
            f"message {record.message_id[:8]} was dealt with long ago; its bytes are not kept any more",
            remedy="have its sender send it again",
        )
    _insist_on_poison(record)
    try:
        message = read_message(body)
        submitted = submitter.submit(
            message.parameters,
            submitted_by=f"replay of {record.source}",
            force=message.force,
            allow_mass_retire=message.allow_mass_retire,
            message_id=record.message_id,
            trace=Trace(record.correlation_id, message.traceparent),
        )
    except GeoAssetsError as error:
        return {
            "message_id": record.message_id,
            "state": MessageState(record.state),
            "error_code": error.code,
            "error_message": error.message,
        }
    return {"message_id": record.message_id, "state": MessageState.REPLAYED, "job_id": submitted.job_id}


def discard(submitter: Submitter, message_id: str) -> dict[str, Any]:
    """Take a message out of poison for good; its records stay.

    Returns:
        message_id, state.

    Raises:
        GeoAssetsError: MESSAGE_NOT_FOUND; INVALID_PARAMETERS, it is not in poison.
    """
    record, _ = submitter.messages.body(message_id)
    _insist_on_poison(record)
    submitter.messages.discard(record.message_id)
    return {"message_id": record.message_id, "state": MessageState.DISCARDED}


def _insist_on_poison(record: MessageRecord) -> None:
    """One that was received comes again, and would count as seen before; that of a job tells where the job is from."""
    if record.state not in {MessageState.POISON, MessageState.REJECTED}:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"message {record.message_id[:8]} is not in poison, but {record.state}",
            remedy="list those that are: geo-assets poison list",
        )
