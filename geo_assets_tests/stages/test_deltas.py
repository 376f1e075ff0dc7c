"""What a delivery changed is told file by file, as it was recorded: the same after kills, retries and later jobs."""

import json
import random

import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from geo_assets.api.app import create_app
from geo_assets.cli import app as command_line
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stac.pgstac import load_items
from geo_assets.stages import catalogue, cogs, retire, vector_tables
from geo_assets.stages.claim import claim_job
from geo_assets.stages.container_inventory import take_inventory
from geo_assets.stages.janitor import run_janitor
from geo_assets.stages.unpublish import unpublish_item
from geo_assets.submissions.boundary import handle
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stages.test_catalogue import World

#: Where a run may be killed.
STEPS = ("converted", "half registered", "registered", "half retired", "retired")


class Killed(BaseException):
    """As SIGKILL: nothing is tidied up after it."""


class Deliveries(World):
    """A container into which files are delivered again and again, and the jobs that ingest it."""

    def deliver(self, *, force=False, killed="", mass=True, **parameters):
        """A submission and its run; returns the job's id."""
        body = {"job_type": "ingest_container", "parameters": {"container": self.name, **parameters}}
        done = handle(self.submitter, raw({**body, "force": force, "allow_mass_retire": mass}))
        asked = Job.of(validate_parameters(body["job_type"], body["parameters"]))
        return self.attempt(asked, done.submitted.attempt, killed=killed)

    def go_on(self, job_id):
        """The janitor finds that the run died, and starts the next attempt."""
        run_janitor(self.submitter.jobs, self.submitter.messages, lambda *_: None)
        record = self.submitter.jobs.find(job_id)
        return self.attempt(Job.of(validate_parameters(record.job_type, record.parameters)), record.attempt)

    def retry(self, job_id, **asked):
        """As `geo-assets retry`."""
        record = self.submitter.jobs.find(job_id)
        attempt = self.submitter.jobs.retry(record.job_id, requested_by="test", **asked).attempt
        return self.attempt(Job.of(validate_parameters(record.job_type, record.parameters)), attempt)

    def attempt(self, asked, attempt, *, killed=""):
        run_id = self.dagster.run(asked, "STARTED")
        job = claim_job(
            self.context,
            partition_key=asked.partition_key,
            run_id=run_id,
            attempt=attempt,
            job_types=frozenset({asked.job_type}),
        )
        try:
            with pytest.MonkeyPatch.context() as patch:
                self._work(job, killed, patch)
        except Killed:
            self.dagster.set(run_id, "FAILURE")
        else:
            self.context.complete(job)
            self.dagster.set(run_id, "SUCCESS")
        return job.job_id

    def _work(self, job, killed, patch):
        def die_at(step):
            if killed == step:
                raise Killed

        def twice(step, done):
            calls = []

            def call(*args, **kwargs):
                calls.append(1)
                if len(calls) == 2:
                    die_at(step)
                return done(*args, **kwargs)

            return call

        patch.setattr(catalogue, "BATCH", 2)
        patch.setattr(catalogue, "load_items", twice("half registered", load_items))
        patch.setattr(retire, "_take_back", twice("half retired", retire._take_back))
        inventory = take_inventory(self.context, job)
        retire.refuse_mass_retire(self.context, job)
        for chunk in cogs.plan(self.context, inventory)[1]:
            cogs.convert_chunk(self.context, chunk)
        for chunk in vector_tables.plan(self.context, inventory)[1]:
            vector_tables.load_chunk(self.context, chunk)
        die_at("converted")
        catalogue.register(self.context, job)
        die_at("registered")
        retire.retire(self.context, job)
        die_at("retired")

    def put(self, name, value=1):
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).unlink(missing_ok=True)
        return write(self.folder / name, np.full((1, 30, 30), value, "uint8"))

    def told(self, job_id):
        """File -> its delta; and the counts say the same."""
        files = self.submitter.ledger.deltas.files(job_id)
        told = {f.file: f"{f.delta}" if f.withdrawn is None else "withdrawn" if f.withdrawn else "kept" for f in files}
        counts = self.submitter.jobs.find(job_id).delta.model_dump()
        kinds = [{"withdrawn": "gone", "kept": "gone"}.get(what, what) for what in told.values()]
        assert counts == {what: kinds.count(what) for what in counts}
        assert len(told) == len(files)
        return told


