"""Threads that work through the tasks of chunks, the longest first, and what has become of each chunk so far.

Here: handing out tasks, collecting results, ending early. Not here: what a task is, its status in the ledger
(`chunks.py`), the children (`sandbox/`).

Where all steps of a run are executed by one process, one after the other, a crew gets all chunks of its stage: a thread
for which the step at hand has nothing left takes tasks of later chunks. Else the end of each chunk would have idle
children, and a file that takes an hour would be an hour in which the others wait. The steps of later chunks then find
done what was done ahead, and report it as theirs.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import Work
from geo_assets.outcomes import Outputs
from geo_assets.stages.contracts import Chunk
from geo_assets.stages.costs import Costs, Samples
from geo_assets.stages.progress_log import ProgressLog, max_lines

#: The result of a task: its outputs, or its error.
Result = tuple[Work, Outputs | GeoAssetsError]

#: Runs whose steps are executed by this process, one after the other.
_EXECUTED_HERE: set[str] = set()


@contextmanager
def steps_here(run_id: str) -> Iterator[None]:
    """For whoever executes the plan of a run: its steps are executed in this process, one after the other."""
    _EXECUTED_HERE.add(run_id)
    try:
        yield
    finally:
        _EXECUTED_HERE.discard(run_id)


def has_steps_here(run_id: str) -> bool:
    """Whether all steps of a run are executed in this process."""
    return run_id in _EXECUTED_HERE


class Share:
    """What has become of a chunk so far. Whoever changes it holds the lock of its crew."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.samples = Samples(Costs.of(chunk.job, chunk.stage))
        self.lines: deque[str] = deque()  # as many as a step may log
        self.log = ProgressLog(chunk.job, self.lines.append, limit=max_lines(chunk))
        self.counts: Counter[str] = Counter()
        self.given = self.ended = 0
        self.all_given = False

    def take(self, result: Result, seconds: float) -> None:
        """Take the result of a task."""
        work, outcome = result
        if isinstance(outcome, GeoAssetsError):
            how = self.log.bad(work.task_key, outcome)
        else:
            how = self.log.good(work.task_key, outcome)
        self.counts[how] += 1
        self.samples.add(work, seconds, is_good=how == "done")
        self.ended += 1

    def summary(self) -> list[str]:
        """The last lines, once every task has come to an end."""
        self.log.end()
        return list(self.lines)

    def again(self) -> None:
        """Forget tasks that were given out and came to no end."""
        self.given, self.all_given = self.ended, False

    @property
    def is_complete(self) -> bool:
        """Whether every task has come to an end."""
        return self.all_given and self.ended == self.given


class Crew:
    """Threads at work. They end by themselves when there is nothing left, or after the first error of one."""

    def __init__(
        self,
        shares: Sequence[Share],
        tasks_of: Callable[[Chunk], Iterable[Work]],
        do: Callable[[Work], Result],
        *,
        threads: int,
        stopped: Callable[[], bool],
        at_first: Callable[[], None] | None = None,
    ) -> None:
        """Begin to work.

        Args:
            shares: of the chunks, in the order in which they are worked on.
            tasks_of: the unfinished tasks of a chunk; asked for when they are needed.
            do: executes a task. What it raises is no fault of the task, and ends the crew.
            threads: how many tasks at a time.
            stopped: whether no other task may begin.
            at_first: what each thread does before its first task.
        """
        self.shares = {share.chunk.index: share for share in shares}
        self._tasks = self._hand_out(shares, tasks_of)
        self._do, self._stopped, self._at_first = do, stopped, at_first
        self._handing_out = threading.Lock()  # not the other: results do not wait for the ledger's next page
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._over = False
        for share in shares:
            share.again()
        self._threads: list[threading.Thread] = []
        for number in range(threads):
            thread = threading.Thread(target=self._work, name=f"work_{number}", daemon=True)
            thread.start()
            self._threads.append(thread)  # only now: whoever is interrupted here waits for those that run

    def lines(self, share: Share) -> Iterator[str]:
        """The lines about a chunk, as they come, until every task of it has come to an end.

        Raises:
            BaseException: what ended the crew before that.
        """
        while True:
            with self._changed:
                while not (share.lines or share.is_complete or self._error):
                    self._changed.wait()
                lines, complete, error = list(share.lines), share.is_complete, self._error
                share.lines.clear()
            yield from lines
            if complete:
                return
            if error and not lines:
                raise error

    @property
    def is_broken(self) -> bool:
        """Whether it ended before its time."""
        return self._over

    @property
    def is_at_work(self) -> bool:
        """Whether a thread lives."""
        return any(thread.is_alive() for thread in self._threads)

    def end(self, timeout: float | None = None) -> None:
        """Let no other task begin, and wait for those that are under way."""
        self._over = True
        until = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _hand_out(
        self, shares: Sequence[Share], tasks_of: Callable[[Chunk], Iterable[Work]]
    ) -> Iterator[tuple[Share, Work]]:
        for share in shares:
            for work in tasks_of(share.chunk):
                with self._changed:
                    share.given += 1
                yield share, work
            with self._changed:
                share.all_given = True
                self._changed.notify_all()

    def _work(self) -> None:
        try:
            if self._at_first:
                self._at_first()
            while task := self._next():
                share, work = task
                began = time.monotonic()
                result = self._do(work)
                with self._changed:
                    share.take(result, time.monotonic() - began)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the chunk raises it
            with self._changed:
                self._over, self._error = True, self._error or error
                self._changed.notify_all()

    def _next(self) -> tuple[Share, Work] | None:
        with self._handing_out:
            if self._stopped():
                raise GeoAssetsError("CANCELLED", "the run was told to stop")
            if self._over:
                return None
            return next(self._tasks, None)


@dataclass
class Stage:
    """The chunks of a stage, all of whose steps are executed in this process."""

    shares: dict[int, Share]
    crew: Crew | None = None

    def after(self, chunk: Chunk) -> list[Share]:
        """A chunk and those after it."""
        return [share for index, share in sorted(self.shares.items()) if index >= chunk.index]
