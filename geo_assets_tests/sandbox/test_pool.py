import ctypes
import importlib.util
import os
import platform
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.models import StripReport, StripRequest
from geo_assets.sandbox import scratch as scratch_module
from geo_assets.sandbox import start as start_module
from geo_assets.sandbox import watch as watch_module
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.sandbox.protocol import receive_reply
from geo_assets.sandbox.scratch import TEMPORARY
from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest
from geo_assets.sandbox.walls import USERS
from geo_assets.stages.raster_conversion import Converter
from geo_assets_tests.vector.builders import points, write
from geo_assets_tests.waiting import until

PROBE = "geo_assets.sandbox.selftest:probe"


@pytest.fixture
def pool(tmp_path):
    with SandboxPool(tmp_path, timeout_seconds=60) as pool:
        yield pool


@pytest.mark.parametrize("started_already", [False, True])
def test_a_signal_at_the_start_of_a_thread_leaves_no_directory(tmp_path, monkeypatch, started_already):
    begin = threading.Thread.start

    def interrupted(thread):
        if not thread.name.startswith("sandbox-watch"):
            return begin(thread)
        if started_already:
            begin(thread)
        raise SystemExit(143)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(SystemExit), SandboxPool(tmp_path) as pool:
        ask(pool, "environment")
    assert list(tmp_path.iterdir()) == []


def test_a_pool_that_cannot_end_one_thing_ends_the_others(tmp_path, monkeypatch):
    pool = SandboxPool(tmp_path)
    monkeypatch.setattr(watch_module.Watch, "close", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pool.close()
    assert list(tmp_path.iterdir()) == []


def ask(pool, action, **more):
    return pool.call(PROBE, ProbeRequest(action=action, **more), ProbeReport)


@dataclass(frozen=True)
class SourceRequest(ProbeRequest):
    """Like a request for a file: it names a source."""

    source: str = ""


def hostile(folder, program, **more):
    return SourceRequest(action="environment", path=f"{folder}/#{textwrap.dedent(program).encode().hex()}", **more)


def run_taken_over(pool, folder, program, **more):
    """Return the answer of a child that runs an attacker's program."""
    return pool.call(PROBE, hostile(folder, program, **more), ProbeReport).facts


def has_landlock():
    return ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) >= 2


needs_walls = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "aarch64"}, reason="the numbers of its system calls are not known"
)

#: A child as it would be where `seccomp.py` does not know the machine.
_ON_ANOTHER_MACHINE = """
import platform, runpy, sys
platform.machine = lambda: "riscv64"
runpy.run_module("geo_assets.sandbox.child", run_name="__main__", alter_sys=True)
"""

#: A child that a file has taken over: what `environment` asks for is a program, as hexadecimal digits after a `#`,
#: beside the directory that it may use.
_TAKEN_OVER = """
import dataclasses, os, sys, threading, time
from geo_assets.sandbox import child, selftest
@dataclasses.dataclass(frozen=True)
class ProbeRequest(selftest.ProbeRequest):
    source: str = ""
selftest.probe.__annotations__["request"] = ProbeRequest
def run(request):
    folder, _, program = request.path.partition("/#")
    facts = {}
    exec(bytes.fromhex(program).decode(), {"folder": folder, "facts": facts, "control": int(sys.argv[1]), "request": request, "os": os, "sys": sys,
        "threading": threading, "time": time})
    return {name: str(fact) for name, fact in facts.items()}
selftest._ACTIONS["environment"] = run
def probe(request, sink=None):
    return selftest.ProbeReport(pid=os.getpid(), facts=run(request))
probe.__annotations__["request"] = ProbeRequest
selftest.probe = probe
child.main(int(sys.argv[1]), int(sys.argv[2]))
"""

#: A child that reports for every archive a raster in a place that it was not given.
_LIES_OF_PLACES = """
import sys
from geo_assets.raster import archives
from geo_assets.raster.variables_models import RasterMember, UnpackReport, UnpackRequest
from geo_assets.sandbox import child
def rasters(request):
    return UnpackReport(rasters=[RasterMember(name="m.tif", path=request.name[1:], sidecars=())], others=())
rasters.__annotations__["request"] = UnpackRequest
archives.rasters = rasters
child.main(int(sys.argv[1]), int(sys.argv[2]))
"""

