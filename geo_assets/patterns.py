"""The form of the names and codes that are written in more than one place: parameters, settings, references to blobs.

Here: regular expressions, each for the whole text. Not here: looking up what they name.
"""

from __future__ import annotations

import re

#: Of a container: what Azure allows.
CONTAINER_NAME = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")
CONTAINER_NAME_IN_WORDS = "3-63 of a-z, 0-9 and single hyphens"

#: Of a storage account, as settings and requests call it.
ACCOUNT_ALIAS = re.compile(r"[a-z][a-z0-9_]{0,30}")

#: Of a collection that a submission or a person makes.
COLLECTION_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

#: Of a job, or its beginning.
JOB_ID = re.compile(r"[0-9a-f]+")

#: A reference system of the EPSG registry, if there is such a code.
EPSG_CODE = re.compile(r"EPSG:\d{1,6}")


def whole(pattern: re.Pattern[str]) -> str:
    """A pattern as JSON Schema and pydantic take it."""
    return f"^{pattern.pattern}$"


#: Pattern, as pydantic takes it -> what it lets through.
IN_WORDS = {
    whole(CONTAINER_NAME): CONTAINER_NAME_IN_WORDS,
    whole(JOB_ID): "the id of a job, of 0-9 and a-f, or its beginning",
    whole(ACCOUNT_ALIAS): "at most 31 of a-z, 0-9 and _, a letter first",
    whole(COLLECTION_ID): "at most 63 of a-z, 0-9, - and _, a letter or digit first",
}
