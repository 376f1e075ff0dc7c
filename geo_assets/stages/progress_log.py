"""Progress log of a step: one line per file up to a limit, then a summary with the number of files.

Here: the text of the lines, and the limit. Not here: where lines are written (Dagster's log, in `defs/`), the status of
each file (the ledger).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from geo_assets.errors import GeoAssetsError, for_job
from geo_assets.ledger.models import TaskRecord, status_of
from geo_assets.ledger.outputs import sentence, warnings
from geo_assets.outcomes import Outputs
from geo_assets.stages.contracts import Chunk, JobRef
from geo_assets.text import how_many, one_line

#: Writes one line.
LogLine = Callable[[str], None]

#: Lines per step: each is a row of Dagster's event log, and costs some milliseconds. Good and bad files are counted
#: separately.
MAX_LINES = 50

#: The later chunks of a large container write fewer lines: a thousand files must not cost seconds.
_FIRST_CHUNKS, _MAX_LINES_LATER = 4, 5

#: Characters per line.
_LONGEST = 1000


def no_log(line: str) -> None:
    """Write nothing."""


def max_lines(chunk: Chunk) -> int:
    """The number of lines that a chunk may write."""
    return MAX_LINES if chunk.index < _FIRST_CHUNKS else _MAX_LINES_LATER


class ProgressLog:
    """Writes the lines of one step. A context manager: at its end it writes the summary."""

    def __init__(self, job: JobRef, log: LogLine, *, limit: int = MAX_LINES) -> None:
        self._job = job
        self._log = log
        self._limit = limit
        self._counts: Counter[str] = Counter()
        self._logged: Counter[bool] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end()

    def end(self) -> None:
        """Write the summary, if there was any file."""
        if not self._counts:
            return
        counts = ", ".join(f"{count:,} {how}" for how, count in self._counts.items())
        unlogged = self._counts.total() - self._logged.total()
        more = (
            f"; {unlogged:,} without a line here, all are in: geo-assets tasks {self._job.job_id[:12]}"
            if unlogged
            else ""
        )
        self._log(f"{how_many(self._counts.total(), 'file')}: {counts}{more}")

    def good(self, file: str, outputs: Outputs, *, how: str = "done") -> str:
        """Log a file that has outputs, from this run or an earlier one; returns `how`."""
        notes = "".join(f"; warning: {warning}" for warning in warnings(outputs))
        return self._line(how, f"{file}: {how}, {sentence(outputs)}{notes}")

    def bad(self, file: str, error: GeoAssetsError) -> str:
        """Log a file that has no outputs; returns how its task ended."""
        how, remedy = status_of(error), for_job(error.remedy, self._job.job_id)
        return self._line(how, f"{file}: {how}, {error.code}: {error.message} → {remedy}", bad=True)

    def known(self, tasks: Sequence[TaskRecord], how: str, count: int) -> None:
        """Log files from their ledger records, done before or bad: a sample of the `count` files with status `how`."""
        for task in tasks:
            if task.error_code:
                self.bad(task.task_key, GeoAssetsError(task.error_code, task.error_message or "", remedy=task.remedy))
            else:
                self.good(task.task_key, task.outputs, how=task.status)
        self._counts[how] += max(0, count - len(tasks))

    def _line(self, how: str, line: str, *, bad: bool = False) -> str:
        self._counts[how] += 1
        if self._logged[bad] < self._limit:
            self._logged[bad] += 1
            self._log(one_line(line)[:_LONGEST])
        return how
