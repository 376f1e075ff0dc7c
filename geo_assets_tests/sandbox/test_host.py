"""Children of one host, with pools in processes apart: how many there are at a time, and who gets the next."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.machine import cores, memory_mb
from geo_assets.sandbox.host import HostLimits, HostShare
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest
from geo_assets_tests.processes import children, is_alive
from geo_assets_tests.waiting import until

PROBE = "geo_assets.sandbox.selftest:probe"

#: A run: as many files as it is told, in as many threads as it has lanes, each a call of a child. It writes when each
#: has ended.
_RUN = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from geo_assets.sandbox.host import HostLimits
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest
home, folder, children, memory, child, workers, files, seconds, run, idle, large = json.loads(sys.argv[1])
limits = HostLimits(Path(folder), children, memory)
with SandboxPool(Path(home), workers=workers, memory_mb=child, permissive=True, host=limits, run=run) as pool:
    if large:
        pool.give_way()
    def one(number):
        with pool.workspace() as place:
            pool.call("geo_assets.sandbox.selftest:probe", ProbeRequest(action="environment", path=str(place)), ProbeReport)
            time.sleep(seconds)
        sys.stdout.write(json.dumps([number, time.monotonic()]) + "\\n")  # whole, though other threads write too
        sys.stdout.flush()
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(one, range(files)))
    time.sleep(idle)
"""


