"""The form of the names and codes that are written in more than one place: parameters, settings, references to blobs.

Here: regular expressions, each for the whole text. Not here: looking up what they name.
"""

from __future__ import annotations

import re

#: Of a container: what Azure allows, 3 to 63 characters.
CONTAINER_NAME = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")
CONTAINER_NAME_IN_WORDS = "3-63 of a-z, 0-9 and single hyphens"

#: Of a storage account, as settings and requests call it.
ACCOUNT_ALIAS = re.compile(r"[a-z][a-z0-9_]{0,30}")

#: A reference system of the EPSG registry.
EPSG_CODE = re.compile(r"EPSG:\d{4,6}")


def whole(pattern: re.Pattern[str]) -> str:
    """A pattern as JSON Schema and pydantic take it."""
    return f"^{pattern.pattern}$"
