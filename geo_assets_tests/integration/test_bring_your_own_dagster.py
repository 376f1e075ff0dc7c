"""A team's own Dagster, into which geo_assets was installed as a wheel (docs/bring-your-own-dagster.md): `dagster dev`
with a dagster.yaml of theirs, which keeps runs in SQLite and knows nothing of us, and a code location of theirs beside
ours.

Here: what their instance has to do with it. Not here: what jobs do (`test_ingest_container.py`), what the janitor makes
of runs that no statement sees (`defs/test_dagster_elsewhere.py`).
"""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pytest

from geo_assets.local.postgresql import free_port
from geo_assets.settings import Settings
from geo_assets_tests.processes import children
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]

_INSTANCE = """
telemetry: {enabled: false}
concurrency: {runs: {max_concurrent_runs: 3}}
"""

_WORKSPACE = """
load_from:
  - python_file: {relative_path: team.py, location_name: team}
  - python_module: {module_name: geo_assets.definitions, location_name: maps}
"""

_TEAM = """
import dagster as dg

@dg.asset
def salaries() -> int:
    return 1

job = dg.define_asset_job("pay", [salaries])

@dg.sensor(job=job, minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING)
def payday(context):
    yield dg.RunRequest(run_key=context.cursor or "first")

@dg.schedule(job=job, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def every_minute(context):
    return dg.RunRequest()

defs = dg.Definitions(assets=[salaries], jobs=[job], sensors=[payday], schedules=[every_minute])
"""

_TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"


