"""A collection as files: its JSON, and its items as they were loaded, a line each.

Here: writing the folder, whole or not at all. Not here: reading the catalogue (`pgstac.py`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.stac.pgstac import read_collection, read_items

#: The files of an exported collection.
COLLECTION, ITEMS = "collection.json", "items.ndjson"


def export_collection(settings: Settings, collection: str, folder: Path) -> int:
    """Write a collection and its items into a folder, which is made; returns how many items. The same catalogue gives
    the same bytes.

    Raises:
        GeoAssetsError: COLLECTION_NOT_FOUND; INVALID_PARAMETERS, the folder is not empty or cannot be made.
    """
    stored = read_collection(settings, collection)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{folder} is no empty folder", remedy="name another one, or empty it"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"{folder} cannot be written: {error.strerror}", remedy="name another folder"
        ) from error
    try:
        count = 0
        (made / COLLECTION).write_text(_line(stored, indent=2), encoding="utf-8")
        with (made / ITEMS).open("w", encoding="utf-8") as lines:
            for item in read_items(settings, collection):
                lines.write(_line(item))
                count += 1
        made.chmod(0o755)
        made.rename(folder)  # over an empty folder, too
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return count


def _line(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent) + "\n"
