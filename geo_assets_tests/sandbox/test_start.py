"""Children that were started ahead of their terms."""

import os
import subprocess
import sys

import pytest

from geo_assets import __main__
from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox import start
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest
from geo_assets_tests.sandbox.test_pool import needs_walls
from geo_assets_tests.waiting import until

PROBE = "geo_assets.sandbox.selftest:probe"


def probed(pool, action="environment", path=""):
    """What a child says of itself, with its pool's own directory as `-`, and without its user, which is any."""
    report = pool.call(PROBE, ProbeRequest(action=action, path=path), ProbeReport)
    facts = {name: fact.replace(str(pool._scratch), "-") for name, fact in report.facts.items() if name != "Uid"}
    return report.pid, facts


@pytest.fixture(params=__main__.WITH_A_CHILD)
def modules(request):
    """What a command has its child load."""
    return __main__.WITH_A_CHILD[request.param]


@pytest.mark.parametrize("action", ["environment", "walls", "files", "modules"])
def test_a_child_that_was_started_ahead_of_its_terms_is_like_any_other(tmp_path, action, modules):
    secret = tmp_path / "secret"
    secret.write_bytes(b"of another customer")
    start.ahead(*modules)
    waiting = start._AHEAD[-1].process.pid
    with SandboxPool(tmp_path, permissive=True, preload=modules) as pool:
        pid, ahead = probed(pool, action, str(secret))
    with SandboxPool(tmp_path, permissive=True, preload=modules) as pool:
        another, usual = probed(pool, action, str(secret))
    assert pid == waiting != another
    assert ahead == usual


#: A library that starts a thread as soon as it is imported, before the walls are raised.
_WITH_A_THREAD = """
import sys, threading, time
from geo_assets.sandbox import child
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
child.main(int(sys.argv[1]), int(sys.argv[2]))
"""


@needs_walls
def test_a_child_with_a_thread_outside_of_its_walls_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "_CHILD", ("-P", "-c", _WITH_A_THREAD))
    with SandboxPool(tmp_path) as pool, pytest.raises(GeoAssetsError, match="a process of one thread") as caught:
        probed(pool)
    assert caught.value.code == "SANDBOX_INCOMPLETE"


def test_where_a_library_starts_a_thread_ahead_of_the_walls_another_child_takes_the_place(tmp_path):
    start.ahead("concurrent.futures", "geo_assets_tests.sandbox.with_a_thread")
    waiting = start._AHEAD[-1].process.pid
    with SandboxPool(tmp_path) as pool:
        pid, walls = probed(pool, "walls")
    assert pid != waiting
    assert "one thread" not in walls["missing"]


def test_the_first_pool_takes_it_and_the_next_starts_its_own(tmp_path):
    start.ahead()
    waiting = start._AHEAD[-1].process.pid
    with SandboxPool(tmp_path, permissive=True) as pool:
        assert probed(pool)[0] == waiting
    with SandboxPool(tmp_path, permissive=True) as pool:
        assert probed(pool)[0] != waiting


def test_one_that_nobody_takes_ends_with_its_parent():
    program = (
        "from geo_assets.sandbox import start; start.ahead(); print(start._AHEAD[0].process.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        assert os.path.exists(f"/proc/{child}")  # noqa: PTH110
        parent.kill()
    until(lambda: not os.path.exists(f"/proc/{child}"))  # noqa: PTH110


def test_a_command_that_needs_no_child_after_all_leaves_none(tmp_path):
    command = [sys.executable, "-X", "dev", "-m", "geo_assets", "cog", str(tmp_path / "none.tif"), "o.tif"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no file" in done.stderr
    assert "ResourceWarning" not in done.stderr
