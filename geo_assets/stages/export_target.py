"""Where an export goes: a folder of this machine, or a container; whole or not at all.

Here: making the place, putting files there, taking them back. Not here: what is exported (`export.py`).

A new folder is made beside its place and renamed when it is whole. In an empty one that is there already, and in a
container, the catalogue's own file, which leads to all others, comes last; what was put there before a failure is
deleted. A process that is killed deletes nothing: a marker, made first and removed last, says which of the files there
are an export's, and the next export to that place removes these. What else is there is never touched.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Self

from geo_assets.accounts import LocalAccount
from geo_assets.database.connections import connect
from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.patterns import ACCOUNT_ALIAS, CONTAINER_NAME
from geo_assets.sandbox.scratch import held_folder
from geo_assets.settings import Settings
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import Container, open_container, place
from geo_assets.storage.local import IN_PROGRESS, sha256_of

_ANOTHER = "name another one, or empty it"

#: What leads to all else in an export.
CATALOG = "catalog.json"

#: Says that an export is under way, or was killed, and which names at the top of its place are its.
_MARKER = ".geo-assets-export"

#: The most bytes of a marker that is read.
_LONGEST_MARKER = 1_000_000


def _marker_of(names: Iterable[str]) -> str:
    about = "an export of geo_assets that is not whole: the next one to this place removes what is named here"
    return json.dumps({"about": about, "names": sorted(names)}, indent=2)


def _names_of(marker: str | bytes) -> set[str] | None:
    """The names that a marker lists; None if it is none of ours."""
    try:
        names = json.loads(marker)["names"]
    except (ValueError, LookupError, TypeError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and Path(name).name == name for name in names):
        return None
    return set(names)


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

    @abstractmethod
    def begin(self, folders: Sequence[str]) -> None:
        """Remove what a killed export left there, and mark the place as one's own: these folders, and the catalogue."""

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
                "OUTPUT_GONE",
                f"{ref} is gone",
                remedy=f"if it was replaced just now, export again; otherwise {ERRORS['OUTPUT_GONE'].remedy}",
            ) from error
        _check(ref, found, sha256, path)
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


def _check(ref: BlobRef, found: str, said: str | None, taken: Path) -> None:
    """Remove what was taken of a blob unless its bytes are those of the checksum."""
    if said is not None and found != said:
        taken.unlink()
        raise GeoAssetsError("OUTPUT_DAMAGED", f"{ref} has the SHA-256 {found}, and was published with {said}")


class _Folder(Target):
    def __init__(self, folder: Path) -> None:
        try:
            self._is_new = not folder.exists()
            if folder.is_symlink() and self._is_new:
                raise GeoAssetsError("INVALID_PARAMETERS", f"{folder} is a link to nothing", remedy=_ANOTHER)
            if not self._is_new and (not folder.is_dir() or not _is_free(folder)):
                raise GeoAssetsError("INVALID_PARAMETERS", f"{folder} is no empty folder", remedy=_ANOTHER)
            folder.parent.mkdir(parents=True, exist_ok=True)
            # in a folder that is there: it may be a link, another file system, or where somebody stands
            self._around = folder.parent if self._is_new else folder
            root = self._around / f".{folder.name}-{secrets.token_hex(4)}"
            root.mkdir()
            self._held = _hold(root)
        except OSError as error:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{folder} cannot be written: {error.strerror}", remedy="name another folder"
            ) from error
        super().__init__(root)
        self._folder = folder
        self._moved: list[Path] = []

    def begin(self, folders: Sequence[str]) -> None:  # noqa: ARG002 - what is moved is noted when it is moved
        for left, moved in _left_in(self._around, self._folder.name):
            for path in (*([] if self._is_new else moved), left):
                _remove(path)
        if not self._is_new:
            self._insist_on_nothing_else()

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
            _check(ref, sha256_of(path), sha256, path)
        self.put(relative, "")
        return True

    def _put(self, relative: str, media_type: str) -> None:
        """It is in its place."""

    def _finish(self) -> None:
        try:
            if self._is_new:
                (self._root / _MARKER).unlink()
                self._root.rename(self._folder)
            else:
                self._move()
        except OSError as error:
            raise GeoAssetsError("INVALID_PARAMETERS", f"{self._folder} is no empty folder", remedy=_ANOTHER) from error
        self._held.close()

    def _move(self) -> None:
        """Move what was made into the folder, the catalogue's own file last."""
        self._insist_on_nothing_else()
        made = sorted((path for path in self._root.iterdir() if path.name != _MARKER), key=lambda path: path.is_file())
        (self._root / _MARKER).write_text(_marker_of(path.name for path in made), encoding="utf-8")
        for path in made:
            self._moved.append(self._folder / path.name)
            path.rename(self._moved[-1])
        (self._root / _MARKER).unlink()
        self._root.rmdir()

    def _insist_on_nothing_else(self) -> None:
        if list(self._folder.iterdir()) != [self._root]:
            raise GeoAssetsError("INVALID_PARAMETERS", f"{self._folder} is no empty folder", remedy=_ANOTHER)

    def _undo(self) -> None:
        for path in (*self._moved, self._root):
            _remove(path)
        self._held.close()


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, as far as that is allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def _hold(root: Path) -> IO[str]:
    """Mark a folder as that of an export under way, until the file that is returned is closed or its process dies."""
    private = root / f"{_MARKER}-new"
    private.write_text(_marker_of(()), encoding="utf-8")
    held = private.open("r+", encoding="utf-8")
    with suppress(OSError):  # a file system without locks: what a killed export leaves there stays
        fcntl.flock(held, fcntl.LOCK_EX)
    private.rename(root / _MARKER)
    return held


