"""A job that is watched: on a terminal, by a program, by a script that reads lines."""

import json
import os
import pty
import subprocess

import httpx
import numpy as np
import pytest
from rasterio.transform import from_origin

from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.faults.test_terminate import STAGES, barrier
from geo_assets_tests.raster.test_cog import write


@pytest.fixture
def job(cli, tmp_path, request):
    """A job at work that waits before it registers its items; ended by who lets it go on."""
    good, bad = request.param
    for number in range(good):
        raster = np.full((1, 60, 60), number, "uint8")
        write(tmp_path / f"good{number}.tif", raster, transform=from_origin(4e5 + 1e3 * number, 5e6, 1, 1))
    for number in range(bad):
        (tmp_path / f"bad{number}.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    container = f"watched-{good}-{bad}"
    assert cli.run("upload", str(tmp_path), f"default/{container}").returncode == 0
    return lambda *more: cli.json("submit", "ingest_container", "--param", f"container={container}", *more)


@pytest.mark.parametrize("job", [(3, 0)], indirect=True)
def test_a_program_gets_a_document_a_line_until_the_job_ends(cli, job):
    with barrier(cli, STAGES["items"]):
        job_id = job()["job_id"]
        watching = subprocess.Popen(
            cli.command("watch", job_id[:12], "--json"), env=cli.env, stdout=subprocess.PIPE, text=True
        )
        for line in watching.stdout:
            looked = json.loads(line)
            if looked["progress"] and looked["progress"]["files_done"] == 3:
                break
        assert looked["status"] == "processing"
        assert looked["progress"]["remaining_seconds"] is not None
        told = httpx.get(f"{cli.exports['GEO_ASSETS_API_URL']}/api/jobs/{job_id}").json()
        assert told["progress"].keys() == looked["progress"].keys()
        assert told["progress"]["at"].endswith("Z")
    *_, last = watching.stdout
    assert json.loads(last)["status"] == "completed"
    assert watching.wait(30) == 0


@pytest.mark.parametrize("job", [(1, 1)], indirect=True)
def test_elsewhere_than_on_a_terminal_lines_are_printed_and_the_exit_code_says_that_a_file_is_bad(cli, job):
    job_id = job()["job_id"]
    cli.env["TZ"] = "America/St_Johns"
    try:
        done = cli.run("watch", job_id)
        in_utc = cli.run("watch", job_id, "--utc")
    finally:
        del cli.env["TZ"]
    lines = done.stdout.splitlines()
    assert done.returncode == in_utc.returncode == 1
    assert f"{job_id[:12]} completed_with_errors; 2 of 2 files, " in lines[-1]
    assert lines[-1].endswith("; 1 bad")
    assert lines[-1][19:25] in {"-03:30", "-02:30"}
    assert in_utc.stdout.splitlines()[-1][19] == "Z"
    assert f"tasks {job_id[:12]} --status quarantined" in done.stderr


@pytest.mark.parametrize("job", [(2, 0)], indirect=True)
def test_on_a_terminal_bars_are_drawn_until_the_job_ends(cli, job):
    job_id = job()["job_id"]
    ours, theirs = pty.openpty()
    env = {**cli.env, "TERM": "xterm-256color", "COLUMNS": "140"}
    watching = subprocess.Popen(cli.command("watch", job_id), env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 4096):
            drawn += piece
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    assert watching.wait(30) == 0
    said = drawn.decode()
    assert "━" in said
    assert "completed; " in said
    assert "2/2" in said


@pytest.mark.parametrize("job", [(4, 0)], indirect=True)
def test_the_steps_of_a_job_tell_dagster_how_far_it_was(cli, job):
    made = job("--wait")
    with connect(cli) as db:
        rows = db.execute(
            "select event from dagster.event_logs where run_id = %s and dagster_event_type = 'STEP_OUTPUT'",
            (made["run_id"],),
        ).fetchall()
    told = {}
    for (event,) in rows:
        output = json.loads(event)["dagster_event"]
        entries = output["event_specific_data"]["metadata_entries"] or []
        told[output["step_key"]] = {entry["label"]: entry["entry_data"] for entry in entries}
    chunks = [entries for step, entries in told.items() if "convert_rasters" in step]
    assert any(chunk["progress"]["text"].startswith("4 of 4 files") for chunk in chunks), chunks
    assert all(chunk["remaining_seconds"]["value"] > 0 for chunk in chunks)
