"""What the steps of a run run on is configuration: of an installation, and of a single run."""

import importlib.util
import subprocess
import sys

import dagster as dg
import pytest
from pydantic import SecretStr

from geo_assets import extras
from geo_assets.definitions import build_defs
from geo_assets.defs.executors import steps_of
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import EXECUTORS, load_settings
from geo_assets.stages.context import StageContext


def settings_with(**changes):
    return load_settings().model_copy(update=changes)


def asked(run_config, **changes) -> dict:
    """The executor that a run gets, by its name, with its configuration."""
    job = build_defs(settings_with(**changes)).resolve_job_def("hello_world")
    return dg.validate_run_config(job, run_config)["execution"]["geo_assets"]


def execution(name: str, **config) -> dict:
    return {"execution": {"config": {name: config}}}


@pytest.mark.parametrize("name", ["in_process", "multiprocess"])
def test_a_run_that_says_nothing_gets_the_executor_of_the_settings(name):
    assert asked({}, executor=name).keys() == {name}


@pytest.mark.parametrize(("of_all", "of_one"), [("in_process", "multiprocess"), ("multiprocess", "in_process")])
def test_the_configuration_of_a_run_names_another_executor_for_that_run(of_all, of_one):
    assert asked(execution(of_one), executor=of_all).keys() == {of_one}


def test_a_run_says_how_many_of_its_steps_run_at_a_time():
    assert asked(execution("multiprocess", max_concurrent=7))["multiprocess"]["max_concurrent"] == 7


def test_a_run_cannot_name_an_executor_whose_packages_were_not_asked_for():
    with pytest.raises(dg.DagsterInvalidConfigError, match="celery"):
        asked(execution("celery"))


def test_assets_that_are_materialized_without_a_job_have_the_same_executor():
    repository = build_defs(settings_with(executor="multiprocess")).get_repository_def()
    assert {job.executor_def.name for job in repository.get_all_jobs()} == {"geo_assets"}


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_whose_package_is_missing_is_one_line_that_names_the_extra(monkeypatch, name):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    if name in {"in_process", "multiprocess"}:
        extras.insist_on_extras(settings_with(executor=name))
        return
    with pytest.raises(GeoAssetsError) as caught:
        build_defs(settings_with(executor=name))
    assert caught.value.code == "EXTRA_NOT_INSTALLED"
    assert f"GEO_ASSETS_EXECUTOR={name}" in caught.value.message
    assert f"geo_assets[{name}]" in caught.value.remedy


def test_whole_runs_and_their_steps_are_not_both_put_on_workers_of_celery(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: importlib.util.find_spec("json"))
    with pytest.raises(GeoAssetsError) as caught:
        extras.insist_on_extras(settings_with(executor="celery", run_launcher="celery"))
    assert caught.value.code == "INVALID_SETTINGS"
    extras.insist_on_extras(settings_with(run_launcher="celery", celery_broker=SecretStr("redis://broker")))


def test_no_package_of_an_extra_is_imported_that_the_settings_do_not_name():
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, geo_assets.definitions; print(*{n.partition('.')[0] for n in sys.modules})",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert not {"celery", "dagster_celery", "dagster_k8s", "kubernetes"} & set(told.stdout.split())


@pytest.mark.parametrize(
    ("of_all", "of_one", "at_once"),
    [
        ("in_process", {}, 1),
        ("multiprocess", {}, 3),
        ("in_process", execution("multiprocess"), 3),
        ("multiprocess", execution("multiprocess", max_concurrent=7), 7),
        ("multiprocess", execution("in_process"), 1),
        ("celery", {}, None),  # nobody here knows how many workers there are
        ("k8s", {}, None),
    ],
)
def test_chunks_are_cut_for_as_many_children_as_the_steps_of_a_run_have_at_a_time(of_all, of_one, at_once):
    settings = settings_with(executor=of_all, steps_at_once=3, workers=2)
    assert steps_of(settings, of_one).at_once == at_once
    with StageContext(settings, steps=steps_of(settings, of_one)) as context:
        assert context.bounds.children == (2 * at_once if at_once else None)
        assert (context.bounds.files, context.bounds.chunks) == (settings.chunk_files, settings.max_chunks)
