"""The walls around a child: permissions that it gives up permanently before it opens a file.

Here: the order in which they are raised, the user that a child becomes, the report on a machine that lacks some.
Not here: Landlock and seccomp themselves (`landlock.py`, `seccomp.py`), limits of memory, files and time (`child.py`,
`pool.py`).

Three walls are required, or a child refuses to work (SANDBOX_INCOMPLETE) unless the settings are permissive: files
(Landlock), system calls (seccomp: sockets, processes, signals), and not being root. A process with a second thread,
which would stay outside, counts as one that lacks a wall. Namespaces for network, IPC and host name are added where the
machine allows them: containers and chroots often do not, and the other walls already refuse the same. No PID namespace:
a child can neither signal nor inspect another process, and it would cost one more process per child.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from geo_assets.sandbox import landlock, seccomp

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 1, 8, 38
_CLONE_NEWUTS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x04000000, 0x08000000, 0x10000000, 0x40000000
_NAMESPACES = {"network": _CLONE_NEWNET, "IPC": _CLONE_NEWIPC, "host name": _CLONE_NEWUTS}

#: Capabilities that bypass the permissions of files, all or for reading; linux/capability.h.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION = 0x20080522

#: User ids that belong to no account: systemd's range for dynamic service users (systemd.io/UIDS-GIDS).
USERS = range(61184, 65520)

#: Most threads of a child that is counted separately; each library that it loads starts one per core.
_MAX_THREADS = 512


@dataclass(frozen=True, slots=True)
class Walls:
    """The walls that a process has, and those it lacks."""

    standing: tuple[str, ...]
    missing: tuple[str, ...]  # required walls
    without: tuple[str, ...]  # namespaces


@cache
def is_root() -> bool:
    """Whether this process is root outside of user namespaces, too: one that is root only inside is an ordinary
    user.
    """
    if os.geteuid() != 0:
        return False
    try:
        inside, outside, _ = Path("/proc/self/uid_map").read_text(encoding="ascii").split()[:3]
    except (OSError, ValueError):
        return True
    return (inside, outside) == ("0", "0")


def has_one_thread() -> bool:
    """Whether this process has no thread but this one, also none of a library."""
    return len(list(Path("/proc/self/task").iterdir())) == 1


def raise_walls(user: int, writable: Iterable[Path], readable: Iterable[Path]) -> Walls:
    """Give up everything that a child does not need. It must have one thread: others would stay outside.

    Args:
        user: its user and group from now on, where it is root.
        writable: the only directories in which it may write; it may not rename them, which would change their parent.
        readable: files and directories that it may read, beside Python and its packages.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    root, alone = is_root(), has_one_thread()
    namespaces = _own_namespaces(libc, root=root)
    nobody = not root or _become(libc, user)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user resets it; from here on it stays
    walls = {
        f"files (Landlock {landlock.version()})": landlock.enclose(writable, readable),
        "sockets, processes and signals (seccomp)": seccomp.refuse_calls(),
        "a user of its own" if root else "not root": nobody,
    }
    names = {f"files (Landlock {landlock.version()})": "files (Landlock of Linux 5.19 or later)"}
    return Walls(
        standing=(*(wall for wall, stands in walls.items() if stands), *(f"{name} namespace" for name in namespaces)),
        missing=(
            *(names.get(wall, wall) for wall, stands in walls.items() if not stands),
            *(() if alone else ("a process of one thread",)),
        ),
        without=tuple(name for name in _NAMESPACES if name not in namespaces),
    )


def _own_namespaces(libc: ctypes.CDLL, *, root: bool) -> tuple[str, ...]:
    """Enter namespaces for network, IPC and host name; if not root within a user namespace, where the machine allows
    it.
    """
    made = []
    if root:
        made = [name for name, flag in _NAMESPACES.items() if libc.unshare(flag) == 0]
    elif libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS) == 0:
        made = list(_NAMESPACES)
        resource.setrlimit(
            resource.RLIMIT_NPROC, (_MAX_THREADS, _MAX_THREADS)
        )  # counted in this namespace, which has only this process
    if "host name" in made:
        with contextlib.suppress(OSError):
            socket.sethostname("sandbox")
    if not root:
        _keep_capabilities(libc, 0)
    return tuple(made)


def _become(libc: ctypes.CDLL, user: int) -> bool:
    """Become another user, keeping of root's capabilities only the one to read any file: Python may be in root's home,
    and a source readable by its owner alone. Landlock limits which files can be read.
    """
    readers = [1 << number for number in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if _permitted() & 1 << number]
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        resource.setrlimit(resource.RLIMIT_NPROC, (_MAX_THREADS, _MAX_THREADS))
        os.setresuid(user, user, user)
    except OSError:  # a container without this permission
        return False
    return _keep_capabilities(libc, readers[0] if readers else 0)


def _permitted() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapPrm:")), 0)


def _keep_capabilities(libc: ctypes.CDLL, mask: int) -> bool:
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    return bool(libc.capset(header, ctypes.create_string_buffer(struct.pack("=6I", mask, mask, 0, 0, 0, 0))) == 0)
