"""The code server as a process: it ends when it is told to, wherever it was started from."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

from geo_assets.local.postgresql import free_port
from geo_assets_tests.waiting import until


@pytest.mark.parametrize("interrupts", ["heard", "ignored"])
def test_a_code_server_ends_when_it_is_told_to_also_where_a_script_started_it_in_the_background(tmp_path, interrupts):
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    port = free_port()
    words = [sys.executable, "-m", "geo_assets.defs.code_server", "--port", str(port)]
    # what a shell without a terminal does to `geo-assets up &`
    in_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if interrupts == "ignored" else []
    server = subprocess.Popen(
        [*in_background, *words],
        env=os.environ | {"DAGSTER_HOME": str(tmp_path), "GEO_ASSETS_HOME": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:  # it listens before it is ready to be ended
        with suppress(DagsterUserCodeUnreachableError):
            return DagsterGrpcClient(port=port, host="127.0.0.1").ping("there?")["echo"] == "there?"
        return False

    try:
        until(answers)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()


def test_what_a_run_worker_imports_is_not_the_program_that_it_is_forked_from():
    """A child prepares the program of its parent once more, and Python warns if it is imported already."""
    said = (
        "import sys, importlib; from geo_assets.defs.preloaded import PRELOADED;"
        " [importlib.import_module(name) for name in PRELOADED]; print('geo_assets.defs.code_server' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