#: The same with a wall less, as of a machine where the calls that hand over descriptors are not refused.
_HANDS_OVER = _TAKEN_OVER.replace(
    "child.main",
    "from geo_assets.sandbox import seccomp\nfor name in ('sendmsg', 'sendmmsg'):"
    " seccomp._REFUSED.pop(name)\nchild.main",
)

#: It gives what writes to the stream back to its parent, who holds it by that, and dies.
_GIVES_THE_PIPE_AWAY = """
import socket
links = {int(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}
pipes = [fd for fd, link in links.items() if "pipe:" in link and fd != int(sys.argv[2])]
socket.send_fds(socket.socket(fileno=os.dup(control)), [b"x"], pipes)
os._exit(3)
"""

#: It answers with bytes of its own, and ends.
_ANSWERS = """
import socket, struct
body = {body}
socket.socket(fileno=os.dup(control)).sendall(struct.pack("!I", {length}) + body)
os._exit(0)
"""

needs_landlock = pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock that allows renames")


def test_a_child_inherits_no_secret(pool, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    assert "hunter2" not in str(ask(pool, "environment").facts)


def test_a_childs_gdal_looks_for_no_extension_of_sqlite(pool, tmp_path):
    """The C library tells of every library that is looked for; the control shows that it would tell of this one."""
    path = write(points(1), tmp_path / "a.gpkg")
    environment = {
        name: value for name, value in ask(pool, "environment").facts.items() if name.startswith(("GDAL_", "OGR_"))
    }
    assert environment
    code = f"import pyogrio; pyogrio.read_info({str(path)!r})"
    for extensions, looked_for in (({}, False), ({"OGR_SQLITE_LOAD_EXTENSIONS": "NO"}, True)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **extensions, "LD_DEBUG": "libs"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("find library=NO " in done.stderr) == looked_for


def test_a_file_that_kills_its_reader_twice_is_condemned_and_the_pool_lives_on(pool):
    with pytest.raises(GeoAssetsError) as caught:
        ask(pool, "crash")
    assert caught.value.code == "SANDBOX_CRASHED"
    assert ask(pool, "environment").pid


def test_a_call_that_names_files_of_two_workspaces_is_refused_wherever_it_names_them(tmp_path):
    with (
        SandboxPool(tmp_path, workers=2, timeout_seconds=60) as pool,
        pool.workspace() as one,
        pool.workspace() as other,
    ):
        thumbnails = str(one / "a.png"), str(other / "b.png")
        request = StripRequest(thumbnails=thumbnails, destination=str(one / "strip.jpg"))
        with pytest.raises(GeoAssetsError, match="two workspaces"):
            pool.call("geo_assets.raster.strip:strip", request, StripReport)


@pytest.mark.parametrize(
    "body",
    [
        b'{"result": {"a": NaN}}',
        b'{"result": {"a": -Infinity}}',
        b'{"result": {"a": 1e999}}',
        b'{"result": {"a": 1%s}}' % (b"0" * 400),
        b'{"result": {"a": %s}}' % (b"[" * 200 + b"]" * 200),
    ],
)
def test_a_reply_that_no_database_could_hold_is_none(body):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("!I", len(body)) + body)
        with pytest.raises(ValueError, match=r"no number|too deeply"):
            receive_reply(ours, lambda: True)


def test_a_file_that_hangs_its_reader_is_given_up(tmp_path):
    with SandboxPool(tmp_path, timeout_seconds=3) as pool:
        with pytest.raises(GeoAssetsError) as caught:
            ask(pool, "hang")
        assert caught.value.code == "SANDBOX_TIMEOUT"
        pool._timeout = 60  # a slow start is not what is looked at
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
@pytest.mark.parametrize(
    "path", ["/etc/passwd", f"/proc/{os.getpid()}/environ", __file__], ids=["users", "parent", "code"]
)
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
        assert ask(pool, "files", path=str(tmp_path / "allowed")).facts == {
            "read": "2 bytes",
            "written": "Permission denied",
        }
        assert ask(pool, "files", path=str(tmp_path / "beside")).facts["read"] == "Permission denied"


def test_a_module_in_the_scratch_directory_is_not_imported(tmp_path):
    with SandboxPool(tmp_path) as pool:
        (scratch,) = tmp_path.glob("run-*")
        for folder in (scratch, scratch / "0", scratch / "0" / "tmp"):
            (folder / "traceback.py").write_text("raise SystemExit")
            (folder / "rasterio.py").write_text("raise SystemExit")
        assert not ask(pool, "libraries").facts["missing drivers"]


def test_a_child_imports_nothing_that_it_does_not_need_to_convert_a_file(tmp_path):
    assert all(importlib.util.find_spec(name) for name in ("geopandas", "pandas"))
    with SandboxPool(tmp_path) as pool:
        assert ask(pool, "modules").facts == {}


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


@needs_walls
@pytest.mark.parametrize("name", ["sock", "@geo_assets_test"], ids=["pathname", "abstract"])
def test_a_child_reaches_no_unix_socket_and_makes_none(pool, open_folder, name):
    name = name if name.startswith("@") else str(open_folder() / name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name.replace("@", "\0"))
        server.listen()
        if not name.startswith("@"):
            Path(name).chmod(0o777)
        assert ask(pool, "socket", path=name).facts == {
            "connected": "Operation not permitted",
            "pair": "Operation not permitted",
        }


@needs_walls
def test_a_child_signals_nobody(pool):
    assert ask(pool, "signal", pid=os.getpid()).facts == {
        "kill": "Operation not permitted",
        "owner": "Operation not permitted",
    }


@needs_walls
def test_a_child_starts_no_process(pool):
    facts = ask(pool, "fork").facts
    assert facts == dict.fromkeys(("fork", "exec", "spawn"), "Operation not permitted")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user to become")
def test_a_child_of_root_is_a_user_of_its_own_that_may_no_more_than_read(pool):
    facts = ask(pool, "walls").facts
    users = set(facts["Uid"].split())
    assert len(users) == 1
    assert int(users.pop()) in USERS
    assert int(facts["CapEff"], 16) in {1 << 2, 1 << 1}
    assert facts["NoNewPrivs"] == "1"


def test_what_a_machine_lacks_is_said_and_the_rest_stands(pool):
    facts = ask(pool, "walls").facts
    if "host name" not in facts["without"]:
        assert facts["host name"] == "sandbox"
    said = f"{facts['standing']}, {facts['missing']}"
    assert all(wall in said for wall in ("Landlock", "seccomp"))


def test_children_do_not_reach_what_others_work_on(tmp_path):
    with SandboxPool(tmp_path, workers=2) as pool, pool.workspace() as mine, pool.workspace() as others:
        for folder in (mine, others):
            (folder / "in").write_bytes(b"12")
            assert ask(pool, "files", path=str(folder / "in")).facts == {"read": "2 bytes", "written": "written"}
        # by a way on which the pool does not see where it leads
        roundabout = mine / ".." / ".." / others.relative_to(mine.parents[1]) / "in"
        assert ask(pool, "files", path=str(roundabout)).facts["read"] == "Permission denied"


def test_a_part_is_worked_on_beside_the_others_and_without_an_idle_child_in_the_same_lane(tmp_path):
    with SandboxPool(tmp_path, workers=2) as pool, pool.workspace() as outer, pool.workspace_beside(outer) as first:
        assert first.parent.parent == outer.parent.parent
        assert first.parent != outer.parent
        with pool.workspace_beside(outer) as second:
            assert second.parent == outer
            for folder in (outer, first, second):
                (folder / "in").write_bytes(b"12")
                assert ask(pool, "files", path=str(folder / "in")).facts == {"read": "2 bytes", "written": "written"}


def test_what_a_child_makes_is_taken_only_as_a_plain_file_from_where_it_belongs(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    with SandboxPool(tmp_path / "scratch") as pool, pool.workspace() as folder:
        (folder / "out").write_text("fine")
        assert pool.take(folder / "out", folder).read_text() == "fine"
        (folder / "out").symlink_to(secret)
        (folder / "way").symlink_to(tmp_path)
        for made in (folder / "out", folder / "way" / "secret", secret, folder / ".." / ".." / ".." / ".." / "secret"):
            with pytest.raises(GeoAssetsError) as caught:
                pool.take(made, folder)
            assert caught.value.code == "SANDBOX_CRASHED"
    assert secret.read_text() == "hunter2"


def test_what_is_held_in_memory_is_taken_only_up_to_a_size(tmp_path):
    with SandboxPool(tmp_path) as pool, pool.workspace() as folder:
        for name in ("a", "b"):
            (folder / name).write_bytes(bytes(100))
        assert pool.take(folder / "a", folder, most=100).stat().st_size == 100
        with pytest.raises(GeoAssetsError, match="100 bytes") as caught:
            pool.take(folder / "b", folder, most=99)
        assert caught.value.code == "SANDBOX_CRASHED"


def test_what_a_child_writes_while_it_works_is_looked_at_without_following_it(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("0.25")
    with SandboxPool(tmp_path / "scratch") as pool, pool.workspace() as folder:
        told = folder / "progress"
        assert pool.peek(told, 64) == b""
        told.write_text("0.5" + "0" * 1000)
        assert pool.peek(told, 64) == b"0.5" + b"0" * 61
        for make in (lambda: told.symlink_to(secret), lambda: told.hardlink_to(secret), lambda: os.mkfifo(told)):
            told.unlink()
            make()
            assert pool.peek(told, 64) == b""
        (folder / "way").symlink_to(tmp_path)
        assert pool.peek(folder / "way" / "secret", 64) == b""


@needs_walls
def test_a_source_that_its_reader_makes_larger_gains_it_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    grow = """
    for name in ("own", "other"):
        open(f"{folder}/{name}", "wb").truncate(1 << 40)
    os.replace(f"{folder}/other", request.source)
    """
    with SandboxPool(tmp_path, file_mb=1 << 21, timeout_seconds=3) as pool:
        with pool.workspace() as folder:
            (folder / "in").write_bytes(bytes(1000))
            run_taken_over(pool, folder, grow, source=str(folder / "in"))
            for name in ("in", "own"):  # of a terabyte each
                started = time.monotonic()
                with pytest.raises(GeoAssetsError) as caught:
                    run_taken_over(pool, folder, "time.sleep(60)", source=str(folder / name))
                assert caught.value.code == "SANDBOX_TIMEOUT"
                assert time.monotonic() - started < 30
        with pool.workspace() as folder:  # the next source has its own time
            (folder / "in").write_bytes(bytes(8_000_000))
            assert run_taken_over(pool, folder, "time.sleep(4); facts['next'] = 'in time'", source=str(folder / "in"))


@needs_walls
def test_a_part_of_a_readers_making_gains_no_time_in_another_lane(tmp_path, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    with SandboxPool(tmp_path, workers=2, file_mb=1 << 21, timeout_seconds=3) as pool, pool.workspace() as outer:
        (outer / "in").write_bytes(bytes(1000))
        run_taken_over(pool, outer, "open(folder + '/part', 'wb').truncate(1 << 40)", source=str(outer / "in"))
        with pool.workspace_beside(outer) as beside:
            pool.move(outer / "part", beside / "part", of=outer)
            with pytest.raises(GeoAssetsError) as caught:
                run_taken_over(pool, beside, "time.sleep(60)", source=str(beside / "part"))
            assert caught.value.code == "SANDBOX_TIMEOUT"


#: Threads until one is refused, or far more than a child needs.
_THREADS = """
started = 0
go_on = threading.Event()
threading.stack_size(65536)
try:
    while started < 2000:
        threading.Thread(target=go_on.wait, daemon=True).start()
        started += 1
except RuntimeError as error:
    facts["said"] = error
go_on.set()
facts["standing"] = sys.modules["geo_assets.sandbox.selftest"].WALLS[-1].standing
facts["started"] = started
"""

#: A child as it is where we are not root, and the machine lets us have user namespaces; it enters its folder as root,
#: whose folder it is here.
_OF_AN_ORDINARY_USER = _TAKEN_OVER.replace(
    "def run(",
    "import geo_assets.sandbox.walls, pydantic, traceback\nenter = os.chdir\ndef become(folder):\n    enter(folder);"
    " os.setgroups([]); os.setresgid(54321, 54321, 54321); os.setresuid(54321, 54321, 54321)\nos.chdir = become\ndef run(",
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("program", [_TAKEN_OVER, _OF_AN_ORDINARY_USER], ids=["root", "ordinary user"])
def test_a_child_has_no_more_threads_than_it_needs(tmp_path, monkeypatch, program):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", program))
    with SandboxPool(tmp_path, timeout_seconds=60, permissive=True) as pool:
        facts = run_taken_over(pool, "", _THREADS)
    if "network namespace" not in facts["standing"]:
        pytest.skip("this machine has no user namespaces to give away")
    assert 100 < int(facts["started"]) < 512


@pytest.mark.parametrize("place", ["workspace", "made"])
def test_a_child_that_names_what_is_of_others_as_its_own_is_condemned_and_moves_nothing(tmp_path, monkeypatch, place):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _LIES_OF_PLACES))
    with SandboxPool(tmp_path, workers=2) as pool, pool.workspace() as others, pool.workspace() as mine:
        (others / "cog.tif").write_bytes(b"of another customer")
        of_others = others / "cog.tif" if place == "workspace" else pool.take(others / "cog.tif", others)
        (mine / "lie").write_bytes(b"PK")
        call = pool.call
        for path in (of_others, mine / "up.tif", mine / "a" / ".." / ".." / of_others.relative_to(mine.parents[1])):
            # the child is told by the name of the archive which place to name; two slashes, or the pool would take it
            # for one of its files
            named = {"name": f"/{path}"}
            monkeypatch.setattr(pool, "call", lambda f, request, r, named=named: call(f, replace(request, **named), r))
            with pytest.raises(GeoAssetsError) as caught:
                Converter(pool, mine, {}).archive(mine / "lie")
            assert caught.value.code == "SANDBOX_CRASHED"
        assert of_others.read_bytes() == b"of another customer"


@needs_walls
def test_a_child_hands_over_no_descriptor(pool, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    program = """
    import socket
    try:
        socket.send_fds(socket.socket(fileno=os.dup(control)), [b"x"], [0])
    except OSError as error:
        facts["said"] = error.strerror
    """
    assert run_taken_over(pool, "", program) == {"said": "Operation not permitted"}


def test_a_stream_ends_with_its_child_whoever_else_holds_its_other_end(tmp_path, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _HANDS_OVER))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with SandboxPool(tmp_path, timeout_seconds=60) as pool:
        with pool.stream(PROBE, hostile("", _GIVES_THE_PIPE_AWAY)) as stream:
            assert stream.file.read() == b""
            with pytest.raises(GeoAssetsError) as caught:
                stream.report(ProbeReport)
        assert caught.value.code == "SANDBOX_CRASHED"
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_is_silent_in_a_stream_is_ended_by_its_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    with SandboxPool(tmp_path, timeout_seconds=2) as pool, pool.stream(PROBE, hostile("", "time.sleep(60)")) as stream:
        assert stream.file.read() == b""
        with pytest.raises(GeoAssetsError) as caught:
            stream.report(ProbeReport)
        assert caught.value.code == "SANDBOX_TIMEOUT"


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"code": "STORAGE_UNAVAILABLE", "message": "x"}}',
        b'{"error": {"code": "LEASE_LOST", "message": "x"}}',
        b"{{{{",
        b"\xff\xff",
        b"[]",
        b'{"foo": 1}',
        b'{"result": {"pid": "x"}}',
        b"{}",
    ],
    ids=["store", "lease", "no JSON", "no UTF-8", "no object", "another shape", "another result", "nothing"],
)
def test_what_is_no_answer_or_not_for_a_reader_to_say_condemns_the_child(pool, monkeypatch, body):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    with pytest.raises(GeoAssetsError) as caught:
        run_taken_over(pool, "", _ANSWERS.format(body=body, length="len(body)"))
    assert caught.value.code == "SANDBOX_CRASHED"
    assert run_taken_over(pool, "", "facts['next'] = 'honest'") == {"next": "honest"}


