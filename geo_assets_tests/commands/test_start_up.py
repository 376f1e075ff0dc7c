"""What a command loads before it does anything: its start is most of the time of a small file."""

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("line", ["--debug job-types", "cog --help", "vector inspect --help"])
def test_a_command_line_builds_the_command_that_it_names_and_no_other(line):
    program = """if True:
        import sys, typer.main
        from geo_assets import cli
        build, built = typer.main.get_params_from_function, set()
        typer.main.get_params_from_function = lambda f: built.add(f.__module__) or build(f)
        try:
            cli.main()
        finally:
            print(*(m for m in built if m and m.startswith("geo_assets.commands.")), file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", program, *line.split()], capture_output=True, text=True, check=True)
    (module,) = set(done.stderr.split())
    assert done.stdout, module


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
import sys, threading
sys.setswitchinterval(1e-6)
from geo_assets.raster.models import ConvertRequest
from geo_assets.storage.sources import Kind, Member, Source
from geo_assets.vector.models import InspectReport, LayerPlan, StreamReport, StreamRequest
failed, ready = [], threading.Barrier(8)
def use():
    ready.wait()
    try:
        Source(path="a", kind=Kind.RASTER, members=(Member(path="a", size=1, etag="e"),))
        plan = LayerPlan(driver="GPKG", columns=(), geometry_type=None, feature_count=0)
        StreamRequest(source="a", plan=plan).model_dump_json()
        InspectReport.model_validate({"layers": [plan.model_dump()], "software": {}})
        StreamReport.model_validate_json('{"rows": 1, "found": {}}')
        ConvertRequest(source="a", destination="b").model_dump()
        for model, wrong in ((Member, {"path": "a", "size": 1, "etag": "e", "more": 1}), (StreamReport, {"rows": -1})):
            try:
                model.model_validate(wrong)
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
