"""What a step says of its files as it goes: a line each, at most some, then how many more there are.

Here: the words and the limit. Not here: where lines go (Dagster's log, in `defs/`), the account itself (the ledger).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import TaskRecord, TaskStatus
from geo_assets.ledger.outputs import sentence, warnings
from geo_assets.outcomes import Outputs
from geo_assets.stages.contracts import Chunk, JobRef
from geo_assets.text import one_line

#: Takes one line.
Say = Callable[[str], None]

#: Lines of a step: each is a row of Dagster's event log, and costs some milliseconds. Bad files have lines of their
#: own.
MOST = 50

#: Of a large container every further chunk says less: a thousand files must not cost seconds of rows.
_TALKATIVE_CHUNKS, _MOST_OF_LATER = 4, 5

#: Characters of a line.
_LONGEST = 1000


def silent(line: str) -> None:
    """Say nothing."""


def most_of(chunk: Chunk) -> int:
    """Lines that a chunk may say."""
    return MOST if chunk.index < _TALKATIVE_CHUNKS else _MOST_OF_LATER


class Telling:
    """Tells of the files of one step. A context manager: at its end it says how many there were."""

    def __init__(self, job: JobRef, say: Say, *, most: int = MOST) -> None:
        self._job = job
        self._say = say
        self._most = most
        self._counts: Counter[str] = Counter()
        self._told: Counter[bool] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self._counts:
            return
        counts = ", ".join(f"{count:,} {how}" for how, count in self._counts.items())
        untold = self._counts.total() - self._told.total()
        more = (
            f"; {untold:,} without a line here, all are in: geo-assets tasks {self._job.job_id[:12]}" if untold else ""
        )
        self._say(f"{self._counts.total():,} files: {counts}{more}")

    def good(self, file: str, outputs: Outputs, *, how: str = "done") -> str:
        """A file of which something was made, now or before; returns `how`."""
        notes = "".join(f"; warning: {warning}" for warning in warnings(outputs))
        return self._tell(how, f"{file}: {how}, {sentence(outputs)}{notes}")

    def bad(self, file: str, error: GeoAssetsError) -> str:
        """A file of which nothing was made; returns `quarantined` or `failed`."""
        how = TaskStatus.of_error(error.error_class)
        return self._tell(how, f"{file}: {how}, {error.code}: {error.message} → {error.remedy}", bad=True)

    def known(self, tasks: Sequence[TaskRecord], how: str, count: int) -> None:
        """Files as the ledger has them, done before or bad: some of the `count` that are `how`."""
        for task in tasks:
            if task.error_code:
                self.bad(task.task_key, GeoAssetsError(task.error_code, task.error_message or "", remedy=task.remedy))
            else:
                self.good(task.task_key, task.outputs, how=task.status)
        self._counts[how] += max(0, count - len(tasks))

    def _tell(self, how: str, line: str, *, bad: bool = False) -> str:
        self._counts[how] += 1
        if self._told[bad] < self._most:
            self._told[bad] += 1
            self._say(one_line(line)[:_LONGEST])
        return how
