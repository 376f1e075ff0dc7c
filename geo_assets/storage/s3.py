"""Amazon S3, and services that speak as it does: opening a bucket, its addresses, creating it.

Here: what a service of `services.py` is asked for. Not here: all operations that are the same everywhere
(`containers.py`). boto3 (extra `s3`) lists names that obstore refuses; nothing else needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

from geo_assets.accounts import S3Account
from geo_assets.extras import insist_on
from geo_assets.storage.places import BlobPlace
from geo_assets.storage.whole import upload_to_service

if TYPE_CHECKING:
    import httpx

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

    A rename that must not replace anything is done by a multipart copy, whose end is conditional. Address and key are
    given whole: obstore takes from `AWS_*` of the environment whatever it is not told, as the token of another key. So
    our key has a provider of its own.

    Raises:
        obstore.exceptions.BaseError: it cannot read an option; its message contains the value.
    """
    options: dict[str, Any] = {
        "region": account.region,
        "endpoint": _endpoint(account),
        "virtual_hosted_style_request": False,
        "copy_if_not_exists": "multipart",
    }
    if key := _key(account):
        given = {"token": None, "expires_at": None} | key
        options |= {"credential_provider": lambda: given, "skip_signature": False}
    return S3Store(name, **options, **how)


def _key(account: S3Account) -> dict[str, str]:
    """The key of an account; empty where the identity of the environment is meant."""
    fields = {"access_key_id": "access_key_id", "secret_access_key": "secret_access_key", "token": "session_token"}
    told = {name: getattr(account, field) for name, field in fields.items() if account.access_key_id}
    return {name: secret.get_secret_value() for name, secret in told.items() if secret}


def _endpoint(account: S3Account) -> str:
    return (account.endpoint or f"https://s3.{account.region}.amazonaws.com").rstrip("/")


def address(account: S3Account, name: str) -> str:
    """Return the address of a bucket."""
    if account.endpoint:
        return f"{_endpoint(account)}/{name}"
    return f"https://{name}.s3.{account.region}.amazonaws.com"


def region(account: S3Account, name: str) -> str:
    """Return the region that the service tells for a bucket, to whoever asks; empty where it tells none."""
    import httpx  # used for what obstore has not, which is rare

    try:
        answer = httpx.head(f"{_endpoint(account)}/{name}", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return ""
    return str(answer.headers.get("x-amz-bucket-region", ""))


def place(account: S3Account, name: str, path: str) -> BlobPlace:
    """Return where a blob is, for the storage extension and for GDAL."""
    scheme = {"type": "aws-s3", "platform": _PLATFORM, "bucket": name, "region": account.region}
    if account.endpoint:
        scheme = {"type": "custom-s3", "platform": account.endpoint.rstrip("/"), "bucket": name}
    return BlobPlace("s3", name, scheme, f"/vsis3/{name}/{path}")


def gdal(account: S3Account, name: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return how GDAL opens a blob: its path, and arguments of `rasterio.Env`, which takes a key as a session and in no
    other way; without a key GDAL takes the identity of the environment.
    """
    from rasterio.session import Session

    class Key(Session):  # type: ignore[misc]
        """The key of one account, and nothing of the environment's."""

        def get_credential_options(self) -> dict[str, str]:
            return {
                "AWS_ACCESS_KEY_ID": key["access_key_id"],
                "AWS_SECRET_ACCESS_KEY": key["secret_access_key"],
                "AWS_SESSION_TOKEN": key.get("token", ""),
                "AWS_NO_SIGN_REQUEST": "NO",
            }

    parts, key = urlsplit(_endpoint(account)), _key(account)
    options: dict[str, Any] = {
        "AWS_REGION": account.region,
        "AWS_S3_ENDPOINT": f"{parts.netloc}{parts.path}",
        "AWS_HTTPS": "YES" if parts.scheme == "https" else "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }
    return f"/vsis3/{name}/{path}", options | ({"session": Key()} if key else {})


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
    import httpx

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
    insist_on("s3", "listing names as a//b, /a or a/: ")
    import boto3

    names = {
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "token": "aws_session_token",
    }
    key = {names[field]: secret for field, secret in _key(account).items()}
    client = boto3.client("s3", region_name=account.region, endpoint_url=_endpoint(account), **key)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix):
        for blob in page.get("Contents", ()):
            yield {
                "path": blob["Key"],
                "size": blob["Size"],
                "e_tag": blob["ETag"],
                "last_modified": blob["LastModified"],
            }


#: Uploads a file, a large one in parts.
upload = upload_to_service
