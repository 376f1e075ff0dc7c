"""The context of every stage: settings, ledger, containers, and a pool of sandboxed children that starts when needed.

Here: opening and closing these once per process. Not here: any stage; keeping the lease from the first step to the last
(`kept_lease.py`).

The steps of a run may be in one process or in many: what all of them must know of its job, they ask the ledger for, by
the run's id.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg

from geo_assets.background import every
from geo_assets.database.connections import TRANSIENT, cancel_statements
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.inventory import Inventory
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.lease import lease_lost
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import JobStatus
from geo_assets.ledger.table_names import TableNames
from geo_assets.ledger.tasks import Tasks
from geo_assets.machine import lower_priority
from geo_assets.once import made_once
from geo_assets.parameters import ListContainer
from geo_assets.sandbox.host import HostLimits
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.settings import Settings
from geo_assets.stages.at_work import FilesAtWork
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.crew import Stage
from geo_assets.stages.cutting import Bounds, Steps
from geo_assets.stages.kept_children import children_of
from geo_assets.stages.load_database import LoadDatabase
from geo_assets.stages.patience import StoragePatience
from geo_assets.stages.turns import Turns
from geo_assets.storage.containers import Container, impatient, open_container

#: Renewed several times within the lease's life (ledger.lease.LEASE_SECONDS), so that one slow commit does not lose it.
HEARTBEAT_SECONDS = 10.0

#: Threads whose child is dead and whose statement is cancelled end at once; one that does not is abandoned.
STOP_SECONDS = 5.0


@dataclass
class StageContext:
    """Everything a stage works with. A context manager: leaving it ends the children and closes the connections."""

    settings: Settings
    #: The run that this process works for; "" for work that is no run's.
    run_id: str = ""
    #: How the steps of the run are executed.
    steps: Steps = field(default_factory=Steps)
    #: The stages whose steps are all executed by this process.
    ahead: dict[str, Stage] = field(default_factory=dict, repr=False)
    #: Who may work on files at the same time, and who alone.
    turns: Turns = field(default_factory=Turns, repr=False)
    #: The files that this process works on.
    at_work: FilesAtWork = field(default_factory=FilesAtWork, repr=False)
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _containers: dict[tuple[str, str], Container] = field(default_factory=dict, repr=False)
    _told_of_waiting: bool = False
    _sandbox: SandboxPool | None = field(default=None, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        crews = [stage.crew for stage in self.ahead.values() if stage.crew and stage.crew.is_at_work]
        if crews:  # the run ends before its work does
            self.stop()
        for crew in crews:
            crew.end(STOP_SECONDS)
        self._stack.close()

    @made_once
    def ledger(self) -> Ledger:
        """The ledger."""
        return self._stack.enter_context(Ledger(self.settings, connections=self.settings.workers + 4))

    @property
    def jobs(self) -> Jobs:
        """Jobs, attempts, leases."""
        return self.ledger.jobs

    @property
    def tasks(self) -> Tasks:
        """The account of tasks."""
        return self.ledger.tasks

    @property
    def inventory(self) -> Inventory:
        """Listings."""
        return self.ledger.inventory

    @property
    def table_names(self) -> TableNames:
        """Names of published tables."""
        return self.ledger.table_names

    @made_once
    def load_database(self) -> LoadDatabase:
        """The database as loads of vectors use it."""
        return self._stack.enter_context(LoadDatabase(self.settings))

    @made_once
    def sandbox(self) -> SandboxPool:
        """The children that open untrusted files."""
        s = self.settings

        def make() -> SandboxPool:
            host = HostLimits(s.host_folder, s.host_children, s.host_memory_mb)
            return SandboxPool(s.home / "scratch", workers=s.workers, host=host, run=self.run_id, **s.sandbox_limits)

        self._sandbox = self._stack.enter_context(children_of(self.run_id, make))
        return self._sandbox

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A workspace for the file that this thread works on; others see which child works in it."""
        with self.sandbox.workspace() as folder:
            self.at_work.lies_in(folder)
            try:
                yield folder
            finally:
                self.at_work.lies_in(None)

    @property
    def busy_seconds(self) -> float:
        """For how long children of this process have been busy, all together."""
        pool = self._sandbox_now
        return pool.busy_seconds if pool else 0.0

    @property
    def _sandbox_now(self) -> SandboxPool | None:
        """The children, which are not started to be asked."""
        pool = vars(self).get("sandbox")
        return pool if isinstance(pool, SandboxPool) else None

    @property
    def process(self) -> str:
        """This process, as others know it."""
        return f"{socket.gethostname()}/{os.getpid()}"

    @property
    def bounds(self) -> Bounds:
        """How a stage of the run is cut into chunks."""
        s = self.settings
        return Bounds(
            files=s.chunk_files,
            chunks=s.max_chunks,
            children=self.steps.at_once and self.steps.at_once * s.workers,
            least_seconds=self.steps.least_seconds,
        )

    @property
    def waits_for_host(self) -> bool:
        """Whether a file waits because other runs of this host have all the children that it may have."""
        return self._sandbox is not None and self._sandbox.waits_for_host

    def give_way(self) -> None:
        """Let the runs of other jobs come before this one, which is large; for a thread that does its work."""
        lower_priority(threading.get_native_id())
        self.sandbox.give_way()

    def give_up(self, error: GeoAssetsError) -> None:
        """Record that the attempt of this run failed for good: the janitor then leaves it alone."""
        if error.code != "LEASE_LOST" and (job_id := self.jobs.job_of(self.run_id)):
            self.jobs.end_attempt(job_id, JobStatus.FAILED, error, run_id=self.run_id)

    def warn(self, job: JobRef, error: GeoAssetsError) -> None:
        """Record a problem that does not stop the job."""
        self.ledger.messages.note(error, severity="warning", job_id=job.job_id, run_id=job.run_id)

    def alert(self, job: JobRef, error: GeoAssetsError) -> None:
        """Record a problem that does not stop the job, and that somebody is to hear of."""
        self.ledger.messages.note(error, severity="alert", job_id=job.job_id, run_id=job.run_id)

    def complete(self, job: JobRef) -> None:
        """Record that the job is done, whatever happens to the run in Dagster afterwards."""
        if not job.stood_aside:
            self.ledger.work.note_rest(job.job_id, job.run_id)
            self.jobs.complete(job.job_id, job.run_id)

    @contextmanager
    def signs_of_life(self) -> Iterator[None]:
        """Let others know that this process is alive, although its run does not own its job yet, or no more."""

        def give() -> None:
            with suppress(*TRANSIENT):
                self.jobs.give_sign(self.run_id)

        with every(HEARTBEAT_SECONDS, give, "signs-of-life"):
            yield

    def stop(self) -> None:
        """End the work of this process for its run, on request or because the run lost its job: all that is under way
        ends, and the job is let go, so that nothing can be published any more.

        Statements end first: one that waits may hold the job's row.
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
        """Whether the work of this process was ended."""
        return self._stopped.is_set()

    def _let_go(self) -> None:
        """Give up the lease. If the database does not answer, the lease expires."""
        if self.run_id:
            with suppress(*TRANSIENT):
                self.jobs.let_go(self.run_id)

    @made_once
    def patience(self) -> StoragePatience:
        """Waits for a store that does not answer."""
        return StoragePatience(
            self.ledger.circuits.guard,
            seconds=self.settings.storage_wait_seconds,
            keep=self._keep_job,
            tell=self._tell_of_waiting,
        )

    def _keep_job(self) -> bool:
        """Renew the lease of the run's job; false if the job is no longer ours."""
        return not self.stopped and self.jobs.keeps(self.run_id)

    def _tell_of_waiting(self, error: GeoAssetsError) -> None:
        """Record, once a run, that it waits: `job` and the API then say why nothing happens."""
        with self._lock:
            told, self._told_of_waiting = self._told_of_waiting, True
        if not told and (job_id := self.jobs.job_of(self.run_id)):
            self.ledger.messages.note_once(error, severity="alert", job_id=job_id, run_id=self.run_id)

    def _container(self, alias: str, name: str) -> Container:
        """One object per container and process: it keeps its connections, and knows what it saw before."""
        with self._lock:
            if (alias, name) not in self._containers:
                self._containers[alias, name] = open_container(self.settings, alias, name, patience=self.patience)
            return self._containers[alias, name]

    def source_container(self, job: JobRef) -> Container:
        """The container that a job reads."""
        parameters = job.parameters_as(ListContainer)
        return self._container(parameters.account, parameters.container)

    def output_container(self, name: str) -> Container:
        """A container of the output account; `ensure_outputs` has made sure that it exists."""
        return self._container(self.settings.output_account, name)

    def picture_container(self, name: str) -> Container:
        """As `output_container`, for pictures that are only looked at: it does not wait for a store."""
        return open_container(self.settings, self.settings.output_account, name, patience=impatient, hasty=True)

    def ensure_outputs(self) -> None:
        """Make sure that the containers of COGs and thumbnails exist, before any file is worked on.

        Raises:
            GeoAssetsError: CONTAINER_NOT_FOUND, one does not exist and we may not create it; STORAGE_FORBIDDEN.
        """
        for name in self.settings.output_containers:
            self.output_container(name).ensure()

    @contextmanager
    def lease_or_nothing(self, job: JobRef, doing: str) -> Iterator[None]:
        """As `lease`, for a run that may have stood aside and then holds none."""
        if job.stood_aside:
            yield
            return
        with self.lease(job, doing):
            yield

    @contextmanager
    def lease(self, job: JobRef, doing: str = "", *, workers: int = 0) -> Iterator[None]:
        """Keep the job's lease while working, and let others know that this step is alive, and what it does.

        Lost later, the work is stopped: nobody can interrupt a step on another machine. What then fails, fails for
        that.

        Args:
            job: whose lease it is.
            doing: what the step does, for people.
            workers: files that it works on at a time; 0 if it works on none.

        Raises:
            GeoAssetsError: LEASE_LOST, already at the start.
        """
        step = self.jobs.begin_step(job.job_id, job.run_id, self.process, doing, workers)
        if step is None:
            raise lease_lost(job.job_id, job.run_id)
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                # if the database does not answer, the work under way finds out by itself; the lease may survive it
                with suppress(*TRANSIENT):
                    if not self.jobs.heartbeat(job.job_id, job.run_id, step, self.at_work.seen(self._sandbox_now)):
                        self.stop()
                        return

        thread = threading.Thread(target=beat, name="lease-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=HEARTBEAT_SECONDS)
            with suppress(*TRANSIENT):
                self.jobs.end_step(step)
