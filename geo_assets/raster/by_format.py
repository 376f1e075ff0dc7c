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

#: Chunks of a PNG that are looked at; before its picture there are some ten.
_MOST_CHUNKS = 1000


def refuse_an_animation(dataset: Any, path: Path, driver: str) -> None:
    """Refuse a picture of many frames, of which GDAL makes bands, or which it cannot read.

    Raises:
        GeoAssetsError: RASTER_UNSUPPORTED.
    """
    if (driver == "GIF" and dataset.count > 1) or (driver == "WEBP" and _is_animated_webp(path)):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} is an animation, not one picture",
            remedy=f"make a picture of each frame, for example with: magick in{path.suffix.lower()} frame-%d.png",
        )


def _is_animated_webp(path: Path) -> bool:
    """Whether the flags of an extended WebP say so (RFC 9649, 2.7)."""
    with path.open("rb") as file:
        head = file.read(21)
    return head[12:16] == b"VP8X" and bool(head[20:] and head[20] & 0x02)


def _is_animated_png(path: Path) -> bool:
    """Whether a PNG has the chunk of an animation before its picture, which is what other readers show of it."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(_MOST_CHUNKS):
            head = file.read(8)
            if len(head) < 8 or head[4:] in {b"acTL", b"IDAT"}:
                return head[4:] == b"acTL"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)  # behind its bytes is their checksum
    return False


def read_by_format(dataset: Any, path: Path, driver: str) -> Iterator[str | None]:
    """Refuse what one format alone can have wrong, and yield what is to be said of how it is read."""
    if driver == "PNG" and _is_animated_png(path):
        yield "it is an animation, of which its first picture alone is converted"
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
