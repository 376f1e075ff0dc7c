"""Overviews for GDAL's COG driver, where GDAL itself would average invalid pixels.

Here: a staged GeoTIFF with its overviews beside it, computed by us, which the driver is told to use; or the overviews
alone.
Not here: the arithmetic (`overviews.py`), what is valid (`pixels.py`), the writer that needs none of this
(`onepass.py`).

GDAL averages what its own mask of a band calls valid: with a mask it ignores nodata, with nodata it ignores alpha, and
alpha in the sixth band or in floats it does not recognise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from rasterio.windows import Window

from geo_assets.raster import gdal
from geo_assets.raster.gdal import dtype_names
from geo_assets.raster.overviews import halve, halve_mask, level_sizes
from geo_assets.raster.pixels import Validity, gdal_sees_the_same, has_own_mask, own_mask
from geo_assets.raster.profiles import Profile
from geo_assets.raster.tiles import Bools, Pixels

_OPTIONS = {
    "TILED": "YES",
    "BLOCKXSIZE": "512",
    "BLOCKYSIZE": "512",
    "COMPRESS": "ZSTD",
    "ZSTD_LEVEL": "1",
    "BIGTIFF": "IF_SAFER",
}

#: Decoded bytes of a window of the finer level.
_PIECE_BYTES = 32 << 20


def needed(dataset: Any, profile: Profile) -> bool:
    """Whether GDAL's overviews would show invalid pixels. Nearest-neighbour overviews never do. Its MODE (3.12) counts
    what is under a mask, too, and has 0 for nodata that is negative.
    """
    if max(dataset.shape) <= profile.block_size or profile.overview_resampling == "NEAREST":
        return False
    odd = profile.overview_resampling == "MODE" and (has_own_mask(dataset) or (dataset.nodata or 0) < 0)
    return odd or not gdal_sees_the_same(dataset)


def stage(dataset: Any, path: Path, profile: Profile, options: dict[str, str]) -> None:
    """Write a copy of `dataset` to `path`, and its overviews to `path`.ovr, `path`.ovr.ovr, …, where GDAL finds them.

    Args:
        dataset: the open dataset; its profile averages.
        path: in a private directory.
        profile: says how large a block is; the coarsest level fits into one.
        options: of GDAL's copy, about metadata.
    """
    rasterio.shutil.copy(dataset, path, driver="GTiff", **_OPTIONS, **options)
    _stage_coarser(path, level_sizes(dataset.height, dataset.width, profile.block_size)[1:])


def stage_alone(dataset: Any, path: Path, block_size: int, progress: Callable[[float], None]) -> None:
    """Write the first overview of `dataset` to `path`, and the others to `path`.ovr, `path`.ovr.ovr and so on.

    Args:
        dataset: the open dataset, large enough to need an overview.
        path: in a private directory.
        block_size: pixels; the coarsest level fits into one block.
        progress: called with the part of the first overview that is done, 0 to 1.
    """
    _, first, *others = level_sizes(dataset.height, dataset.width, block_size)
    _halved(dataset, path, first, progress)
    _stage_coarser(path, others)


def _stage_coarser(path: Path, sizes: list[tuple[int, int]]) -> None:
    for size in sizes:
        coarser = path.with_name(f"{path.name}.ovr")
        with gdal.open_raster(path) as fine:
            _halved(fine, coarser, size)
        path = coarser


def _halved(fine: Any, path: Path, size: tuple[int, int], progress: Callable[[float], None] = lambda _: None) -> None:
    profile = {
        "driver": "GTiff",
        "count": fine.count,
        "height": size[0],
        "width": size[1],
        "dtype": dtype_names(fine)[0],
        "nodata": fine.nodata,
        "interleave": "band",
        **{key.lower(): value for key, value in _OPTIONS.items()},
    }
    validity = Validity.of(fine)
    with gdal.create(path, profile) as out:
        out.colorinterp = fine.colorinterp
        for window in _windows(fine, size):
            data, mask = _read(fine, window)
            place = {"first": (window.row_off, window.col_off), "size": fine.shape}
            out.write(halve(data, validity, outer=mask, **place), window=window)
            if mask is not None:
                out.write_mask(halve_mask(mask, **place), window=window)
            progress((window.row_off + window.height) / size[0])


def _windows(fine: Any, size: tuple[int, int]) -> list[Window]:
    """Return windows of the coarser level: whole blocks, as many as fit into memory."""
    pixel = fine.count * np.dtype(np.float64).itemsize * 4
    across = max(512, _PIECE_BYTES // (pixel * 512) // 512 * 512)
    return [
        Window(left, top, min(across, size[1] - left), min(512, size[0] - top))
        for top in range(0, size[0], 512)
        for left in range(0, size[1], across)
    ]


def _read(fine: Any, half: Window) -> tuple[Pixels, Bools | None]:
    """Read the window of the finer level that `half` covers, as `halve` needs it: with a row and a column before it
    where its size is odd.
    """
    top, left = (2 * start - n % 2 for start, n in zip((half.row_off, half.col_off), fine.shape, strict=True))
    bottom, right = min(2 * (half.row_off + half.height), fine.height), min(2 * (half.col_off + half.width), fine.width)
    window = Window(max(0, left), max(0, top), right - max(0, left), bottom - max(0, top))
    edge = [(max(0, -top), 0), (max(0, -left), 0)]
    mask = own_mask(fine, window)
    return np.pad(fine.read(window=window), [(0, 0), *edge]), None if mask is None else np.pad(mask, edge)
