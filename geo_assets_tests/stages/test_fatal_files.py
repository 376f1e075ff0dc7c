"""Files during whose work processes died: who is suspected, and when a file is not tried any more; no Dagster."""

import threading
import time

import numpy as np
import psycopg
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages import cogs
from geo_assets.stages.claim import claim_job
from geo_assets.stages.container_inventory import take_inventory
from geo_assets.stages.turns import Turns
from geo_assets_tests.raster.test_cog import write


class Deliveries:
    """A container of small rasters, jobs that read it, and runs of them that die."""

    def __init__(self, context, submitter, dagster) -> None:
        self.context, self.submitter, self.dagster = context, submitter, dagster
        self.container = f"f{time.monotonic_ns()}"
        folder = context.settings.home / "containers" / self.container
        folder.mkdir(parents=True)
        for number, name in enumerate(("a.tif", "b.tif", "c.tif")):
            write(folder / name, np.random.default_rng(number).integers(0, 255, (3, 40, 40)).astype("uint8"))

    def asked(self, **more) -> Job:
        job = Job.of(validate_parameters("stage_raster", {"container": self.container, **more}))
        self.submitter.submit(job.parameters, submitted_by="test")
        return job

    def begun(self, asked: Job, attempt: int):
        """A run that has planned its chunks."""
        run_id = self.dagster.run(asked, "STARTED")
        job = claim_job(
            self.context,
            partition_key=asked.partition_key,
            run_id=run_id,
            attempt=attempt,
            job_types=frozenset({asked.job_type}),
            options={},
        )
        return job, cogs.plan(self.context, take_inventory(self.context, job))[1]

    def die(self, job, files: list[str], *, process: str, attempt: int, silent: int = 100) -> None:
        """A process of the run dies with these files in work."""
        step = self.submitter.jobs.begin_step(job.job_id, job.run_id, process)
        for file in files:
            self.context.tasks.start(job.job_id, job.run_id, "cogs", file, process)
        self.execute("update geo.steps set heartbeat = now() - make_interval(secs => %s) where step = %s", silent, step)
        self.dagster.set(job.run_id, "FAILURE")
        assert self.submitter.jobs.rescue(job.job_id, attempt)

    def convert(self, chunks) -> dict[str, tuple[str, str | None]]:
        """Execute the chunks; returns how each file ended."""
        for chunk in chunks:
            cogs.convert_chunk(self.context, chunk)
        rows = self.context.tasks.records(chunks[0].job.job_id, stage="cogs")
        return {row.task_key: (str(row.status), row.error_code) for row in rows}

    def execute(self, statement, *values):
        with psycopg.connect(self.context.settings.dsn("migrator"), autocommit=True) as conn:
            return conn.execute(statement, values)

    def deaths(self) -> list[int]:
        with psycopg.connect(self.context.settings.dsn("migrator")) as conn:
            return [n for (n,) in conn.execute("select deaths from geo.fatal_files order by deaths").fetchall()]


@pytest.fixture
def deliveries(context, submitter, dagster):
    made = Deliveries(context, submitter, dagster)
    made.execute("delete from geo.fatal_files")
    return made


def test_the_second_death_quarantines_the_file_that_was_worked_on_alone_and_no_other(deliveries):
    asked = deliveries.asked()
    job, _ = deliveries.begun(asked, 1)
    deliveries.die(job, ["a.tif", "b.tif"], process="one/1", attempt=1)
    job, chunks = deliveries.begun(asked, 2)
    deliveries.submitter.jobs.bury(job.job_id)
    assert deliveries.deaths() == [1, 1]
    deliveries.die(job, ["b.tif"], process="two/1", attempt=2)
    _, chunks = deliveries.begun(asked, 3)
    ended = deliveries.convert(chunks)
    assert ended["b.tif"] == ("quarantined", "FATAL_FILE")
    assert [ended[name][1] for name in ("a.tif", "c.tif")] == [None, None]
    assert deliveries.deaths() == [2], "the one that was only near is suspected no more"


def test_a_file_that_killed_for_one_job_is_not_tried_by_another(deliveries):
    asked = deliveries.asked()
    for attempt in (1, 2):
        job, _ = deliveries.begun(asked, attempt)
        deliveries.submitter.jobs.bury(job.job_id)
        deliveries.die(job, ["c.tif"], process=f"host/{attempt}", attempt=attempt)
    deliveries.submitter.jobs.bury(deliveries.begun(asked, 3)[0].job_id)
    _, chunks = deliveries.begun(deliveries.asked(collection="another"), 1)
    assert deliveries.convert(chunks)["c.tif"] == ("quarantined", "FATAL_FILE")


def test_somebody_who_asks_for_it_has_the_file_tried_again(deliveries):
    asked = deliveries.asked()
    for attempt in (1, 2):
        job, _ = deliveries.begun(asked, attempt)
        deliveries.submitter.jobs.bury(job.job_id)
        deliveries.die(job, ["c.tif"], process=f"host/{attempt}", attempt=attempt)
    job, chunks = deliveries.begun(asked, 3)
    assert deliveries.convert(chunks)["c.tif"] == ("quarantined", "FATAL_FILE")
    deliveries.context.complete(job)
    deliveries.dagster.set(job.run_id, "SUCCESS")
    deliveries.submitter.jobs.retry(job.job_id, requested_by="test", statuses=("quarantined",))
    _, chunks = deliveries.begun(asked, 4)
    assert deliveries.convert(chunks)["c.tif"][1] is None


def test_a_process_that_ends_in_order_is_not_dead_though_another_run_has_its_job(deliveries):
    asked = deliveries.asked()
    job, _ = deliveries.begun(asked, 1)
    step = deliveries.submitter.jobs.begin_step(job.job_id, job.run_id, "alive/1")
    deliveries.context.tasks.start(job.job_id, job.run_id, "cogs", "a.tif", "alive/1")
    deliveries.dagster.set(job.run_id, "FAILURE")
    deliveries.submitter.jobs.rescue(job.job_id, 1)
    _, chunks = deliveries.begun(asked, 2)
    threading.Timer(1.0, deliveries.submitter.jobs.end_step, (step,)).start()
    assert deliveries.convert(chunks)["a.tif"][1] is None
    assert deliveries.deaths() == []


def test_what_a_child_lacked_counts_no_death(deliveries, monkeypatch):
    def lacking(*_):
        raise GeoAssetsError("SANDBOX_OUT_OF_MEMORY", "too large")

    monkeypatch.setattr(cogs, "_convert", lacking)
    _, chunks = deliveries.begun(deliveries.asked(), 1)
    assert {status for status, _ in deliveries.convert(chunks).values()} == {"failed"}
    assert deliveries.deaths() == []


def test_one_who_is_to_be_alone_waits_for_all_others_and_is_not_overtaken():
    turns, together, seen = Turns(), threading.Event(), []

    def work(name: str, *, alone: bool, wait: threading.Event | None = None) -> threading.Thread:
        def taken() -> None:
            with turns.taken(alone=alone, stopped=lambda: False):
                seen.append(name)
                if wait:
                    wait.wait(5)

        thread = threading.Thread(target=taken)
        thread.start()
        return thread

    first = work("first", alone=False, wait=together)
    time.sleep(0.1)
    alone = work("alone", alone=True)
    time.sleep(0.1)
    later = work("later", alone=False)
    time.sleep(0.1)
    assert seen == ["first"]
    together.set()
    for thread in (first, alone, later):
        thread.join(5)
    assert seen == ["first", "alone", "later"]
