"""Which tasks a retry does again, through both doors."""

from dataclasses import dataclass

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from geo_assets.api.app import create_app
from geo_assets.cli import app
from geo_assets.errors import GeoAssetsError
from geo_assets_tests.databases import Dagster
from geo_assets_tests.intake.test_lifecycle import at_work

#: key -> (state, code)
TASKS = {
    "failed, ours": ("failed", "INTERNAL"),
    "failed, theirs": ("failed", "UNREADABLE"),
    "bad": ("quarantined", "UNREADABLE"),
    "bad otherwise": ("quarantined", "RASTER_NO_CRS"),
    "good": ("succeeded", None),
}

CODES = [None, "UNREADABLE", "INTERNAL", "RASTER_NO_CRS", "TOO_LARGE", "NO_SUCH_CODE"]
STATES = [(), ("failed",), ("quarantined",), ("failed", "quarantined")]


@dataclass
class Ended:
    """A job that has ended, and what was asked of it since."""

    dagster: Dagster
    job_id: str

    def chosen(self) -> set[str]:
        """Tasks that are to be done again."""
        query = "select task_key from geo.tasks where job_id = %s and fingerprint = ''"
        return {key for (key,) in self.dagster.conn.execute(query, (self.job_id,))}


@pytest.fixture
def ended(submitter, dagster):
    job, run_id, _ = at_work(submitter, dagster)
    for key, (status, code) in TASKS.items():
        dagster.conn.execute(
            """insert into geo.tasks (job_id, stage, task_key, kind, status, fingerprint, run_id, outputs, error_code, error_message)
               values (%s, 'cogs', %s, 'raster', %s::geo.task_status, 'f', %s, '{"cog": "x"}', %s, %s)""",
            (job.job_id, key, status, run_id, code, code),
        )
    submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("INTERNAL", "x"), run_id=run_id)
    dagster.set(run_id, "FAILURE")
    return Ended(dagster, job.job_id)


@pytest.fixture
def by_command_line(settings, monkeypatch):
    for name in ("home", "pg_port", "pg_database", "webserver_port"):
        monkeypatch.setenv(f"GEO_ASSETS_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("GEO_ASSETS_PIPELINE_PASSWORD", settings.pipeline_password.get_secret_value())
    option = {"failed": "--only-failed", "quarantined": "--quarantined"}

    def retry(job_id, states, code):
        options = [*map(option.get, states), *(("--error-code", code) if code else ())]
        done = CliRunner().invoke(app, ["retry", job_id, *options, "--json"])
        if done.exception is not None and not isinstance(done.exception, GeoAssetsError):
            raise done.exception
        return (done.exception.code, done.exception.remedy) if done.exception else None

    return retry


@pytest.fixture
def by_http(settings):
    with TestClient(create_app(settings)) as client:

        def retry(job_id, states, code):
            given = {"only": states, **({"error_code": code} if code else {})}
            answer = client.post(f"/api/jobs/{job_id}/retry", params=given)
            assert answer.status_code in {202, 422}
            return None if answer.status_code == 202 else (answer.json()["title"], answer.json()["remedy"])

        yield retry


@pytest.fixture(params=["by_command_line", "by_http"])
def retry(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("states", STATES, ids=lambda states: " or ".join(states) or "any")
def test_a_retry_takes_the_tasks_that_meet_every_filter_whichever_door_it_comes_by(ended, retry, states, code):
    wanted = states or (("failed", "quarantined") if code else ("failed",))
    meant = {key for key, (status, its) in TASKS.items() if status in wanted and code in {None, its}}
    refused = retry(ended.job_id, states, code)
    assert ended.chosen() == meant
    assert (refused is None) == bool(meant)
    if refused:
        there = {its for status, its in TASKS.values() if status in wanted}
        assert refused[0] == "INVALID_PARAMETERS"
        assert all(its in refused[1] for its in there)


def test_a_retry_that_names_tasks_takes_these_whatever_they_came_to_and_no_others(ended, submitter):
    named = [("cogs", "good"), ("cogs", "bad"), ("cogs", "unknown"), ("vector_tables", "bad otherwise")]
    submitter.retry(ended.job_id, requested_by="test", tasks=named)
    assert ended.chosen() == {"good", "bad"}
