"""What a person may type that is no text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from geo_assets.commands.failures import as_ours


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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["pause", "--minutes", "1e9"], "--minutes"),
        (["pause", "--minutes", "inf"], "--minutes"),
        (["pause", "--minutes", "nan"], "--minutes"),
        (["migrate", "--wait", "1e12"], "--wait"),
        (["purge", "logs", "--older-than", "1e9"], "--older-than"),
    ],
)
def test_a_number_that_is_out_of_range_is_one_clear_line_with_the_option(tmp_path, arguments, named):
    done = geo_assets(*arguments, env={**os.environ, "GEO_ASSETS_HOME": str(tmp_path)})
    error, hint = done.stderr.decode().splitlines()
    assert done.returncode in {1, 2}
    assert named in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("name", ["KEEP_RUNS_DAYS", "KEEP_MESSAGES_DAYS", "CHANGE_FEED_DAYS", "ORPHAN_GRACE_HOURS"])
def test_a_setting_that_is_out_of_range_is_one_clear_line_with_its_name(tmp_path, name):
    name = f"GEO_ASSETS_{name}"
    done = geo_assets("purge", "messages", env={**os.environ, "GEO_ASSETS_HOME": str(tmp_path), name: "99999999"})
    error, *_ = done.stderr.decode().splitlines()
    assert (done.returncode, name in error) == (1, True)


def test_only_what_is_no_text_is_called_so():
    with pytest.raises(UnicodeEncodeError) as raised:
        "\udcff".encode()
    no_text = [raised.value, psycopg.errors.CharacterNotInRepertoire(), psycopg.DataError("cannot contain NUL (0x00)")]
    assert {as_ours(error).code for error in no_text} == {"INVALID_PARAMETERS"}
    assert as_ours(psycopg.errors.DatetimeFieldOverflow("interval out of range")).code == "INTERNAL"


def geo_assets(*arguments, **options):
    command = str(Path(sys.executable).with_name("geo-assets"))
    return subprocess.run([command, *arguments], capture_output=True, timeout=60, check=False, **options)
