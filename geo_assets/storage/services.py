"""The services in which containers are, apart from directories: what each does in its own way.

Here: which module knows which kind of account, and opening a container's store. Not here: what they know (`azure.py`
and its siblings), what is the same everywhere (`containers.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from obstore.exceptions import BaseError

from geo_assets.accounts import Account, LocalAccount, S3Account
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import ACCOUNTS_REMEDY
from geo_assets.storage import azure, gcs, s3
from geo_assets.storage.places import BlobPlace

#: The transport's own retries, for short failures: waiting for a store that is away longer is the caller's decision
#: (`stages/patience.py`).
_TRIES: dict[str, Any] = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}

#: The same where a person or a sensor's tick is waiting.
_HASTY_TRIES: dict[str, Any] = {"max_retries": 1, "retry_timeout": timedelta(seconds=3)}
_HASTY_CLIENT: dict[str, Any] = {"connect_timeout": "2s", "timeout": "5s"}


class Service(Protocol):
    """A module about one kind of account."""

    def open_store(self, account: Any, name: str, **how: Any) -> Any:
        """Return obstore's store of a container, which is not called yet."""

    def address(self, account: Any, name: str) -> str:
        """Return the address of a container."""

    def place(self, account: Any, name: str, path: str) -> BlobPlace:
        """Return where a blob is, for the storage extension and for GDAL."""

    def gdal(self, account: Any, name: str, path: str) -> tuple[str, dict[str, Any]]:
        """Return how GDAL opens a blob: its path, and options with our credentials."""

    def creation(self, account: Any, name: str) -> str:
        """Return the command by which a person creates a container."""

    def create_container(self, account: Any, name: str) -> None:
        """Create a private container; an existing one is left unchanged."""

    def exact_entries(self, account: Any, name: str, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield every blob in the form of obstore's listing, with its exact name."""

    def upload(
        self, account: Any, name: str, store: Any, path: str, source: Path, attributes: Mapping[str, str]
    ) -> None:
        """Upload a file into `store`, which is the container's; it appears completely or not at all."""


_SERVICES: dict[str, Service] = {"azure": azure, "s3": s3, "gcs": gcs}


def service_of(account: Account) -> Service | None:
    """Return what knows this kind of account; None for a directory."""
    return None if isinstance(account, LocalAccount) else _SERVICES[account.kind]


def region(account: Account, name: str) -> str:
    """Return the region of a container, where its service tells that to everybody, as S3 does; empty otherwise."""
    return s3.region(account, name) if isinstance(account, S3Account) else ""


def open_store(alias: str, name: str, account: Account, *, hasty: bool) -> Any:
    """Return obstore's store of a container, which is not called yet; None for a directory.

    Args:
        alias: the account's.
        name: the container's.
        account: its location and credentials.
        hasty: a few seconds at most for each call, instead of half a minute.

    Raises:
        GeoAssetsError: INVALID_SETTINGS, the account's endpoint or SAS token is none.
    """
    service = service_of(account)
    if service is None or isinstance(account, LocalAccount):
        return None
    client: Any = {
        "allow_http": bool(account.endpoint and account.endpoint.startswith("http://")),
        **(_HASTY_CLIENT if hasty else {}),
    }
    try:
        return service.open_store(account, name, client_options=client, retry_config=_HASTY_TRIES if hasty else _TRIES)
    except BaseError as error:  # its message contains the value
        field = "sas_token" if "SAS" in str(error) else "endpoint"
        raise GeoAssetsError(
            "INVALID_SETTINGS",
            f"GEO_ASSETS_ACCOUNTS: {alias}.{field}: the store's client cannot read it",
            remedy=ACCOUNTS_REMEDY,
        ) from error
