"""Authorisation: named tokens, OIDC, or no authentication on loopback.

Here: from a request to scopes. Not here: making tokens (`ledger/tokens.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.tokens import SCOPES, Tokens
from geo_assets.settings import Settings
from geo_assets.web.guard import is_loopback

#: Signatures with a public key only: `none` and the HMAC family would let anybody sign.
_ALGORITHMS = ["RS256", "ES256"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The name and the scopes of a caller."""

    name: str
    scopes: frozenset[str]


def refuse_open_door(settings: Settings, tokens: Tokens, host: str) -> bool:
    """Whether callers must authenticate; beyond loopback they must be able to.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, it would be open to the network.
    """
    required = settings.api_require_auth or not is_loopback(host)
    if required and not settings.oidc_issuer and not tokens.any_valid():
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"the API does not listen on {host} without authentication",
            remedy=(
                "make a token: geo-assets token create NAME --scope submit --scope read; or set GEO_ASSETS_OIDC_ISSUER"
                " and …_AUDIENCE"
            ),
        )
    return required


def authenticator(settings: Settings, tokens: Tokens, *, required: bool) -> Callable[[Request, str], Caller]:
    """Make the function that identifies the caller of a request, and refuses one without the scope."""
    oidc = _Oidc(settings) if settings.oidc_issuer else None

    def authenticate(request: Request, scope: str) -> Caller:
        caller = _caller(request, tokens, oidc, required=required)
        if scope not in caller.scopes:
            raise GeoAssetsError(
                "FORBIDDEN",
                f"this needs the scope {scope!r}; {caller.name} has {', '.join(sorted(caller.scopes)) or 'none'}",
            )
        return caller

    return authenticate


def _caller(request: Request, tokens: Tokens, oidc: _Oidc | None, *, required: bool) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not token and not required:
        return Caller("loopback", frozenset(SCOPES))
    if scheme.lower() != "bearer" or not token:
        raise GeoAssetsError("UNAUTHORIZED", "this needs a bearer token")
    found = tokens.find(token.strip())
    if found:
        return Caller(*found)
    if oidc:
        return oidc.caller(token.strip())
    raise GeoAssetsError("UNAUTHORIZED", "the token is not valid")


class _Oidc:
    """JWTs of one issuer for one audience."""

    def __init__(self, settings: Settings) -> None:
        import jwt

        if not settings.oidc_audience:
            raise GeoAssetsError("INVALID_PARAMETERS", "OIDC needs an audience", remedy="set GEO_ASSETS_OIDC_AUDIENCE")
        self._settings = settings
        issuer = (settings.oidc_issuer or "").rstrip("/")
        self._keys = jwt.PyJWKClient(settings.oidc_jwks_url or f"{issuer}/.well-known/jwks.json", cache_keys=True)

    def caller(self, token: str) -> Caller:
        """The holder of a valid token.

        Raises:
            GeoAssetsError: UNAUTHORIZED; IDENTITY_PROVIDER_UNAVAILABLE, its keys cannot be fetched.
        """
        import jwt

        try:
            key = self._keys.get_signing_key_from_jwt(token).key
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, json.JSONDecodeError) as error:
            told = "the identity provider's keys, by which a token is checked, cannot be fetched"
            raise GeoAssetsError("IDENTITY_PROVIDER_UNAVAILABLE", told) from error
        # an algorithm of another kind than the key's is a TypeError; a header may be nested without end
        except (jwt.PyJWTError, TypeError, RecursionError) as error:
            raise GeoAssetsError("UNAUTHORIZED", f"the token is not valid: {type(error).__name__}") from error
        granted = claims.get("scp") or claims.get("scope") or claims.get("roles") or ""
        words = granted.split() if isinstance(granted, str) else granted if isinstance(granted, list) else []
        return Caller(str(claims["sub"]), frozenset(map(str, words)) & frozenset(SCOPES))
