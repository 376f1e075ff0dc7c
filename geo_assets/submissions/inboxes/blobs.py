"""The blob inbox: JSON manifests in `<container>/inbox/`, moved to `done/` or `poison/` when they are handled.

Here: claiming by conditional rename, reading, moving. Not here: what a message means.

A manifest is claimed by renaming it to `claimed/<time>_<etag>_<name>`: of several that try, one succeeds. A claim that is
old belongs to somebody who died, and is taken up again; the ledger knows its row by path and etag.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from geo_assets.ledger.messages import MessageRecord, RawMessage
from geo_assets.settings import Settings
from geo_assets.storage.containers import Blob, Container, open_container
from geo_assets.submissions.messages import MAX_MESSAGE_BYTES

INBOX, CLAIMED, DONE, POISON = "inbox/", "claimed/", "done/", "poison/"

#: Handling a message takes milliseconds; who claimed one this long ago is dead.
_CLAIM_SECONDS = 60


class BlobDelivery:
    """One claimed manifest."""

    def __init__(self, container: Container, claimed: str, raw: RawMessage) -> None:
        self._container = container
        self._claimed = claimed
        self.raw = raw

    def keep(self) -> None:
        """Its claim is young: a batch takes seconds, an abandoned claim is minutes old."""

    def done(self) -> None:
        """Keep it in `done/`."""
        self._move(DONE)

    def poison(self, record: MessageRecord) -> None:
        """Keep it in `poison/`, under the id of its record."""
        self._move(POISON, record.message_id)

    def release(self) -> None:
        """Back into the inbox."""
        self._container.move(self._claimed, INBOX + self._claimed.removeprefix(CLAIMED).partition("_")[2].partition("_")[2])

    def _move(self, folder: str, identity: str | None = None) -> None:
        name = self._claimed.removeprefix(CLAIMED).partition("_")[2]
        self._container.move(self._claimed, f"{folder}{identity + '_' if identity else ''}{name}")


class BlobInbox:
    """Manifests in a container."""

    def __init__(self, settings: Settings) -> None:
        self._container = open_container(settings, settings.inbox_account, settings.inbox_container)
        self.name = f"blob:{settings.inbox_account}/{settings.inbox_container}"

    def receive(self, limit: int) -> Iterator[BlobDelivery]:
        """Claim and read up to `limit` manifests, abandoned claims first."""
        if not self._container.exists():
            return
        count = 0
        for claimed in self._claims():
            delivery = self._read(claimed)
            if delivery:
                yield delivery
                count += 1
            if count >= limit:
                return

    def _claims(self) -> Iterator[str]:
        for page in self._container.list(CLAIMED):
            for blob in page:
                stamp = blob.path.removeprefix(CLAIMED).partition("_")[0]
                if stamp.isdigit() and int(stamp) < time.time() - _CLAIM_SECONDS:
                    again = f"{CLAIMED}{int(time.time())}_{blob.path.removeprefix(CLAIMED).partition('_')[2]}"
                    if self._container.move(blob.path, again):
                        yield again
        for page in self._container.list(INBOX):
            for blob in page:
                claimed = f"{CLAIMED}{int(time.time())}_{_claim_name(blob)}"
                if self._container.move(blob.path, claimed):
                    yield claimed

    def _read(self, claimed: str) -> BlobDelivery | None:
        blob = self._container.head(claimed)
        if blob is None:
            return None
        body = self._container.read_range(claimed, 0, min(blob.size, MAX_MESSAGE_BYTES + 1)) if blob.size else b""
        raw = RawMessage(
            source=self.name,
            source_id=claimed.removeprefix(CLAIMED).partition("_")[2],
            body=body,
            size_bytes=blob.size,
            correlation_id=str(uuid.uuid4()),
        )
        return BlobDelivery(self._container, claimed, raw)


def _claim_name(blob: Blob) -> str:
    """The manifest's name, made unique by its etag: the same name may come again with other content."""
    etag = "".join(c for c in blob.etag if c.isalnum())[-24:] or "none"
    return f"{etag}_{blob.path.removeprefix(INBOX).replace('/', '~')}"[-200:]
