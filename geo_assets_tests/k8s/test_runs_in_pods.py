"""Runs and steps as jobs of Kubernetes, by the real classes of dagster-k8s: how large pods are, what they may, and
what becomes of a job when one is evicted and the server is unwell.
"""

import numpy as np
import pytest

from geo_assets_tests.faults.test_killed_run import connect, converted
from geo_assets_tests.faults.test_steps_apart import FILES, assert_exact, begun
from geo_assets_tests.faults.test_terminate import visible
from geo_assets_tests.k8s.conftest import CHUNK
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.k8s


def test_each_step_is_a_pod_as_large_as_its_chunk_needs_and_a_server_that_is_unwell_is_asked_again(
    cli, cluster, whole_pods, tmp_path
):
    cluster.answers = {"POST": [200, 429, 500], "GET": [200, 503]}  # the job of the run; the first step, twice
    job = begun(cli, tmp_path, "in-pods")
    assert_exact(cli, "in-pods", job["job_id"], {})
    assert cluster.answers["POST"] == []
    assert cli.json("job", job["job_id"])["attempt"] == 1
    pods = [pod for pod in cluster.every if pod.labels["dagster/run-id"] == cli.json("job", job["job_id"])["run_id"]]
    assert [pod.is_step for pod in pods].count(False) == 1
    sized = {pod.labels["dagster/op"]: pod.container["resources"] for pod in pods if pod.is_step}
    of_chunks = [size for step, size in sized.items() if "chunk_" in step]
    others = [size for step, size in sized.items() if "chunk_" not in step]
    assert len(of_chunks) >= FILES // CHUNK
    assert all(size["requests"]["cpu"] == "1000m" for size in of_chunks)
    assert all(size["requests"]["cpu"] == "250m" for size in others)
    assert all(int(size["limits"]["ephemeral-storage"].removesuffix("Mi")) > 1024 for size in of_chunks)


def test_a_pod_that_is_evicted_costs_a_new_attempt_and_nothing_else(cli, cluster, tmp_path):
    job = begun(cli, tmp_path, "evicted")
    before = converted(cli, job["job_id"])
    until(cluster.chunks)[0].kill()
    assert_exact(cli, "evicted", job["job_id"], before)


def test_where_pods_lack_a_wall_no_file_is_opened_until_that_is_allowed(cli, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "profile", "older")  # of a runtime that refuses Landlock
    (tmp_path / "landing").mkdir()
    write(tmp_path / "landing" / "tile.tif", np.ones((1, 600, 600), "uint8"))
    assert cli.run("upload", str(tmp_path / "landing"), "default/walls").returncode == 0
    job = cli.json("submit", "stage_raster", "--param", "container=walls", "--wait")
    (task,) = cli.json("tasks", job["job_id"])
    assert (task["status"], task["error_code"]) == ("failed", "SANDBOX_INCOMPLETE")
    assert visible(cli, "walls") == (0, 0, 0)
    monkeypatch.setitem(cluster.environments["geo-assets"], "GEO_ASSETS_SANDBOX", "permissive")
    assert cli.json("retry", job["job_id"], "--only-failed", "--wait")["status"] == "completed"
    assert visible(cli, "walls") == (1, 0, 1)


def test_no_password_is_in_what_the_cluster_is_told_or_in_the_database_of_dagster(cli, cluster):
    password = cli.exports["PGPASSWORD"]
    cli.json("submit", "hello_world", "--param", "n=3", "--param", "message=secret", "--wait")
    assert not [pod.name for pod in cluster.every if password in str(pod.body)]
    with connect(cli) as db:
        for table, text in (("runs", "run_body"), ("event_logs", "event")):
            query = f"select count(*) from dagster.{table} where {text} like %s"
            assert db.execute(query, (f"%{password}%",)).fetchone() == (0,)
