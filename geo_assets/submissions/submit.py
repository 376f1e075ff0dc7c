"""The one door of a submission: check what it names, record it, launch it.

Here: the order of these three. Not here: validation of fields (`parameters.py`), statements (`ledger/`), GraphQL (`launch.py`).
"""

from __future__ import annotations

from typing import Self

from geo_assets.database.connections import DictConnection, open_pool
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.messages import Messages
from geo_assets.ledger.models import Attempt, Submitted
from geo_assets.ledger.tasks import Tasks
from geo_assets.settings import Settings
from geo_assets.storage.containers import existing_container
from geo_assets.submissions.launch import launch, terminate
from geo_assets.submissions.parameters import Job, ListContainer, Parameters


class Submitter:
    """Takes submissions, and reads jobs and tasks back. A context manager."""

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            GeoAssetsError: STACK_NOT_RUNNING, the database does not answer.
        """
        self._settings = settings
        try:
            self._pool = open_pool(settings, max_size=2)
        except GeoAssetsError as error:
            raise GeoAssetsError("STACK_NOT_RUNNING", error.message) from error
        self.jobs = Jobs(self._pool)
        self.tasks = Tasks(self._pool)
        self.messages = Messages(self._pool)
        self.warning = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def submit(self, parameters: Parameters, *, submitted_by: str, force: bool = False, message_id: str | None = None) -> Submitted:
        """Record a submission and launch it if it asks for something new.

        A launch that fails is not a failed submission: it is recorded, and the sensor launches it (`warning` says so).

        Raises:
            GeoAssetsError: UNKNOWN_ACCOUNT, CONTAINER_NOT_FOUND; nothing is recorded then.
        """
        if isinstance(parameters, ListContainer):
            existing_container(self._settings, parameters.account, parameters.container)
        job = Job.of(parameters)

        def accept(conn: DictConnection) -> None:
            if message_id:
                self.messages.accept(conn, message_id, job_type=job.job_type, job_id=job.job_id)

        submitted = self.jobs.submit(
            job, submitted_by=submitted_by, rerun_completed=parameters.reads_container, force=force, in_transaction=accept
        )
        self._launch(submitted)
        return submitted

    def cancel(self, job_id: str) -> None:
        """End a job that has not ended. From the first statement on its run can publish nothing.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND; NOT_CANCELLABLE, it has ended.
        """
        life = self.jobs.life(job_id)
        if life is None:
            raise GeoAssetsError("JOB_NOT_FOUND", f"there is no job {job_id}")
        if life.status.is_final or not self.jobs.end_attempt(job_id, "cancelled", GeoAssetsError("CANCELLED", "cancelled on request")):
            raise GeoAssetsError("NOT_CANCELLABLE", f"job {job_id[:12]} is {life.status}")
        if life.run_id:
            try:
                terminate(self._settings.webserver_url, life.run_id)
            except GeoAssetsError as error:
                self.warning = f"{error.message}; its run can publish nothing any more"

    def retry(self, job_id: str, *, requested_by: str, statuses: tuple[str, ...] = (), error_code: str | None = None) -> Submitted:
        """Run a job again; the chosen tasks are done anew, those that are done stay.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND; STILL_AT_WORK.
        """
        submitted = self.jobs.retry(job_id, requested_by=requested_by, statuses=statuses, error_code=error_code)
        self._launch(submitted)
        return submitted

    def _launch(self, submitted: Submitted) -> None:
        if submitted.attempt is None:
            return
        attempt = Attempt(
            job_id=submitted.job_id, job_type=submitted.job_type, partition_key=submitted.partition_key, attempt=submitted.attempt
        )
        try:
            launch(self.jobs, self._settings.webserver_url, attempt)
        except GeoAssetsError as error:
            self.warning = f"{error.message}; {error.remedy}"