@pytest.mark.parametrize(
    ("body", "length"),
    [
        ("b'['*200000", "len(body)"),
        ("b'{\"result\": {\"pid\":' + b'9'*5000 + b', \"facts\": {}}}'", "len(body)"),
        ("b''", "2**32 - 1"),
    ],
    ids=["deep", "a number of 5000 digits", "4 GB"],
)
def test_an_answer_that_cannot_be_read_condemns_the_child(pool, monkeypatch, body, length):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    with pytest.raises(GeoAssetsError) as caught:
        run_taken_over(pool, "", _ANSWERS.format(body=body, length=length))
    assert caught.value.code == "SANDBOX_CRASHED"


def test_what_a_child_says_is_cut_and_fit_for_a_database(pool, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    said = r"a\u0000b\ud800c" + "x" * 5000
    body = f'{{"error": {{"code": "UNREADABLE", "message": "{said}", "remedy": "{said}"}}, "traceback": "{said * 10}"}}'.encode()
    with pytest.raises(GeoAssetsError) as caught:
        run_taken_over(pool, "", _ANSWERS.format(body=body, length="len(body)"))
    error = caught.value
    assert error.code == "UNREADABLE"
    assert error.message == error.remedy == ("abc" + "x" * 997)
    assert [len(note) for note in error.__notes__] == [20_000]


@needs_walls
def test_a_child_that_ignores_signals_dies_with_its_parent(tmp_path):
    program = f"""
from pathlib import Path
import time
from geo_assets.sandbox import pool as module
from geo_assets.sandbox import start
from geo_assets_tests.sandbox.test_pool import _TAKEN_OVER, run_taken_over
import threading
start._CHILD = ("-P", "-c", _TAKEN_OVER)
pool = module.SandboxPool(Path({str(tmp_path)!r}))
ignore = '''
import ctypes, signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
facts["refused"] = ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
facts["pid"] = os.getpid()
threading.Thread(target=time.sleep, args=(30,)).start()
'''
done = []
thread = threading.Thread(target=lambda: done.append(run_taken_over(pool, "", ignore)))  # it ends; its child goes on
thread.start()
thread.join()
time.sleep(0.5)
assert pool._lanes["0"]._child.process.poll() is None
print(done[0]["pid"], done[0]["refused"], flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        child, refused = parent.stdout.readline().split()
        parent.kill()
        parent.wait()
    assert refused == "-1"
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{child}")  # noqa: PTH110


DEEP = """
os.chdir(folder)
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
open("hidden", "wb").write(bytes(1 << 20))
"""


def test_directories_3000_deep_are_removed_with_their_workspace(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    monkeypatch.setattr(watch_module, "_LOOK_EVERY", 60)  # or it would be stopped before it is done
    with pool.workspace() as folder:
        run_taken_over(pool, folder, DEEP)
        assert list(folder.iterdir())
    with pool.workspace() as folder:
        assert not list(folder.iterdir())
    pool.close()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_3000_deep_does_not_stop_the_next_pool(tmp_path):
    folder = tmp_path / "run-killed"
    folder.mkdir()
    (folder / ".held").touch()
    subprocess.run([sys.executable, "-c", f"import os; folder = {str(folder)!r}\n{DEEP}"], check=True)
    with SandboxPool(tmp_path):
        assert not folder.exists()


@needs_landlock
def test_a_child_renames_neither_its_workspace_nor_what_is_beside_it(pool, monkeypatch):
    """Also where the lane belongs to the same user, as it does to all who are not root."""
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    program = """
    lane = os.path.dirname(folder)
    def outcome(do, *paths):
        try:
            do(*paths)
            return "done"
        except OSError as error:
            return error.strerror
    for name in ("work", "tmp"):
        facts[f"rename {name}"] = outcome(os.rename, f"{lane}/{name}", f"{lane}/away")
        facts[f"move {name}"] = outcome(os.rename, f"{lane}/{name}", f"{lane}/{'tmp' if name == 'work' else 'work'}/away")
        facts[f"link {name}"] = outcome(os.symlink, "/etc", f"{lane}/{name}2")
        facts[f"write {name}"] = outcome(os.mkdir, f"{lane}/{name}/own")
    """
    with pool.workspace() as folder:
        lane = pool._lanes["0"]
        if os.geteuid() == 0:
            os.chown(lane.folder, lane.user, lane.user)
        facts = run_taken_over(pool, folder, program)
    assert {facts.pop("write work"), facts.pop("write tmp")} == {"done"}
    assert set(facts.values()) == {"Permission denied"}


def test_a_workspace_is_cleared_of_links_and_not_what_they_lead_to(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    victim = tmp_path / "victim"
    (victim / "photos").mkdir(parents=True)
    (victim / "thesis").write_text("x")
    with pool.workspace() as folder:
        run_taken_over(
            pool,
            folder,
            f"os.symlink({str(victim)!r}, folder + '/a'); os.mkdir(folder + '/b'); os.symlink({str(victim)!r}, folder +"
            " '/b/c')",
        )
    assert sorted(path.name for path in victim.iterdir()) == ["photos", "thesis"]


@pytest.mark.parametrize(
    "program",
    [DEEP, "[os.close(os.open(f'{folder}/{n}', os.O_CREAT | os.O_WRONLY)) for n in range(1100)]"],
    ids=["deep", "many"],
)
def test_what_hides_from_the_look_at_the_disk_is_over_the_limit(tmp_path, monkeypatch, program):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    monkeypatch.setattr(scratch_module, "MAX_ENTRIES", 1000)
    with (
        SandboxPool(tmp_path, timeout_seconds=60) as pool,
        pool.workspace() as folder,
        pytest.raises(GeoAssetsError) as caught,
    ):
        run_taken_over(pool, folder, program + "\ntime.sleep(30)")
    assert caught.value.code == "TOO_LARGE"


def test_a_child_that_writes_while_it_is_idle_is_ended_and_not_the_next_file(tmp_path, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _TAKEN_OVER))
    program = """
    def fill():
        time.sleep(0.3)
        for n in range(30):
            open(os.environ["TMPDIR"] + f"/{n}", "wb").write(bytes(1 << 20))
    threading.Thread(target=fill).start()
    """
    with SandboxPool(tmp_path, disk_mb=16, timeout_seconds=60) as pool:
        with pool.workspace() as folder:
            run_taken_over(pool, folder, program)
        first = pool._lanes["0"]._child.process
        until((pool._lanes["0"].folder / TEMPORARY / "29").exists)
        with pool.workspace() as folder:
            assert run_taken_over(pool, folder, "time.sleep(1); facts['next'] = 'honest'") == {"next": "honest"}
        assert first.poll() is not None


def test_a_nearly_full_disk_stops_whoever_is_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(watch_module, "_LEFT_FREE", 1 << 60)
    with SandboxPool(tmp_path, timeout_seconds=60) as pool, pytest.raises(GeoAssetsError) as caught:
        ask(pool, "hang")
    assert caught.value.code == "DISK_FULL"


def test_a_file_that_fills_the_disk_is_stopped_and_what_it_wrote_is_gone(tmp_path):
    with SandboxPool(tmp_path, disk_mb=64) as pool:
        with pool.workspace() as folder, pytest.raises(GeoAssetsError) as caught:
            ask(pool, "fill", path=str(folder))
        assert caught.value.code == "TOO_LARGE"
        assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) == 0
        assert ask(pool, "environment").pid


def test_a_machine_that_lacks_a_wall_opens_nothing_unless_it_is_told_to(tmp_path, monkeypatch):
    """Of a seccomp that says no: the child is told of another machine, whose numbers nobody knows."""
    monkeypatch.setattr(start_module, "_CHILD", ("-c", _ON_ANOTHER_MACHINE))
    with SandboxPool(tmp_path) as pool, pytest.raises(GeoAssetsError, match="seccomp") as caught:
        ask(pool, "environment")
    assert caught.value.code == "SANDBOX_INCOMPLETE"
    with SandboxPool(tmp_path, permissive=True) as pool:
        assert "seccomp" in ask(pool, "walls").facts["missing"]
