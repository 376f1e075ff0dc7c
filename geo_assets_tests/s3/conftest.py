"""An S3 on a free port of loopback, and a stack of which everything is in it."""

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from geo_assets.accounts import S3Account
from geo_assets.local.postgresql import free_port
from geo_assets_tests.conftest import Cli, a_stack

#: What cannot be imported without the packages of the extra.
collect_ignore = [] if find_spec("boto3") else ["test_buckets.py", "test_jobs.py"]

#: Of the account; a test looks for the secret everywhere.
KEY, SECRET = "AKIATESTOFGEOASSETS1", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYGEOASSETS1"


@pytest.fixture(scope="session")
def s3():
    """The settings of an account."""
    port = free_port()
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            httpx.get(endpoint, trust_env=False)
            break
        except httpx.HTTPError:
            assert time.monotonic() < deadline, "moto's server does not answer"
            time.sleep(0.1)
    yield {
        "kind": "s3",
        "region": "eu-central-1",
        "endpoint": endpoint,
        "access_key_id": KEY,
        "secret_access_key": SECRET,
    }
    server.kill()
    server.wait()


@pytest.fixture
def account(s3):
    return S3Account.model_validate(s3)


@pytest.fixture(scope="session")
def cli(open_folder, postgres_home, s3):
    """A stack whose sources, outputs and inbox are in an S3 in which nothing was prepared; its alias is `lake`."""
    own = {
        "GEO_ASSETS_ACCOUNTS": json.dumps({"lake": s3}),
        "GEO_ASSETS_OUTPUT_ACCOUNT": "lake",
        "GEO_ASSETS_INBOX_ACCOUNT": "lake",
    }
    yield from a_stack(Cli(open_folder(), **own), postgres_home)
