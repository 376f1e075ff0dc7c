"""What a person may type that is no text."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("job_type", "parameters", "named"),
    [
        ("hello_world", {"message": "a\0b"}, "message"),
        ("hello_world", {"a\0b": 1}, "a"),
        ("ingest_container", {"container": "a\0b"}, "container"),
        ("ingest_container", {"container": "abc", "include": ["a\0b"]}, "include"),
        ("ingest_container", {"container": "abc", "where": "a = 'b\0'"}, "where"),
        ("ingest_container", {"container": "abc", "columns": ["a\0"]}, "columns"),
        ("ingest_container", {"container": "abc", "mode": "upsert", "key": ["a\0"]}, "key"),
        ("hello_world", {"message": "\ud800"}, "message"),
    ],
)
@pytest.mark.parametrize("command", ["submit", "plan"])
def test_nul_in_a_file_of_parameters_is_one_clear_line(tmp_path, command, job_type, parameters, named):
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps(parameters))
    done = geo_assets(command, job_type, "--params-file", str(file))
    assert done.returncode == 1
    error, hint = done.stderr.decode().splitlines()
    assert error.startswith("error: ")
    assert named in error
    assert "\0" not in error
    assert hint.startswith("hint: ")


def test_a_file_of_parameters_that_names_a_key_twice_is_refused(tmp_path):
    file = tmp_path / "parameters.json"
    file.write_text('{"n": 2, "n": 3}')
    done = geo_assets("submit", "hello_world", "--params-file", str(file))
    assert done.returncode == 1
    assert "it names a key twice: 'n'" in done.stderr.decode()


@pytest.mark.parametrize("arguments", [["job", b"\xff\xfe-job-id"], ["files", b"abcdef\xff"], ["tasks", b"abcdef\xff"]])
def test_a_parameter_that_is_not_utf8_is_one_clear_line(cli, arguments):
    done = geo_assets(*arguments, env=cli.env)
    assert done.returncode == 1
    error, hint = done.stderr.decode().splitlines()
    assert error == "error: a parameter holds bytes that are no text"
    assert hint.startswith("hint: ")


def geo_assets(*arguments, **options):
    command = str(Path(sys.executable).with_name("geo-assets"))
    return subprocess.run([command, *arguments], capture_output=True, timeout=60, check=False, **options)
