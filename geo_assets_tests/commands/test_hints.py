"""What is printed to a person: hints that run, ids that are whole, errors that programs can read too."""

import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest

from geo_assets.commands.failures import as_ours
from geo_assets.local.postgresql import free_port
from geo_assets_tests.conftest import INTERRUPTIBLE, geo_assets
from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.raster.test_cog import write

#: A command in what is printed: from the program, or from the stack that it is about, to the end of the line.
COMMAND = re.compile(r"(?:\(?eval \"\$\()?(?:GEO_ASSETS_HOME=\S+ )?/\S*/geo-assets [a-z-].*")


def commands_in(*printed):
    return [found[0] for text in printed for found in COMMAND.finditer(text)]


def run_as_printed(command):
    """In a shell that knows nothing of us, from the root."""
    return subprocess.run(
        ["/bin/bash", "-c", command],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def said(cli, *args):
    done = cli.run(*args)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def half_good(cli, tmp_path_factory):
    """A good raster, a good table with a warning, and a bad file."""
    folder = tmp_path_factory.mktemp("half")
    write(folder / "good.tif", np.ones((1, 20, 20), "uint8"))
    (folder / "bad.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    wide = {"type": "Polygon", "coordinates": [[[-170, 0], [170, 0], [170, 10], [-170, 10], [-170, 0]]]}
    (folder / "wide.geojson").write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": wide}))
    assert cli.run("upload", str(folder), "default/half-good").returncode == 0
    return cli.json("submit", "ingest_container", "--param", "container=half-good", "--wait")


@pytest.fixture(scope="module")
def demo(cli):
    return said(cli, "demo")


@pytest.mark.faults
def test_every_hint_that_is_printed_runs_as_printed_from_any_directory(cli, half_good, demo):
    job = half_good["job_id"]
    ingest = ("submit", "ingest_container", "--param", "container=half-good", "--wait", "--param")
    asked = [
        ("up",),
        ("doctor",),
        ("job", job),
        ("tasks", job),
        ("job", "abcdef"),
        ("submit", "hello_world", "--param", "n=none"),
        ("submit", "hello"),
        ("submit", "hello_world", "--colour"),
        (*ingest, "prefix=nothing/"),
        (*ingest, "on_error=fail"),
        ("poison", "show", "abcdef"),
        ("poison", "replay"),
    ]
    with ThreadPoolExecutor(4) as pool:
        printed = [demo, *pool.map(lambda words: said(cli, *words), asked)]
    assert all("geo-assets" not in re.sub(r"\S*/geo-assets", "", text) for text in printed), (
        "a program that is not found from here"
    )
    commands = sorted(set(commands_in(*printed)))
    assert len(commands) >= 12
    assert {"psql", "env", "tasks", "job-types", "jobs", "submit", "poison"} <= {
        c.split("/geo-assets ")[1].split()[0].rstrip(")") for c in commands
    }
    with ThreadPoolExecutor(4) as pool:
        ran = dict(zip(commands, pool.map(run_as_printed, commands), strict=True))
    failed = {command: done.stdout + done.stderr for command, done in ran.items() if done.returncode}
    assert failed == {}


@pytest.mark.faults
def test_the_hints_of_the_demo_read_and_change_nothing(demo):
    looks = {
        line[2:20].strip(): line[20:].strip()
        for line in demo.partition("Look at it:")[2].splitlines()
        if line.startswith("  ")
    }
    assert "user geo_reader" in looks["QGIS, PostGIS"]
    query = looks["a table"].split(" -c ")[0] + ' -At -c "select current_user"'
    assert run_as_printed(query).stdout.split() == ["geo_reader"]
    found = run_as_printed(looks["STAC search"]).stdout
    assert '"numberReturned": 1' in found


def test_tasks_say_where_a_good_file_went_and_what_is_worth_knowing_of_it(cli, half_good):
    printed = cli.run("tasks", half_good["job_id"]).stdout
    place = re.search(r"COG: (/.*half-good/good_\w+\.tif)", printed)
    assert place
    assert Path(place[1]).is_file()
    assert "table: vector.half_good_wide (1 row)" in printed
    assert "warning: 1 geometry is wider than half the globe" in printed
    assert "UNREADABLE: bad.tif" in printed


def test_a_narrow_terminal_shows_whole_ids(cli, half_good):
    env = {**cli.env, "COLUMNS": "60"}
    for command in (["jobs"], ["submit", "ingest_container", "--param", "container=half-good", "--wait"]):
        master, terminal = os.openpty()
        with subprocess.Popen(geo_assets(*command), env=env, stdout=terminal, stderr=terminal) as process:
            os.close(terminal)
            printed = b""
            while chunk := _read(master):
                printed += chunk
            process.wait(timeout=60)
        assert half_good["job_id"][:12] in printed.decode(), command
        assert "…" not in printed.decode(), command
    assert "container_inventory" in printed.decode() or "vector_tables" in printed.decode()


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end of a terminal is closed
        return b""


def test_ctrl_c_while_waiting_says_that_the_job_goes_on_and_how_to_see_it(cli):
    command = geo_assets("submit", "hello_world", "--param", "n=999", "--param", "message=interrupted", "--wait")
    with (
        subprocess.Popen(command, env=cli.env, stderr=subprocess.PIPE, text=True, **INTERRUPTIBLE) as process,
        connect(cli) as db,
    ):
        db.autocommit = True
        deadline = time.monotonic() + 60
        query = "select job_id from geo.jobs where parameters->>'message' = 'interrupted'"
        while (row := db.execute(query).fetchone()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with db.transaction():  # however slow this machine is, its run cannot claim it meanwhile
            db.execute("select from geo.jobs where job_id = %s for update", row)
            launched = "select from geo.attempts where job_id = %s and launched_at is not null"
            while db.execute(launched, row).fetchone() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(2)  # it has been launched; now it is being followed
            process.send_signal(signal.SIGINT)
            printed = process.stderr.read()
    assert process.returncode == 130
    assert f"job {row[0][:12]} is " in printed
    assert "continues without this terminal" in printed
    commands = commands_in(printed)
    assert any(command.endswith(f"cancel {row[0][:12]}") for command in commands)
    assert (
        run_as_printed(next(command for command in commands if command.endswith(f"job {row[0][:12]}"))).returncode == 0
    )
    while cli.json("job", row[0])["status"] in {"queued", "processing"} and time.monotonic() < deadline:
        time.sleep(0.5)
    assert cli.json("job", row[0])["status"] == "completed"


@pytest.mark.parametrize("code", ["NOPE", "TOO_LARGE"])
def test_a_retry_of_a_code_with_which_nothing_ended_is_refused_with_those_that_there_are(cli, half_good, code):
    before = cli.json("job", half_good["job_id"])["attempt"]
    done = cli.run("retry", half_good["job_id"], "--error-code", code)
    assert done.returncode == 1
    assert "its tasks ended with: UNREADABLE" in done.stderr
    assert cli.json("job", half_good["job_id"])["attempt"] == before


def test_a_poisoned_message_of_no_known_code_is_not_looked_for(cli):
    done = cli.run("poison", "list", "--error-code", "NOPE")
    assert done.returncode == 1
    assert "UNREADABLE" in done.stderr


def test_a_database_that_goes_away_under_a_command_is_said_to_be_away_and_not_called_our_fault():
    with pytest.raises(psycopg.OperationalError) as away:
        psycopg.connect(f"host=127.0.0.1 port={free_port()}")
    assert as_ours(away.value).code == "DATABASE_UNAVAILABLE"
    assert as_ours(ValueError("odd")).code == "INTERNAL"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("submit", "hello_world", "--param", "n=0"), "INVALID_PARAMETERS"),
        (("submit", "hello"), "UNKNOWN_JOB_TYPE"),
        (("submit", "hello_world", "--colour"), "INVALID_PARAMETERS"),
        (("submit", "ingest_container", "--param", "container=nowhere"), "CONTAINER_NOT_FOUND"),
        (("plan", "ingest_container"), "INVALID_PARAMETERS"),
        (("job", "abcdef"), "JOB_NOT_FOUND"),
        (("tasks", "abcdef"), "JOB_NOT_FOUND"),
        (("retry", "abcdef"), "JOB_NOT_FOUND"),
        (("cancel", "abcdef"), "JOB_NOT_FOUND"),
        (("jobs", "--status", "odd"), "INVALID_PARAMETERS"),
        (("poison", "show", "abcdef"), "MESSAGE_NOT_FOUND"),
        (("upload", "/nowhere", "default/landing"), "SOURCE_GONE"),
        (("cog", "/nowhere.tif", "x.tif"), "UNREADABLE"),
        (("cog", "validate", "/nowhere.tif"), "UNREADABLE"),
        (("load", "/nowhere.gpkg", "--table", "vector.x"), "SOURCE_GONE"),
        (("vector", "inspect", "/nowhere.gpkg"), "SOURCE_GONE"),
    ],
)
def test_an_error_is_json_where_the_result_would_be(cli, arguments, code):
    done = cli.run(*arguments, "--json")
    assert done.returncode != 0
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["remedy"]
    assert done.stderr.startswith("error: ")
