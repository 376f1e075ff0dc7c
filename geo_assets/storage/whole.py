"""A file in one call of obstore, which cuts it into parts where it is large.

Here: what the services share that have no other way. Not here: Azure's blocks (`azure_blocks.py`), errors and patience
(`containers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import obstore


def upload_whole(store: Any, path: str, source: Path, attributes: Mapping[str, str]) -> None:
    """Upload a file; it appears completely or not at all.

    Raises:
        obstore.exceptions.BaseError: the store does not answer, or refuses.
        OSError: the file cannot be read.
    """
    told: Any = attributes or None
    with source.open("rb") as file:
        obstore.put(store, path, file, attributes=told)


def upload_to_service(
    account: Any,  # noqa: ARG001 - a service is told both (`services.py`)
    name: str,  # noqa: ARG001
    store: Any,
    path: str,
    source: Path,
    attributes: Mapping[str, str],
) -> None:
    """As `upload_whole`, for a service that has no other way.

    Raises:
        As `upload_whole`.
    """
    upload_whole(store, path, source, attributes)
