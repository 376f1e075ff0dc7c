"""Local containers: directories, and whether their file system is still mounted.

Here: what obstore does not report about a directory: a share that is not mounted, every file whatever its name; the
hash of a file.
Not here: reading and writing files (`containers.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from geo_assets.accounts import LocalAccount
from geo_assets.errors import GeoAssetsError

#: obstore's own name for an upload in progress.
IN_PROGRESS = re.compile(r"#\d+$")

#: Seconds. A file named `x#1` that is younger may be an upload in progress.
_UPLOAD_SECONDS = 60

#: What of an upload was not written for so long is what a killed one has left.
_ABANDONED = timedelta(days=1)


#: Bytes that are read at once: they stay in the processor's cache until they are hashed.
_BUFFER = 256 * 1024


class LocalPlace:
    """The directory of a local container, and whether it is still the same: an unmounted share leaves an empty
    directory, or none, which must not be mistaken for a container whose files are all gone.
    """

    def __init__(self, alias: str, name: str, account: LocalAccount) -> None:
        self.path = account_root(account) / name
        self._alias, self._root, self._ours = alias, account_root(account), account.ours
        self._device: int | None = None  # the file system's, once seen

    def is_there(self) -> bool:
        """Whether the directory exists.

        Raises:
            GeoAssetsError: STORAGE_UNAVAILABLE, this cannot be determined: the account's own directory is missing, or
                another one than before.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._insist_on_account()
            return False
        except PermissionError:
            raise
        except OSError as error:
            raise self._away(error.strerror or type(error).__name__) from error
        if self._device not in {None, status.st_dev}:
            raise self._away("another file system is mounted there now")
        self._device = status.st_dev
        return self.path.is_dir()

    def insist(self) -> None:
        """Raise unless the directory exists; see `is_there`.

        Raises:
            GeoAssetsError: STORAGE_UNAVAILABLE; CONTAINER_NOT_FOUND.
        """
        if not self.is_there():
            raise GeoAssetsError("CONTAINER_NOT_FOUND", f"there is no container {self._alias}/{self.path.name}")

    def make(self) -> None:
        """Create the directory; also the account's, if that is in our own home."""
        if not self._ours and not self._root.is_dir():
            raise self._away("it is not there")
        self.path.mkdir(parents=True, exist_ok=True)

    def _insist_on_account(self) -> None:
        if self._device is not None:
            raise self._away("the container was there a moment ago")
        if self._ours:
            return
        try:
            empty = not any(self._root.iterdir())
        except OSError as error:
            raise self._away(error.strerror or type(error).__name__) from error
        if empty:
            raise self._away("it is empty")

    def _away(self, why: str) -> GeoAssetsError:
        return GeoAssetsError(
            "STORAGE_UNAVAILABLE",
            f"the directory {self._root} of account {self._alias} is not as it should be ({why}): is the share"
            " mounted?",
        )


def account_root(account: LocalAccount) -> Path:
    """Return the directory of an account.

    Raises:
        ValueError: it has none; `Settings.storage_accounts` gives each one.
    """
    if account.root is None:
        msg = "a local account needs a root"
        raise ValueError(msg)
    return account.root


def entries_below(
    root: Path, folder: str = "", *, ours: bool = False, everything: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the files below `root`, or a folder in it, in the form of obstore's listing, without links and without
    uploads in progress: where nobody else writes (`ours`), what is called so is one, or what is left of it, however
    old it is. With `everything` also these, each with the reason why it is `ignored`.

    obstore's own listing is not used: a single file name that it refuses (with a newline) would end it, and every other
    file of the job would be missing. The etag is spelt as obstore spells it, so that a conditional read compares equal.
    """
    top = root / folder
    if folder and (not top.is_dir() or top.resolve() != root.resolve() / folder):
        root.stat()  # a root that is not there is another matter
        return
    above = len(os.fspath(root)) + 1
    for file, status in everything_below(top):
        ignored = no_file(status)
        if IN_PROGRESS.search(file) and (ours or time.time() - status.st_mtime < _UPLOAD_SECONDS):
            ignored = ignored or "perhaps still being uploaded, by its name and age"
        if ignored and not everything:
            continue
        yield {
            "path": os.fsencode(file[above:]).decode("utf-8", "backslashreplace"),
            "size": status.st_size,
            "e_tag": f'"{status.st_ino:x}-{status.st_mtime_ns // 1000:x}-{status.st_size:x}"',
            "last_modified": datetime.fromtimestamp(status.st_mtime, UTC),
            "ignored": ignored,
        }


def abandoned_uploads(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield what killed uploads have left below a directory to which nobody else writes, each file with its bytes."""
    for file, status in files_below(root) if root.is_dir() else ():
        if IN_PROGRESS.search(file) and time.time() - status.st_mtime > _ABANDONED.total_seconds():
            yield Path(file), status.st_size


def pieces_of(file: Path) -> Iterator[memoryview]:
    """Yield the bytes of a file in one buffer, which each piece overwrites: at half the cost of obstore's stream."""
    buffer = memoryview(bytearray(_BUFFER))
    with file.open("rb", buffering=0) as opened:
        while length := opened.readinto(buffer):
            yield buffer[:length]


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file (hex)."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def no_file(status: os.stat_result) -> str | None:
    """Return why something is no file to read, by what the file system says of it; None for a file."""
    if stat.S_ISREG(status.st_mode):
        return None
    return "a link, which is not followed" if stat.S_ISLNK(status.st_mode) else "a pipe, socket or device"


def files_below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """As `everything_below`, regular files alone."""
    return (found for found in everything_below(folder) if no_file(found[1]) is None)


def everything_below(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the paths of all that is no folder, and what the file system says of it. Links are not followed: what one
    points at was not submitted. A file that is removed meanwhile is not there.

    Raises:
        OSError: a folder cannot be read. If it were skipped, its files would be unaccounted for.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or not folder.is_dir():
            raise error

    for base, folders, names in os.walk(folder, onerror=refuse):
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]  # noqa: PTH114, PTH118 - below
        for name in (*names, *links):
            file = os.path.join(base, name)  # noqa: PTH118 - with a `Path` for each, listing takes three times as long
            try:
                yield file, os.lstat(file)
            except (FileNotFoundError, NotADirectoryError):
                continue
