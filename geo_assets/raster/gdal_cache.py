"""GDAL's cache of decoded blocks: as large as a reading needs, no larger.

Here: how much that is, and setting it for a while. Not here: what is read, or the size that a child starts with, which
the writers of GDAL and its warping use (`sandbox/start.py`).

A block that is decoded into memory which was in use a moment ago costs less than one in memory which the kernel must
clear first, and which is far from the processor. Reading through a raster once needs few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rasterio.env import get_gdal_config, set_gdal_config

from geo_assets.raster.gdal import dtype_names, numpy_dtype
from geo_assets.raster.pixels import has_own_mask

#: Bytes that are always kept. With 8 MB, as with 16, the command takes 2 to 3 % less time than with 64; where less is
#: kept than is in use, a conversion takes seven times as long.
_LEAST = 8 << 20


@contextmanager
def for_reading(dataset: Any, rows: int, columns: int | None = None, *, readers: int = 1) -> Iterator[None]:
    """Let GDAL keep as many decoded blocks as it takes to read each block of this dataset once.

    Args:
        dataset: an open one, of which all bands are read at a time. Of formats other than GeoTIFF it is not known in
            which order GDAL reads the blocks of several bands, nor of a mask in which blocks it lies: for these
            nothing changes.
        rows: of pixels, that are read at a time, from top to bottom.
        columns: likewise, from left to right; None: all.
        readers: threads that read.
    """
    before = get_gdal_config("GDAL_CACHEMAX")
    if dataset.driver == "GTiff" and not has_own_mask(dataset):
        set_gdal_config("GDAL_CACHEMAX", min(before, max(_LEAST, readers * bytes_in_use(dataset, rows, columns))))
    try:
        yield
    finally:
        set_gdal_config("GDAL_CACHEMAX", before)


def bytes_in_use(dataset: Any, rows: int, columns: int | None = None) -> int:
    """Return the size of the decoded blocks that are needed again while a raster is read: two blocks of all bands,
    which may be one block of the file; where blocks reach into what is read next, all that rows of pixels lie in, and
    the blocks below them: GDAL may read one band after the other, and each of them needs its last blocks again.
    """
    pixel = sum(numpy_dtype(name).itemsize for name in dtype_names(dataset))
    sizes: Iterator[tuple[int, int]] = ((height, min(width, dataset.width)) for height, width in dataset.block_shapes)
    return max(pixel * height * _blocks(dataset.width, height, width, rows, columns) for height, width in sizes)


def _blocks(whole: int, height: int, width: int, rows: int, columns: int | None) -> int:
    """Return how many pixels of a block's height, in one row, are needed again; see `bytes_in_use`."""
    if rows % height or (columns or width) % width:
        return whole * (-(-rows // height) + 1)
    return 2 * width
