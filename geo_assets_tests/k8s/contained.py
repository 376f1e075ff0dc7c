"""Run a command as a container runtime runs it: `contained.py PROFILE USER WRITABLE[:…] -- COMMAND…`.

Here: what the default profile of seccomp of Docker and containerd (`RuntimeDefault`) refuses to a process without
CAP_SYS_ADMIN, `no_new_privs`, a bounding set of capabilities, a user, a root that is read-only. Not here: what runs in
it. A script that imports nothing of the project, so that any Python can run it.

PROFILE is `default`, or `older`, of runtimes that did not know Landlock yet and refuse it. USER is a number, which has
no capability, or `root`, which has those that Docker leaves it. Only root can become a user and make its root
read-only; whether the latter could be had is in GEO_ASSETS_TESTS_ROOT (`read-only`, `writable`) of the command.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

#: Refused with EPERM: name -> its number on (x86_64, aarch64).
_REFUSED: dict[str, tuple[int | None, int]] = {
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "sethostname": (170, 161),
    "setdomainname": (171, 162), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142), "acct": (163, 89),
    "syslog": (103, 116), "settimeofday": (164, 170), "clock_settime": (227, 112), "vhangup": (153, 58),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "mbind": (237, 235), "set_mempolicy": (238, 237), "get_mempolicy": (239, 236),
    "set_mempolicy_home_node": (450, 450), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "fanotify_init": (300, 262), "open_by_handle_at": (304, 265), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
}  # fmt: skip

_LANDLOCK = (444, 445, 446)  # refused, too, by older profiles
_CLONE, _CLONE3, _SOCKET = (56, 220), (435, 435), (41, 198)
_NEWEST = 450  # that a profile knows: runc answers ENOSYS to what came later
_NAMESPACES, _AF_VSOCK = 0x7E020000, 40

#: Capabilities that Docker leaves to root: files, users, signals to others and the like; linux/capability.h.
_OF_ROOT = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})

_PR_CAPBSET_DROP, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 24, 22, 38
_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _ERRNO = (_RETURN, 0, 0, 0x7FFF0000), 0x00050000
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_MS_BIND, _MS_REC, _CLONE_NEWNS = 4096, 16384, 0x00020000
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _READ_ONLY, _PRIVATE = 442, -100, 0x8000, 1, 1 << 18


def program(profile: str) -> list[tuple[int, int, int, int]]:
    """The filter, as instructions of BPF."""
    column, arch = _MACHINES[platform.machine()]
    refused = [numbers[column] for numbers in _REFUSED.values()]
    made = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), _refuse(errno.EPERM), (_LOAD, 0, 0, 0)]
    for number in (*refused, *(_LANDLOCK if profile == "older" else ())):
        made += [(_EQUAL, 0, 1, number), _refuse(errno.EPERM)]
    made += [(_EQUAL, 0, 1, _CLONE3[column]), _refuse(errno.ENOSYS), (_ABOVE, 0, 1, _NEWEST), _refuse(errno.ENOSYS)]
    for number, test in ((_CLONE, (_ANY_BIT, 0, 1, _NAMESPACES)), (_SOCKET, (_EQUAL, 0, 1, _AF_VSOCK))):
        made += [(_EQUAL, 0, 4, number[column]), (_LOAD, 0, 0, 16), test, _refuse(errno.EPERM), _ALLOW]
    return [*made, _ALLOW]


def _refuse(error: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, _ERRNO | error)


def filter_calls(profile: str) -> None:
    """Put the filter in place, for this process and what it starts."""
    made = program(profile)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in made))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(made), ctypes.addressof(code)))
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _check(_LIBC.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(header), 0, 0))


def make_root_read_only(writable: Sequence[str]) -> bool:
    """Make everything read-only but some folders, in a namespace of mounts; False where the machine refuses that."""
    try:
        _check(_LIBC.unshare(_CLONE_NEWNS))
        _set_mount("/", set_=0, clear=0, propagation=_PRIVATE)
        for folder in writable:
            _check(_LIBC.mount(folder.encode(), folder.encode(), None, ctypes.c_ulong(_MS_BIND | _MS_REC), None))
        _set_mount("/", set_=_READ_ONLY, clear=0)
        for folder in writable:
            _set_mount(folder, set_=0, clear=_READ_ONLY)
    except OSError:
        return False
    return True


def _set_mount(path: str, *, set_: int, clear: int, propagation: int = 0) -> None:
    attributes = struct.pack("=4Q", set_, clear, propagation, 0)
    flags, size = ctypes.c_uint(_AT_RECURSIVE), ctypes.c_size_t(len(attributes))
    _check(_LIBC.syscall(_MOUNT_SETATTR, ctypes.c_int(_AT_FDCWD), path.encode(), flags, attributes, size))


def become(user: str) -> None:
    """Give up the capabilities that a container has not, and become its user."""
    kept = _OF_ROOT if user == "root" else frozenset()
    for number in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        if number not in kept:
            _check(_LIBC.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
    if user != "root":
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def contain(profile: str, user: str, writable: str) -> None:
    """Make this process one of a container."""
    read_only = False
    if os.geteuid() == 0:
        read_only = make_root_read_only(writable.split(":"))
        os.chdir(Path.cwd())  # what was bound lies over it
        become(user)
    filter_calls(profile)
    os.environ["GEO_ASSETS_TESTS_ROOT"] = "read-only" if read_only else "writable"


def main(profile: str, user: str, writable: str, _: str, *command: str) -> None:
    """Become what the arguments say, and then the command."""
    contain(profile, user, writable)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
