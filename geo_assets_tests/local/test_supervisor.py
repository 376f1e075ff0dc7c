"""Parts of the stack that are killed are restarted automatically."""

import json
import os
import signal
import subprocess

import pytest

from geo_assets.local.postgresql import find_binaries
from geo_assets.local.processes import start_ticks
from geo_assets.local.stack import Stack, can_serve
from geo_assets.local.supervisor import CRASH_LOOP, Deaths
from geo_assets_tests.local.test_postgresql import crash
from geo_assets_tests.processes import connections
from geo_assets_tests.waiting import until

PARTS = ("code_server", "webserver", "daemon", "api", *(["serve"] if can_serve() else []))


def pids(cli):
    return {
        name: process["pid"] for name, process in json.loads((cli.home / "stack.json").read_text())["processes"].items()
    }


def postgresql(cli):
    stack = Stack(cli.home)
    return stack.cluster(stack.state(), find_binaries(cli.home)).pid()


def process_findings(cli):
    return {f["what"]: f for f in cli.json("doctor") if "not" not in f["what"]}


@pytest.mark.faults
def test_every_part_that_is_killed_comes_back_and_the_stack_works(cli):
    if can_serve():
        cli.json("serve", "--detach")
    before = pids(cli)
    for name in PARTS:
        os.kill(before[name], signal.SIGKILL)
    until(lambda: all(pids(cli)[name] != before[name] and start_ticks(pids(cli)[name]) for name in PARTS))
    assert pids(cli)["supervisor"] == before["supervisor"]
    assert cli.json("submit", "hello_world", "--param", "message=after the deaths", "--wait")["status"] == "completed"


@pytest.mark.slow
def test_postgresql_that_is_killed_comes_back(cli):
    before = postgresql(cli)
    os.kill(before, signal.SIGQUIT)
    until(lambda: postgresql(cli) not in {None, before})
    until(lambda: cli.run("jobs").returncode == 0)


def test_up_waits_for_a_postgresql_that_is_still_recovering(cli):
    stack = Stack(cli.home)
    cluster = stack.cluster(stack.state(), find_binaries(cli.home))
    crash(cluster)
    os.kill(cluster.pid(), signal.SIGSTOP)  # or it might have recovered before anybody looks
    looks = set()
    with subprocess.Popen(cli.command("up"), env=cli.env, stderr=subprocess.PIPE, text=True) as up:

        def has_looked_again():
            looks.update(connections(up.pid, cluster.port))
            return len(looks) > 1

        try:
            until(has_looked_again)
        finally:
            os.kill(cluster.pid(), signal.SIGCONT)
        said = up.stderr.read()
    assert up.returncode == 0, said
    assert "PostgreSQL was starting or recovering: " in said
    assert cli.json("submit", "hello_world", "--param", "message=after the recovery", "--wait")["status"] == "completed"


@pytest.mark.slow
def test_a_killed_supervisor_is_named_by_doctor_and_noticed_by_up(cli):
    before = pids(cli)["supervisor"]
    os.kill(before, signal.SIGKILL)
    until(lambda: start_ticks(before) is None)
    named = [f for f in cli.json("doctor") if f["what"] == "supervisor"]
    assert named[0]["level"] == "failure"
    up = cli.run("up")
    assert "supervisor was down" in up.stderr
    assert start_ticks(pids(cli)["supervisor"])


def test_deaths_in_a_row_are_answered_later_and_later_and_called_a_crash_loop():
    now, deaths, pauses = 1000.0, Deaths(), []
    for _ in range(9):
        deaths = deaths.after_another(now)
        pauses.append(deaths.next_start - now)
        now = deaths.next_start + 1
    assert pauses == [0, 2, 4, 8, 16, 32, 60, 60, 60]
    assert deaths.count == 9 > CRASH_LOOP
    assert deaths.after_another(now + 61).count == 1
