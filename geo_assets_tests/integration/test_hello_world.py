import json
import subprocess
import sys
from pathlib import Path

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import validate_parameters
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.oracle import settings_of
from geo_assets_tests.waiting import until


def submit(cli, tmp_path, **parameters):
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps(parameters))
    return cli.json("submit", "hello_world", "--params-file", str(file), "--wait")


def test_a_message_of_any_kind_comes_back_unchanged_in_30_greetings_and_30_replies(cli, tmp_path):
    message = "héllo 🌍\n'); drop table geo.jobs; -- \" {}"
    job = submit(cli, tmp_path, n=30, message=message)
    assert job["status"] == "completed"
    assert {s["stage"]: (s["total"], s["succeeded"]) for s in job["stages"]} == {
        "greetings": (30, 30),
        "replies": (30, 30),
    }
    tasks = cli.json("tasks", job["job_id"])
    assert len(tasks) == 60
    assert all(message in next(iter(t["outputs"].values())) for t in tasks)


@pytest.mark.parametrize("n", [1, 1000])
def test_hello_world_scales_from_one_to_a_thousand(cli, tmp_path, n):
    job = submit(cli, tmp_path, n=n, message="scale")
    assert job["status"] == "completed"
    assert all(s["total"] == s["succeeded"] == n for s in job["stages"])


def test_the_same_request_is_the_same_job(cli, tmp_path):
    first = submit(cli, tmp_path, n=2, message="twice")
    again = submit(cli, tmp_path, n=2, message="twice")
    assert again["job_id"] == first["job_id"]
    assert again["run_id"] == first["run_id"]


@pytest.mark.slow
def test_who_waits_for_a_job_that_was_at_work_and_failed_asks_again_with_the_same_options(cli):
    """Somebody else's attempt fails while it is waited for: what was asked for is not done yet."""
    command = [
        Path(sys.executable).with_name("geo-assets"),
        "submit",
        "hello_world",
        "--param",
        "message=asked twice",
        "--force",
        "--wait",
    ]
    with Submitter(settings_of(cli), launches=False) as submitter, connect(cli) as db:
        job_id = submitter.submit(
            validate_parameters("hello_world", {"message": "asked twice"}), submitted_by="somebody else"
        ).job_id
        assert submitter.jobs.claim(submitter.jobs.find(job_id).partition_key, "a run of somebody else", 1).won
        with subprocess.Popen(command, env=cli.env) as waiting:
            asks = (
                "select from pg_stat_activity where application_name like %s and query like '%%geo.job_status where"
                " job_id ^@%%'"
            )
            until(lambda: db.execute(asks, (f"%/{waiting.pid}",)).fetchone() is not None)
            assert submitter.jobs.end_attempt(job_id, "failed", GeoAssetsError("INTERNAL", "it failed"))
            assert waiting.wait(timeout=120) == 0
        attempts = db.execute(
            "select attempt, force from geo.attempts where job_id = %s order by 1", (job_id,)
        ).fetchall()
    assert attempts == [(1, False), (2, True)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "no_such_job"),
        ("submit", "ingest_container"),
        ("submit", "ingest_container", "--param", "container=nowhere"),
        ("submit", "hello_world", "--param", "n=-1"),
        ("submit", "hello_world", "--param", "colour=blue"),
    ],
)
def test_a_bad_submission_is_refused_in_one_line_and_leaves_nothing(cli, arguments):
    before = len(cli.json("jobs", "--status", "queued"))
    done = cli.run(*arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert len(cli.json("jobs", "--status", "queued")) == before


def test_a_second_up_is_harmless(cli):
    assert cli.run("up").returncode == 0


def test_doctor_is_content_with_a_running_stack(cli):
    assert {f["level"] for f in cli.json("doctor")} <= {"ok", "warning"}
