"""The boundary: every message is written down, then read, then accepted or rejected. Nothing is lost on the way.

Here: the order of these steps, and what a poisoned message means for the job that it names. Not here: where messages
come from (`inboxes/`, `api/`), what a message may hold (`messages.py`).

Crash points (`crash.py`) are between all steps: a message that was not handled to its end is delivered again, and
continues from its own row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from geo_assets.correlation import Trace, about
from geo_assets.crash import crash_point
from geo_assets.database.connections import TRANSIENT, DictConnection
from geo_assets.errors import ErrorClass, GeoAssetsError, unforeseen
from geo_assets.ledger.messages import HTTP, MessageRecord, RawMessage, add_error
from geo_assets.ledger.models import JobLife, JobStatus, MessageState, Submitted
from geo_assets.parameters import Job
from geo_assets.spans import span
from geo_assets.submissions.messages import Message, read_message, recover_job_id
from geo_assets.submissions.submit import Submitter

#: How often a message may fail by a fault of ours, or of the machine, before it is set aside. While a dependency does
#: not answer it is delivered again any number of times.
_TRIES = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a message: a job, or the error that poisoned it."""

    record: MessageRecord
    submitted: Submitted | None = None
    error: GeoAssetsError | None = None


def handle(submitter: Submitter, raw: RawMessage, read: Callable[[bytes], Message] = read_message) -> Outcome:
    """Process one message to its end.

    Raises:
        GeoAssetsError: a transient error (a store does not answer): the message stays where it is and is delivered
            again. Any other fault that is not the message's own is recorded; after `_TRIES` of them the message is
            poison. None over HTTP, where a message is not delivered again: each rejects it.
        psycopg.Error: a transient error.
    """
    record = submitter.messages.record(raw)
    ids = {"correlation_id": record.correlation_id, "message_id": record.message_id}
    with about(**ids), span("submission", parent=raw.traceparent, source=raw.source, **ids) as traced:
        crash_point("boundary.recorded")
        return _handle(submitter, raw.model_copy(update={"traceparent": traced}), record, read)


def _handle(submitter: Submitter, raw: RawMessage, record: MessageRecord, read: Callable[[bytes], Message]) -> Outcome:
    if record.state in {MessageState.POISON, MessageState.REJECTED}:
        known = GeoAssetsError.from_dict({"code": record.error_code or "", "message": record.error_message or ""})
        settle_poison(submitter, record.message_id, record.job_id, known)  # who rejected it may have died before
        return Outcome(record, error=known)
    if record.state != MessageState.RECEIVED:
        _log.info("message delivered again", extra={"state": record.state, "source": raw.source})
        return Outcome(record)  # delivered again after it was handled
    try:
        submitted = _submit(submitter, raw, record, read)
    except GeoAssetsError as error:
        failure = error
    except TRANSIENT:
        raise
    except Exception as error:  # noqa: BLE001 - it is noted, and raised or set aside below
        failure = unforeseen(error)
    else:
        crash_point("boundary.accepted")
        _log.info(
            "submission accepted",
            extra={
                "source": raw.source,
                "job_id": submitted.job_id,
                "job_type": submitted.job_type,
                "attempt": submitted.attempt,
                "duplicate": submitted.duplicate,
            },
        )
        return Outcome(record, submitted=submitted)
    if _comes_again(submitter, raw, record, failure):
        raise failure
    reject(submitter, record, raw.body, failure)
    return Outcome(record, error=failure)


def _comes_again(submitter: Submitter, raw: RawMessage, record: MessageRecord, failure: GeoAssetsError) -> bool:
    """Whether a message is to be tried again that failed; where that is by a fault of ours it is noted. Over HTTP its
    sender is told, and may send another.
    """
    if raw.source == HTTP or failure.error_class is ErrorClass.INVALID:
        return False
    if failure.error_class is ErrorClass.TRANSIENT:
        return True
    if len(submitter.messages.errors(message_id=record.message_id)) + 1 >= _TRIES:
        return False
    submitter.messages.note(failure, severity="warning", message_id=record.message_id)
    _log.warning("message comes again after a fault", extra={"code": failure.code, "reason": failure.message})
    return True


