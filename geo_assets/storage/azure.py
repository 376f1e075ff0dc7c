"""What obstore cannot do on Azure, done by Azure's own SDK: creating a container, and listing names that obstore
refuses.

Here: these two. Not here: all other operations on a container (`containers.py`). The SDK needs forty times the
processor time of obstore for a listing, so it is used only where obstore failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from geo_assets.settings import AzureAccount
from geo_assets.storage.faults import made_unless_it_exists

#: Seconds, and tries: a person or a sensor's tick is waiting.
_CLIENT: dict[str, Any] = {"connection_timeout": 5, "read_timeout": 30, "retry_total": 2}


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


def _client(account: AzureAccount, name: str) -> Any:
    from azure.storage.blob import ContainerClient

    url = account.endpoint or f"https://{account.account_name}.blob.core.windows.net"
    return ContainerClient(url, name, credential=_credential(account), **_CLIENT)


def _credential(account: AzureAccount) -> Any:
    if account.account_key:
        return {"account_name": account.account_name, "account_key": account.account_key.get_secret_value()}
    if account.sas_token:
        return account.sas_token.get_secret_value()
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()
