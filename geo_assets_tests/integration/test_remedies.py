"""What a fault says is to be done mends it, typed as it is printed."""

import json

import numpy as np
import pytest

from geo_assets_tests.commands.test_hints import commands_in, run_as_printed
from geo_assets_tests.integration.test_publication import ingest, upload
from geo_assets_tests.raster.test_cog import write


@pytest.mark.faults
def test_the_command_that_is_named_with_a_damaged_file_makes_it_again(cli, tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.tif", np.random.default_rng(1).integers(0, 255, (1, 300, 300), "uint8"))
    upload(cli, tmp_path, "mended")
    job, _ = ingest(cli, "mended")
    damaged, gone = sorted((cli.home / "containers" / "cogs" / "mended").rglob("*.tif"))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(data)
    gone.unlink()
    exported = cli.run("export", "mended", str(cli.home / "damaged-export"))
    assert exported.returncode == 0, exported.stderr
    assert "left out: 2" in exported.stdout
    verified = cli.run("verify", job["job_id"])
    assert verified.returncode == 1
    commands = set(commands_in(exported.stderr, verified.stdout))
    assert len(commands) == 1, "one and the same remedy"
    done = run_as_printed(f"{commands.pop()} --wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cli.run("verify", job["job_id"]).returncode == 0
    whole = cli.run("export", "mended", str(cli.home / "whole-export"), "--strict", "--json")
    assert json.loads(whole.stdout)["left_out"] == []
