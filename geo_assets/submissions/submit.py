"""The one door of a submission: check what it names, record it, launch it.

Here: the order of these three. Not here: validation of fields (`geo_assets/parameters.py`), statements (`ledger/`), GraphQL
(`launch.py`).
"""

from __future__ import annotations

from typing import LiteralString, Self

from geo_assets.database.connections import DictConnection, open_pool
from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.ledger.circuits import Circuits, circuit_of
from geo_assets.ledger.inventory import Inventory
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.messages import Messages
from geo_assets.ledger.models import Attempt, Submitted
from geo_assets.ledger.tasks import Tasks
from geo_assets.ledger.tokens import Tokens
from geo_assets.parameters import IngestContainer, Job, ListContainer, Parameters
from geo_assets.settings import Settings
from geo_assets.storage.containers import existing_container
from geo_assets.submissions.launch import launch, terminate

#: States of tasks that a retry may choose.
_RETRIED = ("failed", "quarantined")


class Submitter:
    """Takes submissions, and reads jobs and tasks back. A context manager."""

    def __init__(self, settings: Settings, *, launches: bool = True, connections: int = 2) -> None:
        """Connect.

        Args:
            settings: where the database and the webserver are.
            launches: start runs at once; otherwise the sensor does.
            connections: most at a time.

        Raises:
            GeoAssetsError: STACK_NOT_RUNNING, the database does not answer.
        """
        self._settings = settings
        self._launches = launches
        try:
            self._pool = open_pool(settings, max_size=connections)
        except GeoAssetsError as error:
            raise GeoAssetsError("STACK_NOT_RUNNING", error.message) from error
        self.jobs = Jobs(self._pool)
        self.tasks = Tasks(self._pool)
        self.inventory = Inventory(self._pool)
        self.messages = Messages(self._pool)
        self.tokens = Tokens(self._pool)
        self.circuits = Circuits(self._pool)
        self.circuit = self.circuits.guard
        self.warning = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def submit(
        self,
        parameters: Parameters,
        *,
        submitted_by: str,
        force: bool = False,
        allow_mass_retire: bool = False,
        message_id: str | None = None,
    ) -> Submitted:
        """Record a submission and launch it if it asks for something new.

        A launch that fails is not a failed submission: it is recorded, and the sensor launches it (`warning` says so).
        An account that does not answer is none either: the run waits for it.

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
            verify_sources=isinstance(parameters, IngestContainer) and parameters.verify_sources,
            in_transaction=accept,
        )
        self._launch(submitted)
        return submitted

    def _look_for(self, parameters: ListContainer) -> None:
        """Refuse a container that is not there. Where its account does not answer, that is not known: the submission is
        taken, and its run waits for the account.
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
        with self._pool.connection(timeout=2) as conn:
            conn.execute("select 1")

    def statistics(self) -> dict[str, dict[str, int]]:
        """Counts of the last 24 hours."""
        with self._pool.connection() as conn:

            def counted(query: LiteralString) -> dict[str, int]:
                return {str(row["what"]): int(str(row["n"])) for row in conn.execute(query).fetchall()}

            return {
                "jobs": counted(
                    "select status as what, count(*) as n from geo.job_status where created_at > now() - interval '24"
                    " hours' group by 1"
                ),
                "tasks": counted(
                    "select status::text as what, count(*) as n from geo.tasks where coalesce(finished_at, now()) >"
                    " now() - interval '24 hours' group by 1"
                ),
                "messages": counted(
                    "select state::text as what, count(*) as n from geo.messages where received_at > now() - interval"
                    " '24 hours' group by 1"
                ),
                "errors": counted(
                    "select code as what, count(*) as n from geo.errors where at > now() - interval '24 hours' group"
                    " by 1"
                ),
                "poison": {"without_record": self.messages.poison_without_record()},
            }

    def insist_on_plan(self, parameters: Parameters, plan_hash: str) -> None:
        """Refuse to go on where the plan is not the one that was looked at.

        Raises:
            GeoAssetsError: PLAN_CHANGED.
        """
        from geo_assets.stages.planning import make_plan

        now = make_plan(self._settings, self.tasks, parameters).plan_hash
        if now != plan_hash:
            raise GeoAssetsError(
                "PLAN_CHANGED", f"the plan is {now[:12]} now, not {plan_hash[:12]}: files or results have changed since"
            )

    def cancel(self, job_id: str) -> bool:
        """End a job; false where it had ended by itself. From the first statement on its run can publish nothing.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND.
        """
        life = self.jobs.life(job_id)
        if life is None:
            raise GeoAssetsError("JOB_NOT_FOUND", f"there is no job {job_id}")
        if life.status.is_final or not self.jobs.end_attempt(
            job_id, "cancelled", GeoAssetsError("CANCELLED", "cancelled on request")
        ):
            return False
        if life.run_id:
            try:
                terminate(self._settings.webserver_url, life.run_id)
            except GeoAssetsError as error:
                self.warning = f"{error.message}; its run can publish nothing any more"
        return True

    def retry(
        self, job_id: str, *, requested_by: str, statuses: tuple[str, ...] = (), error_code: str | None = None
    ) -> Submitted:
        """Run a job again; the chosen tasks are done anew, those that are done stay.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND; STILL_AT_WORK; INVALID_PARAMETERS, no such state, or no task of the job ended
                with this code.
        """
        if unknown := set(statuses) - set(_RETRIED):
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"tasks that are {unknown.pop()!r} are not done anew",
                remedy=f"one of: {', '.join(_RETRIED)}",
            )
        if error_code is not None and error_code not in (codes := self.tasks.bad_by_code(job_id)):
            known = "with that code" if error_code in ERRORS else f"with {error_code!r}, which is no error code"
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"no task of job {job_id[:12]} ended {known}",
                remedy=f"its tasks ended with: {', '.join(codes) or 'no error'}",
            )
        submitted = self.jobs.retry(job_id, requested_by=requested_by, statuses=statuses, error_code=error_code)
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
        try:
            launch(self.jobs, self._settings.webserver_url, attempt)
        except GeoAssetsError as error:
            self.warning = "; ".join(filter(None, (self.warning, error.message, error.remedy)))
