"""What one format alone can have wrong, or is read in a way that a person should know of.

Here: the checks and notes of single formats, of an open file. Not here: what holds for all of them (`inspect.py`); the
numbers of texts (`ascii_grid.py`, `xyz.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import ascii_grid, beside, gdal, xyz
from geo_assets.raster.gdal import dtype_names, nbits_of, numpy_dtype

#: Bytes decoded at a time where a file is read only to see whether it is readable.
_STRIP_BYTES = 32 * 1024**2


def read_by_format(dataset: Any, path: Path, driver: str) -> Iterator[str | None]:
    """Refuse what one format alone can have wrong, and yield what is to be said of how it is read."""
    if driver == ascii_grid.OF_DOUBLES:
        yield "it is read as float64: smaller numbers would not have all of its digits"
    if driver == "XYZ":
        yield xyz.refuse_wrong_values(path, dataset)
    if driver in {"EHdr", "ENVI"}:
        yield _raw_notes(dataset, path)
    if driver == "HFA":
        _refuse_blocks_left_unfilled(dataset, path)


def _raw_notes(dataset: Any, path: Path) -> str | None:
    """Compare raw pixels with what their header says of their bytes; return a note about them."""
    bits = nbits_of(dataset) or numpy_dtype(dtype_names(dataset)[0]).itemsize * 8
    row = -(-int(dataset.width) * bits // 8)
    if dataset.driver == "EHdr":
        beside.refuse_gaps(path, row, dataset.count)
    return beside.refuse_a_wrong_size(path, int(dataset.height) * row * int(dataset.count))


def refuse_parts_elsewhere(dataset: Any, path: Path) -> None:
    """Refuse an Imagine file whose pixels (.ige) or overviews (.rrd) are in a file that is not beside it."""
    folder = os.path.normpath(path.absolute().parent)
    if strange := [f for f in dataset.files if os.path.normpath(Path(f).absolute().parent) != folder]:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED", f"{path.name} names a file elsewhere as a part of it: {Path(strange[0]).name[:80]}"
        )


def _refuse_blocks_left_unfilled(dataset: Any, path: Path) -> None:
    """Read a compressed Erdas Imagine file twice, over memory with different contents.

    GDAL does not write the rest of a damaged run-length block: it would show memory of this process, with pixels of
    other files.
    """
    if dataset.tags(1, ns="IMAGE_STRUCTURE").get("COMPRESSION") is None:
        return
    readings = []
    for byte in (0x00, 0xAA):
        with gdal.memory_filled(byte), gdal.open_raster(path, "HFA") as again:
            digest = hashlib.sha256()
            for window in _strips(again):
                digest.update(again.read(window=window).tobytes())
            readings.append(digest.digest())
    if readings[0] != readings[1]:
        raise gdal.unreadable(path, "HFA", "one of its blocks does not unpack to its size")


def _strips(dataset: Any) -> Iterator[Any]:
    from rasterio.windows import Window

    row_bytes = dataset.width * dataset.count * numpy_dtype(dtype_names(dataset)[0]).itemsize
    rows = max(1, _STRIP_BYTES // row_bytes // 64 * 64)
    for top in range(0, dataset.height, rows):
        yield Window(0, top, dataset.width, min(rows, dataset.height - top))
