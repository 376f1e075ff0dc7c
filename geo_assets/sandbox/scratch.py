"""Directories of a pool: created and locked in one step, swept when no process holds the lock, given to the user of a
child.

Here: names, locks and owners of directories. Not here: which child works in which directory (`pool.py`).

A scratch directory contains `run-*`, one per pool; what a killed pool should keep is in `kept`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import math
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from geo_assets.sandbox.walls import is_root

#: The two directories of a lane in which its child may write: for workspaces, and for temporary files of libraries.
WORK, TEMPORARY = "work", "tmp"

#: The most that a child may have in its lane, so that it can be counted: entries, and depth of directories.
MAX_ENTRIES, MAX_DEPTH = 100_000, 64

#: The lock of the pool that owns a directory; the kernel releases it when that process dies.
_LOCK = ".held"

#: Prefix of a directory whose lock is not held yet, or not known to be held: it does not count as a pool's.
_PRIVATE = ".new-"

#: Name of a directory in a workspace that is kept when its process dies; where it is kept then; and for how long.
_KEPT_PREFIX, _KEPT, _KEPT_SECONDS = "kept-", "kept", 7 * 24 * 3600

#: Errors of this process, not of the directory that it reads.
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: Seconds after which a directory that never became a pool's counts as left by a killed process.
_PRIVATE_SECONDS = 3600


def make_and_hold(scratch: Path) -> tuple[Path, IO[bytes]]:
    """Make a directory in `scratch`; return it and the file that keeps it locked until closed. It gets its final name
    once it is locked.
    """
    private = _made_in(scratch)
    held = (private / _LOCK).open("wb")
    fcntl.flock(held, fcntl.LOCK_EX)
    folder = private.with_name(f"run-{private.name.removeprefix(_PRIVATE)}")
    private.rename(folder)
    return folder, held


@contextmanager
def held_folder(scratch: Path) -> Iterator[Path]:
    """Yield a directory in `scratch` for files of this process, removed afterwards; where it is killed, by the next
    pool.
    """
    folder, held = make_and_hold(scratch)
    try:
        yield folder
    finally:
        remove(folder)
        held.close()


def _made_in(scratch: Path, tries: int = 100) -> Path:
    for _ in range(tries):
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # another process has just removed it (`leave`)
            scratch.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=_PRIVATE, dir=scratch))
    scratch.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=_PRIVATE, dir=scratch))


def of_this_user() -> Path:
    """Return the scratch directory for programs without a home, one per user: each run sweeps what earlier ones
    left.
    """
    shared = Path(tempfile.gettempdir()) / f"geo-assets-{os.geteuid()}"
    with contextlib.suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        status = shared.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return shared
    return Path(tempfile.mkdtemp(prefix="geo-assets-"))  # another user has a directory with that name


def leave(scratch: Path) -> None:
    """Remove a scratch directory that is empty."""
    with contextlib.suppress(OSError):
        scratch.rmdir()


def sweep(scratch: Path) -> None:
    """Remove what killed pools left, except what should be kept. Any number of processes may sweep at once."""
    for folder in _found(scratch, "run-*"):
        with contextlib.suppress(
            Exception
        ):  # locked by its pool, or gone already; whatever it contains, the next pool must start
            _sweep_one(folder, scratch)
    for pattern, seconds in ((f"{_PRIVATE}*", _PRIVATE_SECONDS), (f"{_KEPT}/*", _KEPT_SECONDS)):
        for folder in _found(scratch, pattern):
            with contextlib.suppress(OSError):
                if time.time() - folder.stat().st_mtime > seconds:
                    _remove_whole(folder)


def left(scratch: Path) -> list[Path]:
    """The directories of killed pools that the next sweep removes; what should be kept is not among them."""
    found = []
    for folder in _found(scratch, "run-*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(folder)
    return found


def _sweep_one(folder: Path, scratch: Path) -> None:
    try:
        lock = (folder / _LOCK).open("rb")
    except FileNotFoundError:  # an interrupted removal
        if time.time() - folder.lstat().st_mtime > _PRIVATE_SECONDS:
            remove(folder)
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for kept in folder.glob(f"*/*/{_KEPT_PREFIX}*"):
            if kept.is_dir() and not kept.is_symlink():
                _put_by(kept, scratch / _KEPT)
        remove(folder)


def _found(folder: Path, pattern: str) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):  # the directory itself is gone (`leave`)
        return list(folder.glob(pattern))
    return []


def _remove_whole(folder: Path) -> None:
    """Remove a directory so that other processes never see it half removed."""
    away = Path(tempfile.mkdtemp(prefix=_PRIVATE, dir=folder.parent))
    try:
        folder.rename(away / folder.name)
    finally:
        remove(away)


def _put_by(kept: Path, place: Path) -> None:
    """Move what should be kept to its place; only the newest with each name is kept."""
    place.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        _remove_whole(place / kept.name)
    kept.rename(place / kept.name)
    os.utime(place / kept.name)


def take_up(scratch: Path, workspace: Path, name: str) -> Path:
    """Return the directory in a workspace for what is kept with this name, with the contents that an earlier process
    left.
    """
    folder = workspace / f"{_KEPT_PREFIX}{name}"
    left = scratch / _KEPT / folder.name
    with contextlib.suppress(FileNotFoundError):
        own = workspace.parent.joinpath("tmp").stat().st_uid
        if is_root():  # files of an earlier child, which no child may reach
            try:
                os.chown(left, own, own, follow_symlinks=False)
                for descriptor, entry, _ in _walk(left):
                    os.chown(entry, own, own, dir_fd=descriptor, follow_symlinks=False)
            except Uncountable:
                remove(left)
        left.rename(folder)
    return folder


@contextmanager
def opened_below(folder: Path, path: Path) -> Iterator[int]:
    """Yield a descriptor of a directory below `folder`, opened without following symbolic links: a child may have made
    some.

    Raises:
        OSError: there is no such path.
        ValueError: it is not below.
    """
    parts = path.relative_to(folder).parts
    if ".." in parts:
        msg = f"{path} leads out"
        raise ValueError(msg)
    descriptor = os.open(folder, _DIRECTORY)
    try:
        for part in parts:
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def move(source: Path, destination: Path, below: Path, within: Path) -> None:
    """Rename a file or directory that a child may have made and whose path it reported: from below `below` to below
    `within`.

    Raises:
        OSError: it does not exist, or its path has a symbolic link.
        ValueError: one is not below.
    """
    if below not in source.parents or ".." in source.parts:
        msg = f"{source} is not of {below}"
        raise ValueError(msg)
    with opened_below(within, source.parent) as before, opened_below(within, destination.parent) as after:
        os.rename(source.name, destination.name, src_dir_fd=before, dst_dir_fd=after)


def take_back(folder: Path) -> None:
    """Undo `hand_over` of a directory: no other user can write in it any more."""
    descriptor = _opened(str(folder), None)
    try:
        os.fchown(descriptor, os.geteuid(), os.getegid())
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def hand_over(paths: Iterable[Path], folder: Path, user: int) -> None:
    """Give a child the directories of some paths in its folder, so that it can write beside a source and where its
    result is expected.
    """
    for each in {place for path in paths for place in (path, path.parent) if folder in place.parents}:
        with (
            contextlib.suppress(OSError, ValueError),
            opened_below(folder, each) as descriptor,
        ):  # a file, or not existing yet
            if os.fstat(descriptor).st_uid != user:
                os.fchown(descriptor, user, user)


class Uncountable(Exception):  # noqa: N818 - what a directory is, which its reader judges
    """A directory contains too much or is too deep to be counted, or has an entry that cannot be read."""


def _walk(folder: Path) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield each entry below a directory: the descriptor of its directory, its name, its status. Follows no link.

    Raises:
        Uncountable: see there.
    """
    with contextlib.ExitStack() as opened:

        def enter(name: str, place: int | None) -> tuple[int, Iterator[str], contextlib.ExitStack]:
            descriptor = os.open(name, _DIRECTORY, dir_fd=place)
            level = opened.enter_context(contextlib.ExitStack())
            level.callback(os.close, descriptor)
            entries = level.enter_context(os.scandir(descriptor))
            return descriptor, (entry.name for entry in entries), level

        seen, levels = itertools.count(1), []
        try:
            levels.append(enter(str(folder), None))
            while levels:
                descriptor, names, level = levels[-1]
                name = next(names, None)
                if name is None:
                    level.close()
                    levels.pop()
                    continue
                if next(seen) > MAX_ENTRIES or len(levels) > MAX_DEPTH:
                    raise Uncountable
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    yield descriptor, name, status
                    if stat.S_ISDIR(status.st_mode):
                        levels.append(enter(name, descriptor))
        except OSError as error:
            if error.errno in _OURS:
                raise
            raise Uncountable from error


