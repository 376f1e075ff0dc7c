"""Tokens with which PostgreSQL is opened instead of passwords: short-lived, of an identity.

Here: getting one, and keeping it until shortly before it expires. Not here: who uses it (`Settings.credentials`), which
every connection of ours and of Dagster asks.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Literal

from geo_assets.errors import GeoAssetsError

#: How the database is told who we are: by a role's password, or by a token of Azure's identity or of a program.
Auth = Literal["password", "azure", "command"]

#: What a token for Azure Database for PostgreSQL is asked for with.
_AZURE_SCOPE = "https://ossrdbms-aad.database.windows.net/.default"

#: Seconds before its end at which a token is replaced: as early as dagster-postgres does.
_EARLY = 300

#: Seconds that a token lives if nothing says how long: half of what Azure's live at least.
_UNKNOWN_LIFE = 1800

#: Seconds within which the program must have answered.
_PATIENCE = 30


@dataclass
class _Kept:
    """The token of one source; a process has one of each."""

    token: str = ""
    until: float = 0.0
    lock: Lock = field(default_factory=Lock)
    credential: Any = None


_KEPT: dict[tuple[Auth, str], _Kept] = {}


def database_token(auth: Auth, command: str = "") -> str:
    """Return a token that is valid now.

    Args:
        auth: `azure`, by the managed or workload identity, or whatever else `DefaultAzureCredential` finds; `command`.
        command: the program with its arguments. It prints a token, or JSON with `accessToken` or `token`, and
            `expires_on` in seconds since 1970, as `az account get-access-token` does.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE, no token is to be had; the reason is without it.
    """
    kept = _KEPT.setdefault((auth, command), _Kept())
    with kept.lock:
        if not kept.token or time.time() >= kept.until - _EARLY:
            kept.token, kept.until = _of_azure(kept) if auth == "azure" else _of_program(command)
        return kept.token


def _of_azure(kept: _Kept) -> tuple[str, float]:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import DefaultAzureCredential

    kept.credential = kept.credential or DefaultAzureCredential()
    try:
        told = kept.credential.get_token(_AZURE_SCOPE)
    except ClientAuthenticationError as error:
        raise _none(str(error).splitlines()[0][:300]) from error
    return told.token, float(told.expires_on)


def _of_program(command: str) -> tuple[str, float]:
    try:
        done = subprocess.run(
            shlex.split(command),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        raise _none(f"the program ended with {error.returncode}") from None
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        raise _none(f"the program could not be run: {type(error).__name__}") from None
    said = done.stdout.strip()
    try:
        told = json.loads(said) if said.startswith("{") else {"token": said}
        token, until = (
            told.get("accessToken") or told["token"],
            float(told.get("expires_on", time.time() + _UNKNOWN_LIFE)),
        )
    except (ValueError, KeyError, TypeError):
        raise _none("the program printed neither a token nor JSON with one") from None
    if not token:
        raise _none("the program printed nothing")
    return str(token), until


def _none(why: str) -> GeoAssetsError:
    return GeoAssetsError(
        "DATABASE_UNAVAILABLE",
        f"there is no token for PostgreSQL: {why}",
        remedy="check GEO_ASSETS_PG_AUTH and the identity of this process: deploy/azure/README.md",
    )
