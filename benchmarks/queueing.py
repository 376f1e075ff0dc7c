"""How many files a second some workers and one database do: a closed queueing network.

Here: the model and its assumptions. Not here: the figures that go into it and what follows from them (`scale.py`,
`docs/scaling.md`).

Each worker has one file in work at a time. A file is worked on by its worker for a while in which nobody else is in its
way (`alone`), and needs processor time that workers compete for: that of the database, and here, where they share a
machine, that of the workers too. The exact solution for one server is Mean Value Analysis (Reiser and Lavenberg, 1980);
a station of several processors is one that is as many times faster, and a delay (Seidmann, Schweitzer and
Shalev-Oren, 1987). Both assume nothing of the times but their means, and that no processor is idle while somebody
waits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Station:
    """Processors that all workers share.

    Attributes:
        seconds: processor time that one file needs there.
        processors: of the station.
    """

    seconds: float
    processors: int


def files_a_second(workers: int, alone: float, station: Station) -> float:
    """Files a second of so many workers.

    Args:
        workers: each with one file at a time.
        alone: seconds of a file in which its worker competes with nobody.
        station: what they compete for.
    """
    served = station.seconds / station.processors
    delay = alone + station.seconds - served
    queue = rate = 0.0
    for number in range(1, workers + 1):
        there = served * (1 + queue)
        rate = number / (delay + there)
        queue = rate * there
    return rate


def job_seconds(files: int, rate: float, one_by_one: float) -> float:
    """Seconds of a job whose files are worked on at a rate, and then pass through what one process does for all.

    Args:
        files: of the job.
        rate: files a second of all workers together.
        one_by_one: seconds of a file in the stages that one process does: listing, planning, registration, report.
    """
    return files / rate + files * one_by_one


def processors_needed(rate: float, seconds: float, busy: float = 0.6) -> int:
    """Processors of a database that serve a rate and are busy for that share of the time at most: beyond it waiting
    grows faster than the rate.
    """
    return max(1, -int(-rate * seconds / busy // 1))