def empty(folder: Path, seconds: float = math.inf) -> bool:
    """Remove everything in a directory, however deep, without following links. A process that still writes there may be
    faster.

    Returns:
        Whether nothing is left.
    """
    try:
        top = _opened(str(folder), None)
    except OSError:
        return False
    try:
        until, prefix, number = time.monotonic() + seconds, f".{secrets.token_hex(8)}-", itertools.count()
        while names := os.listdir(top):  # noqa: PTH208 - of a descriptor
            done = 0
            for name in names:
                done += _clear(top, name, (f"{prefix}{n}" for n in number))
                if time.monotonic() > until:
                    return False
            if not done:
                return False
        return True
    finally:
        os.close(top)


def remove(folder: Path, seconds: float = math.inf) -> bool:
    """Remove a directory and its contents, as `empty`."""
    empty(folder, seconds)
    with contextlib.suppress(OSError):
        folder.rmdir()
        return True
    return False


def _clear(top: int, name: str, free_names: Iterator[str]) -> int:
    """Remove one entry; directories in it are moved to the top first, so that any depth works. Return how much was
    done.
    """
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=top)
        return 1
    done = 0
    with contextlib.suppress(OSError):
        descriptor = _opened(name, top)
        try:
            for entry in os.listdir(descriptor):  # noqa: PTH208 - of a descriptor
                done += _out(entry, descriptor, top, free_names)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=top)
        done += 1
    return done


