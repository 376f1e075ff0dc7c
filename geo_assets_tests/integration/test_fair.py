"""A small job does not wait for large ones, which hold whatever they may hold of the queue and of the host."""

import os
import time

import pytest

from benchmarks.many import write_rasters

pytestmark = pytest.mark.faults

#: One more than a small job may have.
FILES = 1_001


@pytest.fixture
def large_jobs(cli):
    """Four large jobs that were submitted; they are cancelled at the end."""
    names = [f"fair-large-{number}" for number in range(4)]
    folder = cli.home / "fair"
    folder.mkdir()
    write_rasters(folder, 10)
    for name in names:
        container = cli.home / "containers" / name
        container.mkdir(parents=True)
        for number in range(FILES):
            os.link(folder / f"t{number % 10:04}.tif", container / f"{number}.tif")
    jobs = [cli.json("submit", "ingest_container", "-p", f"container={name}")["job_id"] for name in names]
    yield jobs
    for job in jobs:
        cli.run("cancel", job)


def status(cli, job: str) -> str:
    return cli.json("job", job)["status"]


def test_a_small_job_is_done_while_two_of_four_large_ones_work_and_two_wait(cli, large_jobs):
    deadline = time.monotonic() + 60
    while [status(cli, job) for job in large_jobs[:2]] != ["processing", "processing"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    small = cli.home / "containers" / "fair-small"
    small.mkdir(parents=True)
    write_rasters(small, 10)
    done = cli.json("submit", "ingest_container", "-p", "container=fair-small", "--wait")
    assert (done["status"], done["stages"][0]["succeeded"]) == ("completed", 10)
    assert [status(cli, job) for job in large_jobs] == ["processing", "processing", "queued", "queued"]
