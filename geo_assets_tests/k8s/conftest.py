"""A stack whose runs and steps are jobs of a cluster."""

import json
from importlib.util import find_spec

import pytest

from geo_assets_tests.conftest import Cli, a_stack
from geo_assets_tests.k8s.cluster import Cluster, served

#: What cannot be imported without the packages of the extra.
collect_ignore = [] if find_spec("dagster_k8s") else ["test_values.py"]

CHUNK = 8


def launcher(cli: Cli) -> dict:
    """What `deploy/helm/values.yaml` makes of the launcher, for a cluster that is reached from outside."""
    return {
        "run_launcher": {
            "module": "dagster_k8s.launcher",
            "class": "K8sRunLauncher",
            "config": {
                "load_incluster_config": False,
                "kubeconfig_file": cli.env["KUBECONFIG"],
                "job_namespace": "geo-assets",
                "service_account_name": "geo-assets",
                "instance_config_map": "dagster-instance",
                "job_image": "geo_assets:test",
                "dagster_home": str(cli.home / "dagster"),
                "env_secrets": ["geo-assets"],
            },
        }
    }


@pytest.fixture(scope="module")
def cluster(open_folder):
    with served(Cluster(open_folder())) as found:
        yield found


@pytest.fixture
def whole_pods(cluster):
    """Each pod of a test is begun by its command alone."""
    cluster.forks = False
    yield
    cluster.forks = True


@pytest.fixture(scope="module")
def cli(open_folder, postgres_home, cluster):
    home = open_folder()
    own = {
        "GEO_ASSETS_EXECUTOR": "k8s",
        "GEO_ASSETS_CHUNK_FILES": str(CHUNK),
        "GEO_ASSETS_WORKERS": "1",
        "GEO_ASSETS_DAGSTER_YAML": str(home / "launcher.yaml"),
        "KUBECONFIG": str(cluster.kubeconfig),
    }
    cli = Cli(home, **own)
    (home / "launcher.yaml").write_text(
        "\n".join(f"{key}: {json.dumps(value)}" for key, value in launcher(cli).items())
    )
    for stack in a_stack(cli, postgres_home):
        # a secret of the cluster: what a deployment says of the database and the stores
        cluster.environments["geo-assets"] = {
            **{key: value for key, value in cli.env.items() if key.startswith(("GEO_ASSETS_", "KUBECONFIG"))},
            **cli.exports,
        }
        yield stack
