"""A run is deleted in Dagster: what became of its job is the ledger's own knowledge."""

import pytest

from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.faults.test_terminate import STAGES, barrier, delivery, graphql, run_of, somebody_waits, visible
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults

_DELETE = "mutation ($id: String!) { deletePipelineRun(runId: $id) { __typename } }"


def delete(cli, run_id: str) -> None:
    assert graphql(cli, _DELETE, id=run_id)["deletePipelineRun"]["__typename"] == "DeletePipelineRunSuccess"


def test_a_job_whose_run_is_deleted_stays_completed_is_not_done_again_and_can_be_retried(cli):
    job = cli.json("submit", "hello_world", "--param", "message=deleted later", "--wait")
    delete(cli, job["run_id"])
    assert cli.json("job", job["job_id"])["status"] == "completed"
    again = cli.json("submit", "hello_world", "--param", "message=deleted later", "--wait")
    assert (again["status"], again["attempt"]) == ("completed", 1)
    assert cli.json("retry", job["job_id"], "--wait")["attempt"] == 2


def test_a_run_that_is_deleted_while_it_works_is_completed_all_the_same_and_publishes_once(cli, tmp_path):
    container = "deleted-at-work"
    delivery(cli, tmp_path, container)
    with barrier(cli, STAGES["listing"]):
        job = cli.json("submit", "ingest_container", "--param", f"container={container}")
        until(lambda: somebody_waits(cli))
        delete(cli, run_of(cli, job["job_id"]))
        assert cli.json("job", job["job_id"])["status"] == "processing"
        assert cli.run("retry", job["job_id"]).returncode != 0
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 120)
    assert visible(cli, container) == (2, 1, 2)
    with connect(cli) as db:
        assert db.execute("select lease_run_id from geo.jobs where job_id = %s", (job["job_id"],)).fetchone() == (None,)
