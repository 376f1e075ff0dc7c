"""Definitions belong to the stack that they were built for, whatever stack the process belongs to."""

import dagster as dg
import psycopg
import pytest

from geo_assets.definitions import build_defs
from geo_assets.ledger.ledger import Ledger
from geo_assets.parameters import Job, validate_parameters
from geo_assets.settings import Settings
from geo_assets.submissions.boundary import handle
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.intake.messages import hello, raw


@pytest.fixture(scope="module")
def two(settings, databases, open_folder):
    """The settings of two stacks, each with a home and a database of its own."""
    return settings, databases.make(open_folder())


def run(of: Settings, job_type: str, parameters: dict) -> str:
    """A job of a stack, submitted there and run by the definitions that were built for it; its id."""
    asked = validate_parameters(job_type, parameters)
    with Submitter(of, launches=False) as submitter:
        submitter.submit(asked, submitted_by="test")
    job = Job.of(asked)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(job_type, [job.partition_key])
        made = build_defs(of).resolve_job_def(job_type)
        assert made.execute_in_process(instance=instance, partition_key=job.partition_key).success
    return job.job_id


def test_two_stacks_in_one_process_each_run_their_own_jobs(two):
    for number, of in enumerate(two, start=1):
        folder = of.home / "containers" / "delivery"
        folder.mkdir(parents=True)
        for i in range(number):
            (folder / f"{i}.tif").write_bytes(b"II*\x00")
    ran = [
        [run(of, "hello_world", {"n": 2, "message": "of a home"}) for of in two],
        [run(of, "list_container", {"container": "delivery"}) for of in two],
    ]
    for number, of in enumerate(two, start=1):
        with Ledger(of) as ledger:
            (greetings, again), (listing, _) = ran
            assert greetings == again, "the same request is the same job, once in each stack"
            assert ledger.jobs.find(greetings).status == "completed"
            (task,) = ledger.tasks.records(listing)
            assert task.outputs.files == number  # type: ignore[attr-defined]  # the outputs of that stage have it
        with psycopg.connect(of.dsn("pipeline")) as conn:
            passed_on = conn.execute("select count(distinct run_id) from geo.contracts").fetchone()
        assert passed_on == (1,), "of hello_world; a listing is an asset in one step"


def test_the_sensor_of_a_stack_takes_the_submissions_of_that_stack_alone(two):
    mine, other = two
    body = hello()
    with Submitter(other, launches=False) as submitter:
        handle(submitter, raw(body))
    with psycopg.connect(other.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("update geo.attempts set requested_at = now() - interval '1 minute' where launched_at is null")
    key = Job.of(validate_parameters(body["job_type"], body["parameters"])).partition_key
    assert key not in launched_by_the_sensor(mine)
    assert key in launched_by_the_sensor(other)


def launched_by_the_sensor(of: Settings) -> set[str]:
    """The partitions for which a tick of the sensor that was built for a stack asks for a run."""
    with dg.DagsterInstance.ephemeral() as instance:
        told = build_defs(of).resolve_sensor_def("submissions")(dg.build_sensor_context(instance=instance))
    return set() if isinstance(told, dg.SkipReason) else {request.partition_key for request in told.run_requests}
