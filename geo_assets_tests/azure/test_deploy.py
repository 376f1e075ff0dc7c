"""`deploy/azure/dagster.yaml` in Dagster's own classes of this release; what Azure would answer is written here."""

import sys
from types import SimpleNamespace

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher.base import WorkerStatus
from dagster._serdes import ConfigurableClassData

from geo_assets.home import project_file
from geo_assets.settings import Settings
from geo_assets_tests.azurite import KEY

pytestmark = pytest.mark.azure

ENVIRONMENT = {
    "GEO_ASSETS_PG_HOST": "geo.postgres.database.azure.com",
    "GEO_ASSETS_PG_DATABASE": "geo_assets",
    "GEO_ASSETS_PIPELINE_USER": "geo-pipeline",
    "AZURE_LOG_ACCOUNT": "geologs",
    "AZURE_LOG_CONTAINER": "logs",
    "AZURE_SUBSCRIPTION_ID": "11111111-2222-3333-4444-555555555555",
    "AZURE_RESOURCE_GROUP": "geo",
    "AZURE_REGION": "westeurope",
    "AZURE_CONTAINER_APPS_ENVIRONMENT": "/subscriptions/1/resourceGroups/geo/providers/Microsoft.App/managedEnvironments/geo",
    "AZURE_IDENTITY": "/subscriptions/1/resourceGroups/geo/providers/Microsoft.ManagedIdentity/userAssignedIdentities/g",
}
CONFIGURED = yaml.safe_load(project_file("deploy/azure/dagster.yaml").read_text())


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def made(block):
    """What Dagster makes of a block that names a class."""
    data = ConfigurableClassData(block["module"], block["class"], yaml.safe_dump(block["config"]))
    return data.rehydrate()


def test_dagster_takes_the_whole_file(tmp_path):
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(CONFIGURED))
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["run_launcher"]["class"] == "AcaRunLauncher"


def test_no_secret_is_in_it():
    text = project_file("deploy/azure/dagster.yaml").read_text().lower()
    for word in ("password", "access_key", "sas_token", "connection_string", "client_secret"):
        assert word not in text


def test_what_steps_print_goes_to_blobs_by_the_identity_alone(monkeypatch):
    from dagster_azure.blob import compute_log_manager

    asked = {}

    def client(account, credential, suffix):
        asked.update(account=account, credential=credential)
        return SimpleNamespace(get_container_client=lambda container: SimpleNamespace(container_name=container))

    monkeypatch.setattr(compute_log_manager, "create_blob_client", client)
    manager = made(CONFIGURED["compute_logs"])
    assert asked["account"] == "geologs"
    assert type(asked["credential"]).__name__ == "DefaultAzureCredential"
    assert manager.upload_interval == 30


def launcher_with(monkeypatch, jobs, executions):
    launcher = made(CONFIGURED["run_launcher"])
    client = SimpleNamespace(jobs=jobs, jobs_executions=SimpleNamespace(list=lambda *_: executions))
    monkeypatch.setattr(type(launcher), "_get_client", lambda _: client)
    return launcher


@pytest.mark.parametrize(
    ("status", "health"),
    [("Running", WorkerStatus.RUNNING), ("Succeeded", WorkerStatus.SUCCESS), ("Failed", WorkerStatus.FAILED)],
)
def test_a_run_that_its_container_left_is_known_to_be_dead(monkeypatch, status, health):
    launcher = launcher_with(monkeypatch, None, [SimpleNamespace(status=status, name="run-1", start_time=None)])
    run = SimpleNamespace(tags={"azure/container_apps/job_name": "dagster-run-1"})
    assert launcher.check_run_worker_health(run).status == health


def test_a_run_is_a_job_with_the_identity_and_without_a_secret(monkeypatch):
    sent = {}

    class Jobs:
        def begin_create_or_update(self, group, name, job):
            sent.update(group=group, name=name, job=job)
            return SimpleNamespace(result=lambda timeout: None)

        def begin_start(self, group, name):
            sent["started"] = name

    monkeypatch.setenv("GEO_ASSETS_PG_AUTH", "azure")
    monkeypatch.setenv("GEO_ASSETS_ACCOUNTS", '{"survey": {"kind": "azure", "account_name": "survey"}}')
    monkeypatch.setenv("GEO_ASSETS_PIPELINE_PASSWORD", "not for the job")
    for name in CONFIGURED["run_launcher"]["config"]["env_vars"]:
        monkeypatch.setenv(name, ENVIRONMENT.get(name) or __import__("os").environ.get(name, "set"))
    launcher = launcher_with(monkeypatch, Jobs(), [])
    with dg.DagsterInstance.ephemeral() as instance:
        launcher.register_instance(instance)
        launch(launcher, instance, monkeypatch)
    job = sent["job"]
    (container,) = job.template.containers
    environment = {variable.name: variable.value for variable in container.env}
    assert environment["GEO_ASSETS_PG_AUTH"] == "azure"
    assert "GEO_ASSETS_PIPELINE_PASSWORD" not in environment
    assert KEY not in str(job.as_dict())
    assert list(job.identity.user_assigned_identities) == [ENVIRONMENT["AZURE_IDENTITY"]]
    assert (container.resources.cpu, container.resources.memory) == (2.0, "4Gi")
    assert {"api", "execute_run"} <= set(container.command)
    assert sent["started"] == sent["name"]


def launch(launcher, instance, monkeypatch):
    """Launch a run as the daemon does."""
    from dagster import DagsterRun
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.launcher.base import LaunchRunContext
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
    from dagster._core.utils import make_new_run_id

    origin = JobPythonOrigin(
        "hello_world",
        RepositoryPythonOrigin(
            "/usr/bin/python", ModuleCodePointer("geo_assets.definitions", "defs"), "geo.azurecr.io/geo_assets:1"
        ),
    )
    run = DagsterRun("hello_world", make_new_run_id(), job_code_origin=origin)
    monkeypatch.setattr(type(instance), "get_ref", lambda _: None)
    instance.add_run(run)
    launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))


def test_an_installation_without_azure_imports_nothing_of_it():
    import subprocess

    program = (
        "import sys, geo_assets.definitions, geo_assets.cli;"
        "print(*[m for m in sys.modules if m.split('.')[0] in {'dagster_azure', 'azure', 'msal'}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_settings_of_the_file_are_settings():
    known = {f"GEO_ASSETS_{name.upper()}" for name in Settings.model_fields}
    named = {n for n in CONFIGURED["run_launcher"]["config"]["env_vars"] if n.startswith("GEO_ASSETS_")}
    assert named <= known