@pytest.fixture
def world(context, submitter, dagster):
    return Deliveries(context, submitter, dagster)


def test_a_delivery_again_tells_what_is_new_changed_gone_and_unchanged(world):
    for name in ("a.tif", "b.tif", "c.tif"):
        world.put(name)
    (world.folder / "bad.tif").write_bytes(b"II*\x00 no raster")
    job = world.deliver()
    assert world.told(job) == {"a.tif": "new", "b.tif": "new", "c.tif": "new"}
    world.put("b.tif", 2)
    world.put("d.tif")
    (world.folder / "c.tif").unlink()
    assert world.deliver() == job
    assert world.told(job) == {"a.tif": "unchanged", "b.tif": "changed", "c.tif": "kept", "d.tif": "new"}
    world.deliver()
    assert world.told(job) == {"a.tif": "unchanged", "b.tif": "unchanged", "c.tif": "kept", "d.tif": "unchanged"}


def test_what_was_withdrawn_is_told_once_and_as_withdrawn(world):
    for name in ("a.tif", "b.tif"):
        world.put(name)
    job = world.deliver(deleted="retire")
    (world.folder / "a.tif").unlink()
    world.deliver(deleted="retire")
    assert world.told(job) == {"a.tif": "withdrawn", "b.tif": "unchanged"}
    world.deliver(deleted="retire")
    assert world.told(job) == {"b.tif": "unchanged"}
    world.put("a.tif")
    world.deliver(deleted="retire")
    assert world.told(job) == {"a.tif": "new", "b.tif": "unchanged"}


def test_the_same_bytes_delivered_again_or_made_again_by_force_are_unchanged(world):
    world.put("a.tif")
    job = world.deliver()
    items, rows = world.items(), world.rows("select id, xmin::text from pgstac.items where collection = %s", world.name)
    world.put("a.tif")
    world.deliver()
    assert world.told(job) == {"a.tif": "unchanged"}
    world.deliver(force=True)
    assert world.told(job) == {"a.tif": "unchanged"}
    assert world.items() == items
    assert world.rows("select id, xmin::text from pgstac.items where collection = %s", world.name) == rows


def test_other_parameters_that_shape_the_output_change_every_file_and_a_job_tells_the_same_after_later_jobs(world):
    for name in ("a.tif", "b.tif"):
        world.put(name)
    first = world.deliver()
    second = world.deliver(profile="archive")
    third = world.deliver(include=["a*"])
    told = {job: world.told(job) for job in (first, second, third)}
    assert told == {
        first: {"a.tif": "new", "b.tif": "new"},
        second: {"a.tif": "changed", "b.tif": "changed"},
        third: {"a.tif": "changed"},
    }


def test_only_files_within_a_jobs_prefix_and_globs_can_be_gone(world):
    for name in ("x/a.tif", "x/b.tif", "y/a.tif", "y/b.tif"):
        world.put(name)
    world.deliver()
    for name in ("x/b.tif", "y/b.tif"):
        (world.folder / name).unlink()
    within = world.deliver(prefix="x/")
    assert world.told(within) == {"x/a.tif": "unchanged", "x/b.tif": "kept"}
    globbed = world.deliver(include=["*/a.tif"])
    assert world.told(globbed) == {"x/a.tif": "unchanged", "y/a.tif": "unchanged"}
    assert world.told(within) == {"x/a.tif": "unchanged", "x/b.tif": "kept"}


