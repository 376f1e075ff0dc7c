"""Chunks of a real stage: real files and children, the ledger; no Dagster."""

import os
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psycopg
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import receipts
from geo_assets.ledger.models import PlannedTask
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages import chunks as stage
from geo_assets.stages import cogs
from geo_assets.stages.claim import claim_job
from geo_assets.stages.container_inventory import take_inventory
from geo_assets.stages.contracts import Chunk
from geo_assets.stages.crew import steps_here
from geo_assets.stages.cutting import Bounds
from geo_assets_tests.processes import children
from geo_assets_tests.raster.test_cog import write


class World:
    """A container of rasters of these sides, and a run that has planned them in chunks of at most two files."""

    def __init__(self, context, submitter, dagster, sides: dict[str, int], *, here: bool = True) -> None:
        self.context, self.here = context, here
        context.settings.__dict__.update(chunk_files=2, workers=2)
        container = f"c{time.monotonic_ns()}"
        folder = context.settings.home / "containers" / container
        folder.mkdir(parents=True)
        for number, (name, side) in enumerate(sides.items()):
            write(folder / name, np.random.default_rng(number).integers(0, 255, (3, side, side)).astype("uint8"))
        asked = Job.of(validate_parameters("stage_raster", {"container": container}))
        submitter.submit(asked.parameters, submitted_by="test")
        self.run_id = dagster.run(asked, "STARTED")
        self.job = claim_job(
            context,
            partition_key=asked.partition_key,
            run_id=self.run_id,
            attempt=1,
            job_types=frozenset({asked.job_type}),
            options={},
        )
        with self.executed():
            self.plan, self.chunks = cogs.plan(context, take_inventory(context, self.job))

    def executed(self):
        return steps_here(self.run_id) if self.here else nullcontext()

    def convert(self, chunk: Chunk) -> tuple[dict[str, int], list[str]]:
        """Execute a step; returns the report's counts, and the files of its log."""
        log = []
        with self.executed():
            report = cogs.convert_chunk(self.context, chunk, log.append)
        return report.model_dump(), [line.partition(":")[0] for line in log]

    def begun(self) -> list[str]:
        """The files in the order in which they were begun."""
        with psycopg.connect(self.context.settings.dsn("pipeline")) as conn:
            rows = conn.execute(
                "select task_key from geo.tasks where job_id = %s and stage = 'cogs' and started_at is not null order"
                " by started_at",
                (self.job.job_id,),
            )
            return [key for (key,) in rows]


@pytest.fixture
def world(context, submitter, dagster):
    return lambda sides, **more: World(context, submitter, dagster, sides, **more)


SIDES = {"a.tif": 40, "b.tif": 50, "c.tif": 60, "z.tif": 2500}


def test_the_longest_file_is_begun_first_whatever_its_name_and_a_chunk_says_what_it_costs(world):
    made = world(SIDES)
    first = made.chunks[0]
    assert first.first == "z.tif"
    assert sum(chunk.size for chunk in made.chunks) == 4
    assert first.cost_seconds > 0
    assert first.largest_bytes > 2500 * 2500 * 3
    for chunk in made.chunks:
        made.convert(chunk)
    assert "z.tif" in made.begun()[:2]  # two are begun at once


@pytest.mark.parametrize("here", [True, False])
def test_the_steps_of_one_process_find_done_what_was_done_ahead_those_of_several_leave_it_to_each_other(world, here):
    made = world(SIDES, here=here)
    first, *others = made.chunks
    assert (first.first, first.size) == ("z.tif", 1)  # alone: it is longer than all the rest
    report, log = made.convert(first)
    assert (report["done"], log) == (1, ["z.tif", "1 file"])
    if not here:
        assert made.begun() == ["z.tif"]  # and nobody works on
    told = [made.convert(chunk) for chunk in others]
    assert sorted(name for _, log in told for name in log if name.endswith("tif")) == ["a.tif", "b.tif", "c.tif"]
    assert sum(report["done"] for report, _ in told) == 3
    with made.executed():
        assert stage.close_stage(made.context, made.plan, [None] * len(made.chunks)).awaiting == 4
    assert not any(s.crew and s.crew.is_at_work for s in made.context.ahead.values())


