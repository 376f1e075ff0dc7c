"""Purging as a user does it, in a stack: what a job says stays, whatever becomes of its runs, and of who purges."""

import json
import os
import signal
import subprocess

import numpy as np
import pytest

from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.faults.test_terminate import (
    STAGES,
    barrier,
    delivery,
    graphql,
    run_of,
    run_status,
    somebody_waits,
    visible,
)
from geo_assets_tests.integration.test_publication import ingest, upload
from geo_assets_tests.integration.test_repair import _LAUNCH, _SCHEDULES, _SELECTOR
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults

_OF_RUNS = ("runs", "logs", "contracts")

#: Held by somebody, a purge waits in the middle of a transaction.
_NOTHING_IS_PURGED = "lock table geo.purged_runs in share mode"

_MATERIALIZATIONS = """query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) {
  ... on Asset { assetMaterializations { partition runId runOrError { __typename } metadataEntries { label } } } } }"""


def purge(cli, *words) -> dict[str, int]:
    """Count by kind."""
    return {kind["kind"]: kind["count"] for kind in cli.json("purge", *words)["kinds"]}


def rest(cli) -> None:
    """Until every run has ended: a job ends a moment before its run does, and Dagster may find a killed one late."""
    query = """select run_id, pipeline_name, status, create_timestamp from dagster.runs
                where status not in ('SUCCESS', 'FAILURE', 'CANCELED')"""

    def under_way():
        with connect(cli) as db:
            return db.execute(query).fetchall()

    until(lambda: not under_way(), 180, failure=lambda: f"runs of an earlier test do not end: {under_way()}")


def told(cli, job_id: str) -> dict:
    """All that is said of a job."""
    receipt = cli.json("receipt", job_id)
    receipt["receipt"] |= {"written_at": ""}
    files = cli.run("files", job_id, "--json").stdout
    return {"job": cli.json("job", job_id), "tasks": cli.json("tasks", job_id), "receipt": receipt, "files": files}


def in_dagster(cli, run_id: str) -> tuple[int, int, bool]:
    """(runs, events, whether there are logs) of a run."""
    with connect(cli) as db:
        query = """select (select count(*) from dagster.runs where run_id = %(run)s),
                          (select count(*) from dagster.event_logs where run_id = %(run)s)"""
        counts = db.execute(query, {"run": run_id}).fetchone()
    return *counts, (cli.home / "dagster" / "storage" / run_id).exists()


def test_what_a_job_says_and_what_dagster_tells_of_its_assets_is_the_same_after_its_runs_are_purged(cli, tmp_path):
    write(tmp_path / "a.tif", np.ones((1, 30, 30), "uint8"))
    (tmp_path / "broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    upload(cli, tmp_path, "purged")
    job, _ = ingest(cli, "purged")
    greeted = cli.json("submit", "hello_world", "--param", "message=purged", "--wait")
    rest(cli)
    before = [told(cli, each["job_id"]) for each in (job, greeted)]
    runs, events, logs = in_dagster(cli, greeted["run_id"])
    assert (runs, logs) == (1, True)
    would = purge(cli, *_OF_RUNS, "--older-than", "0")
    assert would["runs"] >= 2
    assert would["logs"] >= 2
    assert in_dagster(cli, greeted["run_id"]) == (1, events, True), "without --yes nothing is changed"
    assert purge(cli, *_OF_RUNS) == {"runs": 0, "logs": 0, "contracts": 0}, "all are younger than the settings say"
    gone = purge(cli, *_OF_RUNS, "--older-than", "0", "--yes")
    assert (gone["runs"], gone["logs"]) == (would["runs"], would["logs"])
    runs, left, logs = in_dagster(cli, greeted["run_id"])
    assert (runs, logs) == (0, False)
    assert 0 < left < events / 2, "what is told of assets stays"
    assert [told(cli, each["job_id"]) for each in (job, greeted)] == before
    asset = graphql(cli, _MATERIALIZATIONS, key={"path": ["hello_world", "replies"]})["assetOrError"]
    (kept,) = (each for each in asset["assetMaterializations"] if each["runId"] == greeted["run_id"])
    assert kept["metadataEntries"]
    assert kept["runOrError"]["__typename"] == "RunNotFoundError"
    assert purge(cli, *_OF_RUNS, "--older-than", "0", "--yes") == {"runs": 0, "logs": 0, "contracts": 0}
    again = cli.json("submit", "hello_world", "--param", "message=purged", "--wait")
    assert (again["attempt"], again["run_id"]) == (1, greeted["run_id"]), "finished work is not repeated"
    assert cli.json("retry", greeted["job_id"], "--wait")["attempt"] == 2


def test_a_job_at_work_is_not_touched_however_often_is_purged(cli, tmp_path):
    delivery(cli, tmp_path, "at-work")
    with barrier(cli, STAGES["listing"]):
        job = cli.json("submit", "ingest_container", "--param", "container=at-work")
        until(lambda: somebody_waits(cli))
        run_id = run_of(cli, job["job_id"])
        for _ in range(3):
            purge(cli, "--older-than", "0", "--yes")
        assert in_dagster(cli, run_id)[0] == 1
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 120)
    assert visible(cli, "at-work") == (2, 1, 2)


