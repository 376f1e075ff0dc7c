"""Reprojection to another CRS, once, into a plain GeoTIFF from which the COG is then copied.

Here: `warp` and the choice of its resampling. Not here: the COG (`cog.py`).

GDAL's COG driver on a `WarpedVRT` would warp twice, once for the overviews. Where a source marks its invalid pixels by nothing
(no nodata, mask or alpha), the result has a mask: the corners of a turned image are not black data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal
from geo_assets.raster.georeference import dataset_crs, georeferencing
from geo_assets.raster.inspect import MAX_SIDE, RasterInfo, dtype_names, numpy_dtype
from geo_assets.raster.models import Georeferencing, PixelKind
from geo_assets.raster.pixels import alpha_band, pieces

#: An interpolated class is a class that is not there.
_RESAMPLING: dict[PixelKind, Resampling] = {
    PixelKind.IMAGERY: Resampling.bilinear,
    PixelKind.CONTINUOUS: Resampling.bilinear,
    PixelKind.CATEGORICAL: Resampling.nearest,
    PixelKind.MASK: Resampling.nearest,
    PixelKind.COMPLEX: Resampling.nearest,
}

#: A grid that grows by more than this has met the edge of a projection.
_MAX_GROWTH = 100

#: MB that GDAL's warper may hold; 512 and more gave wrong pixels at the antimeridian (gdal#12106).
_WARP_MEMORY_MB = 64

#: A pixel whose alpha is below this is more outside than inside.
_HALF = 128

_STAGED = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": 512,
    "blockysize": 512,
    "compress": "ZSTD",
    "zstd_level": 1,
    "bigtiff": "IF_SAFER",
}


def warp(dataset: Any, info: RasterInfo, target: CRS, path: Path, threads: int) -> None:
    """Write `dataset` in the CRS `target` to `path`.

    Raises:
        GeoAssetsError: RASTER_UNSUPPORTED, INVALID_CRS, TOO_LARGE.
    """
    _refuse_what_cannot_be_warped(info)
    _refuse_an_absurd_grid(dataset, info, target)
    with_alpha = info.nodata is None and alpha_band(dataset) is None
    options = {
        "src_crs": dataset_crs(dataset),
        "crs": target,
        "resampling": _RESAMPLING[info.kind],
        "add_alpha": with_alpha,
        "num_threads": threads,
        "warp_mem_limit": _WARP_MEMORY_MB,
    }
    with WarpedVRT(dataset, **options) as warped, gdal.create(path, _profile(dataset, warped, target)) as out:
        _copy_metadata(dataset, out)
        _copy_pixels(warped, out, with_alpha=with_alpha)


def _refuse_what_cannot_be_warped(info: RasterInfo) -> None:
    if numpy_dtype(info.dtype).kind in "iu" and numpy_dtype(info.dtype).itemsize == 8:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{info.path.name} has {info.dtype} pixels, which GDAL warps by way of doubles and so changes",
            remedy="submit without target_crs, or convert it to a smaller data type",
        )
    if info.georeferencing is Georeferencing.RPCS:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{info.path.name} is a raw satellite image (RPC), which needs an elevation model to be reprojected",
            remedy="submit without target_crs, or orthorectify it: gdalwarp -rpc -to RPC_DEM=dem.tif in.tif out.tif",
        )


def _refuse_an_absurd_grid(dataset: Any, info: RasterInfo, target: CRS) -> None:
    """The grid is GDAL's own choice (the diagonal keeps its number of pixels). It must be made again by `WarpedVRT`: one
    that is given a transform forgets the ground control points of its source, and is black.
    """
    bounds = dict(zip(("left", "bottom", "right", "top"), dataset.bounds, strict=True))
    where = {"gcps": dataset.gcps[0]} if georeferencing(dataset) is Georeferencing.GCPS else bounds
    try:
        _, width, height = calculate_default_transform(dataset_crs(dataset), target, dataset.width, dataset.height, **where)
    except gdal.GDAL_ERRORS as error:
        why = gdal.reason(error, info.path)
        raise GeoAssetsError("INVALID_CRS", f"{info.path.name} cannot be reprojected to {target.to_string()[:60]}: {why}") from error
    if max(width, height) > MAX_SIDE or width * height > _MAX_GROWTH * max(dataset.width * dataset.height, 1 << 16):
        raise GeoAssetsError("TOO_LARGE", f"{info.path.name} would have {width:,} x {height:,} pixels in {target.to_string()[:60]}")


def _profile(dataset: Any, warped: Any, target: CRS) -> dict[str, Any]:
    return {
        **_STAGED,
        "crs": target,
        "transform": warped.transform,
        "width": warped.width,
        "height": warped.height,
        "count": dataset.count,
        "dtype": dtype_names(dataset)[0],
        "nodata": dataset.nodata,
    }


def _copy_metadata(dataset: Any, out: Any) -> None:
    out.colorinterp = dataset.colorinterp
    out.descriptions = dataset.descriptions
    out.units = tuple(unit or "" for unit in dataset.units)
    out.scales = dataset.scales
    out.offsets = dataset.offsets
    out.update_tags(**_kept(dataset.tags()))
    for band in dataset.indexes:
        out.update_tags(band, **_kept(dataset.tags(band)))
        if dataset.colorinterp[band - 1] is ColorInterp.palette:
            out.write_colormap(band, dataset.colormap(band))


def _kept(tags: dict[str, str]) -> dict[str, str]:
    """Without statistics, which were those of other pixels."""
    return {key: value for key, value in tags.items() if not key.startswith("STATISTICS_")}


def _copy_pixels(warped: Any, out: Any, *, with_alpha: bool) -> None:
    for piece in pieces(out):
        out.write(warped.read(list(piece.bands), window=piece.window), list(piece.bands), window=piece.window)
        if with_alpha and piece.bands[-1] == out.count:
            out.write_mask(warped.read(out.count + 1, window=piece.window) >= _HALF, window=piece.window)
