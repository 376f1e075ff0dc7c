"""README.md, tutorial.md and authentication.md, typed as they stand into a stack of their own.

Here: what stands for the words that are the reader's: files, the id of a job. Not here: which blocks are left out, and
why (`pages.py`).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geo_assets_tests.conftest import Cli
from geo_assets_tests.databases import link_postgresql
from geo_assets_tests.pages import ROOT, blocks

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

DEMO = ROOT / "geo_assets" / "demo_data"
PROGRAMS = Path(sys.executable).parent

#: What a page leaves to its reader -> what it is here. `make` is for a checkout, the files are in a folder of the test.
OURS = {
    r"^make ": f"make -C {ROOT} ",
    r"\$PWD/\.venv/bin": str(PROGRAMS),
    r"geo_assets/demo_data": str(DEMO),
    r"path/to/files": "files",
    r"\bID\b": '"$(newest)"',
    r"\./\.geo/my-export": "./my-export",
}

#: A person's shell knows aliases, and a person the id of the newest job.
SHELL = """
shopt -s expand_aliases
newest() { geo-assets jobs --json | python -c 'import json, sys; print(json.load(sys.stdin)[0]["job_id"])'; }
"""


@pytest.fixture(scope="module")
def stack(open_folder, postgres_home):
    """A home in which nothing was started."""
    cli = Cli(open_folder())
    link_postgresql(postgres_home, cli.home)
    yield cli
    cli.run("down")


@pytest.fixture
def typed(stack, tmp_path):
    """Types the blocks of a page, one after the other, into one shell; what it answers."""
    (tmp_path / "files").mkdir()
    for name in ("elevation.tif", "hillshade.tif"):
        shutil.copy(DEMO / "jacksboro" / name, tmp_path / "files")
    shutil.copy(DEMO / "jacksboro" / "elevation.tif", tmp_path / "scan.tif")
    shutil.copy(DEMO / "world" / "countries.gpkg", tmp_path / "roads.gpkg")

    def of(page: str, before: str = "") -> str:
        script = "\n".join(block.text for block in blocks(page) if block.is_run)
        for pattern, ours in OURS.items():
            script = re.sub(pattern, lambda _, ours=ours: ours, script, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", f"{SHELL}\n{before}\n{script}"],
            cwd=tmp_path,
            env={**stack.env, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n--- stderr\n{done.stderr[-5000:]}"
        return done.stdout

    return of


def test_the_commands_of_the_readme_do_what_is_said_of_them(typed, tmp_path):
    said = typed("README.md")
    assert (tmp_path / "scan.cog.tif").exists()
    assert "elevation.tif" in said


def test_the_tutorial_leads_from_the_demo_to_a_delivery_that_is_proved(typed, tmp_path):
    said = typed("docs/tutorial.md")
    assert "China" in said or "India" in said, "the three largest of the demo's countries"
    assert "VECTOR_NO_GEOMETRY" in said
    assert re.search(r"^new +cogs +heights/elevation\.tif", said, re.MULTILINE)
    assert re.search(r"^unchanged +vector_tables +countries\.gpkg", said, re.MULTILINE)
    assert (tmp_path / "my-export" / "catalog.json").exists()


def test_tokens_are_made_and_revoked_as_the_page_says(typed):
    assert len(typed("docs/authentication.md", before="geo-assets up").split()) >= 2
