"""Terminate in Dagster's UI, at each stage of a job: it ends within seconds, nothing is half done, and the next run
does the rest.
"""

import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from geo_assets_tests.faults.test_killed_run import begun, connect, converted, run_workers
from geo_assets_tests.processes import children
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults

_TERMINATE = """mutation ($id: String!, $policy: TerminateRunPolicy!) {
  terminateRun(runId: $id, terminatePolicy: $policy) { __typename ... on PythonError { message } } }"""

#: A person waits for no longer.
SECONDS = 15


def graphql(cli, query: str, **variables) -> dict:
    answer = httpx.post(
        f"{cli.exports['GEO_ASSETS_WEBSERVER_URL']}/graphql",
        json={"query": query, "variables": variables},
        timeout=60,
        trust_env=False,
    ).json()
    assert "errors" not in answer, answer
    return answer["data"]


def terminate(cli, run_id: str, policy: str = "SAFE_TERMINATE") -> None:
    assert graphql(cli, _TERMINATE, id=run_id, policy=policy)["terminateRun"]["__typename"] == "TerminateRunSuccess"


def run_of(cli, job_id: str) -> str:
    return until(lambda: cli.json("job", job_id)["run_id"])


def run_status(cli, run_id: str) -> str:
    with connect(cli) as db:
        return db.execute("select status from dagster.runs where run_id = %s", (run_id,)).fetchone()[0]


@contextmanager
def barrier(cli, statement: str):
    """Holds what a statement locks until it is called; makes sure that somebody waits for it when asked to."""
    with connect(cli) as holder:
        holder.autocommit = False
        holder.execute(statement)
        yield holder
        holder.rollback()


def somebody_waits(cli) -> bool:
    with connect(cli) as db:
        query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'geo_pipeline'"
        return db.execute(query).fetchone()[0] > 0


def assert_cancelled(cli, job_id: str, run_id: str) -> None:
    until(lambda: run_status(cli, run_id) == "CANCELED", SECONDS)
    assert cli.json("job", job_id)["status"] == "cancelled"
    until(lambda: not run_workers(cli), SECONDS)
    with connect(cli) as db:
        assert db.execute("select lease_run_id from geo.jobs where job_id = %s", (job_id,)).fetchone() == (None,)
        open_tasks = "select count(*) from geo.tasks where job_id = %s and status in ('pending', 'running')"
        assert db.execute(open_tasks, (job_id,)).fetchone() == (0,)
        died = "select count(*) from geo.tasks where job_id = %s and status in ('failed', 'quarantined')"
        assert db.execute(died, (job_id,)).fetchone() == (0,), "a file was blamed for the termination"


def visible(cli, container: str) -> tuple:
    """What readers see of a container's outputs: items, tables, rows of the ledger's own account."""
    with connect(cli) as db:
        return db.execute(
            """select (select count(*) from pgstac.items where collection in (%(c)s, %(c)s || '-vector')),
                      (select count(*) from pg_tables where schemaname = 'vector' and tablename ^@ replace(%(c)s, '-', '_')),
                      (select count(*) from geo.published where stac_item ^@ (%(c)s || '/') or stac_item ^@ (%(c)s || '-vector/'))""",
            {"c": container},
        ).fetchone()


