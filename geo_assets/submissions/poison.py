"""Taking messages out of poison again.

Here: replay. Not here: how they got there (`boundary.py`).
"""

from __future__ import annotations

from typing import Any

from geo_assets.correlation import Trace
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import MessageState
from geo_assets.submissions.messages import read_message
from geo_assets.submissions.submit import Submitter


def replay(submitter: Submitter, message_id: str) -> dict[str, Any]:
    """Read a poisoned message again and submit it; it leaves poison if it is accepted now.

    Returns:
        message_id, state, and job_id or error.

    Raises:
        GeoAssetsError: MESSAGE_NOT_FOUND, also where only its record is kept.
    """
    record, body = submitter.messages.body(message_id)
    if record.size_bytes and not body:
        raise GeoAssetsError(
            "MESSAGE_NOT_FOUND",
            f"message {record.message_id[:8]} was dealt with long ago; its bytes are not kept any more",
            remedy="have its sender send it again",
        )
    try:
        message = read_message(body)
        submitted = submitter.submit(
            message.parameters,
            submitted_by=f"replay of {record.source}",
            force=message.force,
            allow_mass_retire=message.allow_mass_retire,
            trace=Trace(record.correlation_id, message.traceparent),
        )
    except GeoAssetsError as error:
        return {
            "message_id": record.message_id,
            "state": MessageState.POISON,
            "error_code": error.code,
            "error_message": error.message,
        }
    submitter.messages.set_state(record.message_id, MessageState.REPLAYED)
    return {"message_id": record.message_id, "state": MessageState.REPLAYED, "job_id": submitted.job_id}
