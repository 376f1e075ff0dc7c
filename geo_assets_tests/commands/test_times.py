"""Times by the clock of who looks: in any zone, also on the days when clocks are changed; UTC for who asks and in JSON."""

import json
import os
import subprocess

import psycopg
import pytest

from geo_assets.ledger.jobs import Jobs
from geo_assets.parameters import validate_parameters
from geo_assets_tests.conftest import geo_assets
from geo_assets_tests.databases import environment

#: Jobs of these moments: an hour before and an hour after clocks were put back in St. John's, and before and after they
#: were put forward in Lord Howe, by half an hour.
MOMENTS = ("2026-11-01T04:00:00Z", "2026-11-01T05:00:00Z", "2026-10-03T15:15:00Z", "2026-10-03T15:45:00Z")


@pytest.fixture(scope="module")
def jobs(settings):
    """A job for each moment, in their order."""
    from geo_assets.submissions.submit import Submitter

    with Submitter(settings, launches=False) as submitter:
        made = [
            submitter.submit(validate_parameters("hello_world", {"message": at}), submitted_by="test").job_id
            for at in MOMENTS
        ]
        assert isinstance(submitter.jobs, Jobs)
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        for job_id, at in zip(made, MOMENTS, strict=True):
            conn.execute("update geo.jobs set created_at = %s where job_id = %s", (at, job_id))
    with psycopg.connect(settings.dsn("migrator")) as conn:  # whatever the database's own zone is
        conn.execute(f"alter database {settings.pg_database} set timezone to 'Asia/Kathmandu'")
    return made


@pytest.fixture
def look(settings, jobs):
    """What a command prints in a zone."""

    def look(zone: str, *command: str) -> str:
        return subprocess.run(
            geo_assets(*command),
            env={**os.environ, **environment(settings), "TZ": zone},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    return look


def times_in(printed: str) -> set[str]:
    """The last two words of each line of a table."""
    return {" ".join(line.split()[-2:]) for line in printed.splitlines()[1:]}


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("America/St_Johns", {"2026-11-01 01:30:00-02:30", "2026-11-01 01:30:00-03:30"}),
        ("Australia/Lord_Howe", {"2026-10-04 01:45:00+10:30", "2026-10-04 02:45:00+11:00"}),
        ("Asia/Kathmandu", {"2026-11-01 09:45:00+05:45"}),
        ("Europe/London", {"2026-11-01 04:00:00Z", "2026-10-03 16:15:00+01:00"}),
        ("UTC", {"2026-11-01 04:00:00Z"}),
    ],
)
def test_a_time_is_shown_by_the_clock_of_who_looks_also_when_clocks_are_changed(look, zone, shown):
    assert shown <= times_in(look(zone, "jobs"))


def test_who_asks_for_utc_gets_utc_and_json_is_never_anything_else(look, jobs):
    told = [at.replace("T", " ") for at in MOMENTS]
    assert times_in(look("America/St_Johns", "jobs", "--utc")) == set(told)
    listed = json.loads(look("America/St_Johns", "jobs", "--json"))
    assert {job["created_at"] for job in listed} == set(MOMENTS)
    assert json.loads(look("America/St_Johns", "job", jobs[0], "--json"))["created_at"] == MOMENTS[0]


def test_a_job_says_when_it_was_submitted(look, jobs):
    assert "submitted  2026-11-01 01:30:00-02:30 by test" in look("America/St_Johns", "job", jobs[0])
    assert "submitted  2026-11-01 04:00:00Z by test" in look("America/St_Johns", "job", jobs[0], "--utc")
