"""Tokens of the HTTP API: named, scoped, stored as SHA-256 alone.

Here: statements on `geo.api_tokens`. Not here: HTTP (`api/auth.py`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from psycopg_pool import ConnectionPool

from geo_assets.database.connections import Backoff, DictConnection, retrying, retrying_also_on
from geo_assets.errors import GeoAssetsError

SCOPES = ("submit", "read", "admin")

#: Whoever shows a token waits for an answer: it comes within some seconds, if only to say that the database is away.
_HASTY = Backoff(attempts=3, total_seconds=6.0, longest_wait_seconds=2.0)


class Tokens:
    """Making, finding and revoking tokens."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    @retrying
    def create(self, name: str, scopes: Sequence[str]) -> str:
        """A new token; it is never shown again.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, an unknown scope or a name that is taken.
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
                "insert into geo.api_tokens (name, sha256, scopes) values (%s, %s, %s) on conflict do nothing",
                (name, _hash(token), list(scopes)),
            ).rowcount
        if not added:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"there is a token {name!r} already", remedy="choose another name"
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
    def revoke(self, name: str) -> None:
        """Refuse a token from now on.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, there is no such token.
        """
        with self._pool.connection() as conn:
            if not conn.execute(
                "update geo.api_tokens set revoked_at = now() where name = %s and revoked_at is null", (name,)
            ).rowcount:
                raise GeoAssetsError("INVALID_PARAMETERS", f"there is no valid token {name!r}", remedy="check the name")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
