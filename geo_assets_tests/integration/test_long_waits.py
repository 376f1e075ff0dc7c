"""A store may let us wait for half an hour, the database ends a transaction that is idle for ten minutes: none is open
meanwhile.
"""

import time
import zipfile

import pytest

from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import CogOutputs
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages import checks, chunks
from geo_assets.stages import container_inventory as stage
from geo_assets.stages.claim import claim_job
from geo_assets.stages.context import StageContext
from geo_assets.storage.blobs import FirstBytes
from geo_assets.submissions.boundary import handle
from geo_assets_tests.intake.messages import raw

IDLE, STATEMENT, WAIT = "300ms", "1s", 0.8


@pytest.fixture
def job(settings, submitter, dagster, monkeypatch):
    """A job at work on two zips and a raster, and the context of its run, whose connections have no patience."""
    name = f"w{time.monotonic_ns()}"
    folder = settings.home / "containers" / name
    folder.mkdir(parents=True)
    for zipped in ("a.zip", "b.zip"):
        with zipfile.ZipFile(folder / zipped, "w") as z:
            z.writestr("x.tif", b"II")
    (folder / "c.tif").write_bytes(b"II")
    body = {"job_type": "ingest_container", "parameters": {"container": name}}
    assert handle(submitter, raw(body)).submitted
    job = Job.of(validate_parameters(body["job_type"], body["parameters"]))
    run_id = dagster.run(job, "STARTED")
    impatient = f" -cidle_in_transaction_session_timeout={IDLE} -cstatement_timeout={STATEMENT}"
    monkeypatch.setattr("geo_assets.settings._UTC", f"-ctimezone=UTC{impatient}")
    with StageContext(settings) as context:
        yield (
            context,
            claim_job(
                context, partition_key=job.partition_key, run_id=run_id, attempt=1, job_types=frozenset({job.job_type})
            ),
        )


def slowly(container, monkeypatch, *names):
    for name in names:
        real = getattr(container, name)

        def wait(*args, real=real, **kwargs):
            time.sleep(WAIT)
            return real(*args, **kwargs)

        monkeypatch.setattr(container, name, wait)


def test_a_store_that_is_waited_for_while_zips_are_looked_into_ends_no_transaction(job, monkeypatch):
    context, ref = job
    stage._list(context, ref)
    slowly(context.source_container(ref), monkeypatch, "read_range")
    stage._look_inside(context, ref)
    assert [m.holds for m in context.inventory.by_path(ref.job_id)] == [("raster",), ("raster",), None]


def test_a_store_that_is_waited_for_while_cogs_are_checked_ends_no_transaction(job, monkeypatch):
    context, ref = job
    names = [f"{i:03}.tif" for i in range(3)]
    context.tasks.plan(
        ref.job_id,
        ref.run_id,
        "cogs",
        [PlannedTask(task_key=n, kind="raster", fingerprint="f") for n in names],
    )
    for n in names:
        made = CogOutputs(cog=f"default/cogs/{n}", sha256="", thumbnail="")
        context.tasks.succeed(ref.job_id, ref.run_id, "cogs", n, outputs=made)
    monkeypatch.setattr("geo_assets.ledger.tasks._PAGE", 2)
    answer = FirstBytes(b"II", 1)
    monkeypatch.setattr(context.output_container("cogs"), "first_bytes", lambda *_: time.sleep(WAIT) or answer)
    verdict = checks.cogs_readable(context, ref, "cogs")
    assert (verdict.passed, verdict.metadata["COGs"]) == (True, 3)


def test_a_listing_that_takes_longer_than_a_statement_may_is_written(job):
    context, ref = job
    container = context.source_container(ref)

    def pages():
        for page in container.list():
            for blob in page:
                time.sleep(WAIT)
                yield [(blob, None)]

    context.inventory.replace(ref.job_id, pages())
    assert context.inventory.totals(ref.job_id)[0] == 3


def test_a_connection_that_was_ended_for_being_idle_is_no_fault_of_ours(job):
    context, _ = job

    def idle():
        with context.tasks._pool.connection() as conn:
            conn.execute("select 1")
            time.sleep(WAIT)
            conn.execute("select 1")

    with pytest.raises(chunks.INFRASTRUCTURE):
        idle()
