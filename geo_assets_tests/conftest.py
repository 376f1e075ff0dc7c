"""A stack of the tests' own, started once a session through the public command and stopped at its end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


class Cli:
    """`geo-assets` as a user calls it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {**os.environ, "GEO_ASSETS_HOME": str(home)}

    def run(self, *args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("geo-assets")), *args]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)

    def json(self, *args: str):
        done = self.run(*args, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def cli(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    for folder in (home, *home.parents):  # PostgreSQL's user must reach its data directory
        if "pytest" in folder.name:
            folder.chmod(0o755)
    cli = Cli(home)
    started = cli.run("up")
    assert started.returncode == 0, started.stderr
    yield cli
    cli.run("down")
