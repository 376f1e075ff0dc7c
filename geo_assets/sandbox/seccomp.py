"""Limits on the system calls of a process: Linux's seccomp, with a filter made here.

Here: which calls a sandboxed child does not need, and the filter that refuses them. Not here: the other walls
(`walls.py`). Source: https://docs.kernel.org/userspace-api/seccomp_filter.html; numbers: the kernel's `asm/unistd_64.h`
and `asm-generic/unistd.h`

A child reads and writes files, has threads, and answers on a socket that it was given. It may not make sockets (TCP,
abstract and pathname Unix sockets alike), pass on descriptors, start, signal or inspect processes, share memory by
name, or change owner, mode, times or attributes of files by their path, which Landlock does not check. The filter needs
no privilege, and cannot be removed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

#: Refused with EPERM: name -> its number on (x86_64, aarch64); None where that architecture has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # sockets, what could make some, and what passes descriptors on
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "bind": (49, 200), "listen": (50, 201),
    "socketpair": (53, 199),
    "accept4": (288, 242), "sendmsg": (46, 211), "sendmmsg": (307, 269), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    # processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # other processes: signals, memory, limits, priorities
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "kcmp": (312, 272), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30), "migrate_pages": (256, 238), "move_pages": (279, 239),
    # memory with a name, or without name and limit
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # files by their path, which Landlock does not check
    "chmod": (90, None), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "lchown": (94, None),
    "fchownat": (260, 54), "truncate": (76, 45), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "setxattrat": (463, 463), "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "removexattrat": (466, 466), "mknod": (133, None), "mknodat": (259, 33), "open_by_handle_at": (304, 265),
    "inotify_init": (253, None), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
    # the machine
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "mount_setattr": (442, 442), "unshare": (272, 97),
    "setns": (308, 268),
    "sethostname": (170, 161), "setdomainname": (171, 162), "swapon": (167, 224), "swapoff": (168, 225),
    "reboot": (169, 142),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "personality": (135, 92),
}  # fmt: skip

#: Refused by their arguments: name -> numbers as above.
_CLONE, _CLONE3, _KILL, _TGKILL, _PRLIMIT, _FCNTL, _IOCTL, _UTIMENSAT, _PRCTL = (
    (56, 220), (435, 435), (62, 129), (234, 131), (302, 261), (72, 25), (16, 29), (280, 88), (157, 167),
)  # fmt: skip

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH of linux/audit.h

_CLONE_THREAD = 0x00010000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4  # to die with its parent; to let its open files be counted
_F_SETOWN, _F_SETOWN_EX = 8, 15  # which process gets a file's signals
_FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _TIOCLINUX = 0x8901, 0x8902, 0x5412, 0x541C  # the same, and typing into a terminal

# One instruction is (code, jump if true, jump if false, value); linux/bpf_common.h.
_LOAD, _EQUAL, _AT_LEAST, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000  # the same calls under other numbers

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

Instruction = tuple[int, int, int, int]


def refuse_calls() -> bool:
    """Refuse this thread, and those that it starts, the calls that a child does not need. Requires no_new_privs or
    CAP_SYS_ADMIN.

    Returns:
        Whether the filter is in place: not on architectures whose numbers are not known here, nor on kernels without
        filters.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = _program(*machine, pid=os.getpid())
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(header), 0, 0) == 0)


def _program(column: int, arch: int, pid: int) -> list[Instruction]:
    refuse, allow = _returns(errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    program = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        refuse,
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        refuse,
    ]
    for first, last in _runs(
        sorted(number for numbers in _REFUSED.values() if (number := numbers[column]) is not None)
    ):
        program += [(_AT_LEAST, 0, 2, first), (_ABOVE, 1, 0, last), refuse]
    program += [
        (_EQUAL, 0, 1, _CLONE3[column]),
        _returns(errno.ENOSYS),
    ]  # its flags are in memory; the C library then uses `clone`
    program += _if(_CLONE[column], [_argument(0), (_ANY_BIT, 0, 1, _CLONE_THREAD), allow, refuse])
    for numbers in (_KILL, _TGKILL):  # signals to itself are allowed, as from `abort`
        program += _if(numbers[column], [_argument(0), (_EQUAL, 0, 1, pid), allow, refuse])
    program += _if(_PRLIMIT[column], [_argument(0), (_EQUAL, 1, 0, 0), (_EQUAL, 0, 1, pid), allow, refuse])
    program += _if(_FCNTL[column], _unless(1, _F_SETOWN, _F_SETOWN_EX))
    program += _if(_IOCTL[column], _unless(1, _FIOSETOWN, _SIOCSPGRP, _TIOCSTI, _TIOCLINUX))
    program += _if(_PRCTL[column], _unless(0, _PR_SET_PDEATHSIG, _PR_SET_DUMPABLE))
    # allowed for an open file, with a null pointer as path
    program += _if(
        _UTIMENSAT[column], [_argument(1), (_EQUAL, 0, 3, 0), _argument(1, high=True), (_EQUAL, 0, 1, 0), allow, refuse]
    )
    return [*program, allow]


def _returns(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | error)


def _argument(index: int, *, high: bool = False) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index + (4 if high else 0))


def _if(number: int, block: list[Instruction]) -> list[Instruction]:
    """Return a block that ends in a return, for one call."""
    return [(_EQUAL, 0, len(block), number), *block]


def _unless(index: int, *values: int) -> list[Instruction]:
    """Refuse some values of an argument."""
    tests = [(_EQUAL, len(values) - position, 0, value) for position, value in enumerate(values)]
    return [_argument(index), *tests, (_RETURN, 0, 0, _ALLOW), _returns(errno.EPERM)]


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return sorted numbers as ranges."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
