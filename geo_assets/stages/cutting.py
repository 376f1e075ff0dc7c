"""Where a stage is cut into chunks: by work, not by the number of files.

Here: a pure function from the tasks of a stage to its chunks. Not here: what a task costs (`costs.py`), the statements
(`ledger/pending.py`), working through a chunk (`chunks.py`).

Tasks come with the longest first, and a chunk is a range of them: so those that are longest are begun first, a file
that is as long as a chunk is alone in its own, and no chunk that is begun late is a long one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from geo_assets.ledger.pending import Costed, Total
from geo_assets.stages.contracts import Chunk, JobRef

#: Chunks for each child that works at the same time: with fewer, children wait for the last one.
_CHUNKS_FOR_A_CHILD = 4


@dataclass(frozen=True, slots=True)
class Steps:
    """How the steps of a run are executed.

    Attributes:
        at_once: how many at a time; None: as many as there are workers, which nobody here knows.
        least_seconds: work of a child for which a step is worth its start.
    """

    at_once: int | None = 1
    least_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How a stage may be cut.

    Attributes:
        files: the most files of a chunk. If there are more than in `chunks` of these, chunks are larger.
        chunks: the most chunks.
        children: that work at the same time, in all steps together; None: nobody knows.
        least_seconds: work for which a step is worth its start.
    """

    files: int
    chunks: int
    children: int | None
    least_seconds: float

    def worth_ms(self, total: Total) -> float:
        """The least work that is worth a chunk, in milliseconds of a child."""
        wanted = self.chunks if self.children is None else _CHUNKS_FOR_A_CHILD * self.children
        return max(total.cost_ms / wanted, 1000 * self.least_seconds)

    def needed(self, left: Total, worth_ms: float) -> int:
        """The number of chunks that tasks are worth, or at least need."""
        return max(math.ceil(left.cost_ms / worth_ms), math.ceil(left.tasks / self.files), 1)


def cut_chunks(job: JobRef, stage: str, total: Total, tasks: Iterable[Costed], bounds: Bounds) -> Iterator[Chunk]:
    """Cut the tasks of a stage, which come with the longest first; each is in one chunk.

    A chunk ends where that brings its work nearest to the target; but it never has more files than allowed, nor leaves
    more files than the chunks after it may have.
    """
    most = max(bounds.files, math.ceil(total.tasks / bounds.chunks))
    worth = bounds.worth_ms(total)
    needed, left, chunks_left, part = bounds.needed(total, worth), total, bounds.chunks, _Part(0)
    aim = total.cost_ms / min(needed, chunks_left)
    for task in tasks:
        cost = max(1, task.cost_ms)
        must_go_on = chunks_left == 1 or part.size < left.tasks - (chunks_left - 1) * most
        if part.size and not must_go_on and (part.size >= most or part.cost + cost / 2 > aim):
            yield part.chunk(job, stage, total)
            left, chunks_left = Total(left.tasks - part.size, left.cost_ms - part.cost), chunks_left - 1
            part = _Part(part.index + 1)
            equal = min(bounds.needed(left, worth), max(needed - part.index, 1), chunks_left)
            aim = left.cost_ms / equal  # what is left is shared out equally
        part.take(task, cost)
    if part.size:
        yield part.chunk(job, stage, total)


class _Part:
    """A chunk that is being filled."""

    def __init__(self, index: int) -> None:
        self.index, self.size, self.cost, self.bytes, self.largest = index, 0, 0, 0, 0
        self.first: Costed | None = None
        self.last: Costed | None = None

    def take(self, task: Costed, cost: int) -> None:
        self.first, self.last = self.first or task, task
        self.size, self.cost, self.bytes = self.size + 1, self.cost + cost, self.bytes + task.bytes
        self.largest = max(self.largest, task.bytes)

    def chunk(self, job: JobRef, stage: str, total: Total) -> Chunk:
        first, last = self.first, self.last
        if first is None or last is None:
            msg = "a chunk without a task"
            raise ValueError(msg)
        return Chunk(
            job=job,
            stage=stage,
            index=self.index,
            first=first.task_key,
            first_cost_ms=first.cost_ms,
            last=last.task_key,
            last_cost_ms=last.cost_ms,
            size=self.size,
            cost_seconds=round(self.cost / 1000, 3),
            stage_seconds=round(total.cost_ms / 1000, 3),
            bytes=self.bytes,
            largest_bytes=self.largest,
        )
