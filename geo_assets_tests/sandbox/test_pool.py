import ctypes
import os
import socket
import subprocess
import sys
import time

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest
from geo_assets_tests.vector.builders import points, write

PROBE = "geo_assets.sandbox.selftest:probe"


@pytest.fixture
def pool(tmp_path):
    with SandboxPool(tmp_path, timeout_seconds=3) as pool:
        yield pool


def ask(pool, action, **more):
    return pool.call(PROBE, ProbeRequest(action=action, **more), ProbeReport)


def has_landlock():
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) >= 2


needs_landlock = pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock that allows renames")


def test_a_child_inherits_no_secret(pool, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    assert "hunter2" not in str(ask(pool, "environment").facts)


def test_a_childs_gdal_looks_for_no_extension_of_sqlite(pool, tmp_path):
    """The C library tells of every library that is looked for; the control shows that it would tell of this one."""
    path = write(points(1), tmp_path / "a.gpkg")
    environment = {name: value for name, value in ask(pool, "environment").facts.items() if name.startswith(("GDAL_", "OGR_"))}
    assert environment
    code = f"import pyogrio; pyogrio.read_info({str(path)!r})"
    for extensions, looked_for in (({}, False), ({"OGR_SQLITE_LOAD_EXTENSIONS": "NO"}, True)):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**environment, **extensions, "LD_DEBUG": "libs"}, capture_output=True, text=True, check=True
        )
        assert ("find library=NO " in done.stderr) == looked_for


def test_a_file_that_kills_its_reader_twice_is_condemned_and_the_pool_lives_on(pool):
    with pytest.raises(GeoAssetsError) as caught:
        ask(pool, "crash")
    assert caught.value.code == "SANDBOX_CRASHED"
    assert ask(pool, "environment").pid


def test_a_file_that_hangs_its_reader_is_given_up(pool):
    with pytest.raises(GeoAssetsError) as caught:
        ask(pool, "hang")
    assert caught.value.code == "SANDBOX_TIMEOUT"
    assert ask(pool, "environment").pid


def test_a_file_that_wants_too_much_memory_is_refused(pool):
    with pytest.raises(GeoAssetsError) as caught:
        ask(pool, "allocate")
    assert caught.value.code == "SANDBOX_OUT_OF_MEMORY"


@pytest.mark.skipif(os.geteuid() != 0, reason="user namespaces may be off")
def test_a_child_has_no_network(pool):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert ask(pool, "network", port=server.getsockname()[1]).facts["network"].startswith("unreachable")


@needs_landlock
@pytest.mark.parametrize("path", ["/etc/passwd", f"/proc/{os.getpid()}/environ", __file__])
def test_a_child_reads_and_writes_nothing_of_others(pool, path):
    facts = ask(pool, "files", path=path).facts
    assert facts["read"] == "Permission denied"
    assert facts["written"] != "written"


def test_a_child_reads_and_writes_in_its_workspace(pool):
    with pool.workspace() as folder:
        (folder / "in").write_bytes(b"12")
        assert ask(pool, "files", path=str(folder / "in")).facts == {"read": "2 bytes", "written": "written"}


@needs_landlock
def test_a_child_reads_what_it_was_allowed_by_name_and_nothing_beside_it(tmp_path):
    for name in ("allowed", "beside"):
        (tmp_path / name).write_bytes(b"12")
    with SandboxPool(tmp_path / "scratch", readable=[tmp_path / "allowed"]) as pool:
        assert ask(pool, "files", path=str(tmp_path / "allowed")).facts == {"read": "2 bytes", "written": "Permission denied"}
        assert ask(pool, "files", path=str(tmp_path / "beside")).facts["read"] == "Permission denied"


def test_a_module_in_the_scratch_directory_is_not_imported(tmp_path):
    with SandboxPool(tmp_path) as pool:
        (scratch,) = tmp_path.glob("run-*")
        (scratch / "traceback.py").write_text("raise SystemExit")
        (scratch / "rasterio.py").write_text("raise SystemExit")
        assert not ask(pool, "libraries").facts["missing drivers"]


def test_a_child_dies_with_its_parent_even_when_busy(tmp_path):
    program = f"""
from pathlib import Path
import threading, time
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest
from geo_assets_tests.vector.builders import points, write
pool = SandboxPool(Path({str(tmp_path)!r}))
print(pool.call({PROBE!r}, ProbeRequest(action="environment"), ProbeReport).pid, flush=True)
threading.Thread(target=lambda: pool.call({PROBE!r}, ProbeRequest(action="hang"), ProbeReport)).start()
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{child}")  # noqa: PTH110
