"""Commands while the stack is stopped: they say so at once, and how it is started."""

import json
import re
import shlex
import time

import pytest

from geo_assets.local.postgresql import free_port
from geo_assets_tests.conftest import Cli

ROAD = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The command line of a stack whose database refuses connections."""
    home = tmp_path_factory.mktemp("stopped")
    (home / "roads.geojson").write_text(json.dumps(ROAD))
    return Cli(home, GEO_ASSETS_PG_HOST="127.0.0.1", GEO_ASSETS_PG_PORT=str(free_port()))


@pytest.mark.parametrize(
    "line",
    [
        "jobs",
        "tasks abcdef",
        "submit hello_world",
        "top --once",
        "load HOME/roads.geojson --table vector.roads",
        "export landing HOME/exported",
        "backup HOME/saved",
        "psql -c 'select 1'",
        "pause",
        "collection list",
    ],
)
def test_a_command_that_needs_the_database_says_at_once_that_it_is_stopped_and_how_it_is_started(stopped, line):
    began = time.monotonic()
    done = stopped.run(*shlex.split(line.replace("HOME", str(stopped.home))))
    assert time.monotonic() - began < 9.5
    assert done.returncode == 1
    assert re.search(r"error: .*does not answer\nhint: .*geo-assets up\n$", done.stderr), done.stderr


def test_doctor_sends_nobody_to_doctor(stopped):
    found = {each["what"]: each for each in stopped.json("doctor")}
    assert found["launches"]["level"] == "failure"
    assert not [what for what, each in found.items() if "geo-assets doctor" in each["remedy"]]
    assert found["launches"]["remedy"].endswith("geo-assets up")
