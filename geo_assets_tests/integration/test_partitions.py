"""Each job type has partitions of its own: Dagster offers what fits, and what does not fit changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

from geo_assets_tests.faults.test_killed_run import connect, environment, until
from geo_assets_tests.faults.test_terminate import graphql, run_status

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


def test_a_launch_of_another_job_type_is_refused_and_leaves_a_finished_job_as_it_was(cli):
    job = cli.json("submit", "hello_world", "--param", "message=a stranger's", "--wait")
    command = ["-m", "dagster", "job", "backfill", "-j", "ingest_container", "--partitions", job["partition_key"], "--noprompt"]
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    refused = subprocess.run(
        [sys.executable, *command, "-w", str(workspace)],
        env={**os.environ, **environment(cli)},
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
