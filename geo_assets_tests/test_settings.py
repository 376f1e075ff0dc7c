"""A wrong setting is one sentence that names the variable and the field, and never a secret."""

import json

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import load_settings


def said(monkeypatch, tmp_path, **variables: str) -> str:
    monkeypatch.setenv("GEO_ASSETS_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GeoAssetsError) as caught:
        load_settings()
    assert caught.value.code == "INVALID_SETTINGS"
    return caught.value.message


@pytest.mark.parametrize(
    ("account", "field"),
    [
        ({"kind": "azure", "account_name": "NOT A NAME"}, "survey.account_name"),
        ({"kind": "azure", "account_name": "surveydata", "acount_key": "hush-hush"}, "survey.acount_key"),
        ({"kind": "azure"}, "survey.account_name"),
        ({"kind": "azure", "account_name": "surveydata", "account_key": "hush-hush"}, "survey.account_key"),
        ({"kind": "s3"}, "survey"),
        ("hush-hush", "survey"),
    ],
)
def test_a_wrong_account_names_its_field_and_shows_no_value(monkeypatch, tmp_path, account, field):
    message = said(monkeypatch, tmp_path, GEO_ASSETS_ACCOUNTS=json.dumps({"survey": account}))
    assert message.startswith(f"GEO_ASSETS_ACCOUNTS: {field}: ")
    assert "hush-hush" not in message


def test_accounts_that_are_not_json_are_said_to_be_so(monkeypatch, tmp_path):
    message = said(monkeypatch, tmp_path, GEO_ASSETS_ACCOUNTS='{"survey": hush-hush}')
    assert message.startswith("GEO_ASSETS_ACCOUNTS is not JSON: ")
    assert "hush-hush" not in message


def test_any_other_wrong_setting_names_its_variable(monkeypatch, tmp_path):
    assert said(monkeypatch, tmp_path, GEO_ASSETS_WORKERS="many").startswith("GEO_ASSETS_WORKERS: ")
