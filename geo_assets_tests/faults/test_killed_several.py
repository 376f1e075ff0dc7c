"""The run worker is killed among files of several variables: no file is half published, no COG is orphaned."""

import os
import signal

import numpy as np
import pytest

from geo_assets_tests.faults.test_killed_run import connect, converted, run_workers
from geo_assets_tests.raster.test_several import climate, write_bytes
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults

_FILES = 20
_VARIABLES = ("tas", "pr", "huss")


def test_a_killed_ingest_of_containers_is_completed_without_redoing_orphaning_or_doubling(cli, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(_FILES):
        noise = np.random.default_rng(i)
        write_bytes(
            folder / f"month_{i:02}.nc",
            climate(**{name: noise.random((2, 60, 90)).astype("f4") for name in _VARIABLES}),
        )
    assert cli.run("upload", str(folder), "default/killed-several").returncode == 0
    job = cli.json("submit", "stage_raster", "--param", "container=killed-several")
    until(lambda: len(converted(cli, job["job_id"])) >= 3)
    (worker,) = until(lambda: run_workers(cli))
    os.kill(worker, signal.SIGKILL)
    until(lambda: not run_workers(cli))
    before = converted(cli, job["job_id"])
    assert 3 <= len(before) < _FILES

    again = cli.json("submit", "stage_raster", "--param", "container=killed-several", "--wait")
    assert (again["job_id"], again["status"]) == (job["job_id"], "completed")
    after = converted(cli, job["job_id"])
    assert {key: after[key] for key in before} == before, "finished conversions were done again"
    with connect(cli) as db:
        query = "select count(*), count(distinct id) from pgstac.items where collection = 'killed-several'"
        assert db.execute(query).fetchone() == (_FILES, _FILES)
        named = "select c->>'cog' from geo.tasks, jsonb_array_elements(outputs->'cogs') c where job_id = %s"
        cogs = {row[0] for row in db.execute(named, (job["job_id"],)).fetchall()}
    containers = cli.home / "containers"
    assert cogs == {
        f"default/{p.relative_to(containers)}" for p in (containers / "cogs" / "killed-several").rglob("*.tif")
    }
    assert len(cogs) == _FILES * len(_VARIABLES)
