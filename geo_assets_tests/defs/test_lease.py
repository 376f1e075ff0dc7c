"""A run that works, however long one step of it takes, is not taken for dead."""

import threading
import time

import dagster as dg
import psycopg
import pytest

from geo_assets.defs.cogs import report_rasters
from geo_assets.defs.resources import Stages
from geo_assets.ledger import lease as ledger
from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import CogOutputs
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages import context as contexts
from geo_assets.stages.claim import claim_job
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import StagePlan
from geo_assets.storage.blobs import FirstBytes
from geo_assets.submissions.boundary import handle
from geo_assets_tests.intake.messages import raw

LEASE, BEAT = 1, 0.2  # seconds


@pytest.fixture
def context(settings, monkeypatch):
    monkeypatch.setattr(ledger, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(contexts, "HEARTBEAT_SECONDS", BEAT)
    with StageContext(settings) as context:
        yield context


@pytest.fixture
def job(settings, context, submitter, dagster):
    """A job that is at work."""
    name = f"c{time.monotonic_ns()}"
    (settings.home / "containers" / name).mkdir(parents=True)
    (settings.home / "containers" / name / "a.tif").write_bytes(b"x")
    body = {"job_type": "ingest_container", "parameters": {"container": name}}
    assert handle(submitter, raw(body)).submitted
    job = Job.of(validate_parameters(body["job_type"], body["parameters"]))
    run_id = dagster.run(job, "STARTED")
    return claim_job(
        context, partition_key=job.partition_key, run_id=run_id, attempt=1, job_types=frozenset({job.job_type})
    )


def test_a_check_that_takes_longer_than_the_lease_does_not_make_the_janitor_declare_its_run_dead(
    context, job, monkeypatch
):
    context.inventory.replace(
        job.job_id, ([(blob, None) for blob in page] for page in context.source_container(job).list())
    )
    made = CogOutputs(cog="default/cogs/a.tif", sha256="00", thumbnail="default/thumbnails/a.png", stac_item="c/a")
    context.tasks.plan(job.job_id, job.run_id, "cogs", [PlannedTask(task_key="a.tif", kind="raster", fingerprint="f")])
    context.tasks.succeed(job.job_id, job.run_id, "cogs", "a.tif", outputs=made)
    seen = []

    def slow(path, length):
        time.sleep(2 * LEASE)
        seen.append([p.job_id for p in context.jobs.stalled_jobs() if p.job_id == job.job_id])
        return FirstBytes(b"II", 1)

    monkeypatch.setattr(context.output_container("cogs"), "first_bytes", slow)
    stages = Stages(settings=context.settings)
    stages._context = context
    plan = StagePlan(job=job, stage="cogs", tasks=1, chunks=0)
    told = list(report_rasters.compute_fn.decorated_fn(stages, plan, []))
    assert seen == [[]]
    assert [r.passed for r in told if isinstance(r, dg.AssetCheckResult)]


def test_a_heartbeat_that_finds_the_database_away_is_tried_again(context, job, monkeypatch):
    real, asked, renewed = context.jobs.heartbeat, [], threading.Event()

    def restarting(job_id, run_id, *step):
        asked.append(run_id)
        if len(asked) == 1:
            raise psycopg.OperationalError("the database system is starting up")
        renewed.set()
        return real(job_id, run_id, *step)

    monkeypatch.setattr(context.jobs, "heartbeat", restarting)
    with context.lease(job):
        assert renewed.wait(20 * BEAT)
