"""Limits on the files and the network of a process: Linux's Landlock, through its three system calls.

Here: what a sandboxed child may still open, and the calls that enforce it. Not here: the other limits (`child.py`).
Source: https://docs.kernel.org/userspace-api/landlock.html (since Linux 5.13; renames between directories since 5.19,
TCP since 6.7, abstract Unix sockets and signals since 6.12)

It applies to every library, also where a file format refers to other files, and cannot be undone. Where the kernel has
no Landlock, or one that cannot allow renames, nothing is done, and the caller is told.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

# Rights on files and directories, in the order of the kernel's bits.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL_OF_VERSION_2 = (1 << 14) - 1  # up to REFER, which allows renames between directories
_TRUNCATE = 1 << 14
_ALL_TCP = 0b11  # bind, connect
_ALL_SCOPES = 0b11  # abstract Unix sockets of others, signals to others

_READ = _EXECUTE | _READ_FILE | _READ_DIR
_RIGHTS_ON_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

#: Programs, libraries and their data; what the C library and OpenMP need to know of the machine. Not all of /proc: it
#: contains the environment of the parent, with its credentials.
_SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system/cpu",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
)
_PACKAGE = Path(__file__).parents[1]

#: Names of directories that hold packages and nothing else, also those of another environment.
_PACKAGES = frozenset({"site-packages", "dist-packages"})


def version() -> int:
    """Return the version of the kernel's Landlock; negative where there is none."""
    flags = ctypes.c_uint32(_VERSION_FLAG)
    return int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), flags))


def enclose(writable: Iterable[Path], readable: Iterable[Path] = ()) -> bool:
    """Limit this thread, and those that it starts, to writing below `writable` and to reading `readable` and Python.

    Returns:
        Whether the wall stands.
    """
    libc, known = ctypes.CDLL(None, use_errno=True), version()
    if known < 2:
        return False
    rights = _ALL_OF_VERSION_2 | (_TRUNCATE if known >= 3 else 0)
    attributes = struct.pack("=Q", rights)
    attributes += struct.pack("=Q", _ALL_TCP) if known >= 4 else b""
    attributes += struct.pack("=Q", _ALL_SCOPES) if known >= 6 else b""
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        packages = (path for path in sys.path if Path(path).name in _PACKAGES)
        for path in (*map(Path, (*_SYSTEM, sys.prefix, sys.base_prefix, *packages)), _PACKAGE, *readable):
            _allow(libc, ruleset, path, _READ)
        _allow(libc, ruleset, Path(os.devnull), _READ_FILE | _WRITE_FILE)
        for path in writable:
            _allow(libc, ruleset, path, rights)
        return bool(libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    """Allow a path, if it exists: not every machine has each."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= _RIGHTS_ON_A_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)
