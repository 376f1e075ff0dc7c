"""Messages as they arrived, and the record of everything that went wrong.

Here: statements on `geo.messages` and `geo.errors`. Not here: reading a message (`submissions/messages.py`), what
follows from it (`submissions/boundary.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, LiteralString

from psycopg_pool import ConnectionPool
from pydantic import BaseModel, ConfigDict

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import MessageState
from geo_assets.text import escaped

#: Azure's limit on a queue message; the other ways in share it, so that a message can move between them.
MAX_MESSAGE_BYTES = 64 * 1024

#: The source of messages that nobody delivers again: their senders have the answer.
HTTP = "http"

#: The part of a too large message that is kept.
_KEPT_BYTES = MAX_MESSAGE_BYTES + 1

#: How much a record matters; `geo.errors` in SQL.
Severity = Literal["info", "warning", "error", "alert"]

_HEAD, _EXCERPT = 500, 1000  # characters

#: How many messages were refused for no recorded reason, as `n`.
POISON_WITHOUT_RECORD: LiteralString = """
select count(*) as n from geo.messages m
 where state in ('poison', 'rejected') and not exists (select from geo.errors e where e.message_id = m.message_id)
"""


class RawMessage(BaseModel):
    """A message as its source delivered it."""

    model_config = ConfigDict(frozen=True)
    source: str
    source_id: str
    body: bytes
    size_bytes: int  # of the whole message; `body` may be cut
    dequeue_count: int = 1
    correlation_id: str
    traceparent: str | None = None
    job_type: str | None = None  # where the source knows it before the body is read (HTTP)


class MessageRecord(BaseModel):
    """A message as people see it."""

    model_config = ConfigDict(frozen=True)
    message_id: str
    source: str
    source_id: str
    state: str
    correlation_id: str
    size_bytes: int
    sha256: str
    received_at: datetime
    handled_at: datetime | None
    deliveries: int
    dequeue_count: int
    head: str
    job_type: str | None
    job_id: str | None
    error_code: str | None
    error_message: str | None


class ErrorRecord(BaseModel):
    """One thing that went wrong."""

    model_config = ConfigDict(frozen=True)
    error_id: int
    at: datetime
    severity: str
    code: str
    error_class: str
    message: str
    remedy: str
    excerpt: str | None
    message_id: str | None
    job_id: str | None
    run_id: str | None
    correlation_id: str | None


class Messages:
    """Statements on messages and errors."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def record(self, raw: RawMessage) -> MessageRecord:
        """Record a message before anything reads it; a redelivery is counted in the existing row."""
        body = raw.body[:_KEPT_BYTES]
        with self._pool.connection() as conn:
            record = conn.execute(
                """insert into geo.messages as m (source, source_id, correlation_id, body, size_bytes, sha256, head,
                  dequeue_count, job_type)
                    values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
                    on conflict (source, source_id) do update
                       set deliveries = m.deliveries + 1,
                         dequeue_count = greatest(m.dequeue_count, excluded.dequeue_count)
                    returning message_id::text, source, source_id, state::text, correlation_id, size_bytes, sha256,
                      received_at, handled_at, deliveries, dequeue_count, head, job_type, job_id, error_code,
                      error_message""",
                (
                    raw.source,
                    raw.source_id,
                    raw.correlation_id,
                    body,
                    raw.size_bytes,
                    hashlib.sha256(body).hexdigest(),
                    escaped(body, _HEAD),
                    raw.dequeue_count,
                    raw.job_type and storable(raw.job_type)[:64],
                ),
            ).fetchone()
        return MessageRecord.model_validate(record)

    def accept(self, conn: DictConnection, message_id: str, *, job_type: str, job_id: str) -> None:
        """Mark a message as accepted, in the transaction that records the job; one in poison, whose error stays, as
        replayed.
        """
        conn.execute(
            """update geo.messages set handled_at = now(), job_type = %s, job_id = %s,
                   state = case when state in ('poison', 'rejected') then 'replayed'
                                when state = 'received' then 'accepted' else state end
                where message_id = %s""",
            (job_type, job_id, message_id),
        )

    @retrying
    def reject(self, message_id: str, error: GeoAssetsError, *, job_id: str | None) -> None:
        """Move the message to poison (over HTTP: back to its sender) with its error record, in one transaction."""
        with self._pool.connection() as conn:
            updated = conn.execute(
                """update geo.messages set
                       state = (case source when 'http' then 'rejected' else 'poison' end)::geo.message_state,
                       handled_at = now(), error_code = %s, error_message = %s, job_id = coalesce(%s, job_id)
                    where message_id = %s and state = 'received' returning head, correlation_id, state::text, body""",
                (error.code, storable(error.message), job_id, message_id),
            ).fetchone()
            if updated:
                add_error(
                    conn,
                    error,
                    severity="error",
                    message_id=message_id,
                    job_id=job_id,
                    correlation_id=str(updated["correlation_id"]),
                    excerpt=escaped(bytes(updated["body"]), _EXCERPT),  # type: ignore[call-overload]
                )

    def reject_unanswered(self, older_than: timedelta) -> None:
        """Reject what came over HTTP so long ago and is not decided: whoever had it died, or lost the database."""
        asked_before = datetime.now(UTC) - older_than
        for message in self.list(state=MessageState.RECEIVED, source=HTTP, before=asked_before):
            error = GeoAssetsError("INTERRUPTED", "it was not answered", remedy="send it again")
            self.reject(message.message_id, error, job_id=None)

    @retrying
    def note(
        self,
        error: GeoAssetsError,
        *,
        severity: str,
        message_id: str | None = None,
        job_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Add an error record."""
        with self._pool.connection() as conn:
            add_error(conn, error, severity=severity, message_id=message_id, job_id=job_id, run_id=run_id)

    @retrying
    def note_once(self, error: GeoAssetsError, *, severity: str, job_id: str, run_id: str) -> None:
        """Add an error record unless the run has one with this code: its steps may be many processes."""
        with self._pool.connection() as conn:
            conn.execute("select from geo.jobs where job_id = %s for no key update", (job_id,))  # one at a time
            known = conn.execute(
                "select from geo.errors where job_id = %s and run_id = %s and code = %s", (job_id, run_id, error.code)
            ).fetchone()
            if known is None:
                add_error(conn, error, severity=severity, job_id=job_id, run_id=run_id)

    @retrying
    def body(self, message_id: str) -> tuple[MessageRecord, bytes]:
        """One message with its bytes.

        Raises:
            GeoAssetsError: MESSAGE_NOT_FOUND.
        """
        with self._pool.connection() as conn:
            row = conn.execute(
                "select h.*, m.body from geo.message_heads h join geo.messages m on m.message_id::text = h.message_id"
                " where h.message_id ^@ %s limit 2",
                (message_id.lower(),),
            ).fetchall()
        if len(row) != 1 or len(message_id) < 6:
            raise GeoAssetsError(
                "MESSAGE_NOT_FOUND",
                f"{'no' if not row else 'more than one'} message has an id that starts with {message_id!r}",
            )
        return MessageRecord.model_validate(row[0]), bytes(row[0]["body"])  # type: ignore[call-overload]

    @retrying
    def discard(self, message_id: str) -> None:
        """Take a message out of poison for good, if it is there. Its error records stay."""
        with self._pool.connection() as conn:
            conn.execute(
                "update geo.messages set state = 'discarded', handled_at = now()"
                " where message_id = %s and state in ('poison', 'rejected')",
                (message_id,),
            )

    @retrying
    def list(
        self,
        *,
        state: str | None = None,
        source: str | None = None,
        error_code: str | None = None,
        before: datetime | None = None,
        limit: int = 100,
    ) -> list[MessageRecord]:
        """Messages, newest first."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select * from geo.message_heads
                     where (%(state)s::text is null or state = %(state)s)
                       and (%(source)s::text is null or source = %(source)s)
                       and (%(code)s::text is null or error_code = %(code)s)
                         and (%(before)s::timestamptz is null or received_at < %(before)s)
                     order by received_at desc limit %(limit)s""",
                {"state": state, "source": source, "code": error_code, "before": before, "limit": limit},
            ).fetchall()
        return [MessageRecord.model_validate(row) for row in rows]

    @retrying
    def errors(
        self,
        *,
        job_id: str | None = None,
        message_id: str | None = None,
        code: str | None = None,
        severity: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[ErrorRecord]:
        """Error records, newest first."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select error_id, at, severity, code, error_class, message, remedy, excerpt, message_id::text,
                  job_id, run_id, correlation_id
                     from geo.errors
                    where (%(job)s::text is null or job_id = %(job)s)
                      and (%(message)s::uuid is null or message_id = %(message)s)
                      and (%(code)s::text is null or code = %(code)s)
                        and (%(severity)s::text is null or severity = %(severity)s)
                      and (%(before)s::bigint is null or error_id < %(before)s)
                    order by error_id desc limit %(limit)s""",
                {
                    "job": job_id,
                    "message": message_id,
                    "code": code,
                    "severity": severity,
                    "before": before,
                    "limit": limit,
                },
            ).fetchall()
        return [ErrorRecord.model_validate(row) for row in rows]

    @retrying
    def poison_without_record(self) -> int:
        """The number of poisoned messages without an error record; it must always be zero."""
        with self._pool.connection() as conn:
            row = conn.execute(POISON_WITHOUT_RECORD).fetchone()
        return int(str(row["n"])) if row else 0


def storable(text: str) -> str:
    """PostgreSQL refuses NUL, UTF-8 lone surrogates; a message must never be what fails the recording of a failure."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def add_error(conn: DictConnection, error: GeoAssetsError, *, severity: str, **links: Any) -> None:
    """Add an error record, in the caller's transaction."""
    values = {"message_id": None, "job_id": None, "run_id": None, "correlation_id": None, "excerpt": None, **links}
    conn.execute(
        """insert into geo.errors (severity, code, error_class, message, remedy, excerpt, message_id, job_id, run_id,
          correlation_id)
           values (%(severity)s, %(code)s, %(class)s, %(message)s, %(remedy)s, %(excerpt)s, %(message_id)s,
             %(job_id)s, %(run_id)s, coalesce(%(correlation_id)s, (select correlation_id from geo.attempts
                                       where job_id = %(job_id)s order by attempt desc limit 1)))""",
        {
            "severity": severity,
            "code": error.code,
            "class": error.error_class,
            "message": storable(error.message),
            "remedy": error.remedy,
            **values,
        },
    )
