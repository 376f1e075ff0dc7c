"""Where an export goes: a folder of this machine, or a container; whole or not at all.

Here: making the place, putting files there, taking them back. Not here: what is exported (`export.py`).

A new folder is made beside its place and renamed when it is whole. In an empty one that is there already, and in a
container, the catalogue's own file, which leads to all others, comes last; what was put there before a failure is
deleted.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from geo_assets.errors import GeoAssetsError
from geo_assets.patterns import ACCOUNT_ALIAS, CONTAINER_NAME
from geo_assets.sandbox.scratch import held_folder
from geo_assets.settings import LocalAccount, Settings
from geo_assets.storage.containers import BlobRef, open_container, place

_ANOTHER = "name another one, or empty it"


class Target(ABC):
    """Takes files, each under its path in the export. A context manager: leaving it by an exception takes all back."""

    def __init__(self, root: Path) -> None:
        self._root = root  # in which files are made
        self.files = self.bytes = 0

    @abstractmethod
    def __str__(self) -> str: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()
            return
        try:
            self._finish()
        except BaseException:
            self._undo()
            raise

    def path(self, relative: str) -> Path:
        """Where a file is to be written before it is `put`; its folder is made."""
        path = self._root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def fresh(self, relative: str) -> Path:
        """The same, with nothing there that writing could change: a link shares its bytes with a published file."""
        path = self.path(relative)
        path.unlink(missing_ok=True)
        return path

    def put(self, relative: str, media_type: str) -> None:
        """Take a file that was written."""
        self.files += 1
        self.bytes += self.path(relative).stat().st_size
        self._put(relative, media_type)

    def copy(self, settings: Settings, ref: BlobRef, relative: str, *, media_type: str, sha256: str | None) -> None:
        """Take a copy of a blob.

        Raises:
            GeoAssetsError: OUTPUT_GONE; OUTPUT_DAMAGED, its bytes are not those of the checksum; what the store says.
        """
        path = self.fresh(relative)
        try:
            found = open_container(settings, ref.alias, ref.container).download(ref.path, path)
        except GeoAssetsError as error:
            if error.code != "SOURCE_GONE":
                raise
            raise GeoAssetsError(
                "OUTPUT_GONE", f"{ref} is gone", remedy="if it was replaced just now: export again"
            ) from error
        _check(ref, found, sha256)
        self.put(relative, media_type)

    @abstractmethod
    def link(self, settings: Settings, ref: BlobRef, relative: str, *, sha256: str | None) -> bool:
        """Take a hard link to a blob's file; false where that is not possible.

        Raises:
            GeoAssetsError: OUTPUT_DAMAGED, its bytes are not those of the checksum.
        """

    @abstractmethod
    def _put(self, relative: str, media_type: str) -> None: ...

    @abstractmethod
    def _finish(self) -> None: ...

    @abstractmethod
    def _undo(self) -> None: ...


def _check(ref: BlobRef, found: str, said: str | None) -> None:
    if said is not None and found != said:
        raise GeoAssetsError("OUTPUT_DAMAGED", f"{ref} has the SHA-256 {found}, and its item says {said}")


class _Folder(Target):
    def __init__(self, folder: Path) -> None:
        try:
            self._is_new = not folder.exists()
            if folder.is_symlink() and self._is_new:
                raise GeoAssetsError("INVALID_PARAMETERS", f"{folder} is a link to nothing", remedy=_ANOTHER)
            if not self._is_new and (not folder.is_dir() or any(folder.iterdir())):
                raise GeoAssetsError("INVALID_PARAMETERS", f"{folder} is no empty folder", remedy=_ANOTHER)
            folder.parent.mkdir(parents=True, exist_ok=True)
            # in a folder that is there: it may be a link, another file system, or where somebody stands
            root = (folder.parent if self._is_new else folder) / f".{folder.name}-{secrets.token_hex(4)}"
            root.mkdir()
        except OSError as error:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{folder} cannot be written: {error.strerror}", remedy="name another folder"
            ) from error
        super().__init__(root)
        self._folder = folder
        self._moved: list[Path] = []

    def __str__(self) -> str:
        return str(self._folder)

    def link(self, settings: Settings, ref: BlobRef, relative: str, *, sha256: str | None) -> bool:
        if not isinstance(settings.storage_accounts.get(ref.alias), LocalAccount):
            return False
        path = self.fresh(relative)
        try:
            os.link(place(settings, str(ref)), path)
        except OSError:  # another file system, or one without links
            return False
        if sha256 is not None:
            _check(ref, sha256_of(path), sha256)
        self.put(relative, "")
        return True

    def _put(self, relative: str, media_type: str) -> None:
        """It is in its place."""

    def _finish(self) -> None:
        try:
            if self._is_new:
                self._root.rename(self._folder)
            else:
                self._move()
        except OSError as error:
            raise GeoAssetsError("INVALID_PARAMETERS", f"{self._folder} is no empty folder", remedy=_ANOTHER) from error

    def _move(self) -> None:
        """Move what was made into the folder, the catalogue's own file last."""
        if list(self._folder.iterdir()) != [self._root]:
            raise FileExistsError(self._folder)
        for made in sorted(self._root.iterdir(), key=lambda path: path.is_file()):
            self._moved.append(self._folder / made.name)
            made.rename(self._moved[-1])
        self._root.rmdir()

    def _undo(self) -> None:
        for path in (self._root, *self._moved):
            shutil.rmtree(path, ignore_errors=True)


