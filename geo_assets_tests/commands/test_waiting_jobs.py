"""Jobs that wait or are interrupted: commands say why, and when they go on."""

import os
import re
import subprocess

import pytest

from geo_assets.commands import stack
from geo_assets.local.stack import Stack
from geo_assets_tests.conftest import geo_assets
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.test_lifecycle import at_work


@pytest.fixture
def ask(settings):
    """What a command prints, on both outputs."""
    env = {
        **os.environ,
        **environment(settings),
        "TZ": "Asia/Kathmandu",
        "GEO_ASSETS_WEBSERVER_URL": "http://127.0.0.1:9",
    }

    def ask(*words: str) -> str:
        done = subprocess.run(geo_assets(*words), env=env, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    yield ask
    ask("resume")


TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+05:45"


def test_a_job_that_waits_for_a_pause_says_so_and_how_the_pause_is_ended(ask):
    assert re.search(f"nothing is launched until {TIME}; at work: ", ask("pause", "--reason", "new disk"))
    submitted = ask("submit", "hello_world", "--param", "message=in a pause")
    job = submitted.split()[1]
    for said in (submitted, ask("job", job)):
        assert re.search(rf"paused until {TIME} \(new disk\).* resume\n", said), said
    ask("resume")
    assert "paused" not in ask("job", job)


def test_stopping_the_stack_says_which_jobs_go_on_when_it_is_started(settings, submitter, dagster, monkeypatch, capsys):
    at_work(submitter, dagster)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    for stopped, said in ((["daemon"], True), ([], False)):
        monkeypatch.setattr(Stack, "down", lambda _, stopped=stopped: stopped)
        stack.down()
        printed = capsys.readouterr().err
        assert bool(re.search(r"\d+ jobs? (is|are) at work: .* after: .*geo-assets up\n", printed)) is said, printed
