"""A stack of the tests' own, started once a session through the public command and stopped at its end."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path

import psycopg
import pytest

from geo_assets.home import default_home
from geo_assets.local.debian_packages import UNPACKED
from geo_assets.local.postgresql import ensure_binaries, free_port
from geo_assets.local.stack import STATE_FILE, StackState
from geo_assets_tests.azurite import ACCOUNTS, Azurite, find_azurite
from geo_assets_tests.databases import (  # noqa: F401 - fixtures for all
    cluster,
    dagster,
    databases,
    link_postgresql,
    settings,
    submitter,
)

HERE = Path(__file__).parent

#: Files whose tests take longest, each half a minute or more, the longest first.
LONGEST = (
    "k8s/test_runs_in_pods.py",
    "k8s/test_pods_that_end.py",
    "vector/test_commands.py",
    "integration/test_receipts.py",
    "commands/test_hints.py",
    "integration/test_several_rasters.py",
    "integration/test_publication.py",
    "integration/test_list_container.py",
    "serving/test_page.py",
    "integration/test_time_of_capture.py",
    "faults/test_killed_run.py",
    "raster/test_checkpoint.py",
    "stages/test_deltas.py",
    "commands/test_cog.py",
    "integration/test_ingest_container.py",
    "serving/test_doors.py",
    "integration/test_every_file.py",
    "integration/test_hello_world.py",
    "receipts/test_state.py",
    "integration/test_reconcile.py",
    "integration/test_partitions.py",
    "stages/test_catalogue.py",
    "stages/test_raster_collections.py",
    "receipts/test_incomplete.py",
    "integration/test_hrefs.py",
    "vector/test_adversarial.py",
    "commands/test_up.py",
    "integration/test_messy_delivery.py",
)


def geo_assets(*args: str) -> list[str]:
    """The command with these arguments, as the environment of the tests has it."""
    return [str(Path(sys.executable).with_name("geo-assets")), *args]


#: For a process that is to be ended by Ctrl-C: what is started in the background of a shell ignores it.
INTERRUPTIBLE = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}


class Cli:
    """`geo-assets` as a user calls it."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        # rasters of some millions of pixels are large here: what is done of them is kept; the server of what was
        # published is started by the tests that ask for it
        own = {"GEO_ASSETS_HOME": str(home), "GEO_ASSETS_CHUNK_PIXELS": "2000000", "GEO_ASSETS_UP_SERVES": "false"}
        own["GEO_ASSETS_HOST_FOLDER"] = str(Path(home) / "host")  # stacks of other tests are at work beside this one
        self.env = {**os.environ, **own, **environment}

    def command(self, *args: str) -> list[str]:
        return geo_assets(*args)

    def run(self, *args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*args), env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def json(self, *args: str):
        done = self.run(*args, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    @cached_property
    def exports(self) -> dict[str, str]:
        """What `geo-assets env` exports: ports and passwords of a stack stay the same."""
        return self.json("env")


@pytest.hookimpl(tryfirst=True)  # before those that are not asked for are left out
def pytest_collection_modifyitems(items):
    """Mark the tests that start a stack: those that use one of its fixtures. What takes longest begins first, or a
    worker would be left alone with it in the end.
    """
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(HERE).as_posix(), len(LONGEST)))
    for item in items:
        if {"cli", "azure_cli"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.stack)
            if item.get_closest_marker("timeout") is None:  # the first also waits for PostgreSQL, which may be fetched
                item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def open_folder():
    """Makes temporary folders that PostgreSQL's user can reach; pytest keeps its own for their owner alone."""
    made = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="geo_assets_test_")))
        made[-1].chmod(0o755)
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_home(open_folder):
    """A home with PostgreSQL's programs: the machine's, those unpacked for the checkout, or unpacked now."""
    home = open_folder()
    unpacked = default_home() / UNPACKED
    if unpacked.is_dir():
        (home / UNPACKED).symlink_to(unpacked)
    ensure_binaries(home, print)
    return home


@pytest.fixture(scope="session")
def cli(open_folder, postgres_home):
    yield from a_stack(Cli(open_folder()), postgres_home)


@pytest.fixture(scope="session")
def azurite(open_folder):
    """An emulator of Azure Storage for the session; see `azurite.py` for its accounts."""
    program = find_azurite()
    if program is None:
        pytest.skip("neither azurite nor npm is here")
    azurite = Azurite(program, open_folder())
    azurite.start()
    yield azurite
    azurite.stop()


@pytest.fixture(scope="session")
def azure_cli(open_folder, postgres_home, azurite):
    """A stack whose sources, outputs, inbox and queue are in an Azure account in which nothing was prepared; its alias
    is `azure`.
    """
    account = azurite.account(ACCOUNTS[1])
    environment = {
        "GEO_ASSETS_ACCOUNTS": json.dumps({"azure": account.settings}),
        "GEO_ASSETS_OUTPUT_ACCOUNT": "azure",
        "GEO_ASSETS_INBOX_ACCOUNT": "azure",
        "GEO_ASSETS_QUEUE_CONNECTION_STRING": account.connection,
    }
    yield from a_stack(Cli(open_folder(), **environment), postgres_home)


def a_stack(cli: Cli, postgres_home: Path):
    """Start a stack, stop it in the end."""
    link_postgresql(postgres_home, cli.home)
    own_ports(cli.home)
    started = cli.run("up")
    assert started.returncode == 0, started.stderr
    _without_waiting_for_the_disk(cli)
    yield cli
    cli.run("down")


def own_ports(home: Path) -> None:
    """Let a stack that is not made yet have ports that no other one prefers: of two with the same preference, one that
    is down loses its port to the other. They are below those from which the kernel takes what nobody chose.
    """
    file = home / STATE_FILE
    if file.exists():
        return
    chosen = [port for port in random.sample(range(10_000, 32_000), 50) if free_port(port) == port]
    ports = dict(zip(("postgres", "webserver", "code_server", "api", "serve"), chosen, strict=False))
    file.write_text(StackState(ports=ports).model_dump_json())


def _without_waiting_for_the_disk(cli: Cli) -> None:
    """Let PostgreSQL trust the kernel: a job is some two hundred commits. What is killed here is processes, whose pages
    the kernel keeps; no test cuts the power.
    """
    stack = json.loads((cli.home / "stack.json").read_text())
    superuser = {"port": stack["ports"]["postgres"], "password": stack["passwords"]["superuser"]}
    with psycopg.connect(host="127.0.0.1", user="postgres", dbname="postgres", autocommit=True, **superuser) as conn:
        for setting in ("fsync", "full_page_writes"):
            conn.execute(f"alter system set {setting} = off")
        conn.execute("select pg_reload_conf()")
