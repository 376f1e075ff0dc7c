"""A file that is rewritten in place with its size and its modification time as they were."""

import os

import numpy as np
import pytest

from geo_assets_tests.raster.test_cog import write


def submit(cli, *options):
    job = cli.json("submit", "stage_raster", "--param", "container=rewritten", "--wait", *options)
    assert job["status"] == "completed"
    (task,) = [t for t in cli.json("tasks", job["job_id"]) if t["task_key"] == "a.tif"]
    return job["job_id"], task["status"], task["outputs"]["sha256"]


@pytest.mark.faults
def test_a_file_rewritten_behind_its_etag_is_found_by_its_hash_and_the_job_is_the_same(cli, tmp_path):
    folder = cli.home / "containers" / "rewritten"
    folder.mkdir(parents=True)
    for name in ("a.tif", "b.tif"):
        write(folder / name, np.full((1, 40, 40), 1, "uint8"))
    job, _, first = submit(cli)
    before = (folder / "a.tif").stat()
    write(tmp_path / "new.tif", np.full((1, 40, 40), 2, "uint8"))
    with (folder / "a.tif").open("r+b") as file:
        file.write((tmp_path / "new.tif").read_bytes())
    os.utime(folder / "a.tif", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "a.tif").stat().st_size == before.st_size
    assert submit(cli) == (job, "skipped", first)  # as documented
    verified, status, second = submit(cli, "--verify-sources")
    assert (verified, status) == (job, "succeeded")
    assert second != first
    assert [t["status"] for t in cli.json("tasks", job) if t["task_key"] == "b.tif"] == ["skipped"]
    assert submit(cli) == (job, "skipped", second)
    assert submit(cli, "--verify-sources") == (job, "skipped", second)
    assert cli.json("plan", "stage_raster", "--param", "container=rewritten")["counts"] == {"skip": 2}
