"""What a command loads before it does anything: its start is most of the time of a small file."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from geo_assets_tests.raster.test_cog import write

#: Each takes tens of milliseconds or more, and no command needs it to know its arguments.
_HEAVY = {
    *("dagster", "psycopg", "numpy", "rasterio", "pyogrio", "pyarrow", "shapely", "geopandas", "fastapi", "obstore"),
    *("asyncio", "pydantic_settings", "geo_assets.settings", "geo_assets.parameters", "geo_assets.ledger"),
    *("rich.progress", "rich.table", "importlib.metadata"),
}


def test_the_arguments_of_all_commands_are_known_before_any_library_for_the_work_is_loaded():
    program = "import sys, geo_assets.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert _HEAVY & set(done.stdout.split()) == set()


#: Runs a command, and tells what was imported.
_IMPORTED = """if True:
    import sys
    from geo_assets.__main__ import main
    try:
        main()
    finally:
        print(*sys.modules, file=sys.stderr)
"""


def test_one_file_is_converted_without_what_a_job_needs(tmp_path):
    source = write(tmp_path / "source.tif", np.zeros((1, 20, 30), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, "cog", str(source), str(tmp_path / "cog.tif")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    needed = {"importlib.metadata"}  # pydantic imports it, for typer
    assert (_HEAVY - needed) & set(done.stderr.split()) == set()


_BUILT = """if True:
    import sys, typer.main
    from geo_assets import cli
    build, built = typer.main.get_params_from_function, set()
    typer.main.get_params_from_function = lambda f: built.add(f"{f.__module__}.{f.__name__}") or build(f)
    try:
        cli.main()
    finally:
        print(*(name for name in built if name.startswith("geo_assets.commands.")), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--debug job-types", {"submissions.job_types"}),
        ("load --help", {"vector.load"}),
        ("cog --help", {"raster.convert", "raster.validate"}),
    ],
)
def test_a_command_line_builds_the_command_that_it_names_and_no_other(line, named):
    done = subprocess.run(
        [sys.executable, "-c", _BUILT, *line.split()], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stderr.split()) == {f"geo_assets.commands.{name}" for name in named}


@pytest.mark.parametrize("line", ["--help", "--help load", "--debug -h cog"])
def test_the_help_of_the_program_lists_all_commands(line):
    done = subprocess.run(
        [sys.executable, "-m", "geo_assets", *line.split()], capture_output=True, text=True, check=True
    )
    assert all(f" {command} " in done.stdout for command in ("up", "submit", "load", "cog", "token"))


def test_the_package_is_the_command():
    done = subprocess.run([sys.executable, "-m", "geo_assets", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_command_runs_where_a_standard_stream_is_closed(closed):
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m geo_assets --version {closed}', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


#: Models that the workers of a stage use first, all at once, in a new process.
_FIRST_USE = """
import json, sys, threading
sys.setswitchinterval(1e-6)
from geo_assets.raster.models import ConvertRequest
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source
from geo_assets.vector.models import InspectReport, LayerPlan, StreamReport, StreamRequest
from geo_assets.wire import checked, json_of, told
failed, ready = [], threading.Barrier(8)
def use():
    ready.wait()
    try:
        Source(path="a", kind=Kind.RASTER, members=(Member(path="a", size=1, etag="e"),))
        plan = LayerPlan(driver="GPKG", columns=(), geometry_type=None, feature_count=0)
        json.dumps(StreamRequest(source="a", plan=plan), default=told)
        checked(InspectReport, {"layers": [json_of(plan)], "software": {}})
        checked(StreamReport, {"rows": 1, "found": {}})
        ConvertRequest(source="a", destination="b")
        for model, wrong in ((Member, {"path": "a", "size": 1, "etag": "e", "more": 1}), (StreamReport, {"rows": -1})):
            try:
                checked(model, wrong)
            except ValueError:
                continue
            raise AssertionError(wrong)
    except BaseException as error:
        failed.append(repr(error))
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit("; ".join(failed)[:2000] or 0)
"""


def test_models_that_are_built_when_they_are_first_used_may_be_first_used_by_several_threads():
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", _FIRST_USE], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


#: The command, which hears Ctrl-C also where the tests run in the background, and do not.
_HEARS = """if True:
    import os, signal, sys
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", "geo_assets", *sys.argv[1:]])
"""


@pytest.fixture
def silent_database(tmp_path):
    """The environment of a command whose database takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield (
            {
                **{name: value for name, value in os.environ.items() if not name.startswith(("GEO_ASSETS_", "PG"))},
                "GEO_ASSETS_HOME": str(tmp_path / "home"),
                "GEO_ASSETS_PG_PORT": str(server.getsockname()[1]),
                "GEO_ASSETS_PIPELINE_PASSWORD": "none",
            },
            server,
        )


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_load_whose_database_says_nothing_ends_when_it_is_told_to(silent_database, tmp_path, ending):
    environment, server = silent_database
    (tmp_path / "a.geojson").write_text('{"type": "Point", "coordinates": [1, 2]}')
    line = [sys.executable, "-c", _HEARS, "load", str(tmp_path / "a.geojson"), "--table", "vector.a"]
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        connections = [server.accept(), server.accept()]  # that of statements, and the session of the driver
        time.sleep(0.5)
        process.send_signal(ending)
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + ending, said
    for connection, _ in connections:
        connection.close()


def test_a_load_that_cannot_be_done_says_so_whatever_its_database_does(silent_database, tmp_path):
    environment, _ = silent_database
    line = [sys.executable, "-m", "geo_assets", "load", str(tmp_path / "none.gpkg"), "--table", "vector.a"]
    began = time.monotonic()
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "none.gpkg" in done.stderr) == (1, True), done.stderr
    assert time.monotonic() - began < 5
