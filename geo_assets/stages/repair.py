"""Repair: what `reconcile` found is mended, as far as that is safe; what is left alone is told, and why.

Here: which difference is mended by whom. Not here: finding them (`reconcile.py`), the mending itself: a lost output is
made again by a new attempt of its job, an orphan leaves as the janitor's and the unpublished do, a dead run is the
janitor's. Each of these may be killed at any moment and goes on by itself or is found again, so a repair may be
repeated.

A job at work is waited for before anything of it is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.ledger.models import JobRecord, JobStatus
from geo_assets.outcomes import TaskInput
from geo_assets.parameters import PublishContainer
from geo_assets.settings import Settings
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.janitor import run_janitor
from geo_assets.stages.orphans import delete_unknown, sweep_orphans
from geo_assets.stages.reconcile import Class, Difference, ReconcileReport, Reconciliation
from geo_assets.stages.unpublish import withdraw_unknown
from geo_assets.storage.containers import Container, open_container
from geo_assets.submissions.launch import terminate
from geo_assets.submissions.submit import Submitter

#: The name under which a repair asks for attempts and withdraws items.
BY = "reconcile"

#: Questions to a store at a time: each is a round trip.
_ASKED_AT_ONCE = 8

#: What a new attempt makes again. That of a table that is appended to does not.
_MADE_AGAIN = (
    Class.MISSING_COG,
    Class.CHECKSUM_MISMATCH,
    Class.MISSING_ITEM,
    Class.DANGLING_HREF,
    Class.MISSING_TABLE,
    Class.ROWCOUNT_MISMATCH,
    Class.UNPUBLISHED,
    Class.UNACCOUNTED,
)
_OF_ROWS = {Class.MISSING_TABLE, Class.ROWCOUNT_MISMATCH}


class Step(BaseModel):
    """What was done about a difference, or why nothing."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)
    kind: Class = Field(alias="class")
    what: str
    said: str


