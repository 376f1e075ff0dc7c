"""What Dagster is told: nothing deprecated, and nothing that changes unnoticed."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from geo_assets.definitions import defs
from geo_assets.parameters import JOB_TYPES
from geo_assets_tests.golden import assert_golden

_LOAD_AND_TELL = """
import warnings
import dagster
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    from geo_assets.definitions import defs
    dagster.Definitions.validate_loadable(defs)
ours = lambda w: "/geo_assets/" in w.filename or w.category.__module__.startswith("dagster") or "dagster" in str(w.message)
print(*(f"{w.category.__name__}: {w.message}" for w in seen if ours(w)), sep="\\n", end="")
"""


@pytest.fixture(scope="module")
def repository():
    return defs.get_repository_def()


def test_dagster_warns_of_nothing_when_it_loads_the_definitions():
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_AND_TELL], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_assets_checks_jobs_sensors_and_partitions_are_those_of_the_snapshot(repository):
    told = [*assets(repository), "", *jobs(repository), "", *sensors(repository), *schedules(repository), ""]
    assert_golden(Path(__file__).with_name("definitions.txt"), "\n".join(told))


def assets(repository):
    graph = repository.asset_graph
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: key.path):
        node = graph.get(key)
        yield f"asset {key.to_user_string()}: {node.description}"
        yield f"  kinds {sorted(node.kinds)}, group {node.group_name}, owners {sorted(node.owners)}"
        partitions = node.partitions_def.name if node.partitions_def else "none"
        yield f"  partitions {partitions}, parents {sorted(k.to_user_string() for k in node.parent_keys)}"
        if table := node.metadata.get("dagster/table_name"):
            yield f"  table {getattr(table, 'value', table)}"
        for check in sorted(node.check_keys, key=lambda check: check.name):
            yield f"  check {check.name}: {graph.get_check_spec(check).description}"


def test_every_job_type_has_the_assets_of_its_modules_and_a_job_of_them(repository):
    graph = repository.asset_graph
    groups = {graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert groups == {*JOB_TYPES, "reconcile", "retention"}
    for job_type, model in JOB_TYPES.items():
        made = repository.get_job(job_type).asset_layer.selected_asset_keys
        assert made == {key for key in graph.get_all_asset_keys() if graph.get(key).group_name == job_type}
        assert {dg.AssetKey([job_type, stage]) for stage in getattr(model, "stages", ())} <= made


def jobs(repository):
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if job.name == "__ASSET_JOB":
            continue
        yield f"job {job.name}: {job.description}"
        partitions = job.partitions_def.name if job.partitions_def else "none"
        yield f"  partitions {partitions}, executor {job.executor_def.name}"
        yield f"  tags {dict(sorted(job.tags.items()))}, resources {sorted(job.resource_defs)}"
        yield from (f"  op {handle}" for handle in sorted(job_ops(job.graph)))


def job_ops(graph, above=""):
    """The paths by which a run's configuration names its ops."""
    for node in graph.nodes:
        path = f"{above}{node.name}"
        yield from job_ops(node.definition, f"{path}.") if isinstance(node.definition, dg.GraphDefinition) else [path]


def sensors(repository):
    for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name):
        targets = sorted(target.job_name for target in sensor.targets)
        yield f"sensor {sensor.name}: {sensor.description}"
        yield f"  every {sensor.minimum_interval_seconds} s, {sensor.default_status.value}, jobs {targets}"


def schedules(repository):
    for schedule in repository.schedule_defs:
        yield f"schedule {schedule.name}: {schedule.description}"
        yield f"  {schedule.cron_schedule} {schedule.execution_timezone}, {schedule.default_status.value}, job {schedule.job_name}"


def test_every_asset_says_which_release_made_it_and_who_answers_for_it(repository):
    from geo_assets import __version__

    nodes = [repository.asset_graph.get(key) for key in repository.asset_graph.get_all_asset_keys()]
    assert {node.code_version for node in nodes} == {__version__}
    assert all(node.owners and node.kinds and node.description for node in nodes)


def test_owners_are_those_of_the_settings():
    from geo_assets.definitions import build_defs
    from geo_assets.settings import load_settings

    settings = load_settings().model_copy(update={"owners": ("team:survey", "maps@example.org")})
    specs = list(build_defs(settings).resolve_all_asset_specs())
    assert {tuple(spec.owners) for spec in specs} == {("team:survey", "maps@example.org")}
