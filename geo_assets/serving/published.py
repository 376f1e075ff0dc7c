"""What may be served: the published containers of local accounts, and the way between their hrefs, URLs and files.

Here: names and places. Not here: reading files (`files.py`), HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from geo_assets.accounts import Account, LocalAccount
from geo_assets.settings import Settings
from geo_assets.storage.local import account_root
from geo_assets.storage.services import service_of

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
        names = settings.output_containers
        self._containers: dict[tuple[str, str], Container] = {}
        if isinstance(self._output, LocalAccount):
            for name in names:
                container = Container(settings.output_account, name, account_root(self._output).absolute() / name)
                self._containers[container.alias, name] = container
        told = [(_address(self._output, name), name) for name in names] if self._output else []
        self._addresses = {address: name for address, name in told if address}
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

    def opened(self, href: str, alternate: str | None) -> tuple[str, dict[str, Any]] | None:
        """Return how this process opens the asset of an item: a path for GDAL and the options that go with it; None if
        it lies nowhere that is ours.

        Args:
            href: as it is stored.
            alternate: where it is in its service, as the item says (`storage/places.py`).
        """
        if href.startswith("file://"):
            found = self._located(href.removeprefix("file://"))
            return (str(found[0].path / found[1]), {}) if found else None
        for address, name in self._addresses.items():
            if href.startswith(f"{address}/"):
                path = unquote(href[len(address) + 1 :])
                plain = not {"", ".", ".."} & set(path.split("/")) and not {"?", "#"} & set(href)
                return self._opened_there(name, href, path, alternate) if plain else None
        return None

    def _opened_there(
        self, name: str, href: str, path: str, alternate: str | None
    ) -> tuple[str, dict[str, Any]] | None:
        account = self._output
        service = service_of(account) if account else None
        if account is None or service is None or account.public_url:
            return f"/vsicurl/{href}", {}
        known = alternate in {None, service.place(account, name, path).href}
        return service.gdal(account, name, path) if known else None

    def _located(self, path: str) -> tuple[Container, str] | None:
        for base, container in self._below.items():
            if path.startswith(base):
                inside = path[len(base) :]
                return None if {"", ".", ".."} & set(inside.split("/")) or "\0" in inside else (container, inside)
        return None


def _address(account: Account, name: str) -> str | None:
    """What the hrefs of a container start with, if that is a web address."""
    if account.public_url:
        return f"{account.public_url.rstrip('/')}/{name}"
    service = service_of(account)
    return service.address(account, name) if service else None
