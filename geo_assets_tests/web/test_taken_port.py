"""Servers in the foreground at an address where none can listen."""

import socket

import pytest

from geo_assets_tests.conftest import Cli


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.mark.parametrize("command", ["serve", "api"])
def test_a_server_at_a_port_that_is_taken_says_so_in_one_line_and_promises_nothing(tmp_path, taken, command):
    done = Cli(tmp_path).run(command, "--port", str(taken))
    assert done.returncode == 1
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error == f"error: port {taken} of 127.0.0.1 is taken"
    assert "--port 0" in hint
