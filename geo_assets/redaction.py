"""Secrets in text for people, taken out before it is written to a log, a record or a message.

Here: what a secret looks like, and those that this process was told of. Not here: which settings are secrets
(`settings.py`), what else may not be in a line (`text.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

#: What stands in the place of a secret.
HIDDEN = "***"

#: A shorter value would be found in words that are none.
_SHORTEST = 6

#: `password=…`, `AccountKey=…;`, `&sig=…`: what a query string, a connection string or a command line assigns.
_ASSIGNED = re.compile(
    r"(?i)((?:password|passwd|pwd|secret|token|signature|credential|accountkey|account_key|access_?key(?:_id)?|api_?key"
    r"|\bsig)=\s?)(?:'[^']{1,500}'|\"[^\"]{1,500}\"|[^\s&;,'\"<>]+)"
)

#: `"password": "…"`, as JSON and Python write it.
_QUOTED = re.compile(
    r"(?i)((?:password|passwd|secret|token|signature|account_?key|access_?key|api_?key)[\"']\s?:\s?[\"'])[^\"']+"
)

#: `scheme://user:password@host`.
_IN_URL = re.compile(r"(://[^\s/:@?#'\"]{0,200}:)[^\s/@'\"]{1,500}@")

#: What HTTP is told who asks; tokens that are signed; private keys.
_BEARER = re.compile(
    r"(?i)(\bbearer\s+|\bauthorization[\"']?\s?[:=]\s?[\"']?(?:basic|sharedkey|digest)\s+)[\w.~+/=:-]{8,}"
)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}\.?[\w-]*")
_KEY = re.compile(
    r"(-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----).*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)", re.DOTALL
)

_FORMS = (_ASSIGNED, _QUOTED, _BEARER)

#: What each of these forms has in it: most texts have none of it, and are looked at once.
_HINT = re.compile(r"(?i)passw|pwd|secret|token|signature|credential|key|sig=|://|bearer|authorization|eyJ")


class _Known:
    """The secrets that this process was told of."""

    values: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None


def know(secrets: Iterable[str]) -> None:
    """Tell of secrets, which are then found whatever they look like, also where they are written for a URL."""
    told = {form for secret in secrets if len(secret) >= _SHORTEST for form in (secret, quote(secret, safe=""))}
    if told <= _Known.values:
        return
    _Known.values |= told
    longest_first = sorted(_Known.values, key=len, reverse=True)
    _Known.pattern = re.compile("|".join(map(re.escape, longest_first)))


def redacted(text: str) -> str:
    """The text without secrets."""
    if _Known.pattern:
        text = _Known.pattern.sub(HIDDEN, text)
    if not _HINT.search(text):
        return text
    for form in _FORMS:
        text = form.sub(rf"\1{HIDDEN}", text)
    text = _IN_URL.sub(rf"\1{HIDDEN}@", text)
    return _KEY.sub(rf"\1{HIDDEN}", _JWT.sub(HIDDEN, text))
