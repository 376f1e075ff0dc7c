"""What a command loads before it does anything: its start is most of the time of a small file."""

import subprocess
import sys

import pytest

#: Each takes tens of milliseconds or more, and no command needs it to know its arguments.
_HEAVY = {
    *("dagster", "psycopg", "numpy", "rasterio", "pyogrio", "pyarrow", "shapely", "geopandas", "fastapi", "obstore"),
    *("asyncio", "pydantic_settings", "geo_assets.settings", "geo_assets.parameters", "geo_assets.ledger"),
}


def test_the_arguments_of_all_commands_are_known_before_any_library_for_the_work_is_loaded():
    program = "import sys, geo_assets.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert _HEAVY & set(done.stdout.split()) == set()


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
