"""One delivery of 77 files, good and bad, by every way in: the same becomes of each file."""

import os
import time
from pathlib import Path

import httpx
import pytest

from geo_assets_tests import messy
from geo_assets_tests.integration.test_ingest_container import connect

SAMPLES = os.environ.get("GEO_ASSETS_SAMPLES")

LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } } }"""


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    return messy.messy_delivery(tmp_path_factory.mktemp("messy") / "delivery")


def outcome(cli, job_id):
    """(stage, file) -> (status, code, the files that came with it)."""
    with connect(cli) as db:
        rows = db.execute(
            "select stage, task_key, status::text, error_code, input->'members' from geo.tasks where job_id = %s and"
            " listed",
            (job_id,),
        ).fetchall()
    return {
        (stage, key): (status, code, frozenset(m["path"] for m in members) - {key})
        for stage, key, status, code, members in rows
    }


def until_ended(status):
    deadline = time.monotonic() + 180
    while (job := status())["status"] in {"queued", "processing"} and time.monotonic() < deadline:
        time.sleep(0.5)
    return job


def by_command_line(cli, folder, container, **parameters):
    assert cli.run("upload", str(folder), f"{parameters.get('account', 'default')}/{container}").returncode == 0
    pairs = [
        part for key, value in {"container": container, **parameters}.items() for part in ("--param", f"{key}={value}")
    ]
    return cli.json("submit", "ingest_container", *pairs, "--wait")


def by_http(cli, folder, container):
    assert cli.run("upload", str(folder), f"default/{container}").returncode == 0
    answer = httpx.post(
        f"{cli.json('env')['GEO_ASSETS_API_URL']}/api/jobs/submit/ingest_container",
        json={"container": container},
        timeout=30,
    )
    assert answer.status_code == 202, answer.text
    return until_ended(lambda: httpx.get(answer.json()["status_url"], timeout=30).json())


def by_dagsters_page(cli, folder, container):
    """A submission that found nothing yet; then the files come, and its partition is launched again as the page does
    it.
    """
    (cli.home / "containers" / container).mkdir(parents=True)
    empty = cli.json("submit", "ingest_container", "--param", f"container={container}", "--wait")
    assert (empty["status"], empty["stages"]) == ("completed", [])
    assert cli.run("upload", str(folder), f"default/{container}").returncode == 0
    params = {
        "selector": {
            "repositoryLocationName": "geo_assets",
            "repositoryName": "__repository__",
            "pipelineName": "ingest_container",
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": "dagster/partition", "value": empty["partition_key"]}]},
    }
    url = f"{cli.json('env')['GEO_ASSETS_WEBSERVER_URL']}/graphql"
    launched = httpx.post(url, json={"query": LAUNCH, "variables": {"params": params}}, timeout=60).json()["data"][
        "launchRun"
    ]
    assert launched["__typename"] == "LaunchRunSuccess"
    deadline = time.monotonic() + 60
    while cli.json("job", empty["job_id"])["run_id"] != launched["run"]["runId"] and time.monotonic() < deadline:
        time.sleep(0.5)
    return until_ended(lambda: cli.json("job", empty["job_id"]))


@pytest.fixture(scope="module")
def as_it_should_be(delivery):
    """What is to become of each file: by the delivery's own account."""
    files = {p.relative_to(delivery).as_posix() for p in delivery.rglob("*") if p.is_file()}
    assert len(files) == messy.COUNT
    parts = {file for files in messy.PARTS.values() for file in files}
    sources = files - messy.LITTER - messy.BESIDE - parts
    return {file: (messy.BAD.get(file), frozenset(messy.PARTS.get(file, ()))) for file in sources}


def assert_as_it_should_be(cli, job, expected):
    assert job["status"] == "completed_with_errors"
    became = outcome(cli, job["job_id"])
    assert {key for _, key in became} == expected.keys()
    assert sorted(key for _, key in became) == sorted([*expected, *messy.TWICE])
    for (_, key), (status, code, parts) in became.items():
        assert (key, code, parts) == (key, *expected[key])
        assert (key, status) == (key, "quarantined" if code else "succeeded")
    roles = {f["path"]: f["role"] for f in cli.json("files", job["job_id"])}
    assert len(roles) == messy.COUNT
    assert {path for path, role in roles.items() if role == "ignored"} == messy.LITTER
    assert {path for path, role in roles.items() if role == "companion"} == messy.BESIDE


@pytest.fixture(scope="module")
def submitted(cli, delivery):
    """The job of the delivery, by command line."""
    return by_command_line(cli, delivery, "by-command-line")


def test_what_should_be_becomes_of_every_file(cli, submitted, as_it_should_be):
    assert_as_it_should_be(cli, submitted, as_it_should_be)


@pytest.mark.faults
@pytest.mark.parametrize("way_in", [by_http, by_dagsters_page])
def test_the_same_becomes_of_every_file_by_every_way_in(cli, delivery, as_it_should_be, way_in):
    job = way_in(cli, delivery, way_in.__name__.replace("_", "-"))
    assert_as_it_should_be(cli, job, as_it_should_be)


@pytest.mark.slow
def test_the_same_becomes_of_every_file_in_an_azure_account_in_which_nothing_was_prepared(
    azure_cli, delivery, as_it_should_be
):
    job = by_command_line(azure_cli, delivery, "messy", account="azure", collection="messy")
    assert_as_it_should_be(azure_cli, job, as_it_should_be)


def test_no_message_of_a_bad_file_names_a_path_of_the_machine_and_each_says_what_to_do(cli, submitted):
    tasks = cli.json("tasks", submitted["job_id"], "--status", "quarantined")
    assert {task["task_key"] for task in tasks} == messy.BAD.keys()
    for task in tasks:
        name = task["task_key"].rpartition("/")[2]
        assert name in task["error_message"] or task["task_key"] in task["error_message"], task
        assert str(cli.home) not in task["error_message"] + task["remedy"], task
        assert len(task["error_message"]) < 400, task
        assert task["remedy"], task


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLES, reason="GEO_ASSETS_SAMPLES is not set")
def test_the_same_becomes_of_real_files_by_command_line_and_http(cli, tmp_path):
    folder = messy.with_samples(messy.messy_delivery(tmp_path / "real"), Path(SAMPLES))
    first, second = (way(cli, folder, f"real-{way.__name__.replace('_', '-')}") for way in (by_command_line, by_http))
    assert outcome(cli, first["job_id"]) == outcome(cli, second["job_id"])
    assert not {
        key: said for key, said in outcome(cli, first["job_id"]).items() if said[1] == "INTERNAL" or said[0] == "failed"
    }
