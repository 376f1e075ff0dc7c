"""The tasks of a planned stage that are still to be done, the longest first.

Here: the order in which they are cut into chunks, and reading those of a chunk. Not here: planning and ending them
(`tasks.py`), where to cut (`stages/cutting.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import LiteralString, NamedTuple, TypeVar

from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.ledger.fatal import KEY, REMEMBERED
from geo_assets.ledger.models import Work

T = TypeVar("T")

#: Rows that are read at once while chunks are cut, and tasks that a step reads at once.
_ROWS, _PAGE = 5000, 200


class Place(NamedTuple):
    """The place of a task in the order of work: the longest first, those of equal cost by their keys."""

    cost_ms: int
    task_key: str


class Costed(NamedTuple):
    """A task, as chunks are cut."""

    task_key: str
    cost_ms: int
    bytes: int


class Total(NamedTuple):
    """All tasks that are to be cut."""

    tasks: int
    cost_ms: int


class PendingTasks:
    """Statements on pending tasks."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def cut(self, job_id: str, run_id: str, stage: str, use: Callable[[Total, Iterator[Costed]], T]) -> T:
        """What a function makes of the pending tasks of a stage: it gets their total, and each in the order of work.

        The rows come as they are asked for: a million of them need no more memory than some. If the database fails
        meanwhile, the function is called again.
        """
        with self._pool.connection() as conn:
            values = (job_id, run_id, stage)
            sums = conn.execute(
                """select count(*)::int as tasks, coalesce(sum(greatest(cost_ms, 1)), 0)::bigint as cost_ms
                     from geo.tasks
                    where job_id = %s and run_id = %s and stage = %s and listed and status = 'pending'""",
                values,
            ).fetchone()
            with conn.cursor("pending", row_factory=tuple_row) as cursor:
                cursor.itersize = _ROWS
                cursor.execute(
                    """select task_key, cost_ms, bytes from geo.tasks
                        where job_id = %s and run_id = %s and stage = %s and listed and status = 'pending'
                        order by (- cost_ms), task_key""",
                    values,
                )
                total = Total(int(str(sums["tasks"])), int(str(sums["cost_ms"]))) if sums else Total(0, 0)
                return use(total, map(Costed._make, cursor))

    def work(self, job_id: str, run_id: str, stage: str, first: Place, last: Place) -> Iterator[Work]:
        """The unfinished tasks of a chunk, from `first` to `last`, the longest first. A step that runs again finds only
        what is left.

        Between two pages no transaction is open.
        """
        page, at = self._of_chunk(job_id, run_id, stage, (first, last), after=None)
        while page:
            yield from page
            page, at = (
                self._of_chunk(job_id, run_id, stage, (first, last), after=at) if len(page) == _PAGE else ([], at)
            )

    @retrying
    def _of_chunk(
        self, job_id: str, run_id: str, stage: str, span: tuple[Place, Place], after: Place | None
    ) -> tuple[list[Work], Place | None]:
        """A page of a chunk, and the place of its last task."""
        first, last = after or span[0], span[1]
        begins: LiteralString = ">" if after else ">="
        with self._pool.connection() as conn:
            rows = conn.execute(
                f"""select task_key, kind, fingerprint, input, cost_ms, coalesce(f.deaths, 0) as deaths,
                           coalesce(f.process, '') as died
                      from geo.tasks t join geo.jobs j using (job_id)
                      left join geo.fatal_files f on f.file = {KEY} and f.died_at > now() - {REMEMBERED}
                     where t.job_id = %s and run_id = %s and stage = %s and listed
                       and status in ('pending', 'running') and receipt is null
                       and ((- cost_ms), task_key) {begins} (%s, %s) and ((- cost_ms), task_key) <= (%s, %s)
                     order by (- cost_ms), task_key limit %s""",  # noqa: S608
                (job_id, run_id, stage, -first.cost_ms, first.task_key, -last.cost_ms, last.task_key, _PAGE),
            ).fetchall()
        at = Place(int(str(rows[-1]["cost_ms"])), str(rows[-1]["task_key"])) if rows else None
        return [Work.model_validate(row) for row in rows], at
