"""Azure Storage: opening a container, its addresses, and what obstore cannot do there, done by Azure's own SDK:
creating a container, listing names that obstore refuses, and an upload that goes on after a cut.

Here: what a service of `services.py` is asked for. Not here: all operations that are the same everywhere
(`containers.py`). The SDK needs forty times the processor time of obstore for a listing, so it is used only where
obstore failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from obstore.store import AzureStore

from geo_assets.accounts import AzureAccount
from geo_assets.storage.azure_blocks import LARGE, upload_in_blocks
from geo_assets.storage.faults import made_unless_it_exists
from geo_assets.storage.places import BlobPlace
from geo_assets.storage.whole import upload_whole

#: Seconds, and tries: a person or a sensor's tick is waiting.
_CLIENT: dict[str, Any] = {"connection_timeout": 5, "read_timeout": 30, "retry_total": 2}


#: What GDAL would prefer to our key or SAS if the environment has it.
_NOTHING_ELSE = {
    "AZURE_STORAGE_CONNECTION_STRING": "",
    "AZURE_STORAGE_ACCESS_TOKEN": "",
    "AZURE_STORAGE_ACCESS_KEY": "",
    "AZURE_NO_SIGN_REQUEST": "NO",
}

#: What the storage extension's schema asks of a scheme of the type `ms-azure`, letter by letter.
_PLATFORM = "https://{account}.blob.core.windows.net"


def open_store(account: AzureAccount, name: str, **how: Any) -> AzureStore:
    """Return obstore's store of a container, which is not called yet.

    Address and credentials are given whole: obstore takes from `AZURE_*` of the environment whatever it is not told,
    and prefers a token from there to a key. So our credential has a provider of its own.

    Raises:
        obstore.exceptions.BaseError: it cannot read an option; its message contains the value.
    """
    options: dict[str, Any] = {
        "account_name": account.account_name,
        "container_name": name,
        "endpoint": _endpoint(account),
        "use_emulator": False,
    }
    if given := _given(account):
        options |= {"credential_provider": lambda: {**given, "expires_at": None}, "skip_signature": False}
    return AzureStore(**options, **how)


def _given(account: AzureAccount) -> dict[str, str]:
    """The credential of an account, as obstore takes it; empty where the identity of the environment is meant."""
    if account.account_key:
        return {"access_key": account.account_key.get_secret_value()}
    if account.sas_token:
        return {"sas_token": account.sas_token.get_secret_value().removeprefix("?")}
    return {}


def _endpoint(account: AzureAccount) -> str:
    return (account.endpoint or f"https://{account.account_name}.blob.core.windows.net").rstrip("/")


def address(account: AzureAccount, name: str) -> str:
    """Return the address of a container."""
    return f"{_endpoint(account)}/{name}"


def place(account: AzureAccount, name: str, path: str) -> BlobPlace:
    """Return where a blob is, for the storage extension and for GDAL."""
    scheme = {"type": "ms-azure", "platform": _PLATFORM, "account": account.account_name}
    return BlobPlace("az", account.account_name, scheme, f"/vsiaz/{name}/{path}")


def gdal(account: AzureAccount, name: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return how GDAL opens a blob: its path, and options; without key and SAS it takes the identity of the
    environment.
    """
    opened = f"/vsiaz/{name}/{path}"
    options = {"AZURE_STORAGE_ACCOUNT": account.account_name}
    if account.account_key or account.sas_token:
        options |= _NOTHING_ELSE
    if account.account_key and account.endpoint:
        key = account.account_key.get_secret_value()
        scheme = account.endpoint.partition("://")[0]
        return opened, {
            "AZURE_STORAGE_CONNECTION_STRING": (
                f"DefaultEndpointsProtocol={scheme};AccountName={account.account_name};AccountKey={key};"
                f"BlobEndpoint={account.endpoint}"
            )
        }
    if account.account_key:
        options["AZURE_STORAGE_ACCESS_KEY"] = account.account_key.get_secret_value()
    elif account.sas_token:
        options["AZURE_STORAGE_SAS_TOKEN"] = account.sas_token.get_secret_value().removeprefix("?")
    return opened, options


def creation(account: AzureAccount, name: str) -> str:
    """Return the command by which a person creates a container."""
    return f"az storage container create --account-name {account.account_name} --name {name}"


def create_container(account: AzureAccount, name: str) -> None:
    """Create a private container; an existing one is left unchanged.

    Raises:
        azure.core.exceptions.AzureError: it could not be created.
    """
    made_unless_it_exists(_client(account, name).create_container)


def exact_entries(account: AzureAccount, name: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield every blob in the form of obstore's listing, with its exact name (`a//b`, `/a`, `a/`, control characters).

    Raises:
        azure.core.exceptions.AzureError: the store does not answer.
    """
    for blob in _client(account, name).list_blobs(name_starts_with=prefix or None):
        yield {
            "path": blob.name,
            "size": blob.size,
            "e_tag": f'"{blob.etag.strip(chr(34))}"',
            "last_modified": blob.last_modified,
        }


def upload(
    account: AzureAccount, name: str, store: AzureStore, path: str, source: Path, attributes: Mapping[str, str]
) -> None:
    """Upload a file, one of `LARGE` bytes or more in blocks: the next call goes on where one was cut.

    Raises:
        obstore.exceptions.BaseError, azure.core.exceptions.AzureError: the store does not answer, or refuses.
        OSError: the file cannot be read.
    """
    if source.stat().st_size >= LARGE:
        upload_in_blocks(_client(account, name).get_blob_client(path), source, attributes)
        return
    upload_whole(store, path, source, attributes)


def _client(account: AzureAccount, name: str) -> Any:
    from azure.storage.blob import ContainerClient

    return ContainerClient(_endpoint(account), name, credential=_credential(account), **_CLIENT)


def _credential(account: AzureAccount) -> Any:
    if account.account_key:
        return {"account_name": account.account_name, "account_key": account.account_key.get_secret_value()}
    if account.sas_token:
        return account.sas_token.get_secret_value()
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()
