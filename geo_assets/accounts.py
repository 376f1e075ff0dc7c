"""Storage accounts: what is configured of each kind, a directory or a service.

Here: names, addresses, credentials, and whether they can be such. Not here: which accounts there are (`settings.py`),
opening one (`storage/`).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

#: Secrets in a query would be shown with the address.
_ADDRESS = "an address as https://HOST/PATH, without user, query or blanks"


def _is_web_address(value: str) -> str:
    """Check a web address; empty counts as none, as in a variable that is set to nothing."""
    try:
        parts = urlsplit(value)
        plain = (
            parts.scheme in {"http", "https"}
            and parts.hostname
            and parts.port != 0
            and not {"@", "?", "#"} & set(value)
        )
    except ValueError:
        plain = False
    if value and (not plain or not value.isprintable() or " " in value):
        msg = f"must be {_ADDRESS}"
        raise ValueError(msg)
    return value


WebAddress = Annotated[str, AfterValidator(_is_web_address)]


class LocalAccount(BaseModel):
    """A storage account that is a directory; its containers are the directories in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    kind: Literal["local"] = "local"
    root: Path | None = Field(None, description="the directory (default: containers of the home)")
    public_url: WebAddress | None = Field(
        None, description="what hrefs in STAC items start with (default: file:// of the root)"
    )
    _ours: bool = PrivateAttr(default=False)

    @property
    def names_are_global(self) -> bool:
        """Whether the name of a container may be that of a stranger's."""
        return False

    @property
    def ours(self) -> bool:
        """Whether it is in our own home. Elsewhere it may be a share that is not mounted."""
        return self._ours

    def placed(self, home: Path) -> LocalAccount:
        """The same account with its directory: below a home unless it is configured."""
        placed = self.model_copy(update={"root": self.root or home / "containers"})
        placed._ours = placed.root is not None and placed.root.absolute().is_relative_to(home)  # noqa: SLF001 - itself
        return placed


class AzureAccount(BaseModel):
    """An Azure Storage account. Without key or SAS, obstore takes the identity of the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    kind: Literal["azure"]
    account_name: str = Field(pattern=r"^[a-z0-9]{3,24}$", description="its name in Azure")
    account_key: SecretStr | None = Field(None, description="a key of the account, in base64")
    sas_token: SecretStr | None = Field(None, description="a SAS token, sv=…&…&sig=…")
    endpoint: WebAddress | None = Field(
        None, description="its address, where that is not Azure's (Azurite: http://127.0.0.1:10000/devstoreaccount1)"
    )
    public_url: WebAddress | None = Field(
        None, description="what hrefs in STAC items start with (default: its address)"
    )

    @property
    def names_are_global(self) -> bool:
        """Whether the name of a container may be that of a stranger's."""
        return False

    @property
    def sas_expires(self) -> datetime | None:
        """When its SAS ends; None where there is none, or it does not say (a stored access policy does then)."""
        said = parse_qs(self.sas_token.get_secret_value()).get("se", [""])[0] if self.sas_token else ""
        try:
            ends = datetime.fromisoformat(said)
        except ValueError:
            return None
        return ends if ends.tzinfo else ends.replace(tzinfo=UTC)

    @field_validator("account_key")
    @classmethod
    def _key_is_base64(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                base64.b64decode(value.get_secret_value(), validate=True)
            except ValueError:
                msg = "is not base64, as every account key is: was it copied whole?"
                raise ValueError(msg) from None
        return value

    @field_validator("sas_token")
    @classmethod
    def _sas_is_whole(cls, value: SecretStr | None) -> SecretStr | None:
        """Check a SAS: the store's client reports few of its faults, and the service reports only that access is
        refused.
        """
        if value is not None and (token := value.get_secret_value()):
            pairs = dict(pair.partition("=")[::2] for pair in token.removeprefix("?").split("&"))
            is_plain = token.isascii() and token.isprintable() and " " not in token
            if not is_plain or not all(pairs.values()) or not pairs.keys() >= {"sv", "sig"}:
                msg = "is not a SAS token, which is sv=…&…&sig=… without the address before it: was it copied whole?"
                raise ValueError(msg)
        return value


class S3Account(BaseModel):
    """Buckets of Amazon S3, or of a service that speaks as it does: each is a container. Without a key, obstore takes
    the identity of the environment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    kind: Literal["s3"]
    region: str = Field("us-east-1", pattern=r"^[a-z0-9-]{2,40}$", description="region of its buckets")
    access_key_id: SecretStr | None = Field(None, description="an access key")
    secret_access_key: SecretStr | None = Field(None, description="the secret of the access key")
    session_token: SecretStr | None = Field(None, description="a session token, with a temporary key")
    endpoint: WebAddress | None = Field(
        None, description="its address, where that is not Amazon's (MinIO: http://127.0.0.1:9000)"
    )
    public_url: WebAddress | None = Field(
        None, description="what hrefs in STAC items start with (default: its address)"
    )

    @property
    def names_are_global(self) -> bool:
        """Whether the name of a bucket may be that of a stranger's: Amazon has one space of names for everybody."""
        return not self.endpoint

    @model_validator(mode="after")
    def _key_is_whole(self) -> Self:
        key = bool(self.access_key_id)
        if key != bool(self.secret_access_key) or (self.session_token and not key):
            msg = "access_key_id and secret_access_key go together, and a session_token with both"
            raise ValueError(msg)
        return self


class GcsAccount(BaseModel):
    """Buckets of Google Cloud Storage: each is a container. Without a key, obstore takes the identity of the
    environment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    kind: Literal["gcs"]
    service_account_key: SecretStr | None = Field(None, description="the JSON of a key of a service account")
    endpoint: WebAddress | None = Field(None, description="its address, where that is not Google's")
    public_url: WebAddress | None = Field(
        None, description="what hrefs in STAC items start with (default: its address)"
    )

    @property
    def names_are_global(self) -> bool:
        """Whether the name of a bucket may be that of a stranger's: Google has one space of names for everybody."""
        return not self.endpoint

    @field_validator("service_account_key")
    @classmethod
    def _key_is_whole(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value():
            try:
                there = json.loads(value.get_secret_value()).keys()
            except (ValueError, AttributeError):
                there = set[str]()
            if not there >= {"client_email", "private_key"}:
                msg = "is not the JSON of a service account's key, which has client_email and private_key"
                raise ValueError(msg)
        return value


Account = Annotated[LocalAccount | AzureAccount | S3Account | GcsAccount, Field(discriminator="kind")]