def started(cli) -> subprocess.Popen:
    command = cli.command("purge", *_OF_RUNS, "--older-than", "0", "--yes", "--json")
    return subprocess.Popen(command, env=cli.env, stdout=subprocess.PIPE, text=True)


def is_connected(cli, pid: int) -> bool:
    with connect(cli) as db:
        query = "select count(*) from pg_stat_activity where application_name like %s"
        return db.execute(query, (f"geo\\_assets %/{pid}",)).fetchone() != (0,)


def test_a_purge_that_is_killed_has_done_a_run_wholly_or_not_and_two_at_once_do_each_once(cli):
    jobs = [cli.json("submit", "hello_world", "--param", f"message=batch {n}", "--wait") for n in range(3)]
    rest(cli)
    before = [in_dagster(cli, job["run_id"]) for job in jobs]
    would = purge(cli, *_OF_RUNS, "--older-than", "0")
    with barrier(cli, _NOTHING_IS_PURGED), started(cli) as killed:
        until(lambda: somebody_waits(cli))
        os.kill(killed.pid, signal.SIGKILL)
    until(lambda: not is_connected(cli, killed.pid))
    assert [in_dagster(cli, job["run_id"]) for job in jobs] == before
    with started(cli) as one, started(cli) as other:
        with barrier(cli, _NOTHING_IS_PURGED):
            until(lambda: somebody_waits(cli))
        done = [json.loads(process.communicate(timeout=120)[0]) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0)
    counts = [{kind["kind"]: kind["count"] for kind in each["kinds"]} for each in done]
    assert sum(each["runs"] for each in counts) == would["runs"]
    assert [in_dagster(cli, job["run_id"])[0] for job in jobs] == [0, 0, 0]
    assert purge(cli, *_OF_RUNS, "--older-than", "0", "--yes")["runs"] == 0
    assert [cli.json("job", job["job_id"]) for job in jobs] == jobs


def test_dagster_purges_once_a_day_and_whenever_it_is_asked(cli):
    schedules = graphql(cli, _SCHEDULES, selector=_SELECTOR)["schedulesOrError"]["results"]
    assert {each["name"]: each["scheduleState"]["status"] for each in schedules}["retention"] == "RUNNING"
    asked = {"selector": {**_SELECTOR, "pipelineName": "retention"}, "mode": "default", "runConfigData": {}}
    run_id = graphql(cli, _LAUNCH, params=asked)["launchRun"]["run"]["runId"]
    assert until(lambda: run_status(cli, run_id) in {"SUCCESS", "FAILURE"} and run_status(cli, run_id)) == "SUCCESS"


def test_a_table_tells_what_would_go_and_how_to_have_it_gone(cli):
    cli.json("submit", "hello_world", "--param", "message=to be told", "--wait")
    rest(cli)
    done = cli.run("purge", "runs", "--older-than", "0")
    assert done.returncode == 0, done.stderr
    assert "would go" in done.stdout
    assert "nothing was changed; to delete it:" in done.stdout
    assert "purge runs --older-than 0 --yes" in done.stdout
    assert cli.run("purge", "tuns").returncode == 1
