"""How a benchmark measures: wall clock, CPU seconds of a command and of the server, peak memory of its processes.

Here: processes and numbers. Not here: what is run (`vector.py`).

Client CPU is that of a command and of everything it started and waited for. Server CPU is that of the postmaster, its
living children and those that have ended. Memory is the sum of the resident memory of all of a command's processes,
sampled; pages that they share count for each.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import resident, tree

_TICK = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Run:
    """What one run of a command cost."""

    wall: float  # seconds
    client_cpu: float  # seconds
    server_cpu: float  # seconds
    peak_mb: float  # MB of resident memory

    @property
    def cpu(self) -> float:
        """Client and server."""
        return self.client_cpu + self.server_cpu


def median(runs: Sequence[Run]) -> Run:
    """The median of each number."""
    return Run(
        *(
            statistics.median(getattr(run, name) for run in runs)
            for name in ("wall", "client_cpu", "server_cpu", "peak_mb")
        )
    )


def measure(commands: Sequence[Sequence[str]], env: Mapping[str, str], postmaster: int) -> Run:
    """Run commands one after the other, as one piece of work.

    Raises:
        RuntimeError: one fails; with what it said.
    """
    before, client, peak = server_seconds(postmaster), 0.0, 0.0
    began = time.monotonic()
    for command in commands:
        seconds, highest = _run(command, env)
        client += seconds
        peak = max(peak, highest)
    wall = time.monotonic() - began
    return Run(wall, client, server_seconds(postmaster) - before, peak)


def _run(command: Sequence[str], env: Mapping[str, str]) -> tuple[float, float]:
    process = subprocess.Popen(command, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(resident(pid) for pid in tree(process.pid)))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    stop.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {said[-2000:]}")
    return usage.ru_utime + usage.ru_stime, peak[0] / 1e6


def server_seconds(postmaster: int) -> float:
    """CPU seconds of a PostgreSQL server since it started."""
    own = _stat(postmaster)
    living = [_stat(int(pid)) for pid in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()]
    ticks = sum(own) + sum(user + system for user, system, _, _ in living)
    return ticks / _TICK


def _stat(pid: int) -> tuple[int, int, int, int]:
    """utime, stime, cutime, cstime."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0, 0, 0
    user, system, ended_user, ended_system = map(int, fields[11:15])
    return user, system, ended_user, ended_system
