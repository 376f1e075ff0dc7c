"""Tokens of the HTTP API: named, scoped, stored as SHA-256 alone.

Here: statements on `geo.api_tokens`. Not here: HTTP (`api/auth.py`).
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
from collections.abc import Sequence
from datetime import datetime

from psycopg_pool import ConnectionPool
from pydantic import BaseModel, ConfigDict, Field

from geo_assets.database.connections import Backoff, DictConnection, retrying, retrying_also_on
from geo_assets.errors import GeoAssetsError

SCOPES = ("submit", "read", "admin")

#: Whoever shows a token waits for an answer: it comes within some seconds, if only to say that the database is away.
_HASTY = Backoff(attempts=3, total_seconds=6.0, longest_wait_seconds=2.0)


class Token(BaseModel):
    """What is known of a token; the token itself is not."""

    model_config = ConfigDict(frozen=True)
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = Field(None, description="refused from then on")


class Tokens:
    """Making, finding, listing and revoking tokens."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def create(self, name: str, scopes: Sequence[str]) -> str:
        """A new token; it is never shown again. It may have the name of one that was revoked, which it replaces.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, an unknown scope or a name of a valid token.
        """
        unknown = set(scopes) - set(SCOPES)
        if unknown or not scopes:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"scopes are {', '.join(SCOPES)}, not {', '.join(unknown) or 'none'}",
                remedy="--scope submit --scope read",
            )
        token = f"ga_{secrets.token_urlsafe(32)}"
        with self._pool.connection() as conn:
            added = conn.execute(
                """insert into geo.api_tokens as known (name, sha256, scopes) values (%s, %s, %s)
                   on conflict (name) do update set sha256 = excluded.sha256, scopes = excluded.scopes,
                           created_at = now(), revoked_at = null
                    where known.revoked_at is not null""",
                (name, _hash(token), list(scopes)),
            ).rowcount
        if not added:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"there is a valid token {name!r}",
                remedy=f"choose another name, or revoke it first: geo-assets token revoke {shlex.quote(name)}",
            )
        return token

    @retrying_also_on(backoff=_HASTY)
    def find(self, token: str) -> tuple[str, frozenset[str]] | None:
        """Name and scopes of a token that is valid now. It is looked up by its hash, so that the time taken reveals
        nothing.
        """
        with self._pool.connection(timeout=_HASTY.longest_wait_seconds) as conn:
            row = conn.execute(
                "select name, scopes from geo.api_tokens where sha256 = %s and revoked_at is null", (_hash(token),)
            ).fetchone()
        return (str(row["name"]), frozenset(row["scopes"])) if row else None  # type: ignore[call-overload]

    @retrying
    def any_valid(self) -> bool:
        """Whether anybody could log in."""
        with self._pool.connection() as conn:
            return conn.execute("select from geo.api_tokens where revoked_at is null limit 1").fetchone() is not None

    @retrying
    def all(self) -> list[Token]:
        """All tokens by name, also those that were revoked."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                "select name, scopes, created_at, revoked_at from geo.api_tokens order by name"
            ).fetchall()
        return [Token.model_validate(row) for row in rows]

    @retrying
    def revoke(self, name: str) -> None:
        """Refuse a token from now on.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, there is no such token, or it was revoked before.
        """
        with self._pool.connection() as conn:
            known = conn.execute("select revoked_at from geo.api_tokens where name = %s for update", (name,)).fetchone()
            if known is None or known["revoked_at"] is not None:
                why = f"there is no token {name!r}" if known is None else f"token {name!r} was revoked before"
                raise GeoAssetsError("INVALID_PARAMETERS", why, remedy="see which there are: geo-assets token list")
            conn.execute("update geo.api_tokens set revoked_at = now() where name = %s", (name,))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