def _submit(
    submitter: Submitter, raw: RawMessage, record: MessageRecord, read: Callable[[bytes], Message]
) -> Submitted:
    if raw.size_bytes > len(raw.body):
        raise GeoAssetsError("MESSAGE_TOO_LARGE", f"the message has {raw.size_bytes:,} bytes")
    message = read(raw.body)
    job = Job.of(message.parameters)
    if message.job_id not in {None, job.job_id}:
        raise GeoAssetsError(
            "JOB_ID_MISMATCH", f"the message names job {message.job_id}, its parameters are job {job.job_id}"
        )
    return submitter.submit(
        message.parameters,
        submitted_by=raw.source,
        force=message.force,
        allow_mass_retire=message.allow_mass_retire,
        message_id=record.message_id,
        trace=Trace(record.correlation_id, raw.traceparent),
    )


def reject(submitter: Submitter, record: MessageRecord, body: bytes, error: GeoAssetsError) -> None:
    """Poison a message, and record that with the job that it names, if any."""
    job_id = recover_job_id(body)
    _log.warning(
        "message rejected",
        extra={"source": record.source, "code": error.code, "reason": error.message, "job_id": job_id},
    )
    submitter.messages.reject(record.message_id, error, job_id=job_id)
    crash_point("boundary.rejected")
    settle_poison(submitter, record.message_id, job_id, error)


class PoisonAction(StrEnum):
    """The effect of a poisoned message on the job that it names."""

    NOTHING = "nothing"  # it names none
    EXPECTED = "expected"  # the job had failed
    KEEP_RESULT = "keep_result"  # the job is done
    LEAVE = "leave"  # the job is at work
    FAIL = "fail"  # no run works on it
    ORPHAN = "orphan"  # no such job


def poison_action(job_id: str | None, life: JobLife | None) -> PoisonAction:
    """Decide from what is known of the job now."""
    if job_id is None:
        return PoisonAction.NOTHING
    if life is None:
        return PoisonAction.ORPHAN
    if life.status in {JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.INVALID}:
        return PoisonAction.EXPECTED
    if life.status in {JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS}:
        return PoisonAction.KEEP_RESULT
    return PoisonAction.LEAVE if life.lease_is_live else PoisonAction.FAIL


_NOTES = {
    PoisonAction.EXPECTED: (
        "info",
        "POISON_EXPECTED",
        "a poisoned message names this job, which had ended as failed or cancelled",
    ),
    PoisonAction.KEEP_RESULT: (
        "warning",
        "POISON_AFTER_COMPLETION",
        "a poisoned message names this job, which is completed; its result stands",
    ),
    PoisonAction.LEAVE: ("info", "POISON_LEFT", "a poisoned message names this job, which is at work"),
    PoisonAction.ORPHAN: ("warning", "ORPHAN_POISON", "a poisoned message names a job that is not known"),
}


#: The records that tell what a poisoned message meant for its job.
_SETTLED = {"UNHANDLED_POISON", *(code for _, code, _ in _NOTES.values())}


def settle_poison(submitter: Submitter, message_id: str, job_id: str | None, error: GeoAssetsError) -> PoisonAction:
    """Apply `poison_action`, once for a message: a job that goes on afterwards has nothing to do with it."""
    action = poison_action(job_id, submitter.jobs.life(job_id) if job_id else None)
    if action is PoisonAction.NOTHING or job_id is None:
        return action
    if _SETTLED & {e.code for e in submitter.messages.errors(message_id=message_id)}:
        return action
    if action is PoisonAction.FAIL:
        reason = GeoAssetsError(
            "UNHANDLED_POISON", f"a message for this job could not be handled: {error.code}: {error.message}"
        )

        def note(conn: DictConnection) -> None:
            add_error(conn, reason, severity="alert", message_id=message_id, job_id=job_id)

        submitter.jobs.fail_unowned(job_id, reason, in_transaction=note)
        return action
    severity, code, sentence = _NOTES[action]
    submitter.messages.note(GeoAssetsError(code, sentence), severity=severity, message_id=message_id, job_id=job_id)
    return action
