"""What every stage has at hand: settings, ledger, containers, and a pool of sandboxed children that starts when needed.

Here: opening and closing these once per process. Not here: any stage.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import psycopg

from geo_assets.database.connections import TRANSIENT, cancel_statements, open_pool
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.inventory import Inventory, TableNames
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.tasks import Tasks
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.settings import Settings
from geo_assets.stages.contracts import JobRef
from geo_assets.storage.containers import Container, existing_container, open_container

#: Renewed several times within the lease's life (ledger.jobs.LEASE_SECONDS), so that one slow commit does not lose it.
HEARTBEAT_SECONDS = 10.0


@dataclass
class StageContext:
    """Everything a stage works with. A context manager: leaving it ends the children and closes the connections."""

    settings: Settings
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)
    #: The job that this process owns, once it is claimed.
    claimed: JobRef | None = None
    _sandbox: SandboxPool | None = field(default=None, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._let_go()
        finally:
            self._stack.close()

    @cached_property
    def _pool(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - the type is open_pool's
        pool = open_pool(self.settings, max_size=self.settings.workers + 4)
        self._stack.callback(pool.close)
        return pool

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs, attempts, leases."""
        return Jobs(self._pool)

    @cached_property
    def tasks(self) -> Tasks:
        """The account of tasks."""
        return Tasks(self._pool)

    @cached_property
    def inventory(self) -> Inventory:
        """Listings."""
        return Inventory(self._pool)

    @cached_property
    def table_names(self) -> TableNames:
        """Names of published tables."""
        return TableNames(self._pool)

    @cached_property
    def sandbox(self) -> SandboxPool:
        """The children that open untrusted files."""
        s = self.settings
        pool = SandboxPool(s.home / "scratch", workers=s.workers, memory_mb=s.sandbox_memory_mb, timeout_seconds=s.sandbox_timeout_seconds)
        self._sandbox = self._stack.enter_context(pool)
        return pool

    def give_up(self, error: GeoAssetsError) -> None:
        """Write down that the claimed job's attempt failed for good: the janitor then leaves it alone."""
        if self.claimed and not self.claimed.stood_aside and error.code != "LEASE_LOST":
            self.jobs.end_attempt(self.claimed.job_id, "failed", error, run_id=self.claimed.run_id)

    def complete(self, job: JobRef) -> None:
        """Write down that the job is done: the ledger knows it from here on, whatever becomes of the run in Dagster."""
        if not job.stood_aside:
            self.jobs.complete(job.job_id, job.run_id)
            self.claimed = None

    def stop(self) -> None:
        """Somebody ends this run: all that is under way ends, and the job is let go, so that nothing can be published any more.

        Statements first: one that waits may hold the job's row.
        """
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._sandbox is not None:
            self._sandbox.abort()
        with suppress(GeoAssetsError, psycopg.Error):
            cancel_statements(self.settings)
        self._let_go()

    @property
    def stopped(self) -> bool:
        """Whether this run was told to end."""
        return self._stopped.is_set()

    def _let_go(self) -> None:
        """Give up the lease. Where the database is away it runs out by itself."""
        claimed, self.claimed = self.claimed, None
        if claimed and not claimed.stood_aside:
            with suppress(*TRANSIENT):
                self.jobs.let_go(claimed.job_id, claimed.run_id)

    def source_container(self, job: JobRef) -> Container:
        """The container that a job reads."""
        return existing_container(self.settings, job.parameters["account"], job.parameters["container"])

    def output_container(self, name: str) -> Container:
        """A container of the output account; made if it is local and not there yet."""
        container = open_container(self.settings, self.settings.output_account, name)
        if not container.exists():
            container.create()
            container = open_container(self.settings, self.settings.output_account, name)
        return container

    @contextmanager
    def lease_or_nothing(self, job: JobRef) -> Iterator[None]:
        """As `lease`, for a run that may have stood aside: it holds nothing."""
        if job.stood_aside:
            yield
            return
        with self.lease(job):
            yield

    @contextmanager
    def lease(self, job: JobRef) -> Iterator[None]:
        """Keep the job's lease while working.

        Raises:
            GeoAssetsError: LEASE_LOST, already at the start. Lost later, the next statement on a task says so.
        """
        if not self.jobs.heartbeat(job.job_id, job.run_id):
            raise GeoAssetsError("LEASE_LOST", f"run {job.run_id} no longer owns job {job.job_id[:12]}")
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                if not self.jobs.heartbeat(job.job_id, job.run_id):
                    return

        thread = threading.Thread(target=beat, name="lease-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=HEARTBEAT_SECONDS)