class _Container(Target):
    def __init__(self, settings: Settings, ref: BlobRef) -> None:
        self._container = open_container(settings, ref.alias, ref.container)
        self._prefix = f"{ref.path.rstrip('/')}/" if ref.path else ""
        asked = open_container(settings, ref.alias, ref.container, hasty=True)  # somebody waits
        asked.ensure()
        if any(asked.list(self._prefix)):
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{self._container}/{self._prefix} is not empty", remedy=_ANOTHER
            )
        self._there: list[str] = []
        self._held = ExitStack()
        super().__init__(self._held.enter_context(held_folder(settings.home / "scratch")))

    def __str__(self) -> str:
        return f"{self._container}/{self._prefix}".rstrip("/")

    def link(self, *_: object, **__: object) -> bool:
        return False

    def _put(self, relative: str, media_type: str) -> None:
        file = self.path(relative)
        self._there.append(f"{self._prefix}{relative}")
        self._container.upload(file, self._there[-1], media_type=media_type)
        file.unlink()

    def _finish(self) -> None:
        self._held.close()

    def _undo(self) -> None:
        with self._held:
            for path in reversed(self._there):
                self._container.delete(path)


def open_target(settings: Settings, asked: str) -> Target:
    """Return the place that a user names: a folder, or ALIAS/CONTAINER[/PATH] where ALIAS is an account's.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, it is not empty or cannot be made; UNKNOWN_ACCOUNT; what the account says.
    """
    first, slash, rest = asked.partition("/")
    if slash and first in settings.storage_accounts:
        return _Container(settings, BlobRef.parse(asked, path_required=False))
    could_be = ACCOUNT_ALIAS.fullmatch(first) and CONTAINER_NAME.fullmatch(rest.partition("/")[0])
    if could_be and not Path(first).is_dir():
        raise GeoAssetsError(
            "UNKNOWN_ACCOUNT",
            f"there is no storage account {first!r}; there are: {', '.join(sorted(settings.storage_accounts))}",
            remedy=f"correct it; for a folder: ./{asked}",
        )
    return _Folder(Path(asked).absolute())


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file (hex)."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def safe_name(identity: str) -> str:
    """Return a name of a folder for a collection or an item: its id, where every file system and URL takes that."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", identity) and not identity.endswith("."):
        return identity
    from geo_assets.text import plain_name

    return f"{plain_name(identity, length=150)}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
