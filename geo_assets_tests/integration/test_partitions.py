"""Each job type has partitions of its own: Dagster offers what fits, and what does not fit changes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geo_assets.parameters import JOB_TYPES
from geo_assets_tests.faults.test_killed_run import connect, run_workers, started
from geo_assets_tests.faults.test_terminate import barrier, graphql, run_status, somebody_waits
from geo_assets_tests.processes import command
from geo_assets_tests.waiting import until

_SELECTOR = {"repositoryLocationName": "geo_assets", "repositoryName": "__repository__"}

_KEYS = """query ($selector: RepositorySelector!, $job: String!) {
  partitionSetsOrError(repositorySelector: $selector, pipelineName: $job) { ... on PartitionSets { results { partitionsOrError {
    ... on Partitions { results { name } } } } } } }"""

_LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


def offered(cli, job: str) -> set[str]:
    (found,) = graphql(cli, _KEYS, selector=_SELECTOR, job=job)["partitionSetsOrError"]["results"]
    return {partition["name"] for partition in found["partitionsOrError"]["results"]}


def test_the_ui_offers_a_job_the_partitions_of_its_own_jobs_alone(cli):
    job = cli.json("submit", "hello_world", "--param", "message=offered", "--wait")
    assert job["partition_key"] in offered(cli, "hello_world")
    for other in ("ingest_container", "stage_raster", "stage_vector", "list_container", "stac_setup"):
        assert job["partition_key"] not in offered(cli, other)


@pytest.mark.parametrize("job_type", JOB_TYPES)
def test_a_submission_of_any_type_is_launched_at_once_and_not_left_to_the_sensor(cli, job_type):
    """Dagster's webserver adds a partition only to a set that an asset has."""
    (cli.home / "containers" / "launched-at-once").mkdir(parents=True, exist_ok=True)
    of_a_container = (
        ("--param", "container=launched-at-once", "--allow-empty")
        if "container" in JOB_TYPES[job_type].model_fields
        else ()
    )
    submitted = cli.run("submit", job_type, *of_a_container, "--json")
    assert (submitted.returncode, submitted.stderr) == (0, "")
    assert json.loads(submitted.stdout)["run_id"]


@pytest.mark.parametrize(
    ("job_type", "parameters", "op", "options"),
    [
        ("hello_world", {"message": "by hand"}, "hello_world__replies.plan_greetings", {"force": True}),
        (
            "list_container",
            {"container": "launched-by-hand"},
            "list_container__container_inventory.list_blobs_for_list_container",
            {"force": True, "allow_mass_retire": True, "verify_sources": True},
        ),
    ],
)
def test_what_may_be_asked_of_one_attempt_is_asked_in_the_launchpad(cli, job_type, parameters, op, options):
    (cli.home / "containers" / "launched-by-hand").mkdir(parents=True, exist_ok=True)
    given = [part for name, value in parameters.items() for part in ("--param", f"{name}={value}")]
    job = cli.json("submit", job_type, *given, "--wait")
    config = {"config": options}
    for name in reversed(op.split(".")):
        config = {"ops": {name: config}}
    params = {
        "selector": {**_SELECTOR, "pipelineName": job_type},
        "runConfigData": config,
        "mode": "default",
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": job["partition_key"]}]},
    }
    launched = graphql(cli, _LAUNCH, params=params)["launchRun"]
    until(lambda: run_status(cli, launched["run"]["runId"]) == "SUCCESS")
    with connect(cli) as db:
        query = "select attempt, force, allow_mass_retire, verify_sources from geo.attempts where run_id = %s"
        asked = db.execute(query, (launched["run"]["runId"],)).fetchone()
        done = db.execute(
            "select bool_and(run_id = %s) from geo.tasks where job_id = %s", (launched["run"]["runId"], job["job_id"])
        ).fetchone()
    assert asked == (2, *(options.get(name, False) for name in ("force", "allow_mass_retire", "verify_sources")))
    assert done in {(True,), (None,)}, "what was done is done again"


@pytest.mark.faults
def test_a_launch_of_another_job_type_is_refused_and_leaves_a_finished_job_as_it_was(cli):
    job = cli.json("submit", "hello_world", "--param", "message=a stranger's", "--wait")
    backfill = [
        "-m",
        "dagster",
        "job",
        "backfill",
        "-j",
        "ingest_container",
        "--partitions",
        job["partition_key"],
        "--noprompt",
    ]
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    refused = subprocess.run(
        [sys.executable, *backfill, "-w", str(workspace)],
        env={**os.environ, **cli.exports},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode != 0
    assert job["partition_key"] in refused.stderr + refused.stdout
    params = {
        "selector": {**_SELECTOR, "pipelineName": "ingest_container"},
        "runConfigData": {},
        "mode": "default",
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": job["partition_key"]}]},
    }
    launched = graphql(cli, _LAUNCH, params=params)["launchRun"]
    if launched["__typename"] == "LaunchRunSuccess":  # Dagster does not look whether a tag names a partition of the job
        until(lambda: run_status(cli, launched["run"]["runId"]) == "FAILURE")
    after = cli.json("job", job["job_id"])
    assert {key: after[key] for key in ("status", "attempt", "run_id", "error_code")} == {
        key: job[key] for key in ("status", "attempt", "run_id", "error_code")
    }
    with connect(cli) as db:
        assert db.execute("select count(*) from geo.attempts where job_id = %s", (job["job_id"],)).fetchone() == (1,)
        assert db.execute("select lease_run_id from geo.jobs where job_id = %s", (job["job_id"],)).fetchone() == (None,)


@pytest.mark.faults
def test_a_run_by_hand_of_an_ended_job_that_is_killed_before_its_claim_is_ended_and_the_job_can_be_asked_for_again(cli):
    job = cli.json("submit", "hello_world", "--param", "message=killed early", "--wait")
    params = {
        "selector": {**_SELECTOR, "pipelineName": "hello_world"},
        "runConfigData": {},
        "mode": "default",
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": job["partition_key"]}]},
    }
    with barrier(cli, f"select from geo.jobs where job_id = '{job['job_id']}' for update"):  # nobody can claim it
        run_id = graphql(cli, _LAUNCH, params=params)["launchRun"]["run"]["runId"]
        until(lambda: somebody_waits(cli), 60)
        (worker,) = (pid for pid in run_workers(cli) if run_id in command(pid))
        for pid in (started(cli)["code_server"]["pid"], worker):  # who would tell Dagster of it dies, too
            os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
    until(lambda: run_status(cli, run_id) == "FAILURE", 90)
    found_after = time.monotonic() - killed_at
    assert found_after <= 60, f"the dead run was ended after {found_after:.0f} s"
    print(f"the dead run was ended after {found_after:.0f} s")
    again = cli.json("submit", "hello_world", "--param", "message=killed early", "--force", "--wait")
    assert (again["status"], again["attempt"]) == ("completed", 2)
