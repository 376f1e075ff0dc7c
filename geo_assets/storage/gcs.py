"""Google Cloud Storage: opening a bucket, and its addresses.

Here: what a service of `services.py` is asked for. Not here: all operations that are the same everywhere
(`containers.py`); creating a bucket, which needs a project that is not ours to choose, and names that obstore refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from obstore.store import GCSStore

from geo_assets.accounts import GcsAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.storage.places import BlobPlace

_ADDRESS = "https://storage.googleapis.com"


def open_store(account: GcsAccount, name: str, **how: Any) -> GCSStore:
    """Return obstore's store of a bucket, which is not called yet.

    Raises:
        obstore.exceptions.BaseError: it cannot read an option; its message contains the value.
    """
    options: dict[str, Any] = {}
    if account.service_account_key:
        options["service_account_key"] = account.service_account_key.get_secret_value()
    if account.endpoint:
        options["base_url"] = account.endpoint
    return GCSStore(name, **options, **how)


def address(account: GcsAccount, name: str) -> str:
    """Return the address of a bucket."""
    return f"{(account.endpoint or _ADDRESS).rstrip('/')}/{name}"


def place(account: GcsAccount, name: str, path: str) -> BlobPlace:
    """Return where a blob is, for the storage extension and for GDAL."""
    scheme = {"type": "gcs", "platform": (account.endpoint or _ADDRESS).rstrip("/"), "bucket": name}
    return BlobPlace("gs", name, scheme, f"/vsigs/{name}/{path}")


def gdal(account: GcsAccount, name: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return how GDAL opens a blob: its path, and options; it takes the identity of the environment."""
    options = {"CPL_GS_ENDPOINT": f"{account.endpoint.rstrip('/')}/"} if account.endpoint else {}
    return f"/vsigs/{name}/{path}", options


def creation(account: GcsAccount, name: str) -> str:  # noqa: ARG001
    """Return the command by which a person creates a bucket."""
    return f"gcloud storage buckets create gs://{name} --uniform-bucket-level-access --public-access-prevention"


def create_container(account: GcsAccount, name: str) -> None:
    """Say how a person creates it: a bucket needs a project and a location.

    Raises:
        GeoAssetsError: CONTAINER_NOT_FOUND.
    """
    raise GeoAssetsError("CONTAINER_NOT_FOUND", f"there is no bucket {name}", remedy=creation(account, name))


def exact_entries(account: GcsAccount, name: str, prefix: str) -> Iterator[dict[str, Any]]:  # noqa: ARG001
    """Say that a name cannot be listed.

    Raises:
        GeoAssetsError: UNSAFE_PATH.
    """
    raise GeoAssetsError(
        "UNSAFE_PATH", f"{name} holds names that the store's client refuses, as a//b, /a or a/: rename these objects"
    )
