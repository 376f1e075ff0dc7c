"""The single entry point for submissions: validate, record, launch.

Here: the order of these three. Not here: validation of fields (`geo_assets/parameters.py`), statements (`ledger/`),
GraphQL (`launch.py`), launching later (`launcher.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from geo_assets.correlation import Trace
from geo_assets.database.connections import DictConnection
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.circuits import circuit_of
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import Attempt, JobStatus, Submitted
from geo_assets.parameters import Job, ListContainer, Parameters, PublishContainer
from geo_assets.settings import Settings
from geo_assets.storage.containers import existing_container
from geo_assets.submissions.launch import launch, terminate
from geo_assets.submissions.launcher import Launcher
from geo_assets.submissions.retries import choose, insist_on_some
from geo_assets.submissions.size import Sizes


class Submitter:
    """Takes submissions, and reads jobs and tasks back. A context manager."""

    def __init__(
        self, settings: Settings, *, launches: bool = True, in_background: bool = False, connections: int = 2
    ) -> None:
        """Connect.

        Args:
            settings: where the database and the webserver are.
            launches: start runs at once; otherwise the sensor does.
            in_background: start them in a thread, one after the other: who submits does not wait for Dagster.
            connections: most at a time.

        Raises:
            GeoAssetsError: STACK_NOT_RUNNING, the database does not answer.
        """
        self._settings = settings
        self._launches = launches
        try:
            self.ledger = Ledger(settings, connections=connections)
        except GeoAssetsError as error:
            raise GeoAssetsError("STACK_NOT_RUNNING", error.message) from error
        self.jobs, self.tasks, self.inventory = self.ledger.jobs, self.ledger.tasks, self.ledger.inventory
        self.messages, self.tokens, self.circuits = self.ledger.messages, self.ledger.tokens, self.ledger.circuits
        self.circuit = self.circuits.guard
        self.warning = ""
        self._sizes = Sizes(settings, self.ledger)
        in_line = launches and in_background
        self._launcher = Launcher(self.jobs, settings, self._sizes) if in_line else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._launcher:
            self._launcher.stop()
        self.ledger.close()

    def submit(
        self,
        parameters: Parameters,
        *,
        submitted_by: str,
        force: bool = False,
        allow_mass_retire: bool = False,
        message_id: str | None = None,
        trace: Trace | None = None,
    ) -> Submitted:
        """Record a submission and launch it if it asks for something new.

        If the launch fails, the submission stays recorded and the sensor launches it (`warning` says so, unless it
        happens in the background). If an account does not answer, the run waits for it. What is said
        of it has the ids of `trace`, or new ones.

        Raises:
            GeoAssetsError: UNKNOWN_ACCOUNT, CONTAINER_NOT_FOUND; nothing is recorded then.
        """
        if isinstance(parameters, ListContainer):
            self._look_for(parameters)
        job = Job.of(parameters)

        def accept(conn: DictConnection) -> None:
            if message_id:
                self.messages.accept(conn, message_id, job_type=job.job_type, job_id=job.job_id)

        submitted = self.jobs.submit(
            job,
            submitted_by=submitted_by,
            rerun_completed=parameters.reads_container,
            force=force,
            allow_mass_retire=allow_mass_retire,
            verify_sources=isinstance(parameters, PublishContainer) and parameters.verify_sources,
            in_transaction=accept,
            trace=trace,
        )
        self._launch(submitted)
        return submitted

    def _look_for(self, parameters: ListContainer) -> None:
        """Refuse a container that does not exist. If its account does not answer, the submission is accepted, and its
        run waits for the account.
        """
        try:
            with self.circuit(circuit_of(parameters.account)):
                existing_container(self._settings, parameters.account, parameters.container, hasty=True)
        except GeoAssetsError as error:
            if error.code not in {"STORAGE_UNAVAILABLE", "CIRCUIT_OPEN"}:
                raise
            self.warning = f"{error.message}; the submission is recorded, and its run waits until the account answers"

    def ping(self) -> None:
        """Ask the database something.

        Raises:
            psycopg.Error, PoolTimeout: it does not answer.
        """
        self.ledger.ping()

    def statistics(self) -> dict[str, dict[str, int]]:
        """Counts of the last 24 hours."""
        return self.ledger.statistics()

    def cancel(self, job_id: str) -> bool:
        """End a job; false if it had ended already. From the first statement on, its run can publish nothing.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND.
        """
        life = self.jobs.life(job_id)
        if life is None:
            raise GeoAssetsError("JOB_NOT_FOUND", f"there is no job {job_id}")
        if life.status.is_final or not self.jobs.end_attempt(
            job_id, JobStatus.CANCELLED, GeoAssetsError("CANCELLED", "cancelled on request")
        ):
            return False
        if life.run_id:
            try:
                terminate(self._settings.dagster_url, life.run_id)
            except GeoAssetsError as error:
                self.warning = f"{error.message}; its run can publish nothing any more"
        return True

    def retry(
        self,
        job_id: str,
        *,
        requested_by: str,
        only: Collection[str] = (),
        error_code: str | None = None,
        tasks: Collection[tuple[str, str]] = (),
        force: bool = False,
    ) -> Submitted:
        """Run a job again; redoes the tasks that the filters choose, or those that are named, (stage, key) of each
        (`retries.py`); finished ones stay, unless `force`.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND; STILL_AT_WORK; INVALID_PARAMETERS, no such state, no task of the job ended
                with this code, or `force` with a filter.
        """
        if force and (only or error_code or tasks):
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                "all tasks, or those of a filter: not both",
                remedy="leave force out, or the filter",
            )
        choice = choose(only, error_code, tasks)
        if error_code is not None:
            insist_on_some(choice, job_id, self.tasks.bad_by_code(job_id, statuses=choice.statuses))
        submitted = self.jobs.retry(
            job_id,
            requested_by=requested_by,
            statuses=choice.statuses,
            error_code=choice.error_code,
            tasks=choice.tasks,
            force=force,
        )
        self._launch(submitted)
        return submitted

    def _launch(self, submitted: Submitted) -> None:
        if submitted.attempt is None or not self._launches:
            return
        attempt = Attempt(
            job_id=submitted.job_id,
            job_type=submitted.job_type,
            partition_key=submitted.partition_key,
            attempt=submitted.attempt,
        )
        if self._launcher:
            self._launcher.wake()
            return
        try:
            launch(self.jobs, self._settings, attempt, self._sizes)
        except GeoAssetsError as error:
            self.warning = "; ".join(filter(None, (self.warning, error.message, error.remedy)))