@pytest.mark.parametrize(("seconds", "niceness"), [(60, 0), (61, 10)])
def test_the_children_of_a_large_stage_give_way_wherever_its_steps_are_and_their_process_does_not(
    world, seconds, niceness
):
    made = world(SIDES, here=False)
    made.convert(made.chunks[0].model_copy(update={"stage_seconds": seconds}))
    sandboxed = [pid for pid in children(os.getpid()) if b"sandbox.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert {os.getpriority(os.PRIO_PROCESS, child) for child in sandboxed} == {niceness}
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0


def test_a_step_tells_the_ledger_how_busy_its_children_were_and_what_its_files_took(world):
    made = world(SIDES)
    for chunk in made.chunks:
        made.convert(chunk)
    job = made.context.jobs.find(made.job.job_id)
    (account,) = (s for s in job.stages if s.stage == "cogs")
    assert account.workers == 2
    assert 0 < account.busy_seconds <= account.files_seconds <= 2 * account.wall_seconds
    late = 0.1  # a file's time is taken around that of the work, by threads that may have to wait for a processor
    assert account.files_seconds / 4 < account.longest_seconds <= account.wall_seconds + late
    assert account.efficiency == pytest.approx(account.busy_seconds / (2 * account.wall_seconds), abs=0.01)
    assert 0 < job.efficiency <= 1
    costs = made.context.ledger.work.costs("cogs")
    assert {cost.form for cost in costs} == {"raster .tif"}
    assert max(costs, key=lambda cost: cost.size).log_seconds > min(costs, key=lambda cost: cost.size).log_seconds


def test_a_fault_of_the_database_while_working_ahead_leaves_the_rest_to_the_step_that_is_retried(world, monkeypatch):
    made = world({f"{letter}.tif": 40 for letter in "abcdef"})
    fail, start = [True], made.context.tasks.start

    def failing(job_id, run_id, name, key, *more):
        if key in {"d.tif", "e.tif"} and fail:
            raise psycopg.OperationalError("gone")
        start(job_id, run_id, name, key, *more)

    monkeypatch.setattr(made.context.tasks, "start", failing)
    done = 0
    for chunk in made.chunks:
        for _ in range(3):  # as Dagster retries a step
            try:
                report, _ = made.convert(chunk)
            except psycopg.OperationalError:
                fail.clear()
            else:
                done += report["done"]
                break
    assert done == 6
    assert len(made.begun()) == 6


def test_a_run_that_ends_while_threads_work_ahead_ends_them(world, context):
    made = world({"a.tif": 1200, "b.tif": 1200, "c.tif": 40, "d.tif": 40})

    def full(line):
        raise GeoAssetsError("INTERNAL", "the log is full")

    with made.executed(), pytest.raises(GeoAssetsError):
        cogs.convert_chunk(context, made.chunks[0], full)
    crews = [s.crew for s in context.ahead.values()]
    assert not any(crew and crew.is_at_work for crew in crews)


def test_the_chunk_of_an_older_release_is_read_and_worked_through_in_the_order_of_its_keys(world):
    made = world({"a.tif": 40, "b.tif": 50, "c.tif": 60}, here=False)
    with psycopg.connect(made.context.settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("update geo.tasks set cost_ms = 0 where job_id = %s", (made.job.job_id,))
    older = {
        "job": made.job.model_dump(mode="json"),
        "stage": "cogs",
        "index": 0,
        "first": "a.tif",
        "last": "b.tif",
        "size": 2,
    }
    chunk = Chunk.model_validate(older)
    assert [work.task_key for work in stage.tasks_of(made.context, chunk)] == ["a.tif", "b.tif"]
    assert made.convert(chunk)[0]["done"] == 2


def test_the_receipt_of_a_job_does_not_change_with_what_its_tasks_are_expected_to_cost(world):
    made = world({"a.tif": 40}, here=False)

    def told():
        with psycopg.connect(made.context.settings.dsn("pipeline")) as conn:
            return list(receipts.records(conn, "tasks", made.job.job_id))

    before = told()
    with psycopg.connect(made.context.settings.dsn("pipeline")) as conn:
        changed = conn.execute("update geo.tasks set cost_ms = cost_ms + 1 where job_id = %s", (made.job.job_id,))
        assert changed.rowcount == 1
    assert told() == before


def test_a_chunk_of_more_tasks_than_a_page_is_read_whole_and_in_its_order(world):
    made = world({"a.tif": 40}, here=False)
    job = made.job
    planned = (
        PlannedTask(task_key=f"{n:04}", kind="raster", fingerprint="f", cost_ms=1 + n % 7, bytes=n) for n in range(1500)
    )
    made.context.tasks.plan(job.job_id, job.run_id, "cogs", planned)
    bounds = Bounds(files=700, chunks=8, children=1, least_seconds=0.001)
    _, cut = stage.cut_stage(made.context, job, "cogs", 1500, bounds)
    works = [[work.task_key for work in stage.tasks_of(made.context, chunk)] for chunk in cut]
    assert [len(keys) for keys in works] == [chunk.size for chunk in cut]
    expected = sorted((f"{n:04}" for n in range(1500)), key=lambda key: (-(1 + int(key) % 7), key))
    assert [key for keys in works for key in keys] == expected
    assert sum(chunk.bytes for chunk in cut) == sum(range(1500))