@pytest.fixture
def run(tmp_path):
    """Start a run in a process of its own; all are killed at the end."""
    started = []

    def start(name, *, children=2, memory=100_000, child=2048, workers=3, files=6, seconds=0.1, idle=0.0, large=False):
        home = tmp_path / f"{name}-{len(started)}"
        told = [str(home), str(tmp_path / "host"), children, memory, child, workers, files, seconds, name, idle, large]
        command = [sys.executable, "-c", _RUN, json.dumps(told)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def living(runs) -> int:
    """Children of the runs that live at the same time: found, and then still there."""
    return sum(map(is_alive, [child for process in runs for child in children(process.pid)]))


def lines(process) -> list[float]:
    """When each file of a run ended."""
    return [json.loads(line)[1] for line in process.stdout]


def first_line(process) -> float:
    return json.loads(process.stdout.readline())[1]


def test_four_runs_of_three_workers_never_have_more_than_two_children_and_all_end(run):
    runs = [run(name, files=5) for name in "abcd"]
    most = 0
    while any(process.poll() is None for process in runs):
        most = max(most, living(runs))
        time.sleep(0.01)
    assert most == 2
    assert [process.returncode for process in runs] == [0] * 4
    assert [len(lines(process)) for process in runs] == [5] * 4


@pytest.mark.faults
def test_the_memory_of_children_is_reserved_before_they_start(run):
    large = [run(name, children=8, memory=5000, child=2048, files=4) for name in "ab"]
    most = 0
    while any(process.poll() is None for process in large):
        most = max(most, living(large))
        time.sleep(0.01)
    assert most == 2  # of 2048 MB each; 5000 allow no third


def test_a_child_that_is_larger_than_the_memory_runs_alone(run):
    process = run("huge", children=4, memory=1024, child=4096, files=2)
    assert len(lines(process)) == 2


def test_a_killed_run_leaves_its_seats_at_once(run):
    holder = run("holder", files=100, seconds=30)
    until(lambda: living([holder]) == 2)
    waiting = run("waiting", files=1)
    time.sleep(1.5)
    assert living([waiting]) == 0
    killed = time.monotonic()
    holder.send_signal(signal.SIGKILL)
    until(
        lambda: any(json.loads(file.read_text())[1] for file in claims(waiting)), 5.0
    )  # a second; five where the machine is busy
    assert first_line(waiting) - killed < 10  # its child has to start


def test_a_run_of_many_files_lets_another_in_between_two_of_them(run):
    large = run("large", workers=2, files=10_000, seconds=0.05)
    for _ in range(10):
        first_line(large)
    began = time.monotonic()
    small = run("small", workers=2, files=4, seconds=0.05)
    assert lines(small)[-1] - began < 15  # seconds; all of the large one take four minutes
    assert large.poll() is None


@pytest.mark.faults
def test_one_seat_is_passed_on_in_turns(run):
    large = run("large", children=1, files=10_000, seconds=0.1)
    first_line(large)
    began = time.monotonic()
    small = run("small", children=1, files=2, seconds=0.1)
    assert lines(small)[-1] - began < 12
    first_line(large)  # it goes on


@pytest.mark.faults
def test_an_idle_child_is_in_nobodys_way(run):
    idle = run("idle", files=4, idle=60)
    assert [first_line(idle) for _ in range(4)]
    busy = run("busy", files=4)
    assert len(lines(busy)) == 4
    assert idle.poll() is None


@pytest.mark.faults
def test_the_steps_of_one_run_share_what_it_gets(run):
    steps = [run("one", workers=2, children=4, files=1000, seconds=0.05) for _ in range(3)]
    until(lambda: living(steps) == 4)
    other = run("other", workers=2, children=4, files=40, seconds=0.2)
    until(lambda: living([other]) == 2, 10)
    assert living(steps) <= 2


@pytest.mark.faults
def test_a_frozen_run_that_waits_does_not_stop_the_line(run):
    holder = run("holder", files=60, seconds=0.2)
    first_line(holder)
    frozen = run("frozen", files=1)
    until(lambda: any("frozen" in file.read_text() for file in claims(frozen)))
    frozen.send_signal(signal.SIGSTOP)
    other = run("other", files=2)
    assert len(lines(other)) == 2
    frozen.send_signal(signal.SIGCONT)
    assert len(lines(frozen)) == 1


def test_a_small_run_begins_at_once_while_large_ones_have_all_seats_for_long_files(run):
    large = [run(name, files=100, seconds=30, large=True) for name in "ab"]
    until(lambda: living(large) == 2)
    began = time.monotonic()
    small = run("small", files=2)
    assert lines(small)[-1] - began < 15  # its child has to start; a file of the large ones takes 30
    assert living(large) == 2


def test_there_is_one_seat_more_than_the_host_has_and_no_second_one(run):
    large = run("large", files=100, seconds=30, large=True)
    until(lambda: living([large]) == 2)
    small = [run(name, files=2, seconds=0.3) for name in "abc"]
    most = 0
    while any(process.poll() is None for process in small):
        most = max(most, living([large, *small]))
        time.sleep(0.01)
    assert most == 3
    assert [len(lines(process)) for process in small] == [2] * 3


@pytest.mark.faults
def test_the_seat_for_a_small_run_needs_memory_as_any_other(run):
    large = run("large", memory=5000, child=2048, files=3, seconds=2, large=True)
    until(lambda: living([large]) == 2)
    small = run("small", memory=5000, child=2048, files=2)
    while small.poll() is None:
        assert living([large, small]) <= 2
        time.sleep(0.01)
    assert large.poll() is None


@pytest.mark.faults
def test_a_large_run_gives_back_the_seat_too_many_between_two_files(run):
    large = run("large", files=10_000, seconds=0.2, large=True)
    until(lambda: living([large]) == 2)
    small = run("small", workers=1, files=100, seconds=0.2)
    first_line(small)
    until(lambda: (living([large]), living([small])) == (1, 1), 5)


@pytest.mark.faults
def test_small_runs_without_end_do_not_stop_a_large_one(run):
    small = [run(name, children=1, files=10_000, seconds=0.1) for name in "abc"]
    until(lambda: living(small) == 1)
    large = run("large", children=1, files=10_000, seconds=0.1, large=True)
    for _ in range(3):
        first_line(large)  # each turn of a seat is three seconds, for four runs
        until(lambda: living([large]) == 0)
    assert all(process.poll() is None for process in small)


def test_children_of_large_runs_leave_the_processor_to_those_of_small_ones(run):
    large, small = run("large", files=1000, large=True), run("small", files=1000)
    until(lambda: living([large]) and living([small]))
    assert {os.getpriority(os.PRIO_PROCESS, child) for child in children(large.pid)} == {10}
    assert {os.getpriority(os.PRIO_PROCESS, child) for child in children(small.pid)} == {0}


def claims(process) -> list[Path]:
    told = json.loads(process.args[-1])
    return list(Path(told[1]).glob(f"{process.pid}-*.pool"))


def test_whoever_waits_for_a_seat_can_be_cancelled(tmp_path):
    limits = HostLimits(tmp_path / "host", 1, 100_000)
    ends = []

    def wait(pool):
        try:
            pool.call(PROBE, ProbeRequest(action="environment"), ProbeReport)
        except GeoAssetsError as error:
            ends.append(error.code)

    with (
        SandboxPool(tmp_path / "1", host=limits) as one,
        one.workspace(),
        SandboxPool(tmp_path / "2", host=limits) as two,
    ):
        thread = threading.Thread(target=wait, args=(two,))
        thread.start()
        until(lambda: two.waits_for_host)
        two.abort()
        thread.join(2)
    assert ends == ["CANCELLED"]


def test_a_part_of_a_file_never_waits_for_a_second_seat(tmp_path):
    limits = HostLimits(tmp_path / "host", 1, 100_000)
    with SandboxPool(tmp_path / "one", workers=2, host=limits) as pool, pool.workspace() as folder:
        with pool.workspace_beside(folder) as beside:
            assert beside.parent == folder
        assert not pool.waits_for_host


def test_taking_a_seat_and_returning_it_takes_less_than_a_millisecond(tmp_path):
    limits = HostLimits(tmp_path / "host", 8, 100_000)
    others = [HostShare(limits, str(n), 100) for n in range(8)]
    share = HostShare(limits, "mine", 100)
    rounds, began = 300, time.process_time()
    for _ in range(rounds):
        assert share.ask()
        assert not share.owes()
        assert not share.is_wanted()
        share._leaving += 1
        share.give_back()
    assert (time.process_time() - began) / rounds < 0.004  # four looks at eight others
    for each in (*others, share):
        each.close()


def test_a_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o777)
    foreign.chmod(0o777)
    monkeypatch.setattr("geo_assets.sandbox.host.default_host_folder", lambda: foreign)
    share = HostShare(HostLimits(foreign, 1, 1000), "mine", 100)
    assert share.ask()
    assert list(foreign.iterdir()) == []
    share.close()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"self/cgroup": "0::/a/b\n", "cg/a/cpu.max": "150000 100000", "cg/a/b/cpu.max": "max 100000"}, 2),
        ({"self/cgroup": "0::/\n", "cg/cpu.max": "50000 100000\n"}, 1),
        ({"self/cgroup": "0::/../other\n", "cg/cpu.max": "100000 100000\n"}, 1),
        (
            {
                "self/cgroup": "3:cpu,cpuacct:/x\n",
                "cg/cpu/x/cpu.cfs_quota_us": "100000\n",
                "cg/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
    ],
)
def test_cores_are_those_that_the_control_group_allows(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert cores(*tree(tmp_path, files)) == expected


def tree(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        file = folder / (name if name.startswith("cg/") else f"proc/{name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder / "proc", folder / "cg"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"self/cgroup": "0::/a\n", "cg/a/memory.max": "max\n"}, 8192),
        ({"self/cgroup": "0::/a\n", "cg/a/memory.max": f"{1 << 30}\n"}, 1024),
        ({"self/cgroup": "9:memory:/x\n", "cg/memory/x/memory.limit_in_bytes": f"{2 << 30}\n"}, 2048),
        ({"self/cgroup": "9:memory:/x\n", "cg/memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 8192),
    ],
)
def test_memory_is_what_the_control_group_allows(tmp_path, files, expected):
    assert memory_mb(*tree(tmp_path, {"meminfo": f"MemTotal: {8 << 20} kB\n", **files})) == expected
