"""A stack whose steps, or whose runs, are executed by workers of Celery, and the workers."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec

import pytest

from geo_assets_tests.conftest import Cli, a_stack
from geo_assets_tests.processes import children
from geo_assets_tests.redis_server import Redis
from geo_assets_tests.waiting import until

#: What cannot be imported without the packages of the extra.
collect_ignore = [] if find_spec("dagster_celery") else ["test_configuration.py", "test_priorities.py"]

CHUNK = 8


class Workers:
    """Workers of one step at a time, each a group of processes; whatever is done to them, they end with the test."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self._cli.home / "logs" / f"{name}.log").open("wb") as log:
            self._started[name] = subprocess.Popen(
                self._cli.command("worker", "--steps", "1", "--name", name),
                env=self._cli.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        return (self._cli.home / "logs" / f"{name}.log").read_text(errors="replace")

    def wait(self, name: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while f"{name}@" not in self.log(name) or " ready." not in self.log(name):
            assert time.monotonic() < deadline, self.log(name)
            assert self._started[name].poll() is None, self.log(name)
            time.sleep(0.1)

    def complete(self) -> None:
        """Start those that are not there."""
        missing = [name for name in ("first", "second") if name not in self._started]
        for name in missing:
            self.start(name)
        for name in missing:
            self.wait(name)

    def at_work(self) -> dict[str, list[int]]:
        """The workers that have a sandboxed child, each with its processes."""
        found = {}
        for name, process in self._started.items():
            family = [process.pid, *descendants(process.pid)]
            if len(family) > 2:  # itself, the process of its step, that one's children
                found[name] = family
        return found

    def the_one_at_work(self) -> str:
        """The worker that has the run of a test; another may still be putting away what it did before."""
        return until(lambda: len(found := self.at_work()) == 1 and next(iter(found)))

    def kill(self, name: str) -> None:
        """End a worker and the process of its step as the kernel does when memory is short: without a word."""
        process = self._started.pop(name)
        for pid in [process.pid, *children(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    @contextmanager
    def frozen(self, name: str):
        """A worker whose machine stands still."""
        family = [self._started[name].pid, *descendants(self._started[name].pid)]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        for process in self._started.values():
            process.terminate()
        for process in self._started.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(below for child in found for below in descendants(child))]


@pytest.fixture(scope="module")
def redis(open_folder):
    server = Redis(open_folder())
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def cli(request, open_folder, postgres_home, redis):
    """A stack with the settings of the module."""
    own = {
        "GEO_ASSETS_CELERY_BROKER": redis.url,
        "GEO_ASSETS_CHUNK_FILES": str(CHUNK),
        "GEO_ASSETS_WORKERS": "1",
        **request.module.SETTINGS,
    }
    yield from a_stack(Cli(open_folder(), **own), postgres_home)


@pytest.fixture(scope="module")
def _workers(cli):
    found = Workers(cli)
    yield found
    found.stop()


@pytest.fixture
def workers(_workers):
    """Two workers that have nothing to do."""
    _workers.complete()
    until(lambda: not _workers.at_work(), 60)
    return _workers
