"""The blob inbox: JSON manifests in `<container>/inbox/`, moved to `done/` or `poison/` when they are handled.

Here: claiming by conditional rename, reading, moving. Not here: what a message means.

A manifest is claimed by renaming it to `claimed/<time>_<etag>-<modified>_<name>`: of several processes that try, one
succeeds. An old claim belongs to a process that died, and is taken up again; the ledger finds its row by what is after
the time, which stays the same. The time of its last change is in it because some stores make the etag of the content
alone: the same manifest that comes again is another message.

A manifest may have any name. A long one is shortened, with a hash of the whole name; one that no store's client can
request is left where it is, and its record says so. Neither delays other manifests.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from itertools import islice

from geo_assets.accounts import LocalAccount
from geo_assets.correlation import Trace
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.messages import MAX_MESSAGE_BYTES, MessageRecord, RawMessage
from geo_assets.settings import Settings
from geo_assets.storage.blobs import Blob
from geo_assets.storage.containers import Container, open_container
from geo_assets.submissions.inboxes.base import Waiting
from geo_assets.submissions.messages import Message, read_message, trace_of
from geo_assets.text import escaped

INBOX, CLAIMED, DONE, POISON = "inbox/", "claimed/", "done/", "poison/"

#: Handling a message takes milliseconds; a process that claimed one this long ago is dead.
_CLAIM_SECONDS = 60

#: In a directory a file is seen while it is written: it is left until it was not changed for so long, and an empty one
#: until nobody will write into it any more.
_QUIET_SECONDS, _EMPTY_SECONDS = 2, 10

#: More are not counted: a thousand or more are in each, and it is told every few seconds.
_PAGES_COUNTED = 10

#: Bytes of a name in `claimed/`, `done/` and `poison/`: with a time or a record's id before it, it is a file name of at
#: most 255 bytes.
_LONGEST_NAME = 200

#: What is replaced in such a name: what paths are made of, what terminals act on, and what obstore keeps for its own
#: files (`x#1`).
_NOT_PLAIN = re.compile(r"[/\\\x00-\x1f\x7f#]")

#: Names that obstore cannot request, or not unchanged: parts that are empty or dots, control characters, `x#1`, and
#: the backslashes with which it writes a local name that is not UTF-8.
_UNREACHABLE = re.compile(r"[\\\x00-\x1f\x7f]|#\d+$|(?:^|/)\.{0,2}(?:/|$)")


class BlobDelivery:
    """One claimed manifest."""

    def __init__(self, container: Container, claimed: str, raw: RawMessage) -> None:
        self._container = container
        self._claimed = claimed
        self.raw = raw

    def read(self, body: bytes) -> Message:
        """Return the manifest."""
        return read_message(body)

    def keep(self) -> None:
        """Do nothing: a batch takes seconds, and a claim counts as abandoned after minutes."""

    def done(self) -> None:
        """Move it to `done/`."""
        self._move(DONE)

    def poison(self, record: MessageRecord) -> None:
        """Move it to `poison/`, under the id of its record."""
        self._move(POISON, record.message_id)

    def release(self) -> None:
        """Set the time of its claim back, so that the next tick takes it up, with the same name and etag."""
        self._container.move(self._claimed, f"{CLAIMED}0_{self._claimed.removeprefix(CLAIMED).partition('_')[2]}")

    def _move(self, folder: str, identity: str | None = None) -> None:
        """Move it; where it lies there already, it came twice within a tick of the store's clock, and one is kept."""
        name = self._claimed.removeprefix(CLAIMED).partition("_")[2]
        if not self._container.move(self._claimed, f"{folder}{identity + '_' if identity else ''}{name}"):
            self._container.delete(self._claimed)


class UnreachableDelivery:
    """A manifest whose name no client can request: its record says so, and it stays until somebody renames it."""

    def __init__(self, inbox: str, blob: Blob) -> None:
        self._path = blob.path
        self.raw = RawMessage(
            source=inbox, source_id=_claim_name(blob), body=b"", size_bytes=0, correlation_id=Trace.of().correlation_id
        )

    def read(self, _body: bytes) -> Message:
        """Raise: it cannot be read."""
        raise GeoAssetsError(
            "UNSAFE_PATH", f"the message cannot be read: its name is {escaped(self._path.encode(), 300)!r}"
        )

    def keep(self) -> None:
        """Do nothing: no other process receives it."""

    def done(self) -> None:
        """Leave it where it is."""

    def poison(self, record: MessageRecord) -> None:
        """Leave it where it is."""

    def release(self) -> None:
        """Leave it where it is."""


