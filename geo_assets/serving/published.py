"""What may be served: the published containers of local accounts, and the way between their hrefs, URLs and files.

Here: names and places. Not here: reading files (`files.py`), HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from geo_assets.settings import AzureAccount, LocalAccount, Settings
from geo_assets.storage.local import account_root

#: Where the file service is, below the address of the server.
FILES = "/files"


@dataclass(frozen=True, slots=True)
class Container:
    """A published container of a local account."""

    alias: str
    name: str
    path: Path


class Published:
    """The published containers: those that outputs are written to. Sources and inboxes are not among them."""

    def __init__(self, settings: Settings) -> None:
        self._output = settings.storage_accounts.get(settings.output_account)
        self._names = frozenset({settings.cog_container, settings.thumbnail_container})
        self._containers: dict[tuple[str, str], Container] = {}
        if isinstance(self._output, LocalAccount):
            for name in sorted(self._names):
                container = Container(settings.output_account, name, account_root(self._output).absolute() / name)
                self._containers[container.alias, name] = container
        self._below = {f"{container.path}/": container for container in self._containers.values()}

    def container(self, alias: str, name: str) -> Container | None:
        """Return a published container, or None."""
        return self._containers.get((alias, name))

    def url(self, href: str, origin: str) -> str | None:
        """Return what a client gets in place of a `file://` href: the URL of the file, or None if it is not published.

        Args:
            href: as it is stored. The path of an asset is not percent-encoded.
            origin: of the server, with its prefix, without a slash at the end.
        """
        found = self._located(href.removeprefix("file://"))
        if found is None:
            return None
        container, path = found
        return f"{origin}{FILES}/{container.alias}/{container.name}/{quote(path)}"

    def opened(self, href: str, alternate: str | None) -> tuple[str, dict[str, str]] | None:
        """Return how this process opens the asset of an item: a path for GDAL and the options that go with it; None if
        it lies nowhere that is ours.

        Args:
            href: as it is stored.
            alternate: its path for GDAL in Azure Storage, `/vsiaz/CONTAINER/PATH`.
        """
        if href.startswith("file://"):
            found = self._located(href.removeprefix("file://"))
            return (str(found[0].path / found[1]), {}) if found else None
        account = self._output
        base = _base(account) if account else None
        if account is None or base is None or not href.startswith(f"{base}/"):
            return None
        inside = unquote(href[len(base) + 1 :])
        container, *path = inside.split("/")
        if container not in self._names or not path or {"", ".", ".."} & set(path) or {"?", "#"} & set(href):
            return None
        if isinstance(account, AzureAccount) and not account.public_url:
            ours = f"/vsiaz/{inside}"
            return (ours, _azure_options(account)) if alternate in {None, ours} else None
        return f"/vsicurl/{href}", {}

    def _located(self, path: str) -> tuple[Container, str] | None:
        for base, container in self._below.items():
            if path.startswith(base):
                inside = path[len(base) :]
                return None if {"", ".", ".."} & set(inside.split("/")) or "\0" in inside else (container, inside)
        return None


def _base(account: LocalAccount | AzureAccount) -> str | None:
    """What the hrefs of an account start with, if that is a web address."""
    if account.public_url:
        return account.public_url.rstrip("/")
    if isinstance(account, LocalAccount):
        return None
    return (account.endpoint or f"https://{account.account_name}.blob.core.windows.net").rstrip("/")


def _azure_options(account: AzureAccount) -> dict[str, Any]:
    """GDAL's options for an account; without key and SAS it takes the identity of the environment."""
    options = {"AZURE_STORAGE_ACCOUNT": account.account_name}
    if account.account_key and account.endpoint:
        key = account.account_key.get_secret_value()
        scheme = account.endpoint.partition("://")[0]
        return {
            "AZURE_STORAGE_CONNECTION_STRING": (
                f"DefaultEndpointsProtocol={scheme};AccountName={account.account_name};AccountKey={key};"
                f"BlobEndpoint={account.endpoint}"
            )
        }
    if account.account_key:
        options["AZURE_STORAGE_ACCESS_KEY"] = account.account_key.get_secret_value()
    elif account.sas_token:
        options["AZURE_STORAGE_SAS_TOKEN"] = account.sas_token.get_secret_value().removeprefix("?")
    return options