@pytest.mark.parametrize("step", STEPS)
def test_a_delivery_whose_run_is_killed_tells_the_same_as_one_that_is_not(world, step):
    for name in ("a.tif", "b.tif", "c.tif", "d.tif", "e.tif"):
        world.put(name)
    asked = {"deleted": "retire", "max_retire_percent": 100}
    job = world.deliver(**asked)
    for name in ("a.tif", "b.tif", "f.tif"):
        world.put(name, 2)
    for name in ("d.tif", "e.tif"):
        (world.folder / name).unlink()
    world.deliver(killed=step, **asked)
    assert world.go_on(job) == job
    changed = {"a.tif": "changed", "b.tif": "changed", "c.tif": "unchanged", "f.tif": "new"}
    assert world.told(job) == {**changed, "d.tif": "withdrawn", "e.tif": "withdrawn"}
    world.deliver(**asked)
    assert set(world.told(job).values()) == {"unchanged"}


def test_a_retry_goes_on_with_its_delivery_and_a_new_submission_begins_another(world):
    world.put("a.tif")
    (world.folder / "b.tif").write_bytes(b"II*\x00 no raster")
    job = world.deliver()
    assert world.told(job) == {"a.tif": "new"}
    world.put("b.tif")
    world.retry(job, statuses=["quarantined"])
    assert world.told(job) == {"a.tif": "new", "b.tif": "new"}
    world.deliver()
    assert world.told(job) == {"a.tif": "unchanged", "b.tif": "unchanged"}


def test_a_file_that_turned_bad_is_in_the_account_and_not_among_the_changes(world):
    world.put("a.tif")
    job = world.deliver()
    (world.folder / "a.tif").write_bytes(b"II*\x00 no raster")
    world.deliver()
    assert world.told(job) == {}
    assert world.submitter.tasks.records(job)[0].status == "quarantined"


def test_what_was_unpublished_is_new_when_it_is_published_again(world):
    for name in ("a.tif", "b.tif"):
        world.put(name)
    job = world.deliver()
    item = world.items()["a.tif"]
    unpublish_item(world.context.settings, f"{world.name}/{item['id']}", by="cli")
    world.deliver()
    assert world.told(job) == {"a.tif": "new", "b.tif": "unchanged"}


def test_a_delta_is_told_over_http_in_pages_and_on_the_command_line(world, settings, monkeypatch):
    for name in ("a.tif", "b.tif", "c d.tif"):
        world.put(name)
    world.deliver()
    (world.folder / "b.tif").unlink()
    world.put("a.tif", 2)
    job = world.deliver()
    counts = {"new": 0, "changed": 1, "gone": 1, "unchanged": 1}
    with TestClient(create_app(settings), raise_server_exceptions=False) as api:
        for route in ("/api/jobs", "/api/jobs/status"):
            assert api.get(f"{route}/{job[:12]}").json()["delta"] == counts
        page = api.get(f"/api/jobs/{job}/delta", params={"limit": 2}).json()
        rest = api.get(page["next"]).json()
        assert page["delta"] == rest["delta"] == counts
        assert [(f["file"], f["delta"], f["withdrawn"]) for f in (*page["files"], *rest["files"])] == [
            ("a.tif", "changed", None),
            ("b.tif", "gone", False),
            ("c d.tif", "unchanged", None),
        ]
        only = api.get(f"/api/jobs/{job}/delta", params={"only": ["gone", "new"]}).json()
        assert [f["file"] for f in only["files"]] == ["b.tif"]
        assert only["next"] is None
        assert api.get(f"/api/jobs/{job}/delta", params={"only": "lost"}).status_code == 422
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)

    def command(*words):
        return CliRunner().invoke(command_line, words)

    assert json.loads(command("job", job, "--json").stdout)["delta"] == counts
    assert "0 new, 1 changed, 1 gone, 1 unchanged" in command("job", job).stdout
    assert json.loads(command("delta", job, "--only", "gone", "--json").stdout) == [
        {"stage": "cogs", "file": "b.tif", "delta": "gone", "withdrawn": False}
    ]
    lines = command("delta", job).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["changed", "cogs", "a.tif"],
        ["gone", "(kept)", "cogs", "b.tif"],
        ["unchanged", "cogs", "c", "d.tif"],
    ]
    assert command("delta", job, "--only", "lost").exception.code == "INVALID_PARAMETERS"


