"""What `deploy/celery` says is what Dagster's and Celery's own classes take; no password is in what they show."""

import configparser
import os
import re
import shlex
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.instance import InstanceRef
from dagster_celery.launcher import CeleryRunLauncher
from pydantic import SecretStr

from geo_assets.commands import worker
from geo_assets.definitions import build_defs
from geo_assets.defs.celery_app import CONFIG, app_args, build_app
from geo_assets.home import project_file
from geo_assets.local.instance import instance_config
from geo_assets.settings import Settings, load_settings

pytestmark = pytest.mark.celery

DEPLOY = Path(__file__).parents[2] / "deploy" / "celery"
URL = "redis://:parole@127.0.0.1:6399/0"
SETTINGS = Settings(executor="celery", celery_broker=SecretStr(URL))


def instance_of(text: str, folder: Path) -> InstanceRef:
    (folder / "dagster.yaml").write_text(text)
    return InstanceRef.from_dir(str(folder))


@pytest.fixture
def variables(monkeypatch):
    monkeypatch.setenv("GEO_ASSETS_CELERY_BROKER", URL)
    monkeypatch.setenv("GEO_ASSETS_CELERY_BACKEND", URL)
    monkeypatch.setenv("GEO_ASSETS_DAGSTER_POSTGRES_URL", "postgresql+psycopg2://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize("whose", ["of a team", "of a home"])
def test_the_launcher_is_celerys_own_with_the_broker_of_the_environment(whose, tmp_path, variables):
    if whose == "of a team":
        text = f"{(DEPLOY / 'dagster.yaml').read_text()}\n{(DEPLOY / 'run_launcher.yaml').read_text()}"
    else:
        text = instance_config(SETTINGS.model_copy(update={"executor": "in_process", "run_launcher": "celery"}))
    launcher: Any = instance_of(text, tmp_path).run_launcher
    assert isinstance(launcher, CeleryRunLauncher)
    assert launcher.celery.conf.broker_url == launcher.celery.conf.result_backend == URL
    assert launcher.celery.conf.result_expires > yaml.safe_load(text)["run_monitoring"]["max_runtime_seconds"]
    assert launcher.celery.conf.task_acks_late is False


def test_the_instance_of_a_team_is_ours_but_for_what_the_page_of_the_decision_lists(tmp_path, variables):
    ours, theirs = (
        yaml.safe_load(file.read_text()) for file in (project_file("dagster.yaml"), DEPLOY / "dagster.yaml")
    )
    assert {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)} == {
        "run_coordinator",
        "run_monitoring",
        "compute_logs",
    }
    assert theirs["run_monitoring"]["max_resume_run_attempts"] == 0
    ref = instance_of((DEPLOY / "dagster.yaml").read_text(), tmp_path)
    assert type(ref.compute_log_manager).__name__ == "NoOpComputeLogManager"
    assert type(ref.run_coordinator).__name__ == "QueuedRunCoordinator"


def test_a_step_is_taken_when_there_is_a_process_for_it_and_sent_once():
    app = build_app(SETTINGS)
    conf = app.conf
    assert conf.worker_prefetch_multiplier == 1
    assert conf.worker_disable_prefetch is True
    assert conf.task_acks_late is False
    assert conf.broker_url == conf.result_backend == URL
    assert {"execute_plan", "execute_job", "resume_job"} <= app.tasks.keys()


def test_the_executor_has_the_broker_of_the_settings_and_a_run_can_say_nothing_of_it():
    job = build_defs(load_settings().model_copy(update=dict(SETTINGS))).resolve_job_def("hello_world")
    (asked,) = dg.validate_run_config(job, {})["execution"].values()
    assert "parole" not in str(asked)
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(job, {"execution": {"config": {"celery": {"broker": "redis://elsewhere"}}}})
    assert app_args(SETTINGS)["config_source"] == CONFIG


def test_the_variables_of_the_example_are_settings_and_make_an_installation(monkeypatch):
    lines = [line for line in (DEPLOY / "environment.example").read_text().splitlines() if line[:1] not in {"", "#"}]
    named = dict(line.split("=", 1) for line in lines)
    others = {"DAGSTER_HOME", "GEO_ASSETS_DAGSTER_POSTGRES_URL", "GEO_ASSETS_WEBSERVER_URL"}
    assert {key.removeprefix("GEO_ASSETS_").lower() for key in named.keys() - others} <= Settings.model_fields.keys()
    for key in [key for key in os.environ if key.startswith("GEO_ASSETS_")]:
        monkeypatch.delenv(key)
    for key, value in named.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert settings.executor == "celery"
    assert settings.dagster_postgres_url == named["GEO_ASSETS_DAGSTER_POSTGRES_URL"]


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.stem)
def test_a_unit_starts_a_command_that_there_is_without_a_secret(unit):
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read(unit)
    service = parsed["Service"]
    program, *arguments = shlex.split(service["ExecStart"].replace("%i", "1"))
    assert program.startswith("/opt/geo_assets/bin/")
    assert service["EnvironmentFile"] == "/etc/geo_assets/environment"
    assert "Environment" not in service
    if arguments[0] == "worker":
        assert re.search(r"--steps \d+ --name worker1", " ".join(arguments))
        assert service["KillMode"] == "mixed", "SIGTERM to the processes of steps would end them"
        assert worker.worker
    else:
        assert arguments[0] == "-m"
