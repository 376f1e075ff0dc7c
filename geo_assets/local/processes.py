"""Background processes that are ours: started, recognised later, stopped.

Here: after a reboot a pid may belong to another process, so each is stored with its start time. Not here: which
processes (`stack.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Started(BaseModel):
    """A process that we started: its pid (also its group and session) and the kernel's start time, in clock ticks since
    boot.
    """

    model_config = ConfigDict(frozen=True)
    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether this same process still runs."""
        return start_ticks(self.pid) == self.start_ticks


def start_ticks(pid: int) -> int | None:
    """Return when a process started (field 22 of /proc/PID/stat); None if there is none, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def start(command: Sequence[str], *, env: Mapping[str, str], log_file: Path, cwd: Path) -> Started:
    """Start a process in a session of its own, its output in a log file."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Started(pid=process.pid, start_ticks=start_ticks(process.pid) or 0)


def stop(processes: Sequence[Started], *, grace_seconds: float = 15) -> int:
    """Terminate the groups of these processes, and kill them after the grace period; return how many ran. Other
    processes with a reused pid are left alone.
    """
    running = [p for p in processes if p.alive]
    _signal_groups(running, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and any(p.alive for p in running):
        time.sleep(0.1)
    _signal_groups(running, signal.SIGKILL)  # also processes that the leader left in its group
    while any(p.alive for p in running):
        time.sleep(0.05)
    return len(running)


def _signal_groups(processes: Sequence[Started], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
