"""A wrong setting is one sentence that names the variable and the field, and never a secret."""

import json

import pytest

from geo_assets.accounts import AzureAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings, load_settings
from geo_assets.storage.containers import open_container

NO_SAS_TOKENS = [
    "hush-hush",
    "sv=2022-11-02&sig",
    "sv=2022-11-02&sp=rl",
    "sig=hush-hush&sv=",
    "sv=2022-11-02&sig=hush-hush\n",
    "sv=2022-11-02&sig=hush hush-hush",
    "https://surveydata.blob.core.windows.net/?sv=2022-11-02&sig=hush-hush",
]

NO_ADDRESSES = [
    "hush-hush",
    "http://",
    "ftp://hush-hush",
    "127.0.0.1:10000/hush-hush",
    "http://127.0.0.1:99999/hush-hush",
    "http://[::1/hush-hush",
    "https://hush-hush .net",
    "https://user:hush-hush@surveydata.blob.core.windows.net",
    "https://surveydata.blob.core.windows.net/?sv=2022-11-02&sig=hush-hush",
]


@pytest.mark.parametrize(
    ("variable", "known"),
    [("GEO_ASSETS_EXECUTOR", "in_process, multiprocess, celery, k8s"), ("GEO_ASSETS_RUN_LAUNCHER", "default, celery")],
)
def test_an_unknown_executor_or_launcher_is_one_line_with_those_that_are_known(monkeypatch, tmp_path, variable, known):
    error = refused(monkeypatch, tmp_path, **{variable: "nonsense"})
    assert error.message == f"{variable}: must be one of {known} (got 'nonsense')"
    assert error.remedy.startswith("name one of these, or unset it: ")


def test_a_wrong_account_has_an_example_in_its_hint_and_other_settings_have_the_page_of_all(monkeypatch, tmp_path):
    assert "example of GEO_ASSETS_ACCOUNTS" in refused(monkeypatch, tmp_path, GEO_ASSETS_ACCOUNTS="[").remedy
    monkeypatch.delenv("GEO_ASSETS_ACCOUNTS")
    remedy = refused(monkeypatch, tmp_path, GEO_ASSETS_STEPS_AT_ONCE="0").remedy
    assert "docs/reference/settings.md" in remedy
    assert "ACCOUNTS" not in remedy


def said(monkeypatch, tmp_path, **variables: str) -> str:
    return refused(monkeypatch, tmp_path, **variables).message


def refused(monkeypatch, tmp_path, **variables: str) -> GeoAssetsError:
    monkeypatch.setenv("GEO_ASSETS_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GeoAssetsError) as caught:
        load_settings()
    assert caught.value.code == "INVALID_SETTINGS"
    return caught.value


@pytest.mark.parametrize(
    ("account", "field"),
    [
        ({"kind": "azure", "account_name": "NOT A NAME"}, "survey.account_name"),
        ({"kind": "azure", "account_name": "surveydata", "acount_key": "hush-hush"}, "survey.acount_key"),
        ({"kind": "azure"}, "survey.account_name"),
        ({"kind": "azure", "account_name": "surveydata", "account_key": "hush-hush"}, "survey.account_key"),
        *(
            ({"kind": "azure", "account_name": "surveydata", "sas_token": token}, "survey.sas_token")
            for token in NO_SAS_TOKENS
        ),
        *(
            ({"kind": "azure", "account_name": "surveydata", "endpoint": address}, "survey.endpoint")
            for address in NO_ADDRESSES
        ),
        *(({"kind": "local", "public_url": address}, "survey.public_url") for address in NO_ADDRESSES),
        *(
            ({"kind": "azure", "account_name": "surveydata", "public_url": address}, "survey.public_url")
            for address in NO_ADDRESSES
        ),
        ({"kind": "ftp"}, "survey"),
        ("hush-hush", "survey"),
    ],
)
def test_a_wrong_account_names_its_field_and_shows_no_value(monkeypatch, tmp_path, account, field):
    message = said(monkeypatch, tmp_path, GEO_ASSETS_ACCOUNTS=json.dumps({"survey": account}))
    assert message.startswith(f"GEO_ASSETS_ACCOUNTS: {field}: ")
    assert "hush-hush" not in message


@pytest.mark.parametrize("token", ["sv=2022-11-02&sp=rl&sig=a%2Bb%3D", "?sv=2022-11-02&sig=a%2Bb%3D", ""])
@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:10000/devstoreaccount1", "https://surveydata.blob.core.windows.net/", ""]
)
def test_a_container_is_opened_with_any_token_and_address_that_azure_gives(tmp_path, token, endpoint):
    account = AzureAccount(kind="azure", account_name="surveydata", sas_token=token, endpoint=endpoint)
    open_container(Settings(home=tmp_path, accounts={"survey": account}), "survey", "landing")


def test_what_only_the_client_of_the_store_refuses_names_its_field_too_when_a_container_is_opened(tmp_path):
    account = AzureAccount(kind="azure", account_name="surveydata", endpoint="https://hush<hush/")
    with pytest.raises(GeoAssetsError, match=r"^GEO_ASSETS_ACCOUNTS: survey\.endpoint: ") as caught:
        open_container(Settings(home=tmp_path, accounts={"survey": account}), "survey", "landing")
    assert caught.value.code == "INVALID_SETTINGS"
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    "connection", ["hush-hush", "AccountName=surveydata", "AccountName=surveydata;AccountKey=", "AccountKey=hush-hush"]
)
def test_a_connection_string_that_is_none_names_its_variable_and_shows_nothing_of_it(monkeypatch, tmp_path, connection):
    message = said(monkeypatch, tmp_path, GEO_ASSETS_QUEUE_CONNECTION_STRING=connection)
    assert message.startswith("GEO_ASSETS_QUEUE_CONNECTION_STRING: ")
    assert "hush-hush" not in message


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_the_address_of_a_queue_that_is_none_names_its_variable(monkeypatch, tmp_path, address):
    message = said(monkeypatch, tmp_path, GEO_ASSETS_QUEUE_URL=address)
    assert message.startswith("GEO_ASSETS_QUEUE_URL: ")
    assert "hush-hush" not in message


def test_accounts_that_are_not_json_are_said_to_be_so(monkeypatch, tmp_path):
    message = said(monkeypatch, tmp_path, GEO_ASSETS_ACCOUNTS='{"survey": hush-hush}')
    assert message.startswith("GEO_ASSETS_ACCOUNTS is not JSON: ")
    assert "hush-hush" not in message


def test_any_other_wrong_setting_names_its_variable(monkeypatch, tmp_path):
    assert said(monkeypatch, tmp_path, GEO_ASSETS_WORKERS="many").startswith("GEO_ASSETS_WORKERS: ")