@pytest.mark.parametrize(
    "policy", ["SAFE_TERMINATE", pytest.param("MARK_AS_CANCELED_IMMEDIATELY", marks=pytest.mark.slow)]
)
def test_terminate_during_conversions_ends_the_run_its_children_and_its_job_and_the_next_run_does_the_rest(
    cli, tmp_path, policy
):
    container = "terminated-" + policy[:4].lower()
    job = begun(cli, tmp_path / "many", container)
    (worker,) = until(lambda: run_workers(cli))
    sandboxed = children(worker)
    assert sandboxed
    run_id = run_of(cli, job["job_id"])
    terminate(cli, run_id, policy)
    assert_cancelled(cli, job["job_id"], run_id)
    assert not any(children(pid) for pid in sandboxed)
    before = converted(cli, job["job_id"])
    assert visible(cli, container) == (0, 0, 0)
    time.sleep(2)
    assert visible(cli, container) == (0, 0, 0)
    assert converted(cli, job["job_id"]) == before
    again = cli.json("submit", "stage_raster", "--param", f"container={container}", "--wait")
    assert (again["status"], again["attempt"]) == ("completed", 2)
    after = converted(cli, job["job_id"])
    assert len(after) == 60
    assert {key: after[key] for key in before} == before
    assert visible(cli, container) == (60, 0, 60)


STAGES = {
    "listing": "lock table geo.inventory in access exclusive mode",
    "tables": "lock table geo.table_names in access exclusive mode",
    "items": "lock table pgstac.collections in access exclusive mode",
}


def delivery(cli, tmp_path, container: str) -> None:
    folder = tmp_path / container
    folder.mkdir()
    write(folder / "one.tif", np.ones((1, 20, 20), "uint8"))
    (folder / "points.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Point",'
        ' "coordinates": [1, 2]}}]}'
    )
    assert cli.run("upload", str(folder), f"default/{container}").returncode == 0


def assert_completed(cli, container: str) -> None:
    again = cli.json("submit", "ingest_container", "--param", f"container={container}", "--wait")
    assert again["status"] == "completed"
    assert visible(cli, container) == (2, 1, 2)


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=() if stage == "items" else pytest.mark.faults) for stage in STAGES]
)
def test_terminate_while_a_stage_waits_ends_the_job_and_the_next_run_completes_it(cli, tmp_path, stage):
    container = f"terminated-{stage}"
    delivery(cli, tmp_path, container)
    with barrier(cli, STAGES[stage]):
        job = cli.json("submit", "ingest_container", "--param", f"container={container}")
        until(lambda: somebody_waits(cli))
        run_id = run_of(cli, job["job_id"])
        terminate(cli, run_id)
        until(lambda: run_status(cli, run_id) == "CANCELED", SECONDS)
        assert not somebody_waits(cli), "a statement of the ended run is still under way"
    assert_cancelled(cli, job["job_id"], run_id)
    before = visible(cli, container)
    assert before[0] == before[2]
    assert_completed(cli, container)


@pytest.mark.faults
def test_terminate_while_the_job_is_being_closed_cancels_it_and_what_is_published_stays(cli, tmp_path):
    delivery(cli, tmp_path, "terminated-report")
    with barrier(cli, "lock table pgstac.collections in access exclusive mode") as items:
        job = cli.json("submit", "ingest_container", "--param", "container=terminated-report")
        until(lambda: somebody_waits(cli))
        run_id = run_of(cli, job["job_id"])
        with barrier(cli, "lock table geo.attempts in share mode"):
            items.rollback()
            until(lambda: visible(cli, "terminated-report") == (2, 1, 2))
            until(lambda: somebody_waits(cli))
            terminate(cli, run_id)
            time.sleep(1.5)
    assert_cancelled(cli, job["job_id"], run_id)
    assert visible(cli, "terminated-report") == (2, 1, 2)
    assert_completed(cli, "terminated-report")


@pytest.mark.faults
def test_cancel_ends_a_run_that_waits_for_the_database_at_once(cli, tmp_path):
    delivery(cli, tmp_path, "cancelled-listing")
    with barrier(cli, STAGES["listing"]):
        first = cli.json("submit", "ingest_container", "--param", "container=cancelled-listing")
        until(lambda: somebody_waits(cli))
        assert cli.run("cancel", first["job_id"]).returncode == 0
        assert cli.json("job", first["job_id"])["status"] == "cancelled"
        until(lambda: not run_workers(cli), SECONDS)
    assert_completed(cli, "cancelled-listing")
