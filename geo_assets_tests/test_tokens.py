"""Tokens for PostgreSQL: where they come from, how long they are kept, what is said without one."""

import json
import time
from types import SimpleNamespace

import pytest

from geo_assets import tokens
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.tokens import database_token


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(tokens, "_KEPT", {})


def program(tmp_path, **said):
    """A program that prints JSON, and how to change it."""
    file = tmp_path / "said"
    file.write_text(json.dumps(said))
    return file, f"cat {file}"


def test_a_token_is_kept_until_five_minutes_before_its_end(tmp_path):
    file, command = program(tmp_path, token="first", expires_on=time.time() + 900)
    assert database_token("command", command) == "first"
    file.write_text(json.dumps({"accessToken": "second", "expires_on": time.time() + 200}))
    assert database_token("command", command) == "first"
    tokens._KEPT["command", command].until = time.time() + 200
    assert database_token("command", command) == "second"
    file.write_text("third\n")
    assert database_token("command", command) == "third"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("false", "ended with 1"),
        ("/nowhere/is", "could not be run"),
        ("", "could not be run"),
        ("true", "printed nothing"),
        ("echo {", "neither a token nor JSON"),
        ("echo '{}'", "neither a token nor JSON"),
    ],
)
def test_without_a_token_the_reason_is_said_and_a_remedy(command, why):
    with pytest.raises(GeoAssetsError) as caught:
        database_token("command", command)
    assert caught.value.code == "DATABASE_UNAVAILABLE"
    assert why in str(caught.value)


def test_azures_identity_is_asked_for_the_database_and_as_often_as_needed(monkeypatch):
    asked = []

    class Credential:
        def get_token(self, scope):
            asked.append(scope)
            return SimpleNamespace(token=f"token {len(asked)}", expires_on=int(time.time()) + 3600)

    monkeypatch.setattr("azure.identity.DefaultAzureCredential", Credential)
    settings = Settings(pg_auth="azure", pipeline_user="geo-pipeline", reader_user="geo-reader")
    assert settings.credentials("pipeline") == ("geo-pipeline", "token 1")
    assert settings.credentials("reader") == ("geo-reader", "token 1")
    assert asked == ["https://ossrdbms-aad.database.windows.net/.default"]


def test_the_address_of_dagsters_storage_has_no_token_and_ours_is_a_url_whatever_the_token_is(tmp_path):
    from psycopg.conninfo import conninfo_to_dict

    _, command = program(tmp_path, token="a/b+c=@:%")
    settings = Settings(pg_auth="command", pg_token_command=command)
    assert "a/b" not in settings.dagster_postgres_url
    assert "geo_pipeline@127.0.0.1" in settings.dagster_postgres_url
    told = conninfo_to_dict(settings.dsn("pipeline"))
    assert (told["password"], told["host"], told["user"]) == ("a/b+c=@:%", "127.0.0.1", "geo_pipeline")
