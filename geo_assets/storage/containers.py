"""Containers of blobs behind account aliases: list, read, write, over obstore.

Here: one interface for a local directory and a service. A user names alias + container + path, never a URL. Errors of
a store are translated to our codes in the same way for all calls: a missing blob is SOURCE_GONE, a store that does not
answer STORAGE_UNAVAILABLE.
Not here: what a service does in its own way (`services.py`), what the blobs are (`kinds.py`), what an error means
(`faults.py`), waiting for a store (`stages/patience.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import obstore
from obstore.exceptions import GenericError, InvalidPathError, NotFoundError
from obstore.store import LocalStore

from geo_assets.accounts import Account, LocalAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.patterns import CONTAINER_NAME, CONTAINER_NAME_IN_WORDS
from geo_assets.settings import Settings
from geo_assets.storage.blobs import Blob, BlobRef, FirstBytes, safe_path
from geo_assets.storage.faults import made_unless_it_exists, understood
from geo_assets.storage.local import IN_PROGRESS, LocalPlace, account_root, entries_below, pieces_of
from geo_assets.storage.places import BlobPlace
from geo_assets.storage.services import Service, open_store, region, service_of
from geo_assets.storage.whole import upload_whole
from geo_assets.text import batched

T = TypeVar("T")

#: One page of a listing. Azure's own page size.
LIST_PAGE = 5000

#: Bytes of one read: few requests, little memory.
_READ_CHUNK = 8 * 1024 * 1024

#: Most bytes of a path. An entry of PostgreSQL's B-tree holds 2,704, and ours also contains the job and the stage.
_LONGEST_PATH = 2000

#: The Cache-Control of an output. Its name contains its fingerprint: other bytes have another name.
FOR_EVER = "max-age=31536000, immutable"


class Patience(Protocol):
    """Calls a store, and decides what to do while it does not answer."""

    def __call__(self, alias: str, ask: Callable[[], T], /) -> T:
        """Return what `ask` returns, however long it takes; or raise the error of the last try."""


def impatient(_alias: str, ask: Callable[[], T], /) -> T:
    """Call once."""
    return ask()


class Container:
    """One container of one account.

    In addition to its own errors, any method that calls the store raises GeoAssetsError: STORAGE_UNAVAILABLE, it does
    not answer; STORAGE_FORBIDDEN; CONTAINER_NOT_FOUND; DISK_FULL; UNSAFE_PATH.
    """

    def __init__(
        self,
        alias: str,
        name: str,
        account: Account,
        *,
        patience: Patience = impatient,
        hasty: bool = False,
        ours: bool = False,
    ) -> None:
        """Make the object; the store is not called yet.

        Args:
            alias: the account's.
            name: the container's, which need not exist.
            account: its location and credentials.
            patience: what happens while the store does not answer.
            hasty: a few seconds at most for each call, instead of half a minute.
            ours: nobody else writes to it.

        Raises:
            GeoAssetsError: INVALID_SETTINGS, the account's endpoint or SAS token is none.
        """
        self.alias = alias
        self.name = name
        self._account = account
        self._ours = ours
        self._patience = patience
        self._local = LocalPlace(alias, name, account) if isinstance(account, LocalAccount) else None
        self._store: Any = open_store(alias, name, account, hasty=hasty)

    def __str__(self) -> str:
        return f"{self.alias}/{self.name}"

    @property
    def etags_are_proof(self) -> bool:
        """Whether an equal etag means equal bytes. A directory's is made of inode, time and size."""
        return self._local is None

    # -- asking --------------------------------------------------------------------------------------------------------

    def _ask(self, ask: Callable[[], T], path: str = "") -> T:
        return self._patience(self.alias, lambda: self._once(ask, path))

    def _once(self, ask: Callable[[], T], path: str) -> T:
        """Call once, with its errors translated to ours."""
        try:
            if self._local is not None:
                self._local.insist()  # a write would create the directory where a share should be mounted
                self._store = self._store or LocalStore(prefix=self._local.path, mkdir=False)
            return ask()
        except (NotFoundError, FileNotFoundError) as error:
            if self._local is not None:
                self._local.insist()  # it may have been unmounted during the call
            if "ContainerNotFound" in str(error) or "NoSuchBucket" in str(error):
                raise GeoAssetsError("CONTAINER_NOT_FOUND", f"there is no container {self}") from error
            raise GeoAssetsError("SOURCE_GONE", f"{path} is no longer in {self}") from error
        except GeoAssetsError:
            raise
        except Exception as error:
            told = understood(error, str(self), path, region=lambda: region(self._account, self.name))
            if told is None:
                raise
            raise told from error

    # -- the container -------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the container exists: false only where its account answers that it does not."""
        return self._patience(self.alias, self._exists)

    def _exists(self) -> bool:
        if self._local is not None:
            try:
                return self._once(self._local.is_there, "")
            except GeoAssetsError as error:
                if error.code == "CONTAINER_NOT_FOUND":
                    return False
                raise
        try:
            self._once(lambda: next(iter(obstore.list(self._store, chunk_size=1)), None), "")
        except GeoAssetsError as error:
            if error.code == "UNSAFE_PATH":
                return True  # its first name is one that obstore refuses
            if error.code in {"CONTAINER_NOT_FOUND", "SOURCE_GONE"}:
                return False
            raise
        return True

    def ensure(self) -> bool:
        """Create the container if it does not exist; return whether it was created.

        Raises:
            GeoAssetsError: CONTAINER_NOT_FOUND, it does not exist and we may not create it.
        """
        return self._patience(self.alias, self._ensure)

    def _ensure(self) -> bool:
        if self._exists():
            return False
        if self._local is not None:
            self._local.make()
            return True
        try:
            self._once(lambda: self._service.create_container(self._account, self.name), "")
        except GeoAssetsError as error:
            if error.code != "STORAGE_FORBIDDEN":
                raise
            raise GeoAssetsError(
                "CONTAINER_NOT_FOUND",
                f"there is no container {self}, and we may not create it",
                remedy=self._service.creation(self._account, self.name),
            ) from error
        return True

    def list(
        self, prefix: str = "", *, exact: bool = False, whole_names: bool = False, everything: bool = False
    ) -> Iterator[list[Blob]]:
        """Yield pages of the blobs whose path starts with `prefix`; only one page is held at a time. This does not wait
        for a store: half a listing is useless, and the caller starts again.

        Args:
            prefix: of the paths.
            exact: return each name exactly. Without it `/a` and `a/` may both be listed as `a`.
            whole_names: also return names that are too long for the ledger in full; otherwise they are shortened.
            everything: of a directory also return what cannot be read: links, pipes, uploads in progress.
        """
        if self._local:
            pages = self._local_pages(self._local, prefix, everything=everything)
        else:
            pages = self._service_pages(prefix, exact=exact)
        for page in pages:
            blobs = [_blob(entry, whole_name=whole_names) for entry in page if entry["path"].startswith(prefix)]
            if blobs:
                yield blobs

    def _local_pages(self, place: LocalPlace, prefix: str, *, everything: bool) -> Iterator[Any]:
        below = entries_below(place.path, prefix.rpartition("/")[0], ours=self._ours, everything=everything)
        pages = batched((entry for entry in below if entry["path"].startswith(prefix)), LIST_PAGE)
        while page := self._once(lambda: next(pages, None), ""):
            yield page

    def _service_pages(self, prefix: str, *, exact: bool) -> Iterator[Any]:
        folder = (
            prefix.rpartition("/")[0] or None
        )  # obstore lists folders; the rest of the prefix is filtered by the caller
        last = ""
        if not exact:
            pages = iter(obstore.list(self._store, prefix=folder, chunk_size=LIST_PAGE))
            try:
                while page := self._once(lambda: next(pages, None), ""):
                    yield page
                    last = page[-1]["path"]
            except GeoAssetsError as error:
                if not isinstance(error.__cause__, InvalidPathError):
                    raise
            else:
                return
        yield from self._exact_pages(prefix, last)

    def _exact_pages(self, prefix: str, after: str) -> Iterator[Any]:
        """Yield pages by the service's own client, from the blob after `after` on, which was listed already.

        `after` is a name as obstore lists it: within the folder, not by the prefix alone. If it is not found again,
        everything is listed once more: a blob that is listed twice is noticed (`stages/container_inventory.py` then
        lists exactly), a missing one is not.
        """
        folder, slash, _ = prefix.rpartition("/")
        names_from = f"{folder}{slash}" if after else prefix
        entries = self._service.exact_entries(self._account, self.name, names_from)
        if after and not self._once(lambda: any(entry["path"].strip("/") == after for entry in entries), ""):
            entries = self._service.exact_entries(self._account, self.name, names_from)
        pages = batched(entries, LIST_PAGE)
        while page := self._once(lambda: next(pages, None), ""):
            yield page

    # -- its blobs -----------------------------------------------------------------------------------------------------

    def head(self, path: str) -> Blob | None:
        """Return size and etag of one blob, or None."""
        try:
            return self._ask(lambda: _blob(obstore.head(self._store, path)), path)
        except GeoAssetsError as error:
            if error.code == "SOURCE_GONE":
                return None
            if error.code == "INTERNAL":
                self.exists()  # the answer to a HEAD has no body: a listing is refused with the reason
            raise

    def download(self, path: str, destination: Path, *, etag: str | None = None) -> str:
        """Copy a blob to a local file; return the SHA-256 of its bytes (hex).

        Raises:
            GeoAssetsError: SOURCE_GONE; INPUT_CHANGED, the blob is not the one with that etag.
        """

        def copy() -> str:
            digest = hashlib.sha256()
            with destination.open("wb") as out:
                for chunk in self._chunks(path, etag):
                    digest.update(chunk)
                    out.write(chunk)
            return digest.hexdigest()

        return self._patience(self.alias, copy)

    def sha256(self, path: str, tell: Callable[[int], None] | None = None) -> str:
        """Return the SHA-256 of a blob's bytes (hex). `tell` is called with the number of bytes of each piece.

        Raises:
            GeoAssetsError: SOURCE_GONE.
        """

        def read() -> str:
            digest = hashlib.sha256()
            for chunk in self._chunks(path, None, reused=True):
                digest.update(chunk)
                if tell is not None:
                    tell(len(chunk))
            return digest.hexdigest()

        return self._patience(self.alias, read)

    def _chunks(self, path: str, etag: str | None, *, reused: bool = False) -> Iterator[Any]:
        """Yield a blob's bytes; with `reused`, each piece is gone when the next one comes, if that is faster."""

        def begin() -> Iterator[Any]:
            if reused and self._local is not None:
                return pieces_of(self._local.path / safe_path(path))
            options: Any = {"if_match": etag} if etag else {}
            return iter(obstore.get(self._store, path, options=options).stream(min_chunk_size=_READ_CHUNK))

        chunks = self._once(begin, path)
        while (chunk := self._once(lambda: next(chunks, None), path)) is not None:
            yield chunk

    def upload(
        self, source: Path, path: str, *, media_type: str | None = None, cache_control: str | None = None
    ) -> None:
        """Upload a local file to `path`; it appears completely or not at all. A local directory stores no media
        type.
        """
        told = {"Content-Type": media_type, "Cache-Control": cache_control}
        attributes = {k: v for k, v in told.items() if v}

        def put() -> None:
            if self._local is not None:
                upload_whole(self._store, safe_path(path), source, {})
                return
            self._service.upload(self._account, self.name, self._store, safe_path(path), source, attributes)

        self._ask(put, path)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Return bytes of a blob; used to verify that an output is readable in its place.

        Raises:
            GeoAssetsError: SOURCE_GONE.
        """
        return self._ask(lambda: bytes(obstore.get_range(self._store, path, start=start, length=length)), path)

    def first_bytes(self, path: str, length: int) -> FirstBytes | None:
        """Return at most so many first bytes of a blob, and its size, by one request; None if it is not there."""

        def begin() -> FirstBytes:
            try:
                found = obstore.get(self._store, path, options={"range": (0, length)})
                return FirstBytes(bytes(found.bytes()), found.meta["size"])
            except GenericError:
                if obstore.head(self._store, path)["size"]:
                    raise
                return FirstBytes(b"", 0)  # no store has a range of an empty blob

        try:
            return self._ask(begin, path)
        except GeoAssetsError as error:
            if error.code == "SOURCE_GONE":
                return None
            raise

    def move(self, source: str, destination: str) -> bool:
        """Rename a blob unless the destination exists; of several concurrent callers one gets true."""

        def rename() -> None:
            obstore.rename(self._store, source, safe_path(destination), overwrite=False)

        try:
            return self._ask(lambda: made_unless_it_exists(rename), source)
        except GeoAssetsError as error:
            if error.code == "SOURCE_GONE":
                return False
            raise

    def delete(self, path: str) -> None:
        """Delete a blob; a missing one is not an error."""
        place = self._local

        def gone() -> None:
            if place is not None and IN_PROGRESS.search(path):  # obstore takes no such name
                (place.path / safe_path(path)).unlink(missing_ok=True)
            else:
                obstore.delete(self._store, path)

        try:
            self._ask(gone, path)
        except GeoAssetsError as error:
            if error.code != "SOURCE_GONE":
                raise

    @property
    def _service(self) -> Service:
        service = service_of(self._account)
        if service is None:
            msg = f"{self} is a directory"
            raise ValueError(msg)
        return service

    def place(self, path: str) -> BlobPlace | None:
        """Return where a blob is in its service; None for a directory."""
        return None if self._local is not None else self._service.place(self._account, self.name, path)

    def href(self, path: str) -> str:
        """Return the href of a STAC asset, always without credentials. A local path is not percent-encoded: GDAL,
        titiler and odc-stac use it unchanged.
        """
        account = self._account
        if account.public_url:
            return f"{account.public_url.rstrip('/')}/{self.name}/{quote(path)}"
        if isinstance(account, LocalAccount):
            return f"file://{(account_root(account) / self.name / path).absolute()}"
        return f"{self._service.address(account, self.name)}/{quote(path)}"


def open_container(
    settings: Settings, alias: str, name: str, *, patience: Patience = impatient, hasty: bool = False
) -> Container:
    """Return a container by alias and name; it need not exist yet. `patience` and `hasty` as in `Container`.

    Raises:
        GeoAssetsError: UNKNOWN_ACCOUNT; UNSAFE_PATH, the name is not a container name; INVALID_SETTINGS.
    """
    account = settings.storage_accounts.get(alias)
    if account is None:
        raise GeoAssetsError(
            "UNKNOWN_ACCOUNT",
            f"there is no storage account {alias!r}; there are: {', '.join(sorted(settings.storage_accounts))}",
        )
    if not CONTAINER_NAME.fullmatch(name):
        raise GeoAssetsError("UNSAFE_PATH", f"{name!r} is not a container name: {CONTAINER_NAME_IN_WORDS}")
    ours = alias == settings.output_account and name in settings.output_containers
    return Container(alias, name, account, patience=patience, hasty=hasty, ours=ours)


def existing_container(
    settings: Settings, alias: str, name: str, *, patience: Patience = impatient, hasty: bool = False
) -> Container:
    """As `open_container`, for one that must exist.

    Raises:
        GeoAssetsError: CONTAINER_NOT_FOUND; STORAGE_UNAVAILABLE, this cannot be determined; STORAGE_FORBIDDEN.
    """
    container = open_container(settings, alias, name, patience=patience, hasty=hasty)
    if not container.exists():
        raise GeoAssetsError(
            "CONTAINER_NOT_FOUND",
            f"there is no container {alias}/{name}",
            remedy=f"correct its name, or create it with what is to be in it: geo-assets upload FOLDER {alias}/{name}",
        )
    return container


def place(settings: Settings, ref: str) -> str:
    """Return the location of a blob for a user: a path of this machine, or its URL; the reference itself where its
    account is not configured.
    """
    blob = BlobRef.parse(ref)
    account = settings.storage_accounts.get(blob.alias)
    if isinstance(account, LocalAccount) and account.root is not None:
        return str(account.root / blob.container / blob.path)
    return ref if account is None else open_container(settings, blob.alias, blob.container).href(blob.path)


def _blob(entry: Any, *, whole_name: bool = False) -> Blob:
    path = entry["path"]
    listed = path if whole_name else _listed_path(path)
    return Blob(listed, entry["size"], entry.get("e_tag") or "", entry["last_modified"], entry.get("ignored"))


def _listed_path(path: str) -> str:
    """Return the path under which a file is listed. One that is too long for the ledger is shortened and made distinct
    by a hash; its backslash makes sure that it is refused (`safe_path`).
    """
    encoded = path.encode()
    if len(encoded) <= _LONGEST_PATH:
        return path
    head, tail = encoded[: _LONGEST_PATH // 2].decode(errors="ignore"), encoded[-200:].decode(errors="ignore")
    return f"{head}\\…{hashlib.sha256(encoded).hexdigest()[:16]}…{tail}"