class RepairReport(ReconcileReport):
    """What a repair did and left alone, and the differences after it."""

    repaired: tuple[Step, ...]
    left: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did and left alone, and what was found after it."""

    done: tuple[Step, ...]
    left: tuple[Step, ...]
    after: Reconciliation

    def report(self) -> RepairReport:
        """The same, as programs read it."""
        found = self.after.report()
        return RepairReport(
            faults=found.faults,
            counts=found.counts,
            differences=found.differences,
            repaired=self.done,
            left=self.left,
        )


#: (difference, whether something was done about it, what or why not)
_Told = tuple[Difference, bool, str]


@dataclass(frozen=True, slots=True)
class Repair:
    """One repair.

    Args:
        settings: the database and the accounts.
        submitter: through which new attempts are requested.
        compare: finds the differences, at the begin and at the end.
        follow: waits for the end of a job.
        why_orphans_stay: says why nothing may be deleted that the ledger does not know; empty where nothing forbids it.
    """

    settings: Settings
    submitter: Submitter
    compare: Callable[[], Reconciliation]
    follow: Callable[[str], object]
    why_orphans_stay: Callable[[], str]

    def run(self) -> Repaired:
        """Mend what can be mended; compares before and after.

        Raises:
            GeoAssetsError: a store or the database does not answer.
        """
        found = self.compare()
        told = list(self.runs(_those(found, Class.STUCK_JOB, Class.RUN_STATE_DRIFT)))
        if self.waited_for_jobs(found) or told:
            found = self.compare()
        told += self.outputs(_those(found, *_MADE_AGAIN))
        told += self.orphans(_those(found, Class.ORPHAN_ITEM, Class.ORPHAN_COG))
        told += self.tables(_those(found, Class.LOOSE_TABLE, Class.STAGING_LEFTOVER))
        told += [(d, False, d.remedy) for d in _those(found, Class.ORPHAN_TABLE, Class.POISON_WITHOUT_RECORD)]
        steps = [(did, Step(kind=d.kind, what=d.what, said=said)) for d, did, said in told]
        return Repaired(
            done=tuple(step for did, step in steps if did),
            left=tuple(step for did, step in steps if not did),
            after=self.compare() if steps else found,
        )

    # -- jobs and their runs -------------------------------------------------------------------------------------------

    def runs(self, found: Sequence[Difference]) -> Iterator[_Told]:
        """Dead runs: what the janitor does about them, at once."""
        stuck = [d for d in found if d.kind is Class.STUCK_JOB]
        if stuck:
            dead: list[str] = []  # told to Dagster when their jobs have new attempts: until then they count as theirs
            jobs, messages = self.submitter.jobs, self.submitter.messages
            done = {job.job_id: action for job, action in run_janitor(jobs, messages, lambda run, _: dead.append(run))}
            for difference in stuck:
                action = done.get(difference.owner.job_id)
                said = f"what the janitor does: {action}" if action else "the janitor was there before"
                yield difference, action is not None, said
            for run in dead:
                self._ended(run)
        for difference in found:
            if difference.kind is Class.RUN_STATE_DRIFT:
                said = self._ended(difference.owner.run_id)
                yield difference, not said, said or f"run {difference.owner.run_id} was ended in Dagster"

    def _ended(self, run_id: str) -> str:
        """End a run in Dagster; returns why it could not be."""
        try:
            terminate(self.settings.dagster_url, run_id)
        except GeoAssetsError as error:
            return error.message
        return ""

    def waited_for_jobs(self, found: Reconciliation) -> bool:
        """Wait for the jobs at work of which something is to be made again; returns whether there was one."""
        jobs = dict.fromkeys(d.owner.job_id for d in found.differences if d.owner.job_id and d.kind.is_fault)
        at_work = [job for job in jobs if not self.submitter.jobs.find(job).status.is_final]
        for job in at_work:
            self.follow(job)
        return bool(at_work)

    # -- what was lost -------------------------------------------------------------------------------------------------

    def outputs(self, found: Sequence[Difference]) -> list[_Told]:
        """Lost and damaged outputs: new attempts of their jobs make them again, and are waited for."""
        told = [self._items_file(d) for d in found if d.owner.collection]
        by_job: dict[str, list[Difference]] = {}
        for difference in found:
            if difference.owner.job_id:
                by_job.setdefault(difference.owner.job_id, []).append(difference)
            elif not difference.owner.collection:
                told.append((difference, False, "no job is known to have made it"))
        asked = []
        for job_id, some in by_job.items():
            answers, requested = self._again(self.submitter.jobs.find(job_id), some)
            told += answers
            asked += [job_id] * requested
        for job_id in asked:
            self.follow(job_id)
        return told

    def _items_file(self, difference: Difference) -> _Told:
        try:
            refresh_items_file(self.settings, difference.owner.collection, run=BY)
        except GeoAssetsError as error:
            if error.error_class is ErrorClass.TRANSIENT:
                raise
            return difference, False, error.message
        return difference, True, "made again"

    def _again(self, job: JobRecord, found: Sequence[Difference]) -> tuple[list[_Told], bool]:
        """Ask for an attempt that makes outputs of a job again; returns also whether there is one now."""
        try:
            told = list(self._refused(job, found))
            refused = {id(difference) for difference, _, _ in told}
            rest = [d for d in found if id(d) not in refused]
            if not rest:
                return told, False
            tasks = sorted({(d.owner.stage, d.owner.task_key) for d in rest})
            attempt = self.submitter.retry(job.job_id, requested_by=BY, tasks=tasks).attempt
        except GeoAssetsError as error:
            if error.error_class is ErrorClass.TRANSIENT:
                raise
            return [(difference, False, error.message) for difference in found], False
        said = f"made again by attempt {attempt} of job {job.job_id[:12]}"
        return told + [(difference, True, said) for difference in rest], True

    def _refused(self, job: JobRecord, found: Sequence[Difference]) -> Iterator[_Told]:
        """What cannot be made again, or not by us."""
        if job.status is JobStatus.CANCELLED:
            said = f"somebody cancelled job {job.job_id[:12]}: geo-assets retry {job.job_id[:12]}"
            yield from ((difference, False, said) for difference in found)
            return
        asked = self.submitter.jobs.parameters(job.job_id)
        if not isinstance(asked, PublishContainer):
            return
        gone = self._without_source(job, asked, found)
        for difference in found:
            name = (difference.owner.stage, difference.owner.task_key)
            if name in gone:
                said = f"its source is gone: {asked.account}/{asked.container}/{gone[name]}"
                yield difference, False, f"{said}; upload that again, then repeat"
            elif gone and asked.deleted == "retire":
                said = (
                    f"other sources of job {job.job_id[:12]} are gone, and a new attempt would withdraw what they made"
                )
                yield difference, False, f"{said} (deleted=retire): upload them again, or submit the job again"
            elif difference.kind in _OF_ROWS and (mode := getattr(asked, "mode", "replace")) != "replace":
                said = f"its rows came with deliveries that may not all be there any more (mode={mode})"
                yield difference, False, f"{said}: drop what is left of it, and submit them again in their order"

    def _without_source(
        self, job: JobRecord, asked: PublishContainer, found: Sequence[Difference]
    ) -> dict[tuple[str, str], str]:
        """(stage, key) -> the first file that is not there, of the tasks whose source is not there as a whole."""
        names = sorted({(d.owner.stage, d.owner.task_key) for d in found})
        inputs = self.submitter.tasks.inputs(job.job_id, names)
        container = open_container(self.settings, asked.account, asked.container)
        is_there = container.exists()
        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="repair") as pool:
            first = pool.map(lambda task: _first_gone(container, task, is_there=is_there), inputs.values())
            return {name: path for name, path in zip(inputs, first, strict=True) if path}

    # -- what nobody knows ---------------------------------------------------------------------------------------------

    def orphans(self, found: Sequence[Difference]) -> list[_Told]:
        """Items and blobs of which the ledger never knew are deleted, unless receipts beside the COGs may name
        them.
        """
        if found and (said := self.why_orphans_stay()):
            return [(difference, False, said) for difference in found]
        items = [d for d in found if d.kind is Class.ORPHAN_ITEM]
        if items:
            withdraw_unknown(self.settings, [d.what for d in items], by=BY)
        told: list[_Told] = [(difference, True, "withdrawn") for difference in items]
        files = [d for d in found if d.kind is Class.ORPHAN_COG]
        if files:
            sweep_orphans(self.settings)  # those that a run had announced, and that the janitor could not delete
        left = delete_unknown(self.settings, [d.what for d in files]) if files else set()
        kept = "a run may be about to publish it, or its store refuses; the janitor asks again"
        return told + [(d, d.what not in left, kept if d.what in left else "deleted") for d in files]

    def tables(self, found: Sequence[Difference]) -> list[_Told]:
        """Tables that nobody needs: the janitor's sweep, at once."""
        if found:
            sweep_orphans(self.settings)
        return [(difference, True, "swept, unless something still depends on it") for difference in found]


def _those(found: Reconciliation, *kinds: Class) -> list[Difference]:
    return [difference for difference in found.differences if difference.kind in kinds]


def _first_gone(container: Container, task: TaskInput, *, is_there: bool) -> str | None:
    """The first file of a task's input that is not there."""
    return next((file.path for file in task.members if not is_there or container.head(file.path) is None), None)
