"""What the commands say of a job: counts that agree, why it failed, and what there is nothing of."""

import re

import psycopg
import pytest
from typer.testing import CliRunner

from geo_assets.cli import app as command_line
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import JobStatus
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages.claim import claim_job
from geo_assets.submissions.boundary import handle
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.stages.test_deltas import world  # noqa: F401 - the fixture


@pytest.fixture
def said(world, monkeypatch):  # noqa: F811
    """(standard output, standard error) of a command."""
    for name, value in environment(world.context.settings).items():
        monkeypatch.setenv(name, value)

    def say(*words):
        done = CliRunner().invoke(command_line, words)
        return done.stdout, done.stderr

    return say


@pytest.fixture
def failed(world):  # noqa: F811
    """A job whose run found nothing and failed."""
    asked = Job.of(validate_parameters("ingest_container", {"container": world.name, "include": ["*.x"]}))
    body = {"job_type": asked.job_type, "parameters": asked.parameters.stored()}
    submitted = handle(world.submitter, raw(body)).submitted
    claim_job(
        world.context,
        partition_key=asked.partition_key,
        run_id=world.dagster.run(asked, "STARTED"),
        attempt=submitted.attempt,
        job_types=frozenset({asked.job_type}),
    )
    error = GeoAssetsError("NOTHING_MATCHED", f"no file of default/{world.name} matches")
    assert world.submitter.jobs.end_attempt(submitted.job_id, JobStatus.FAILED, error)
    return submitted.job_id


def test_files_that_are_bad_are_counted_beside_what_a_delivery_changed(world, said):  # noqa: F811
    world.put("a.tif")
    (world.folder / "bad.tif").write_bytes(b"II*\x00 no raster")
    job = world.deliver()
    assert "delivery   1 new, 0 changed, 0 gone, 0 unchanged, 1 bad\n" in said("job", job)[0]
    assert "1 new, 0 changed, 0 gone, 0 unchanged, 1 bad" in said("delta", job)[1]
    (world.folder / "bad.tif").unlink()
    world.deliver()
    assert "delivery   0 new, 0 changed, 0 gone, 1 unchanged\n" in said("job", job)[0]


def test_a_cancelled_job_tells_what_was_done_and_what_was_not_and_of_no_delivery(world, said):  # noqa: F811
    world.put("a.tif")
    world.put("b.tif")
    (world.folder / "bad.tif").write_bytes(b"II*\x00 no raster")
    job = world.deliver()
    with psycopg.connect(world.context.settings.dsn("pipeline")) as conn:
        conn.execute("update geo.tasks set status = 'cancelled' where job_id = %s and task_key = 'b.tif'", (job,))
        conn.execute(
            "update geo.attempts set outcome = 'cancelled', error_code = 'CANCELLED', error_message = 'x'"
            " where job_id = %s",
            (job,),
        )
    out = said("job", job)[0]
    assert "status     cancelled" in out
    assert "progress   2 of 3 files" in out
    assert "delivery " not in out
    head, row = (line.split() for line in out.splitlines() if re.match(r"stage |cogs ", line))
    told = dict(zip(head, row, strict=True))
    assert told.pop("stage") == "cogs"
    assert (told["cancelled"], told.pop("total")) == ("1", "3")
    assert sum(map(int, told.values())) == 3


def test_a_job_that_listed_nothing_has_no_delivery_to_tell_of(failed, said):
    out = said("job", failed)[0]
    assert "NOTHING_MATCHED" in out
    assert "delivery" not in out
    assert " delta " not in out


def test_how_busy_children_were_is_not_told_again_of_a_run_that_skipped_every_file(world, said):  # noqa: F811
    world.put("a.tif")
    job = world.deliver()
    assert "of cogs: children were busy" in said("job", job)[0]
    world.deliver()
    assert "efficiency" not in said("job", job)[0]
    world.put("b.tif")
    world.deliver()
    assert "of cogs: children were busy" in said("job", job)[0]


def test_the_list_of_jobs_calls_its_count_of_good_files_so(world, said):  # noqa: F811
    world.put("a.tif")
    (world.folder / "bad.tif").write_bytes(b"II*\x00 no raster")
    job = world.deliver()
    head, *rows = said("jobs")[0].splitlines()
    assert head.split()[4:6] == ["good", "bad"]
    (row,) = (row for row in rows if job[:12] in row)
    assert re.search(r"\b1/2\s+1\b", row)
    assert "2 of 2 files" in said("job", job)[0]


def test_who_watches_a_job_that_failed_is_told_why_and_what_to_do(failed, said):
    err = said("watch", failed)[1]
    assert "reason     NOTHING_MATCHED: no file of default/" in err
    assert "→ " in err


def test_where_there_are_no_tasks_to_list_that_is_said(world, failed, said):  # noqa: F811
    assert said("tasks", failed) == ("", f"no tasks of job {failed[:12]}\n")
    assert said("tasks", failed, "--json")[1] == ""
    world.put("a.tif")
    job = world.deliver()
    asked = ("--status", "failed", "--status", "quarantined", "--stage", "cogs", "--warned")
    told = f"no tasks of job {job[:12]} of stage cogs that are failed or quarantined and have warnings\n"
    assert said("tasks", job, *asked) == ("", told)
    assert said("tasks", job)[1] == ""
