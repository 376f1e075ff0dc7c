"""Moving a finished file to its destination, on any file system, completely or not at all.

Here: one function. Not here: containers (`storage/containers.py`), which file is wanted where (`raster.py`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geo_assets.errors import GeoAssetsError

#: The prefix of a file beside its destination that is not complete yet.
_PRIVATE = ".geo-assets-"

#: Seconds after its last write after which a file that no process holds counts as abandoned: longer than from its
#: creation to its lock.
_LEFT_SECONDS = 60

#: No room: on the file system, for this user, in one file.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def put_in_place(made: Path, destination: Path) -> None:
    """Move a file to its destination. An existing file there stays as it is until the new one is whole, on disk, and
    takes its name.

    Raises:
        GeoAssetsError: DISK_FULL.
        OSError: the destination cannot be written to.
    """
    try:
        made.replace(destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        try:
            _copy(made, destination)
        except OSError as why:
            if why.errno in _FULL:
                there = "; the file that is there was left as it is" if destination.exists() else ""
                raise GeoAssetsError(
                    "DISK_FULL", f"no room for {destination} ({made.stat().st_size:,} bytes){there}"
                ) from why
            raise


def _copy(made: Path, destination: Path) -> None:
    """Copy to another file system: under a private name beside the destination, then rename."""
    _sweep(destination.parent)
    with _private(destination.parent) as (descriptor, private):
        with made.open("rb") as source, os.fdopen(os.dup(descriptor), "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.fsync(descriptor)
        private.replace(destination)
    folder = os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some file systems have no such thing
            os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _private(folder: Path) -> Iterator[tuple[int, Path]]:
    """A new file, held open while it is written, so that `_sweep` can tell it from the leftover of a killed process."""
    private = folder / f"{_PRIVATE}{secrets.token_hex(8)}"
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with suppress(OSError):  # not every network file system has locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor, private
    finally:
        private.unlink(missing_ok=True)
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left under private names: files that no process holds and that are not new."""
    for left in folder.glob(f"{_PRIVATE}*"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                left.unlink()