class BlobInbox:
    """Manifests in a container."""

    def __init__(self, settings: Settings) -> None:
        self._container = open_container(settings, settings.inbox_account, settings.inbox_container, hasty=True)
        self._is_directory = isinstance(settings.storage_accounts[settings.inbox_account], LocalAccount)
        self.name = f"blob:{settings.inbox_account}/{settings.inbox_container}"

    def receive(self, limit: int) -> Iterator[BlobDelivery | UnreachableDelivery]:
        """Claim and read up to `limit` manifests: abandoned claims first, unreachable names last."""
        if not self._container.exists():
            return
        count = 0
        unreachable: list[Blob] = []
        for claimed in self._claims(unreachable):
            delivery = self._read(claimed)
            if delivery:
                yield delivery
                count += 1
            if count >= limit:
                return
        for blob in unreachable[: limit - count]:
            yield UnreachableDelivery(self.name, blob)

    def waiting(self) -> Waiting:
        """Manifests in `inbox/`, those of the first pages."""
        if not self._container.exists():
            return Waiting(0, 0)
        pages = islice(self._container.list(INBOX, whole_names=True), _PAGES_COUNTED)
        came = [blob.last_modified.timestamp() for page in pages for blob in page]
        return Waiting(len(came), max(0.0, time.time() - min(came)) if came else 0)

    def _claims(self, unreachable: list[Blob]) -> Iterator[str]:
        for page in self._container.list(CLAIMED):
            for blob in page:
                stamp = blob.path.removeprefix(CLAIMED).partition("_")[0]
                if stamp.isdigit() and int(stamp) < time.time() - _CLAIM_SECONDS:
                    again = f"{CLAIMED}{int(time.time())}_{blob.path.removeprefix(CLAIMED).partition('_')[2]}"
                    if self._container.move(blob.path, again):
                        yield again
        for page in self._container.list(INBOX, whole_names=True):
            for blob in page:
                if _UNREACHABLE.search(blob.path.removeprefix(INBOX)):
                    unreachable.append(blob)
                    continue
                if self._may_be_written_to(blob):
                    continue
                claimed = f"{CLAIMED}{int(time.time())}_{_claim_name(blob)}"
                if self._container.move(blob.path, claimed):
                    yield claimed

    def _may_be_written_to(self, blob: Blob) -> bool:
        """Whether somebody may be in the middle of writing it. A service shows what is whole."""
        if not self._is_directory:
            return False
        quiet = abs(time.time() - blob.last_modified.timestamp())  # another machine's clock may be ahead
        return quiet < (_QUIET_SECONDS if blob.size else _EMPTY_SECONDS)

    def _read(self, claimed: str) -> BlobDelivery | None:
        begun = self._container.first_bytes(claimed, MAX_MESSAGE_BYTES + 1)
        if begun is None:
            return None
        trace = trace_of(begun.data)
        raw = RawMessage(
            source=self.name,
            source_id=claimed.removeprefix(CLAIMED).partition("_")[2],
            body=begun.data,
            size_bytes=begun.size,
            correlation_id=trace.correlation_id,
            traceparent=trace.traceparent,
        )
        return BlobDelivery(self._container, claimed, raw)


def _claim_name(blob: Blob) -> str:
    """The manifest's name, made unique by its etag and the time of its last change: the same name may come again with
    other content, or with the same. A name that is long or not plain is changed, and distinguished from others by a
    hash of it.
    """
    etag = "".join(c for c in blob.etag if c.isalnum())[-24:] or "none"
    version = f"{etag}-{int(blob.last_modified.timestamp() * 1000)}"
    name = blob.path.removeprefix(INBOX)
    plain = _NOT_PLAIN.sub("~", name)
    room = _LONGEST_NAME - len(f"{version}_")
    if plain == name and len(name.encode()) <= room:
        return f"{version}_{name}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{version}_{digest}_{plain.encode()[-(room - len(digest) - 1) :].decode('utf-8', 'ignore')}"
