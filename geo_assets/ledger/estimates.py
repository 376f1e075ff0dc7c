"""When what is left of a job will be done: from what is expected of its tasks, and how much that was wrong so far.

Here: pure functions. Not here: what is asked of the ledger (`progress.py`), what a source is expected to cost when it
is planned (`stages/costs.py`).

What a task will take is what was expected of it, times by how much that was wrong for the tasks of its stage and size
in this run. Of a file in work it is known for how long it has been, and of a raster which part is done. The tasks that
are left are shared out to those who work, the longest first, as `stages/crew.py` does. After the last file comes what
jobs of this type and size took until their end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from geo_assets.ledger.work import Cost

#: Tasks that what was expected counts as much as, of those of a stage and size.
_TRUST = 2.0

#: The relative error of an expectation of which nothing was measured in this run; it falls with the root of the number
#: of tasks that were, to the error that stays.
_UNMEASURED, _STAYS = 0.8, 0.1

#: Of a file in work: if which part is done is known (of what is left of it), and if not.
_OF_PART, _OF_GUESS = 0.3, 0.8

#: A part below this says little yet: what was expected counts as well.
_EARLY_PART = 0.1

#: What takes longer than it was expected to take is expected to take as much again of the time that it has taken.
_OVERDUE = 0.4

#: Before it was measured: seconds from the last file of a job to its end, and for each of its files; its error.
_REST_SECONDS, _REST_SECONDS_A_FILE, _OF_REST = 2.0, 0.004, 0.5


class InWork(NamedTuple):
    """A file in work.

    Attributes:
        cost: seconds, as expected when it was planned.
        elapsed: seconds for which it has been in work.
        part: of it that was done `age` seconds ago; None where nobody knows.
        age: seconds.
    """

    cost: float
    elapsed: float
    part: float | None = None
    age: float = 0.0


class Group(NamedTuple):
    """The tasks of a stage that are about equally large. Costs are seconds, as expected when they were planned."""

    stage: str
    size: int
    pending: int = 0
    pending_cost: float = 0.0
    longest_cost: float = 0.0
    measured: int = 0
    measured_cost: float = 0.0
    measured_seconds: float = 0.0
    in_work: tuple[InWork, ...] = ()


class Estimate(NamedTuple):
    """Seconds: the most likely, hardly less, hardly more; and of work."""

    seconds: float
    low: float
    high: float
    work: float


@dataclass(frozen=True, slots=True)
class Likely:
    """Seconds, and their relative error."""

    seconds: float
    error: float

    def at(self, side: int) -> float:
        """The most likely (0), hardly less (-1), hardly more (1)."""
        return self.seconds * (1 + self.error) ** side


def estimate(groups: Sequence[Group], workers: int, rest: Likely | None = None) -> Estimate:
    """When what is left will be done.

    Args:
        groups: of all stages.
        workers: tasks that are worked on at a time.
        rest: what comes after the last file.
    """
    by_stage: dict[str, list[Group]] = {}
    for group in groups:
        by_stage.setdefault(group.stage, []).append(group)
    stages = [_Left.of(each) for each in by_stage.values()]
    rest = rest or Likely(0, 0)
    seconds, low, high = (sum(stage.wall(workers, side) for stage in stages) + rest.at(side) for side in (0, -1, 1))
    return Estimate(seconds, low, high, sum(stage.work(0) for stage in stages))


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left of a stage."""

    in_work: Sequence[Likely]
    pending: Sequence[Likely]  # all of a group together
    longest: Sequence[Likely]  # of each group

    @classmethod
    def of(cls, groups: Sequence[Group]) -> _Left:
        waiting = [group for group in groups if group.pending]
        wrong = {group.size: _wrong(group, groups) for group in groups}
        return cls(
            [_left_of(file, wrong[group.size]) for group in groups for file in group.in_work],
            [Likely(g.pending_cost * wrong[g.size].seconds, wrong[g.size].error) for g in waiting],
            [Likely(g.longest_cost * wrong[g.size].seconds, wrong[g.size].error) for g in waiting],
        )

    def work(self, side: int) -> float:
        """Seconds of all that is left, one after the other."""
        return sum(each.at(side) for each in (*self.in_work, *self.pending))

    def wall(self, workers: int, side: int) -> float:
        """Seconds until the last is done: all are busy until then, or wait for the longest."""
        at_once = max(workers, len(self.in_work), 1)
        ends = sorted(each.at(side) for each in self.in_work)
        first_free = ends[0] if len(ends) >= at_once else 0.0
        longest = max((each.at(side) for each in self.longest), default=0.0)
        return max(self.work(side) / at_once, ends[-1] if ends else 0.0, first_free + longest if longest else 0.0)


def _wrong(group: Group, groups: Iterable[Group]) -> Likely:
    """Measured seconds / expected ones of the tasks of a group: by those that are done of it, or by the stage's."""
    of_stage = _quotient(
        sum(g.measured_seconds for g in groups),
        sum(g.measured_cost for g in groups),
        sum(g.measured for g in groups),
        1.0,
    )
    quotient = _quotient(group.measured_seconds, group.measured_cost, group.measured, of_stage)
    return Likely(quotient, _STAYS + _UNMEASURED / math.sqrt(1 + group.measured))


def _quotient(seconds: float, cost: float, tasks: int, otherwise: float) -> float:
    """Seconds / cost of so many tasks, in which `_TRUST` tasks of the same mean are wrong by `otherwise`."""
    if not tasks or cost <= 0:
        return otherwise
    believed = _TRUST * cost / tasks
    return (seconds + believed * otherwise) / (cost + believed)


def _left_of(file: InWork, wrong: Likely) -> Likely:
    """What is left of a file in work."""
    expected = max(file.cost * wrong.seconds - file.elapsed, _OVERDUE * file.elapsed)
    if not file.part:
        return Likely(expected, max(_OF_GUESS, wrong.error))
    until_then = max(file.elapsed - file.age, 0.0)
    told = max(until_then * (1 - file.part) / file.part - file.age, 0.0)
    sure = min(1.0, file.part / _EARLY_PART)
    error = _STAYS + _OF_PART * (1 - file.part)
    return Likely(sure * told + (1 - sure) * expected, sure * error + (1 - sure) * _OF_GUESS)


def rest_of(files: int, measured: Sequence[Cost], elapsed: float | None) -> Likely:
    """What comes after the last file of a job.

    Args:
        files: that the job has worked on in the end.
        measured: what it took in other jobs of the type, each for a number of files.
        elapsed: seconds since the last file; None while there are others.
    """
    expected = _REST_SECONDS + _REST_SECONDS_A_FILE * files
    if measured:
        near = min(measured, key=lambda cost: (abs(cost.log_bytes - math.log(max(files, 1))), cost.size))
        guessed = _REST_SECONDS + _REST_SECONDS_A_FILE * math.exp(near.log_bytes)
        expected *= math.exp(near.log_seconds) / guessed
    if elapsed is not None:
        expected = max(expected - elapsed, _OVERDUE * elapsed)
    return Likely(expected, _OF_REST)
