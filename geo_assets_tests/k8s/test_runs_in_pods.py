"""Runs and steps as jobs of Kubernetes, by the real classes of dagster-k8s: what becomes of them when pods are evicted, jobs
vanish and the server is unwell.
"""

import time

import pytest

from geo_assets_tests.faults.test_killed_run import connect, converted, until
from geo_assets_tests.faults.test_steps_apart import FILES, assert_exact, begun
from geo_assets_tests.faults.test_terminate import visible
from geo_assets_tests.k8s.conftest import CHUNK

pytestmark = pytest.mark.k8s


def chunks(cluster):
    """Pods of chunks that are at work."""
    return [pod for pod in cluster.running(steps=True) if "chunk_" in pod.labels["dagster/op"]]


def test_each_step_is_a_pod_as_large_as_its_chunk_needs_and_a_server_that_is_unwell_is_asked_again(
    cli, cluster, tmp_path
):
    cluster.answers += [200, 500, 200, 429, 200, 503]
    job = begun(cli, tmp_path, "in-pods")
    assert_exact(cli, "in-pods", job["job_id"], {})
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
    until(lambda: chunks(cluster))[0].kill()
    assert_exact(cli, "evicted", job["job_id"], before)


def test_the_pod_of_a_run_that_is_killed_is_found_within_a_minute(cli, cluster, tmp_path):
    job = begun(cli, tmp_path, "run-evicted")
    before = converted(cli, job["job_id"])
    (run,) = cluster.running(steps=False)
    run.kill()
    killed_at = time.monotonic()
    until(lambda: cli.json("job", job["job_id"])["attempt"] >= 2, 75)
    found_after = time.monotonic() - killed_at
    print(f"the dead run was found after {found_after:.0f} s")
    assert found_after <= 60
    assert_exact(cli, "run-evicted", job["job_id"], before)


def test_a_job_that_the_cluster_loses_is_done_by_the_next_attempt(cli, cluster, tmp_path):
    job = begun(cli, tmp_path, "lost")
    before = converted(cli, job["job_id"])
    pod = until(lambda: chunks(cluster))[0]
    pod.kill()
    del cluster.jobs[pod.name]
    assert_exact(cli, "lost", job["job_id"], before)


def test_cancel_deletes_the_jobs_and_publishes_nothing(cli, cluster, tmp_path):
    job = begun(cli, tmp_path, "cancelled", bad=0)
    until(lambda: chunks(cluster))
    assert cli.run("cancel", job["job_id"]).returncode == 0
    until(lambda: not cluster.running(steps=True) and not cluster.running(steps=False), 60)
    assert cli.json("job", job["job_id"])["status"] == "cancelled"
    assert visible(cli, "cancelled") == (0, 0, 0)


def test_no_password_is_in_what_the_cluster_is_told_or_in_the_database_of_dagster(cli, cluster):
    password = cli.exports["PGPASSWORD"]
    cli.json("submit", "hello_world", "--param", "n=3", "--param", "message=secret", "--wait")
    assert not [pod.name for pod in cluster.every if password in str(pod.body)]
    with connect(cli) as db:
        for table, text in (("runs", "run_body"), ("event_logs", "event")):
            query = f"select count(*) from dagster.{table} where {text} like %s"
            assert db.execute(query, (f"%{password}%",)).fetchone() == (0,)
