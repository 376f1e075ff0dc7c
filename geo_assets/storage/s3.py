"""Amazon S3, and services that speak as it does: opening a bucket, its addresses, creating it.

Here: what a service of `services.py` is asked for. Not here: all operations that are the same everywhere
(`containers.py`). boto3 (extra `s3`) lists names that obstore refuses, and hands keys to rasterio; nothing else needs
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.store import S3Store

from geo_assets.accounts import S3Account
from geo_assets.errors import GeoAssetsError
from geo_assets.storage.places import BlobPlace

#: What the storage extension's schema asks of a scheme of the type `aws-s3`, letter by letter.
_PLATFORM = "https://{bucket}.s3.{region}.amazonaws.com"

#: The region in which a bucket is created without saying so.
_FIRST_REGION = "us-east-1"


class RefusedError(Exception):
    """What a service answered that created no bucket; `faults.py` reads its status and code."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"status code: {answer.status_code} {answer.text[:500]}")


def open_store(account: S3Account, name: str, **how: Any) -> S3Store:
    """Return obstore's store of a bucket, which is not called yet.

    A rename that must not replace anything is done by a multipart copy, whose end is conditional.

    Raises:
        obstore.exceptions.BaseError: it cannot read an option; its message contains the value.
    """
    options: dict[str, Any] = {"region": account.region, "copy_if_not_exists": "multipart"}
    for field in ("access_key_id", "secret_access_key", "session_token"):
        if secret := getattr(account, field):
            options[field] = secret.get_secret_value()
    if account.endpoint:
        options["endpoint"] = account.endpoint
    return S3Store(name, **options, **how)


def address(account: S3Account, name: str) -> str:
    """Return the address of a bucket."""
    if account.endpoint:
        return f"{account.endpoint.rstrip('/')}/{name}"
    return f"https://{name}.s3.{account.region}.amazonaws.com"


def place(account: S3Account, name: str, path: str) -> BlobPlace:
    """Return where a blob is, for the storage extension and for GDAL."""
    scheme = {"type": "aws-s3", "platform": _PLATFORM, "bucket": name, "region": account.region}
    if account.endpoint:
        scheme = {"type": "custom-s3", "platform": account.endpoint.rstrip("/"), "bucket": name}
    return BlobPlace("s3", name, scheme, f"/vsis3/{name}/{path}")


def gdal(account: S3Account, name: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return how GDAL opens a blob: its path, and arguments of `rasterio.Env`, which takes keys as a session of boto3
    and in no other way; without a key GDAL takes the identity of the environment.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED.
    """
    options: dict[str, Any] = {"AWS_REGION": account.region}
    if account.endpoint:
        parts = urlsplit(account.endpoint)
        options |= {
            "AWS_S3_ENDPOINT": f"{parts.netloc}{parts.path.rstrip('/')}",
            "AWS_HTTPS": "YES" if parts.scheme == "https" else "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    if account.access_key_id:
        _insist_on_boto3("reading a raster with a key")
        from rasterio.session import AWSSession

        options["session"] = AWSSession(region_name=account.region, **_keys(account))
    return f"/vsis3/{name}/{path}", options


def _keys(account: S3Account) -> dict[str, str]:
    """The key of an account, as boto3 takes it."""
    fields = ("access_key_id", "secret_access_key", "session_token")
    return {f"aws_{field}": secret.get_secret_value() for field in fields if (secret := getattr(account, field))}


def _insist_on_boto3(what: str) -> None:
    if find_spec("boto3") is None:
        raise GeoAssetsError(
            "EXTRA_NOT_INSTALLED",
            f"{what} from S3 needs boto3, which is not installed",
            remedy="install it: uv sync --extra s3, or pip install 'geo_assets[s3]'",
        )


def creation(account: S3Account, name: str) -> str:
    """Return the command by which a person creates a bucket."""
    endpoint = f" --endpoint-url {account.endpoint}" if account.endpoint else ""
    return f"aws s3 mb s3://{name} --region {account.region}{endpoint}"


def create_container(account: S3Account, name: str) -> None:
    """Create a private bucket; one of ours is left unchanged.

    Raises:
        RefusedError: it could not be created.
        OSError: the service does not answer.
    """
    allow_http = bool(account.endpoint and account.endpoint.startswith("http://"))
    url = obstore.sign(
        open_store(account, name, client_options={"allow_http": allow_http}), "PUT", "", timedelta(minutes=5)
    )
    region = (
        ""
        if account.region == _FIRST_REGION
        else '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>'
        f"{account.region}</LocationConstraint></CreateBucketConfiguration>"
    )
    try:
        answer = httpx.put(url, content=region, timeout=30, trust_env=False)
    except httpx.HTTPError as error:
        raise OSError(type(error).__name__) from None  # its text may have the signed address
    if answer.is_error and "BucketAlreadyOwnedByYou" not in answer.text:
        raise RefusedError(answer)


def exact_entries(account: S3Account, name: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield every blob in the form of obstore's listing, with its exact name (`a//b`, `/a`, `a/`, control characters).

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED.
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the service does not answer, or refuses.
    """
    _insist_on_boto3("listing names as a//b, /a or a/")
    import boto3

    client = boto3.client("s3", region_name=account.region, endpoint_url=account.endpoint, **_keys(account))
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix):
        for blob in page.get("Contents", ()):
            yield {
                "path": blob["Key"],
                "size": blob["Size"],
                "e_tag": blob["ETag"],
                "last_modified": blob["LastModified"],
            }
