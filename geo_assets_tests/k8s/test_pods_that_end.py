"""Pods of runs that are killed, jobs that the cluster loses or is told to delete: by real classes of dagster-k8s."""

import time

import pytest

from geo_assets_tests.faults.test_killed_run import converted
from geo_assets_tests.faults.test_steps_apart import assert_exact, begun
from geo_assets_tests.faults.test_terminate import visible
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.k8s


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
    pod = until(cluster.chunks)[0]
    pod.kill()
    del cluster.jobs[pod.name]
    assert_exact(cli, "lost", job["job_id"], before)


def test_cancel_deletes_the_jobs_and_publishes_nothing(cli, cluster, tmp_path):
    job = begun(cli, tmp_path, "cancelled", bad=0)
    until(cluster.chunks)
    assert cli.run("cancel", job["job_id"]).returncode == 0
    until(lambda: not cluster.running(steps=True) and not cluster.running(steps=False), 60)
    assert cli.json("job", job["job_id"])["status"] == "cancelled"
    assert visible(cli, "cancelled") == (0, 0, 0)
