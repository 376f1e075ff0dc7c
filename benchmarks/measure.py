"""Running a command and measuring it: wall, CPU, memory, disk.

Here: one measured process tree. Not here: what is compared (`raster.py`, `vector.py`).
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from geo_assets.machine import resident_bytes


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command. Seconds, MB (10**6); `memory` is of the largest process, `disk` of everything below a
    folder.

    Memory is asked of the processes while they run: what the kernel tells afterwards begins with that of the process
    that started them.
    """

    wall: float
    cpu: float
    memory: float
    disk: float


def run(command: list[str], folder: Path, *, env: dict[str, str] | None = None, watched: bool = True) -> Run:
    """Run a command to its end, with `folder` as its directory for temporary files.

    Args:
        command: what is run.
        folder: where it works.
        env: more environment.
        watched: ask for its memory and disk, fifty times a second. That takes a part of a processor, from a command
            that uses all of them; else both are 0.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    start, done, peak = time.perf_counter(), threading.Event(), [0.0, 0.0]
    process = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(folder), **(env or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _bytes_below(folder) + _bytes_of_unlinked(process.pid))
            peak[1] = max(peak[1], *map(resident, tree(process.pid)))

    watcher = threading.Thread(target=watch, daemon=True)
    if watched:
        watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    done.set()
    if watched:
        watcher.join()
    said = process.stderr.read() if process.stderr else ""
    if status:
        raise RuntimeError(f"{' '.join(command[:4])} … failed: {said[-500:]}")
    disk = max(peak[0], _bytes_below(folder)) if watched else 0.0
    return Run(wall, usage.ru_utime + usage.ru_stime, peak[1] / 1e6, disk / 1e6)


def median(watched: Run, runs: list[Run]) -> Run:
    """Medians of the times of runs that were not watched; memory and disk of one that was."""
    wall, cpu = statistics.median(r.wall for r in runs), statistics.median(r.cpu for r in runs)
    return Run(wall, cpu, watched.memory, watched.disk)


def machine() -> str:
    """What it ran on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "?",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {model}, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}, Python"
        f" {platform.python_version()}, load before {load:.1f}"
    )


def resident(pid: int) -> int:
    """Bytes that a process has in memory; 0 where it is gone."""
    return resident_bytes(pid) or 0


def _bytes_below(folder: Path) -> int:
    """What files take, each once, however many names it has."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(parent, name).lstat()
            except OSError:
                continue
            found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _bytes_of_unlinked(pid: int) -> int:
    """Files that a process tree holds open and that have no name any more."""
    total = 0
    for child in tree(pid):
        try:
            for opened in Path(f"/proc/{child}/fd").iterdir():
                if str(opened.readlink()).endswith("(deleted)"):
                    total += opened.stat().st_blocks * 512
        except OSError:
            continue
    return total


def tree(pid: int) -> list[int]:
    """A process and all that it started; a pool starts its children from any thread."""
    found = [pid]
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [p for child in thread.read_text().split() for p in tree(int(child))]
        except OSError:
            continue
    return found


def exit_if_missed(wanted: dict[str, bool]) -> None:
    """End with an error that names what is not as wanted: what -> whether it is met."""
    if missed := [what for what, met in wanted.items() if not met]:
        sys.exit(f"missed: {'; '.join(missed)}")