class Model:
    """What deliveries should tell, from the files alone."""

    def __init__(self):
        self.files: dict[str, int] = {}  # path -> its content; 0 is no raster
        self.published: dict[str, tuple] = {}  # path -> content and profile

    def scope(self, prefix):
        return {path for path in {*self.files, *self.published} if path.startswith(prefix)}

    def publish(self, paths, profile):
        for path in paths:
            if self.files.get(path):
                self.published[path] = (self.files[path], profile)

    def withdraw(self, paths):
        for path in paths:
            if path not in self.files:
                self.published.pop(path, None)

    def delta(self, before, prefix, *, retires):
        told = {}
        for path in {*self.scope(prefix), *(p for p in before if p.startswith(prefix))}:
            was, now = before.get(path), self.published.get(path)
            if path not in self.files and was:
                told[path] = "withdrawn" if retires else "kept"
            elif now and was is None:
                told[path] = "new"
            elif now and (now != was or self.files.get(path)):
                told[path] = "unchanged" if now == was else "changed"
        return told


def mutate(world, model, chance):
    """Something happens to some files: they come, change, are delivered again, become bad, go."""
    for _ in range(chance.randrange(4)):
        path = f"{chance.choice('xy')}/{chance.choice('abc')}.tif"
        deed = chance.choice(("put", "put", "put", "again", "spoil", "remove"))
        there = (world.folder / path).exists()
        if deed == "put" or (deed == "again" and model.files.get(path)):
            model.files[path] = chance.randrange(1, 4) if deed == "put" else model.files[path]
            world.put(path, model.files[path])
        elif deed == "spoil" and there:
            model.files[path] = 0
            (world.folder / path).write_bytes(b"II*\x00 no raster")
        elif deed == "remove" and there:
            del model.files[path]
            (world.folder / path).unlink()


def deliver_at_random(world, model, chance):
    """A delivery of some job, killed or not, with its model; returns the job and what it should tell."""
    prefix, profile = chance.choice(("", "", "x/")), chance.choice(("web", "web", "archive"))
    retires = chance.random() < 0.5
    asked = {"prefix": prefix, "profile": profile, "allow_empty": True, "max_retire_percent": 100}
    asked |= {"deleted": "retire"} if retires else {}
    before, killed = dict(model.published), chance.choice(("", "", *STEPS))
    job = world.deliver(**asked, killed=killed, force=chance.random() < 0.2)
    if died(world, job):
        reached(world, model, job, prefix, profile)
        mutate(world, model, chance)
        world.go_on(job)
    paths = model.scope(prefix)
    model.publish(paths, profile)
    if retires:
        model.withdraw(paths)
    return job, model.delta(before, prefix, retires=retires)


def died(world, job):
    """Whether the newest attempt of a job died."""
    ((outcome,),) = world.rows("select outcome from geo.attempts where job_id = %s order by attempt desc limit 1", job)
    return outcome is None


def reached(world, model, job, prefix, profile):
    """How far the run of a job came that was killed: what it registered, and what it withdrew."""
    registered = {
        path
        for (path,) in world.rows(
            """select task_key from geo.published p join geo.tasks t using (job_id, stage, task_key, fingerprint)
                where p.job_id = %s""",
            job,
        )
    }
    titles = set(world.items())
    for path in model.scope(prefix):
        if path not in titles:
            model.published.pop(path, None)
        elif path in registered and model.files.get(path):
            model.published[path] = (model.files[path], profile)


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))])
def test_whatever_was_delivered_killed_and_retired_the_deltas_are_those_of_a_model(world, seed):
    chance, model, told = random.Random(seed), Model(), {}
    for _ in range(8):
        mutate(world, model, chance)
        job, told_now = deliver_at_random(world, model, chance)
        told[job] = told_now
        assert world.told(job) == told_now
    assert {job: world.told(job) for job in told} == told, "as each told it then"
