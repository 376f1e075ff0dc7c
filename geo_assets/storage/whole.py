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
