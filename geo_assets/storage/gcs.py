"""Google Cloud Storage: opening a bucket, and its addresses.

Here: what a service of `services.py` is asked for. Not here: all operations that are the same everywhere
(`containers.py`); creating a bucket, which needs a project that is not ours to choose, and names that obstore refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from obstore.store import GCSStore

from geo_assets.accounts import GcsAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.storage.places import BlobPlace
from geo_assets.storage.whole import upload_to_service

_ADDRESS = "https://storage.googleapis.com"

#: What a token is for, and how long Google takes it at most.
_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
_LIFE = timedelta(hours=1)

#: What GDAL would prefer to our key if the environment has it.
_NOTHING_ELSE = {
    "GS_NO_SIGN_REQUEST": "NO",
    "GS_SECRET_ACCESS_KEY": "",
    "GS_ACCESS_KEY_ID": "",
    "GDAL_HTTP_HEADERS": "",
    "GDAL_HTTP_HEADER_FILE": "",
    "GS_OAUTH2_REFRESH_TOKEN": "",
    "GS_OAUTH2_PRIVATE_KEY_FILE": "",
    "GOOGLE_APPLICATION_CREDENTIALS": "",
}


def open_store(account: GcsAccount, name: str, **how: Any) -> GCSStore:
    """Return obstore's store of a bucket, which is not called yet.

    Address and key are given whole: obstore takes from `GOOGLE_*` of the environment whatever it is not told, and
    refuses a key where the environment names another. So our key has a provider of its own.

    Raises:
        obstore.exceptions.BaseError: it cannot read an option; its message contains the value.
    """
    options: dict[str, Any] = {"base_url": _endpoint(account)}
    if key := _key(account):
        options |= {"credential_provider": lambda: _token(key), "skip_signature": False}
    return GCSStore(name, **options, **how)


def _key(account: GcsAccount) -> dict[str, str]:
    """The key of an account, as Google wrote it; empty where the identity of the environment is meant."""
    secret = account.service_account_key.get_secret_value() if account.service_account_key else ""
    return dict(json.loads(secret)) if secret else {}


def _token(key: Mapping[str, str]) -> Any:
    """Sign a token with a key, which is what Google's own clients send: nobody has to be asked for one."""
    import jwt  # with it comes cryptography, which only Google's storage needs

    now = datetime.now(UTC)
    who = {"iss": key["client_email"], "sub": key["client_email"], "scope": _SCOPE, "iat": now, "exp": now + _LIFE}
    token = jwt.encode(who, key["private_key"], "RS256", headers={"kid": key.get("private_key_id", "")})
    return {"token": token, "expires_at": now + _LIFE}


def _endpoint(account: GcsAccount) -> str:
    return (account.endpoint or _ADDRESS).rstrip("/")


def address(account: GcsAccount, name: str) -> str:
    """Return the address of a bucket."""
    return f"{_endpoint(account)}/{name}"


def place(account: GcsAccount, name: str, path: str) -> BlobPlace:
    """Return where a blob is, for the storage extension and for GDAL."""
    scheme = {"type": "gcs", "platform": _endpoint(account), "bucket": name}
    return BlobPlace("gs", name, scheme, f"/vsigs/{name}/{path}")


def gdal(account: GcsAccount, name: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return how GDAL opens a blob: its path, and options; without a key it takes the identity of the environment."""
    options = {"CPL_GS_ENDPOINT": f"{account.endpoint.rstrip('/')}/"} if account.endpoint else {}
    if key := _key(account):
        ours = {"GS_OAUTH2_PRIVATE_KEY": key["private_key"], "GS_OAUTH2_CLIENT_EMAIL": key["client_email"]}
        options |= _NOTHING_ELSE | ours
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


#: Uploads a file, a large one in parts.
upload = upload_to_service
