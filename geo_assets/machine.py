"""What this process may use of its machine: cores and memory, within the limits of its control groups.

Here: reading them, the defaults that follow, giving way to others, what a process has of it. Not here: keeping to them
(`sandbox/host.py`).

In a container `os.cpu_count` and `/proc/meminfo` tell what the whole machine has.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: Where the kernel tells of control groups and of memory.
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")

#: Of the memory, what children may have together; the rest is for the database, Dagster and the parents.
_SHARE_OF_MEMORY = 0.8

#: MB of address space of a child: as much as any file has needed, less where the machine is small.
_LARGEST_CHILD_MB, _SMALLEST_CHILD_MB = 4096, 2048

#: What the kernel calls a niceness: a thread with it gets a tenth of what one without it gets, and all that is left.
_NICENESS = 10


def cores(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Cores that this process may use, at least one: of its affinity, and of the quota of its control groups."""
    allowed = float(len(os.sched_getaffinity(0)))
    for folder in _groups(proc, cgroups, "cpu"):
        quota, period = _quota(folder)
        if quota > 0 and period > 0:
            allowed = min(allowed, quota / period)
    return max(1, math.ceil(allowed))


def memory_mb(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """MB of memory that this process and those beside it may use."""
    lines = (line.split() for line in _text(proc / "meminfo").splitlines())
    allowed = next((int(line[1]) >> 10 for line in lines if line[:1] == ["MemTotal:"]), 4096)
    for folder in _groups(proc, cgroups, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # of version 2 and of version 1
            text = _text(folder / name).strip()
            if text.isdigit():  # "max" is no limit, nor is a number beyond any memory
                allowed = min(allowed, int(text) >> 20)
    return max(1, allowed)


def default_host_children() -> int:
    """As many children on a host as it has cores; two at least, so that one that waits for a store does not stop all
    others.
    """
    return max(2, cores())


def default_host_memory_mb() -> int:
    """MB that the children of a host may have together."""
    return max(512, int(memory_mb() * _SHARE_OF_MEMORY))


def default_child_mb() -> int:
    """MB of address space of a child: on a small machine less, so that there may be one for each core."""
    return min(_LARGEST_CHILD_MB, max(_SMALLEST_CHILD_MB, default_host_memory_mb() // default_host_children()))


def default_host_folder() -> Path:
    """Where all processes of this user on this host meet to share its children, whatever their homes are."""
    return Path(tempfile.gettempdir()) / f"geo-assets-{os.geteuid()}-host"


def lower_priority(thread: int) -> None:
    """Let a thread, or a process that has one, work when nobody else needs the processor; for ever, as only root may
    take that back. Threads and processes that it starts afterwards do so, too.

    Args:
        thread: as the kernel knows it.
    """
    with contextlib.suppress(OSError):  # it has ended, or belongs to a user over whom we have no power
        os.setpriority(os.PRIO_PROCESS, thread, _NICENESS)


def resident_bytes(pid: int, proc: Path = _PROC) -> int | None:
    """Bytes of memory that a process has now, with what it shares with others; None if it has ended."""
    pages = _text(proc / str(pid) / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None


def _groups(proc: Path, cgroups: Path, controller: str) -> Iterator[Path]:
    """The directories of this process's control groups, from its own to the root: the tightest limit counts."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = cgroups / controller if controllers else cgroups
        place = top / path.strip("/")  # in a container it may be named as the host sees it, and not be there
        yield from (each for each in (place, *place.parents) if each == top or top in each.parents)


def _quota(folder: Path) -> tuple[float, float]:
    """Microseconds of cores in each period; zero where there is no limit."""
    text = _text(folder / "cpu.max").split() or [
        _text(folder / "cpu.cfs_quota_us").strip(),
        _text(folder / "cpu.cfs_period_us").strip(),
    ]
    return (float(text[0]), float(text[1])) if all(each.isdigit() for each in text) and len(text) == 2 else (0.0, 0.0)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
