"""The files of `deploy/helm` are what the pinned classes of dagster-k8s and the client of Kubernetes understand."""

import re
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s.launcher import K8sRunLauncher
from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

from geo_assets.defs.pods import resources_of
from geo_assets.home import PACKAGE_ROOT
from geo_assets.settings import load_settings
from geo_assets.stages.contracts import Chunk, JobRef

pytestmark = pytest.mark.k8s

HELM = PACKAGE_ROOT.parent / "deploy" / "helm"

#: Fields whose values are passed to Kubernetes as they are.
_AS_THEY_ARE = {"volumes", "volumeMounts", "resources", "securityContext", "runK8sConfig", "labels"}


def values() -> dict[str, Any]:
    return yaml.safe_load((HELM / "values.yaml").read_text())


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((HELM / "api.yaml").read_text()))


def snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)


def launcher_config() -> dict[str, Any]:
    """The configuration that the chart makes of the values, as far as it depends on them."""
    said = values()["runLauncher"]["config"]["k8sRunLauncher"]
    config = {snake(key): value for key, value in said.items()}
    config["env_secrets"] = [secret["name"] for secret in said["envSecrets"]]
    pod, job = (said["runK8sConfig"][part] for part in ("podSpecConfig", "jobSpecConfig"))
    config["run_k8s_config"] = {"pod_spec_config": pod, "job_spec_config": job}
    config["volume_mounts"] = [{snake(key): value for key, value in mount.items()} for mount in said["volumeMounts"]]
    return {
        **config,
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": "/opt/dagster/dagster_home",
        "job_namespace": "geo-assets",
    }


def test_the_launcher_takes_its_values():
    found = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), launcher_config())
    assert found.success, [error.message for error in found.errors]


def pods() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod and container of everything that is deployed."""
    found = []
    for document in documents():
        if "template" in document["spec"]:
            spec = document["spec"]["template"]["spec"]
            found.append((document["metadata"]["name"], spec["securityContext"], spec["containers"][0]))
    said = values()
    for name, part in (
        ("webserver", said["dagsterWebserver"]),
        ("daemon", said["dagsterDaemon"]),
        ("code", said["dagster-user-deployments"]["deployments"][0]),
    ):
        found.append((name, part["podSecurityContext"], part))
    run = said["runLauncher"]["config"]["k8sRunLauncher"]
    found.append(("run", run["runK8sConfig"]["podSpecConfig"]["securityContext"], run))
    return found


def test_every_pod_is_no_root_has_a_read_only_root_no_capabilities_and_limits():
    assert len(pods()) == 7
    for name, pod, container in pods():
        assert pod["runAsNonRoot"] is True, name
        assert pod["runAsUser"] == 10001, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"] is True, name
        assert own["capabilities"] == {"drop": ["ALL"]}, name
        assert own["allowPrivilegeEscalation"] is False, name
        assert container["resources"]["limits"]["memory"], name
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"/var/lib/geo_assets", "/tmp"}, name


_MODELS = {
    "Job": kubernetes.client.V1Job,
    "Deployment": kubernetes.client.V1Deployment,
    "Service": kubernetes.client.V1Service,
}


def test_kubernetes_understands_every_field_of_the_manifests():
    for document in documents():
        model = _MODELS[document["kind"]]
        k8s_model_from_dict(model, k8s_snake_case_dict(model, document))


def test_no_secret_is_written_in_a_file_of_the_deployment():
    for file in Path(HELM.parent).rglob("*"):
        if file.is_file():
            for line in file.read_text().splitlines():
                found = re.search(r"(?i)(password|key|secret)\w*[=:]\s*(?!PASSWORD)[A-Za-z0-9+/]{12,}", line)
                assert not found or "env" in line.lower() or "/" in found[0], (file, line)


def chunk(size: int, total: int, largest: int) -> Chunk:
    job = JobRef(
        job_id="0" * 64,
        job_type="stage_raster",
        parameters={"container": "delivery"},
        partition_key="p",
        run_id="r",
        owner_run_id="r",
    )
    return Chunk(job=job, stage="cogs", index=0, first="a", last="b", size=size, bytes=total, largest_bytes=largest)


def amounts(resources: dict[str, dict[str, str]]) -> tuple[int, int, int, int]:
    """Millicores, MiB asked for, MiB at most, MiB of scratch."""
    asked, most = resources["requests"], resources["limits"]
    numbers = (asked["cpu"], asked["memory"], most["memory"], asked["ephemeral-storage"])
    return tuple(int(re.sub(r"\D", "", number)) for number in numbers)


def test_a_pod_grows_with_its_chunk_and_never_above_what_its_children_may_take():
    settings = load_settings().model_copy(update={"workers": 4, "sandbox_memory_mb": 4096})
    gib = 1024**3
    small = amounts(resources_of(settings, chunk(64, 64 * 100_000, 100_000)))
    alone = amounts(resources_of(settings, chunk(1, 20 * gib, 20 * gib)))
    large = amounts(resources_of(settings, chunk(10, 20 * gib, 4 * gib)))
    plan = amounts(resources_of(settings, None))
    assert (small[0], alone[0], large[0], plan[0]) == (4000, 1000, 4000, 250)
    assert plan[1] < small[1] < large[1]
    for asked in (small, alone, large, plan):
        assert asked[1] <= asked[2]
    assert alone[2] >= 4096  # the limit of the child is met before that of the pod
    assert small[3] < 2048 < large[3]
    assert alone[3] >= 2 * 20 * 1024
