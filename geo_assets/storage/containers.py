"""Containers of blobs behind account aliases: list, read, write, over obstore.

Here: one interface for a local directory and Azure Blob. A user names alias + container + path, never a URL.
Not here: what the blobs are (`sources.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import AzureStore, LocalStore

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import AzureAccount, LocalAccount, Settings
from geo_assets.text import batched

#: One page of a listing. Azure's own page size.
LIST_PAGE = 5000

#: A file named `x#1` that is younger than this may be an upload under way.
_UPLOAD_SECONDS = 60

#: A read of this size keeps requests few and memory small.
_READ_CHUNK = 8 * 1024 * 1024

_CONTAINER_NAME = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")


@dataclass(frozen=True, slots=True)
class Blob:
    """One entry of a listing. `path` is relative to the container; `size` in bytes."""

    path: str
    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class BlobRef:
    """`alias/container/path`: how outputs are named to people and in the ledger."""

    alias: str
    container: str
    path: str

    def __str__(self) -> str:
        return f"{self.alias}/{self.container}/{self.path}"

    @classmethod
    def parse(cls, text: str, *, path_required: bool = True) -> BlobRef:
        """Read `alias/container[/path]`.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, it is not of that form; UNSAFE_PATH.
        """
        alias, _, rest = text.partition("/")
        container, _, path = rest.partition("/")
        if not alias or not _CONTAINER_NAME.fullmatch(container) or (path_required and not path):
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"{text!r} is not ALIAS/CONTAINER[/PATH]",
                remedy="for example default/landing; a container's name is 3-63 of a-z, 0-9 and single hyphens",
            )
        return cls(alias, container, safe_path(path))


def safe_path(path: str) -> str:
    """`path`, unless it could leave its container.

    Raises:
        GeoAssetsError: UNSAFE_PATH.
    """
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise GeoAssetsError("UNSAFE_PATH", f"{path!r} is not a plain blob path")
    return path


class Container:
    """One container of one account."""

    def __init__(self, alias: str, name: str, account: LocalAccount | AzureAccount) -> None:
        self.alias = alias
        self.name = name
        self._account = account
        self._store = _open_store(name, account)

    def exists(self) -> bool:
        """Whether the container is there.

        Raises:
            GeoAssetsError: SOURCE_GONE where the account itself does not answer.
        """
        if isinstance(self._account, LocalAccount):
            return (_root(self._account) / self.name).is_dir()
        try:
            next(iter(obstore.list(self._store, chunk_size=1)), None)
        except (NotFoundError, FileNotFoundError):
            return False
        except BaseError as error:
            if "ContainerNotFound" in str(error):
                return False
            raise GeoAssetsError("SOURCE_GONE", f"container {self.alias}/{self.name} cannot be listed: {_reason(error)}") from error
        return True

    def create(self) -> None:
        """Make a local container; on Azure it must exist already."""
        if isinstance(self._account, LocalAccount):
            (_root(self._account) / self.name).mkdir(parents=True, exist_ok=True)

    def list(self, prefix: str = "") -> Iterator[list[Blob]]:
        """Pages of the blobs whose path starts with `prefix`; only one page is held at a time."""
        if isinstance(self._account, LocalAccount):
            yield from batched((b for b in _walk_local(_root(self._account) / self.name) if b.path.startswith(prefix)), LIST_PAGE)
            return
        folder = prefix.rpartition("/")[0] or None  # the stores list folders; the rest of the prefix is filtered here
        for page in obstore.list(self._store, prefix=folder, chunk_size=LIST_PAGE):
            blobs = [_blob(entry) for entry in page if entry["path"].startswith(prefix)]
            if blobs:
                yield blobs

    def head(self, path: str) -> Blob | None:
        """Size and etag of one blob, or None."""
        try:
            return _blob(obstore.head(self._store, path))
        except (NotFoundError, FileNotFoundError):
            return None

    def download(self, path: str, destination: Path, *, etag: str | None = None) -> str:
        """Copy a blob to a local file; returns the SHA-256 of its bytes (hex).

        Raises:
            GeoAssetsError: SOURCE_GONE; INPUT_CHANGED, the blob is not the one with that etag.
        """
        digest = hashlib.sha256()
        options: Any = {"if_match": etag} if etag else {}
        try:
            with destination.open("wb") as out:
                for chunk in obstore.get(self._store, path, options=options).stream(min_chunk_size=_READ_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
        except PreconditionError as error:
            raise GeoAssetsError("INPUT_CHANGED", f"{path} was replaced after it was listed") from error
        except (NotFoundError, FileNotFoundError) as error:
            raise GeoAssetsError("SOURCE_GONE", f"{path} is no longer in {self.alias}/{self.name}") from error
        return digest.hexdigest()

    def upload(self, source: Path, path: str) -> None:
        """Put a local file at `path`; it appears whole or not at all."""
        with source.open("rb") as file:
            obstore.put(self._store, safe_path(path), file)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """Bytes of a blob; used to prove that an output is readable where it was put."""
        return bytes(obstore.get_range(self._store, path, start=start, length=length))

    def move(self, source: str, destination: str) -> bool:
        """Rename a blob unless the destination is there; of several that try, one gets true."""
        try:
            obstore.rename(self._store, source, safe_path(destination), overwrite=False)
        except (NotFoundError, FileNotFoundError, AlreadyExistsError, FileExistsError):
            return False
        return True

    def delete(self, path: str) -> None:
        """Remove a blob; one that is gone already is no error."""
        try:
            obstore.delete(self._store, path)
        except (NotFoundError, FileNotFoundError):
            return

    def href(self, path: str) -> str:
        """What a STAC asset points at: no credentials, ever."""
        account = self._account
        if account.public_url:
            return f"{account.public_url.rstrip('/')}/{self.name}/{quote(path)}"
        if isinstance(account, LocalAccount):
            return (_root(account) / self.name / path).as_uri()
        base = account.endpoint or f"https://{account.account_name}.blob.core.windows.net"
        return f"{base.rstrip('/')}/{self.name}/{quote(path)}"


def open_container(settings: Settings, alias: str, name: str) -> Container:
    """A container by alias and name; it need not exist yet.

    Raises:
        GeoAssetsError: UNKNOWN_ACCOUNT; UNSAFE_PATH, the name is not a container name.
    """
    account = settings.storage_accounts.get(alias)
    if account is None:
        raise GeoAssetsError(
            "UNKNOWN_ACCOUNT", f"there is no storage account {alias!r}; there are: {', '.join(sorted(settings.storage_accounts))}"
        )
    if not _CONTAINER_NAME.fullmatch(name):
        raise GeoAssetsError("UNSAFE_PATH", f"{name!r} is not a container name: 3-63 of a-z, 0-9 and single hyphens")
    return Container(alias, name, account)


def existing_container(settings: Settings, alias: str, name: str) -> Container:
    """As `open_container`, for one that must be there.

    Raises:
        GeoAssetsError: CONTAINER_NOT_FOUND.
    """
    container = open_container(settings, alias, name)
    if not container.exists():
        raise GeoAssetsError("CONTAINER_NOT_FOUND", f"there is no container {alias}/{name}")
    return container


def _root(account: LocalAccount) -> Path:
    if account.root is None:
        msg = "a local account needs a root"
        raise ValueError(msg)
    return account.root


def _open_store(name: str, account: LocalAccount | AzureAccount) -> Any:
    if isinstance(account, LocalAccount):
        root = _root(account) / name
        return LocalStore(prefix=root, mkdir=False) if root.is_dir() else _missing_local(root)
    options: dict[str, Any] = {"account_name": account.account_name, "container_name": name}
    if account.account_key:
        options["account_key"] = account.account_key.get_secret_value()
    if account.sas_token:
        options["sas_token"] = account.sas_token.get_secret_value()
    if account.endpoint:
        options["endpoint"] = account.endpoint
    allow_http = bool(account.endpoint and account.endpoint.startswith("http://"))
    return AzureStore(**options, client_options={"allow_http": allow_http})


class _missing_local:  # noqa: N801 - stands in for a store until the directory exists
    def __init__(self, root: Path) -> None:
        self.root = root


def _blob(entry: Any) -> Blob:
    return Blob(entry["path"], entry["size"], entry.get("e_tag") or "", entry["last_modified"])


def _walk_local(root: Path) -> Iterator[Blob]:
    """The files below `root`, links left out.

    Not obstore's listing: one file name that it refuses (a newline) would end it, and with it every other file of the job.
    The etag is spelt as obstore spells it, so that a conditional read compares equal.
    """
    for file in _files_below(root):
        stat = file.stat()
        if re.search(r"#\d+$", file.name) and time.time() - stat.st_mtime < _UPLOAD_SECONDS:
            continue  # obstore's own name for an upload under way
        path = os.fsencode(file.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")
        etag = f'"{stat.st_ino:x}-{stat.st_mtime_ns // 1000:x}-{stat.st_size:x}"'
        yield Blob(path, stat.st_size, etag, datetime.fromtimestamp(stat.st_mtime, UTC))


def _reason(error: Exception) -> str:
    """The first line of a store's error: the rest may hold a signed URL."""
    return re.sub(r"\?\S+", "?…", str(error).splitlines()[0])[:300] if str(error) else type(error).__name__


def files_of(source: Path) -> Iterator[tuple[Path, str]]:
    """A file, or all files below a folder, each with the path that it gets in a container. Links are not followed."""
    if source.is_file():
        yield source, source.name
        return
    for file in sorted(_files_below(source)):
        yield file, file.relative_to(source).as_posix()


def upload_tree(container: Container, source: Path, prefix: str) -> Iterator[tuple[Path, str, int]]:
    """Upload a file, or a folder with all below it; yields (file, blob path, bytes) after each."""
    for file, relative in files_of(source):
        path = f"{prefix.rstrip('/')}/{relative}" if prefix else relative
        container.upload(file, path)
        yield file, path, file.stat().st_size


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files, links neither followed nor listed: what a link points at was not submitted."""
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base) / name
            if path.is_file() and not path.is_symlink():
                yield path
