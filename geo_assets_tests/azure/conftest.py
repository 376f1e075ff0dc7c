"""A stack of which everything is in Azure Storage: sources by a SAS token, all else by the account's key."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from geo_assets_tests.azurite import ACCOUNTS, KEY
from geo_assets_tests.conftest import Cli, a_stack
from geo_assets_tests.storms import before


def sas_token(account: str, *, hours: float = 8) -> str:
    """A SAS of a whole account; one of the past is an expired one."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    now = datetime.now(UTC)
    return generate_account_sas(
        account,
        KEY,
        ResourceTypes(service=True, container=True, object=True),
        AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
        start=now - timedelta(days=2),
        expiry=now + timedelta(hours=hours),
    )


@pytest.fixture(scope="session")
def sas() -> str:
    return sas_token(ACCOUNTS[2])


@pytest.fixture(scope="session")
def storms(azurite):
    """A proxy before the account of the stack, for the alias `stormy`."""
    with before(azurite.account(ACCOUNTS[2]).blob_endpoint) as storms:
        yield storms


@pytest.fixture(scope="session")
def azure_cli(open_folder, postgres_home, azurite, sas, storms):
    """A stack with the accounts `azure` (key), `shared` (SAS), `expired` (a SAS of yesterday) and `stormy` (through a
    proxy): one and the same.
    """
    account = azurite.account(ACCOUNTS[2])
    by_sas = {k: v for k, v in account.settings.items() if k != "account_key"}
    accounts = {
        "azure": account.settings,
        "shared": by_sas | {"sas_token": sas},
        "stormy": account.settings | {"endpoint": storms.endpoint},
        "expired": by_sas | {"sas_token": sas_token(ACCOUNTS[2], hours=-24)},
    }
    environment = {
        "GEO_ASSETS_ACCOUNTS": json.dumps(accounts),
        "GEO_ASSETS_OUTPUT_ACCOUNT": "azure",
        "GEO_ASSETS_INBOX_ACCOUNT": "azure",
        "GEO_ASSETS_QUEUE_CONNECTION_STRING": account.connection,
    }
    yield from a_stack(Cli(open_folder(), **environment), postgres_home)
