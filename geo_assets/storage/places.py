"""Where a blob is in a service, for who opens it with an identity of its own.

Here: the type. Not here: what a kind of service says (`azure.py` and its siblings), adding it to items
(`stac/places.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlobPlace:
    """A blob in a service."""

    kind: str  # short, as in the names of schemes and alternates
    owner: str  # what the scheme describes: an account, a bucket
    scheme: Mapping[str, str]  # of STAC's storage extension
    href: str  # for GDAL
