"""Blobs: what a listing tells of one, what one begins with, and how one is named.

Here: these values, and which names are safe. Not here: asking a store (`containers.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from geo_assets.errors import GeoAssetsError
from geo_assets.patterns import CONTAINER_NAME, CONTAINER_NAME_IN_WORDS


@dataclass(frozen=True, slots=True)
class Blob:
    """One entry of a listing. `path` is relative to the container; `size` in bytes."""

    path: str
    size: int
    etag: str
    last_modified: datetime
    ignored: str | None = None  # why it is none that can be read, of what else lies in a directory: a link, a pipe


@dataclass(frozen=True, slots=True)
class FirstBytes:
    """What a blob begins with, and the size of all of it in bytes."""

    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class BlobRef:
    """`alias/container/path`: the form in which outputs are named to users and in the ledger."""

    alias: str
    container: str
    path: str

    def __str__(self) -> str:
        return f"{self.alias}/{self.container}/{self.path}"

    @classmethod
    def parse(cls, text: str, *, path_required: bool = True) -> BlobRef:
        """Parse `alias/container[/path]`.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, it is not of that form; UNSAFE_PATH.
        """
        alias, _, rest = text.partition("/")
        container, _, path = rest.partition("/")
        if not alias or not CONTAINER_NAME.fullmatch(container) or (path_required and not path):
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"{text!r} is not ALIAS/CONTAINER[/PATH]",
                remedy=f"for example default/landing; a container's name is {CONTAINER_NAME_IN_WORDS}",
            )
        return cls(alias, container, safe_path(path))

    @classmethod
    def of_container(cls, text: str) -> BlobRef:
        """Parse `alias/container`; a slash at its end does no harm.

        Raises:
            GeoAssetsError: INVALID_PARAMETERS, it is not of that form, or has a path.
        """
        ref = cls.parse(text.rstrip("/"), path_required=False)
        if ref.path:
            whole = f"{ref.alias}/{ref.container}"
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"{text!r} is a path in a container, and the whole container is taken",
                remedy=f"name the container alone: {whole}",
            )
        return ref


def safe_path(path: str) -> str:
    """Return `path`, unless it could leave its container.

    Raises:
        GeoAssetsError: UNSAFE_PATH.
    """
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise GeoAssetsError("UNSAFE_PATH", f"{path!r} is not a plain blob path")
    if any("\ud800" <= c <= "\udfff" for c in path):
        raise GeoAssetsError("UNSAFE_PATH", f"{path!r} is not UTF-8")
    return path


def blob_path(path: str) -> str:
    """Return `path`, unless it is a name that the stores' client cannot request: Azure accepts `a//b`, `/a` and
    `a/./b`.

    Raises:
        GeoAssetsError: UNSAFE_PATH.
    """
    if {"", "."} & set(path.split("/")):
        raise GeoAssetsError("UNSAFE_PATH", f"{path!r} has a part that is empty or a dot")
    return safe_path(path)
