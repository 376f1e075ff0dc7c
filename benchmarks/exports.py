"""What it takes to write a collection's items as one file, and to export it.

Here: measuring on a collection that is there. Not here: making one; the report.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from geo_assets.settings import Settings
from geo_assets.stac.pgstac import read_collection
from geo_assets.stages.export import Data, export
from geo_assets.stages.items_file import KEY, refresh_items_file

#: Seconds that the file of 20,000 items may take.
BUDGET_SECONDS = 5.0


def items_file(settings: Settings, collection: str) -> dict[str, float]:
    """Make the `items.parquet` of a collection that has none yet, and again while nothing has changed.

    Returns:
        `seconds`, `seconds_unchanged`, `bytes`.
    """
    began = time.perf_counter()
    if not refresh_items_file(settings, collection, run="benchmark"):
        raise RuntimeError(f"{collection} has its file already, or no items")
    made = time.perf_counter()
    refresh_items_file(settings, collection, run="benchmark")
    known = time.perf_counter()
    size = read_collection(settings, collection)["assets"][KEY]["file:size"]
    return {"seconds": made - began, "seconds_unchanged": known - made, "bytes": float(size)}


def static_catalogue(settings: Settings, collection: str, folder: Path) -> dict[str, float]:
    """Export a collection without its data; the folder is removed again.

    Returns:
        `seconds`, `files`, `bytes`.
    """
    began = time.perf_counter()
    made = export(settings, collection, str(folder), data=Data.NONE)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return {"seconds": seconds, "files": float(made.files), "bytes": float(made.bytes)}
