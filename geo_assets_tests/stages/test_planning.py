"""Plans of any length: the document, its hash, and the memory that it takes."""

import hashlib
import json
import tracemalloc

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from geo_assets.api.app import create_app
from geo_assets.cli import app
from geo_assets.file_stages import COGS
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages import planning
from geo_assets.stages.files import fingerprints
from geo_assets.stages.planning import Plan, make_plan
from geo_assets.storage import containers
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source


@pytest.fixture
def deliver(settings):
    """Makes a container of small files; returns the parameters of its ingestion."""

    def make(name: str, *paths: str):
        for path in paths:
            file = settings.home / "containers" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(path.encode())
        return validate_parameters("ingest_container", {"container": name})

    return make


@pytest.fixture
def by_command_line(settings, monkeypatch):
    for name in ("home", "pg_port", "pg_database", "webserver_port"):
        monkeypatch.setenv(f"GEO_ASSETS_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("GEO_ASSETS_PIPELINE_PASSWORD", settings.pipeline_password.get_secret_value())

    def plan(container: str, *options: str) -> str:
        done = CliRunner().invoke(app, ["plan", "ingest_container", "--param", f"container={container}", *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    return plan


@pytest.fixture(scope="module")
def api(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


MIXED = ("b/tile.tif", "b/tile.tfw", "a.gpkg", "README.md", "ü\n.tif", "data.unknown", "roads.shp", "roads.dbf")


def test_the_hash_of_a_plan_is_that_of_all_its_sources(settings, submitter, deliver):
    asked = deliver("hashed", *MIXED)
    with make_plan(settings, submitter.tasks, asked) as made:
        sources = [source.model_dump() for source in made.sources]
        body = json.dumps([made.summary.job_id, sources], sort_keys=True)  # as it was before plans were streamed
        assert made.summary.plan_hash == hashlib.sha256(body.encode()).hexdigest()
        assert [source["path"] for source in sources] == [
            "a.gpkg", "data.unknown", "README.md", "roads.shp", "ü\n.tif", "b/tile.tif",
        ]  # fmt: skip
        assert made.summary.counts == {"companion": 1, "create": 4, "unsupported": 1}
        assert made.summary.expected_tasks == 5


def test_command_line_and_http_give_the_same_document(settings, submitter, deliver, by_command_line, api):
    asked = deliver("told", *MIXED)
    with make_plan(settings, submitter.tasks, asked) as made:
        plan = Plan(**made.summary.model_dump(), sources=tuple(made.sources))
    answer = api.post("/api/jobs/plan/ingest_container", json={"container": "told"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert "content-length" not in answer.headers  # it is streamed
    assert answer.json() == json.loads(by_command_line("told", "--json")) == plan.model_dump(mode="json")
    lines = by_command_line("told").splitlines()
    assert len(lines) == len(plan.sources) + 2  # a line for each, whatever its name
    assert lines[-1] == f"plan hash {plan.plan_hash}"


@pytest.mark.parametrize("job_type", ["hello_world", "list_container"])
def test_a_plan_without_sources_or_without_stages_is_a_document_too(deliver, api, job_type):
    deliver("listed", "a.tif")
    body = {} if job_type == "hello_world" else {"container": "listed"}
    plan = Plan.model_validate(api.post(f"/api/jobs/plan/{job_type}", json=body).json())
    assert [(s.path, s.stage, s.action) for s in plan.sources] == ([("a.tif", "", "create")] if body else [])


def test_a_plan_that_cannot_be_made_is_a_problem_and_not_the_beginning_of_a_document(api):
    answer = api.post("/api/jobs/plan/ingest_container", json={"container": "no-such-place"})
    assert (answer.status_code, answer.json()["title"]) == (422, "CONTAINER_NOT_FOUND")


def test_every_source_is_compared_with_what_was_done_of_it(settings, submitter, dagster, deliver, monkeypatch):
    monkeypatch.setattr(planning, "_BATCH", 2)
    monkeypatch.setattr(containers, "LIST_PAGE", 3)
    asked = deliver("known", *(f"{n}.tif" for n in range(7)))
    job = Job.of(asked)
    submitter.submit(asked, submitted_by="test")
    print_of = fingerprints(job, COGS)
    listed = containers.Container("default", "known", settings.storage_accounts["default"]).list()
    for blob in (blob for page in listed for blob in page):
        source = Source(
            path=blob.path,
            kind=Kind.RASTER,
            members=(Member(path=blob.path, size=blob.size, etag=blob.etag),),
        )
        now = "other bytes" if blob.path == "5.tif" else print_of(source)
        dagster.conn.execute(
            """insert into geo.tasks (job_id, stage, task_key, kind, status, fingerprint, run_id, outputs)
               values (%s, %s, %s, 'raster', 'succeeded', %s, 'r', '{"cog": "x"}')""",
            (job.job_id, COGS, blob.path, now),
        )
    (settings.home / "containers" / "known" / "9.tif").write_bytes(b"new")
    with make_plan(settings, submitter.tasks, asked) as made:
        actions = {source.path: source.action for source in made.sources}
    assert actions == {f"{n}.tif": "skip" for n in range(7)} | {"5.tif": "change", "9.tif": "create"}


def test_the_memory_of_a_plan_does_not_grow_with_its_files(settings, submitter, deliver, monkeypatch):
    monkeypatch.setattr(planning, "_BATCH", 100)
    monkeypatch.setattr(containers, "LIST_PAGE", 100)

    def peak(name: str, files: int) -> int:
        asked = deliver(name, *(f"tiles/{n:05}.tif" for n in range(files)))
        tracemalloc.start()
        try:
            with make_plan(settings, submitter.tasks, asked) as made:
                assert sum(len(piece) for piece in made.document()) > 100 * files
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak("warm", 10)
    assert peak("many", 2400) < 1.5 * peak("few", 600)