def _left_in(folder: Path, name: str) -> Iterator[tuple[Path, list[Path]]]:
    """Yield what killed exports to a folder with this name left in `folder`: where each worked, and what it had moved
    from there.
    """
    for left in sorted(folder.glob(f".{glob.escape(name)}-{'[0-9a-f]' * 8}")):
        with suppress(OSError), (left / _MARKER).open("r+", encoding="utf-8") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is at work
            names = _names_of(marker.read(_LONGEST_MARKER))
            if names is not None:
                yield left, [folder / moved for moved in sorted(names) if not (left / moved).exists()]


def _is_free(folder: Path) -> bool:
    """Whether a folder holds nothing but what a killed export left."""
    ours = {path for left, moved in _left_in(folder, folder.name) for path in (left, *moved)}
    return ours >= set(folder.iterdir())


class _Container(Target):
    def __init__(self, settings: Settings, ref: BlobRef) -> None:
        self._container = open_container(settings, ref.alias, ref.container)
        self._prefix = f"{ref.path.rstrip('/')}/" if ref.path else ""
        self._there: list[str] = []
        self._held = ExitStack()
        asked = open_container(settings, ref.alias, ref.container, hasty=True)  # somebody waits
        asked.ensure()
        with ExitStack() as held:
            held.enter_context(_alone_at(settings, str(self)))
            self._left = self._left_there(asked)
            super().__init__(held.enter_context(held_folder(settings.home / "scratch")))
            self._held = held.pop_all()

    def __str__(self) -> str:
        return f"{self._container}/{self._prefix}".rstrip("/")

    def _left_there(self, asked: Container) -> list[str]:
        """What a killed export left.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, there is something else.
        """
        marker = f"{self._prefix}{_MARKER}"
        there = [blob.path for page in asked.list(self._prefix) for blob in page if blob.path != marker]
        begun = asked.first_bytes(marker, _LONGEST_MARKER)
        names = _names_of(begun.data) if begun and begun.data else set()
        ours = {*(names or ()), _MARKER}
        foreign = [path for path in there if _first_part(path.removeprefix(self._prefix)) not in ours]
        if foreign or names is None:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{self._container}/{self._prefix} is not empty", remedy=_ANOTHER
            )
        return there

    def begin(self, folders: Sequence[str]) -> None:
        for path in self._left:
            self._container.delete(path)
        marker = self.path(_MARKER)
        marker.write_text(_marker_of((*folders, CATALOG)), encoding="utf-8")
        self._there.append(f"{self._prefix}{_MARKER}")
        self._container.upload(marker, self._there[-1], media_type="application/json")

    def link(self, *_: object, **__: object) -> bool:
        return False

    def _put(self, relative: str, media_type: str) -> None:
        file = self.path(relative)
        self._there.append(f"{self._prefix}{relative}")
        self._container.upload(file, self._there[-1], media_type=media_type)
        file.unlink()

    def _finish(self) -> None:
        self._container.delete(f"{self._prefix}{_MARKER}")
        self._held.close()

    def _undo(self) -> None:
        with self._held:
            for path in reversed(self._there):  # the marker last
                self._container.delete(path)


def _first_part(path: str) -> str:
    """Return the name of a file, or of the folder that it is in; of an upload that was killed, what it was to be."""
    return IN_PROGRESS.sub("", path).partition("/")[0]


@contextmanager
def _alone_at(settings: Settings, place: str) -> Iterator[None]:
    """Hold a place in a container against other exports of this database; the lock ends with this process.

    Raises:
        GeoAssetsError: STILL_AT_WORK.
    """
    with closing(connect(settings, autocommit=True)) as conn:
        key = f"geo_assets:export:{place}"
        if conn.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (key,)).fetchone() != (True,):
            raise GeoAssetsError(
                "STILL_AT_WORK",
                f"another export to {place} is at work",
                remedy="wait for its end, or name another place",
            )
        yield


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


def safe_name(identity: str) -> str:
    """Return a name of a folder for a collection or an item: its id, where every file system and URL takes that."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", identity) and not identity.endswith("."):
        return identity
    from geo_assets.text import plain_name

    return f"{plain_name(identity, length=150)}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
