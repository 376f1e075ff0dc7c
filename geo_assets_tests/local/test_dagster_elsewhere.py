"""What a webserver says of our code location before its code server is there, and afterwards.

Here: `DagsterElsewhere` beside real processes that are started one after the other. Not here: what `doctor` makes of a
Dagster that is well (`integration/test_bring_your_own_dagster.py`).
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest

from geo_assets.local.dagster_elsewhere import DagsterElsewhere
from geo_assets.local.postgresql import free_port
from geo_assets_tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

_WORKSPACE = """
load_from:
  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: geo_assets}}
"""


@contextmanager
def program(folder, settings, *words):
    """A module that runs until the block ends."""
    environment = {
        "DAGSTER_HOME": str(folder),
        "GEO_ASSETS_HOME": str(settings.home),
        "GEO_ASSETS_PG_PORT": str(settings.pg_port),
        "GEO_ASSETS_PG_DATABASE": settings.pg_database,
        "GEO_ASSETS_PIPELINE_PASSWORD": settings.pipeline_password.get_secret_value(),
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], env=os.environ | environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def test_a_code_location_that_is_on_its_way_is_waited_for_and_another_name_is_told_at_once(settings, tmp_path):
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    code_port, port = free_port(), free_port()
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(_WORKSPACE.format(port=code_port))
    ours = settings.model_copy(update={"webserver_url": f"http://127.0.0.1:{port}"})

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{ours.dagster_url}/server_info", trust_env=False).status_code == 200
        return False

    with (
        program(tmp_path, ours, "dagster_webserver", "-p", str(port), "-w", str(workspace)),
        ThreadPoolExecutor() as pool,
    ):
        until(answers, 60)
        began = time.monotonic()
        other = DagsterElsewhere.asked(ours.model_copy(update={"code_location": "maps"}))
        assert next(iter(other.faults())).endswith("code location maps is not loaded: there is none of this name")
        assert time.monotonic() - began < 5
        asked = pool.submit(DagsterElsewhere.asked, ours)
        time.sleep(2)
        assert not asked.done()
        with program(tmp_path, ours, "geo_assets.defs.code_server", "--port", str(code_port)):
            assert asked.result(60).not_loaded == ""
            assert "submissions" in asked.result().sensors