class Team:
    """A team's folder with their Dagster, the environment of the wheel, and a database of ours."""

    def __init__(self, folder: Path, cluster) -> None:
        self.folder, self.port = folder, free_port()
        self.home = folder / "geo"
        self.settings = Settings(
            home=self.home, pg_port=cluster.port, pg_database="of_a_team", migrator_password="m",
            pipeline_password="p", reader_password="r",
        )  # fmt: skip
        (folder / "dagster").mkdir()
        (folder / "dagster" / "dagster.yaml").write_text(_INSTANCE)
        (folder / "workspace.yaml").write_text(_WORKSPACE)
        (folder / "team.py").write_text(_TEAM)
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        self.env = {
            **kept,
            "PATH": f"{folder / 'venv' / 'bin'}:/usr/bin:/bin",
            "DAGSTER_HOME": str(folder / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "GEO_ASSETS_HOME": str(self.home),
            "GEO_ASSETS_HOST_FOLDER": str(folder / "host"),
            "GEO_ASSETS_PG_PORT": str(cluster.port),
            "GEO_ASSETS_PG_DATABASE": self.settings.pg_database,
            "GEO_ASSETS_PIPELINE_PASSWORD": "p",
            "GEO_ASSETS_READER_PASSWORD": "r",
            "GEO_ASSETS_WEBSERVER_URL": f"http://127.0.0.1:{self.port}/",
            "GEO_ASSETS_CODE_LOCATION": "maps",
        }
        self._dev: subprocess.Popen | None = None

    def call(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**self.env, **environment}, cwd=self.folder, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip

    def geo_assets(self, *args: str, **environment: str):
        done = self.call("geo-assets", *args, "--json", **environment)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def start(self) -> None:
        command = ["dagster", "dev", "-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "dev.log").open("ab") as log:
            self._dev = subprocess.Popen(command, env=self.env, cwd=self.folder, stdout=log, stderr=log)
        until(self.is_loaded, 120)

    def processes(self) -> list[int]:
        """`dagster dev` and all that it started: webserver, daemon, code servers, run workers, their children."""
        found = [self._dev.pid]
        for pid in found:
            found += children(pid)
        return found

    def kill(self) -> None:
        """As the machine would, if its power was cut."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._dev.wait()

    def stop(self) -> None:
        left = self.processes()
        self._dev.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._dev.wait(30)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def ask(self, query: str, **variables):
        body = {"query": query, "variables": variables}
        answer = httpx.post(f"http://127.0.0.1:{self.port}/graphql", json=body, timeout=60, trust_env=False).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def is_loaded(self) -> bool:
        query = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } } }"
        with suppress(httpx.HTTPError):
            entries = self.ask(query)["workspaceOrError"]["locationEntries"]
            loaded = {
                e["name"] for e in entries if (e["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
            }
            return loaded == {"team", "maps"}
        return False

    def statuses(self, job: str) -> dict[str, str]:
        """Run -> its status in Dagster, which says SUCCESS a moment after the ledger says that the job has ended."""
        return {run["runId"]: run["status"] for run in self.runs(job)}

    def runs(self, job: str) -> list[dict]:
        query = """query ($job: String!) { runsOrError(filter: {pipelineName: $job}) {
            ... on Runs { results { runId status tags { key value } } } } }"""
        return self.ask(query, job=job)["runsOrError"]["results"]

    def ticks(self, location: str, sensor: str, kind="sensor") -> list[str]:
        selector = {"repositoryLocationName": location, "repositoryName": "__repository__", f"{kind}Name": sensor}
        query = f"""query ($s: {kind.capitalize()}Selector!) {{ {kind}OrError({kind}Selector: $s) {{
            ... on {kind.capitalize()} {{ {kind}State {{ ticks(limit: 100) {{ status }} }} }} }} }}"""
        return [t["status"] for t in self.ask(query, s=selector)[f"{kind}OrError"][f"{kind}State"]["ticks"]]

    def upload(self, container: str, count: int, *, bad: int = 0) -> str:
        folder = self.home / "containers" / container
        folder.mkdir(parents=True)
        for i in range(count):
            write(folder / f"tile_{i:02}.tif", np.random.default_rng(i).integers(0, 255, (3, 600, 600)).astype("uint8"))
        for i in range(bad):
            (folder / f"bad_{i}.tif").write_bytes(b"II*\0 this is no raster")
        return container

    def converted(self, job_id: str) -> dict[str, str]:
        """task -> hash and start of its conversion."""
        with psycopg.connect(self.settings.dsn("pipeline")) as db:
            query = (
                "select task_key, outputs->>'sha256' || started_at::text from geo.tasks where job_id = %s and receipt"
                " is not null"
            )
            return dict(db.execute(query, (job_id,)).fetchall())

    def ended(self, job_id: str, seconds=180) -> dict:
        def final():
            job = self.geo_assets("job", job_id)
            return job if job["status"] not in {"queued", "processing"} else None

        return until(final, seconds)

    def account(self, job_id: str) -> Counter:
        """How many of a job's tasks are how, and with which code."""
        return Counter((t["status"], t["error_code"]) for t in self.geo_assets("tasks", job_id))


@pytest.fixture(scope="module")
def team(open_folder, cluster):
    folder = open_folder()
    subprocess.run([ROOT / "scripts" / "wheel-install", folder], check=True)
    team = Team(folder, cluster)
    done = team.call(
        "geo-assets", "migrate", "--no-dagster", GEO_ASSETS_ADMIN_URL=cluster.dsn(), GEO_ASSETS_MIGRATOR_PASSWORD="m"
    )
    assert done.returncode == 0, done.stderr
    team.start()
    yield team
    team.stop()
    print((folder / "dev.log").read_text()[-20_000:])


def test_a_job_is_launched_at_once_by_their_webserver_and_its_runs_are_in_their_storage_alone(team):
    job = team.geo_assets("submit", "hello_world", "--param", "n=3", "--wait")
    assert job["status"] == "completed"
    until(lambda: team.statuses("hello_world") == {job["run_id"]: "SUCCESS"})
    said = team.call("geo-assets", "job", job["job_id"]).stdout
    assert f"http://127.0.0.1:{team.port}/runs/{job['run_id']}" in said
    with psycopg.connect(team.settings.dsn("pipeline")) as db:
        assert db.execute("select to_regclass('dagster.runs')").fetchone() == (None,)
    with closing(sqlite3.connect(team.folder / "dagster" / "history" / "runs.db")) as db:
        assert (job["run_id"],) in db.execute("select run_id from runs where pipeline_name = 'hello_world'").fetchall()


def test_a_container_is_ingested_its_account_is_exact_and_the_same_request_is_the_same_job(team):
    container = team.upload("landing", 5, bad=1)
    job = team.geo_assets("submit", "ingest_container", "--param", f"container={container}", "--wait")
    assert job["status"] == "completed_with_errors"
    assert team.account(job["job_id"])["quarantined", "UNREADABLE"] == 1
    assert len(team.converted(job["job_id"])) == 5
    verified = team.call("geo-assets", "verify", "--all")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    before = team.converted(job["job_id"])
    again = team.geo_assets("submit", "ingest_container", "--param", f"container={container}", "--wait")
    assert (again["job_id"], again["status"]) == (job["job_id"], "completed_with_errors")
    assert team.converted(job["job_id"]) == before


def test_doctor_checks_their_dagster_and_says_what_its_configuration_lacks(team):
    def examined(**environment: str):
        return {found["what"]: found for found in team.geo_assets("doctor", **environment)}

    found = until(lambda: (seen := examined())["Dagster"]["level"] == "ok" and seen)
    assert found["Dagster"]["found"].endswith(f"at http://127.0.0.1:{team.port}, code location maps")
    assert found["dagster.yaml"]["level"] == "warning"
    assert "run_monitoring" in found["dagster.yaml"]["found"]
    assert "dagster/partition" in found["dagster.yaml"]["found"]
    assert not {what for what in found if what.startswith("process") or what == "PostgreSQL"}
    assert [f for f in found.values() if f["level"] == "failure"] == []
    other = examined(GEO_ASSETS_CODE_LOCATION="geo_assets")["Dagster"]
    assert other["level"] == "failure"
    assert "GEO_ASSETS_CODE_LOCATION" in other["remedy"]
    away = examined(GEO_ASSETS_WEBSERVER_URL=f"http://127.0.0.1:{free_port()}")["Dagster"]
    assert "GEO_ASSETS_WEBSERVER_URL" in away["remedy"]


def test_their_daemon_ticks_our_sensors_and_a_message_in_the_inbox_becomes_a_run(team):
    inbox = team.home / "containers" / "submissions" / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    asked = {"job_type": "hello_world", "parameters": {"n": 2, "message": "from the inbox"}}
    (inbox / "one.json").write_text(json.dumps(asked))
    job = until(lambda: [j for j in team.geo_assets("jobs") if j["parameters"].get("message") == "from the inbox"])[0]
    assert team.ended(job["job_id"])["status"] == "completed"
    for sensor in ("submissions", "janitor"):
        assert "FAILURE" not in team.ticks("maps", sensor)
        until(lambda sensor=sensor: team.ticks("maps", sensor))


def test_a_backfill_and_a_launch_from_their_command_line_are_attempts_of_the_same_job(team):
    job = team.geo_assets("submit", "hello_world", "--param", "message=by hand", "--wait")
    key = ("-j", "hello_world", "-w", "workspace.yaml", "-l", "maps")
    done = team.call("dagster", "job", "backfill", *key, "--partitions", job["partition_key"], "--noprompt")
    assert done.returncode == 0, done.stderr
    second = until(lambda: [j for j in [team.geo_assets("job", job["job_id"])] if j["attempt"] == 2], 120)[0]
    assert team.ended(second["job_id"])["status"] == "completed"
    tags = json.dumps({"dagster/partition": job["partition_key"]})
    done = team.call("dagster", "job", "launch", *key, "--tags", tags)
    assert done.returncode == 0, done.stderr
    third = until(lambda: [j for j in [team.geo_assets("job", job["job_id"])] if j["attempt"] == 3], 120)[0]
    assert team.ended(third["job_id"])["status"] == "completed"


def test_a_run_that_somebody_terminates_in_their_ui_is_cancelled_and_stays_so(team):
    job = team.geo_assets("submit", "stage_raster", "--param", f"container={team.upload('terminated', 60)}")
    until(lambda: len(team.converted(job["job_id"])) >= 3, 120)
    run_id = team.geo_assets("job", job["job_id"])["run_id"]
    assert team.ask(_TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    ended = team.ended(job["job_id"])
    assert (ended["status"], ended["attempt"]) == ("cancelled", 1)


def test_dagster_dev_that_is_killed_in_the_middle_of_a_job_and_started_again_ends_it_exactly(team):
    job = team.geo_assets("submit", "stage_raster", "--param", f"container={team.upload('killed', 60)}")
    until(lambda: len(team.converted(job["job_id"])) >= 5, 120)
    team.kill()
    before = team.converted(job["job_id"])
    assert len(before) < 60
    time.sleep(1)
    team.start()
    ended = team.ended(job["job_id"])
    assert (ended["status"], ended["attempt"]) == ("completed", 2)
    after = team.converted(job["job_id"])
    assert len(after) == 60
    assert {key: after[key] for key in before} == before
    until(lambda: team.statuses("stage_raster")[ended["run_id"]] == "SUCCESS")
    until(lambda: "STARTED" not in team.statuses("stage_raster").values())
    assert team.call("geo-assets", "verify", "--all", "--deep").returncode == 0


def test_their_own_location_goes_on_as_before(team):
    until(lambda: any(run["status"] == "SUCCESS" for run in team.runs("pay")))
    assert "FAILURE" not in team.ticks("team", "payday")
    until(lambda: team.ticks("team", "every_minute", "schedule"), 90)
    assert {run["status"] for run in team.runs("pay")} <= {"SUCCESS", "QUEUED", "STARTING", "STARTED", "FAILURE"}