def _out(entry: str, descriptor: int, top: int, free_names: Iterator[str]) -> int:
    with contextlib.suppress(OSError):
        os.unlink(entry, dir_fd=descriptor)
        return 1
    with contextlib.suppress(OSError):
        os.close(_opened(entry, descriptor))  # renaming a directory needs the permission to write in it
        os.rename(entry, next(free_names), src_dir_fd=descriptor, dst_dir_fd=top)
        return 1
    return 0


def _opened(name: str, place: int | None) -> int:
    """Open a directory of a child, which may have removed our permissions where we are the same user."""
    if os.geteuid() == 0:
        return os.open(name, _DIRECTORY, dir_fd=place)
    path = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    try:
        with contextlib.suppress(OSError):
            Path(f"/proc/self/fd/{path}").chmod(0o700)
        return os.open(f"/proc/self/fd/{path}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(path)


def bytes_below(folder: Path, pid: int) -> int:
    """Return the bytes that a process has on disk in a directory, including open files that are deleted.

    Raises:
        Uncountable: the process has made them uncountable.
    """
    total, seen = 0, set()
    for _, _, status in _walk(folder):
        if (status.st_dev, status.st_ino) not in seen:  # a hard link is not a second file
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                status = file.stat()
                total += status.st_blocks * 512 if status.st_nlink == 0 else 0
    return total
