"""Reprojection to another CRS: a warped view of a dataset, or a plain GeoTIFF of it where it needs a mask.

Here: `warped`, the choice of its grid and resampling, `outline` (its metadata) and `materialise`. Not here: the COG
(`cog.py`).

A view is read once, strip by strip: GDAL's COG driver on a `WarpedVRT` would warp twice, once for the overviews. Where
a source does not mark invalid pixels (no nodata, mask or alpha), the result has a mask: the corners of a rotated image
are not black data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyproj
from affine import Affine
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import array_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal
from geo_assets.raster.domains import copy_to_another_grid
from geo_assets.raster.gdal import dtype_names, numpy_dtype
from geo_assets.raster.georeference import PixelToLonLat, dataset_crs, georeferencing, heights, wkt2
from geo_assets.raster.inspect import MAX_SIDE, RasterInfo
from geo_assets.raster.models import WEB_CRS, ConvertRequest, Georeferencing, PixelKind, ResamplingName
from geo_assets.raster.pixels import alpha_band, can_hold, has_own_mask, pieces
from geo_assets.raster.profiles import OF_CODES
from geo_assets.raster.target_grid import Grid, coarsening, left_out, reduction, sane_grid, within_half_a_turn
from geo_assets.transformations import best_between

#: Kinds that are never interpolated: an interpolated class is one that does not exist.
_RESAMPLING: dict[PixelKind, Resampling] = {
    PixelKind.IMAGERY: Resampling.bilinear,
    PixelKind.CONTINUOUS: Resampling.bilinear,
    PixelKind.CATEGORICAL: Resampling.nearest,
    PixelKind.MASK: Resampling.nearest,
    PixelKind.COMPLEX: Resampling.nearest,
}

#: The methods that may be requested; for codes only those that do not make new ones.
RESAMPLING: tuple[str, ...] = get_args(ResamplingName)

#: Web map tiles (OGC WebMercatorQuad): metres from the origin to the edge of the world, and pixels of a tile.
_WEB_EDGE, _WEB_TILE = math.pi * 6378137.0, 256

#: A grid that grows by more than this has reached the edge of a projection.
_MAX_GROWTH = 100

#: MB that GDAL's warper may hold; 512 and more gave wrong pixels at the antimeridian (gdal#12106).
_WARP_MEMORY_MB = 256

#: A reduction that differs by less from a whole number is that number (GDALWarpOperation, `WarpRegionToBuffer`).
_NEARLY = 0.05

#: If a pixel of the result is this many times as long as the source's, it is noted, or refused, unless it was
#: requested.
_NOTED, _REFUSED = 2.0, 8.0

#: Pixels along a side of the sample of an alpha band that shows its scale.
_ALPHA_SIDE = 512

#: A pixel whose alpha is below this is invalid.
_HALF = 128

#: What helps where no size of a pixel does.
_MADE_FOR_IT = "choose a target_crs that is made for the whole of it, or cut it first, for example with: gdalwarp -te"

_STAGED = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": 512,
    "blockysize": 512,
    "compress": "ZSTD",
    "zstd_level": 1,
    "bigtiff": "IF_SAFER",
}


@contextmanager
def warped(dataset: Any, info: RasterInfo, target: CRS, request: ConvertRequest, notes: list[str]) -> Iterator[Any]:
    """Yield a view of `dataset` in the CRS `target`, on the grid of the request.

    Args:
        dataset: with a mask alone, or without one; see `unite_validity`.
        info: of the source.
        target: the CRS.
        request: resolution, resampling, web tiles, threads.
        notes: takes what a person should know about the grid.

    Raises:
        GeoAssetsError: RASTER_UNSUPPORTED, INVALID_CRS, INVALID_PARAMETERS, TOO_LARGE, RESOLUTION_LOST.
    """
    _refuse_what_cannot_be_warped(info)
    by_transform = georeferencing(dataset) is Georeferencing.TRANSFORM
    crs, transform = dataset_crs(dataset), dataset.transform
    if info.kind is PixelKind.CONTINUOUS:
        notes.extend(_heights_kept(info, crs, target))
    notes.extend(_guessed(dataset, crs, target))
    if by_transform:
        crs, transform = within_half_a_turn(crs, transform, dataset.width)
    options = {
        "src_crs": crs,
        **({"src_transform": transform} if transform != dataset.transform else {}),
        "crs": target,
        "resampling": _resampling(info, request.resampling),
        "add_alpha": needs_mask(dataset),
        "dtype": "int8" if info.dtype == "int8" and not needs_mask(dataset) else None,  # rasterio takes 16 bits for it
        "num_threads": request.threads,
        "warp_mem_limit": _WARP_MEMORY_MB,
        **({} if _has_nodata(dataset) else {"src_nodata": math.nan if _may_be_nan(dataset) else None, "nodata": None}),
        **_validity(dataset),
        **_grid(dataset, info, target, request, (crs, transform), notes),
    }
    with WarpedVRT(dataset, **options) as view:
        options |= _kernel(dataset, view)
    with WarpedVRT(dataset, **options) as view:
        if request.resolution is None:
            _compare_pixels(dataset, view, info, notes)
        if by_transform and (part := left_out(dataset, target, Grid(view.transform, view.width, view.height))):
            share, name = max(1, round(100 * part)), target.to_string()[:60]
            notes.append(
                f"about {share} % of its pixels have no place in {name}, or one too far out: they are left out"
            )
        yield view


def _kernel(dataset: Any, view: Any) -> dict[str, str]:
    """Return warp options: how much is reduced along columns and rows of the source, which is how far a kernel reaches.

    GDAL works it out for each block of the result, from the part of the source around it. That differs from block to
    block, so seams show, and at the edge of the world it is the whole row, which blurs and shifts what is there. As in
    GDAL, what is nearly whole is whole: 1 is not reduced at all, and nearly as fast again.
    """
    options = {}
    for name, pixels in zip(("XSCALE", "YSCALE"), reduction(dataset, view.crs, view.transform), strict=True):
        whole = max(1, round(pixels))
        if pixels > 0:
            options[name] = repr(1 / (whole if abs(pixels - whole) < _NEARLY or pixels < 1 else pixels))
    return options


def _guessed(dataset: Any, crs: CRS | None, target: CRS) -> Iterator[str]:
    """Yield a note where PROJ, and so GDAL's warper, knows no transformation and leaves longitudes as they are."""
    columns, rows = np.array([(0, 0), (1, 0), (0, 1), (1, 1)]).T * [[dataset.width], [dataset.height]]
    longitudes, latitudes = PixelToLonLat(dataset)(columns, rows)
    known = np.isfinite(longitudes) & np.isfinite(latitudes)
    source, goal = wkt2(crs), wkt2(target)
    if source is None or goal is None or not known.any():
        return
    x, y = longitudes[known].tolist(), latitudes[known].tolist()
    best = best_between(pyproj.CRS(source), pyproj.CRS(goal), (min(x), min(y), max(x), max(y)))
    if best is not None and best.guessed is not None:
        yield best.guessed


def _heights_kept(info: RasterInfo, crs: CRS | None, target: CRS) -> Iterator[str]:
    """Yield a note where heights stay in a system that the target CRS does not name: they are not converted.

    Raises:
        GeoAssetsError: INVALID_CRS, the target names another system.
    """
    now, then = (heights(each) if each else None for each in (crs, target))
    if then is None and now is not None:
        yield f"its heights are still {now}, of which the target CRS says nothing"
    if then is not None and now != then:
        raise GeoAssetsError(
            "INVALID_CRS",
            f"{info.path.name} has heights {now or 'of which its CRS says nothing'}; the target CRS has them {then},"
            " and they are not converted",
            remedy="name a target CRS without heights; convert the heights before, for example with gdalwarp -t_srs",
        )


def _validity(dataset: Any) -> dict[str, Any]:
    """Return warp options: nodata per band (by default rasterio treats it as a value where another band has data), and
    the value of a full alpha: 1, 255, or the largest of the type.
    """
    options: dict[str, Any] = {"UNIFIED_SRC_NODATA": "NO"}
    alpha = alpha_band(dataset)
    if _may_be_nan(dataset):
        options |= {"init_dest_nodata": False, "INIT_DEST": ",".join([*["nan"] * dataset.count, "0"])}
    if alpha is None:
        return options
    largest = float(
        dataset.read(alpha, out_shape=(min(dataset.height, _ALPHA_SIDE), min(dataset.width, _ALPHA_SIDE))).max()
    )
    full = next((n for n in (1, 255) if largest <= n), 65535)
    options |= {"SRC_ALPHA_MAX": str(full), "DST_ALPHA_MAX": str(full)}
    if _has_nodata(dataset):  # otherwise alpha would start from it, too
        begin = ["0" if band == alpha else repr(dataset.nodata) for band in dataset.indexes]
        options |= {"init_dest_nodata": False, "INIT_DEST": ",".join(begin)}
    return options


def _compare_pixels(dataset: Any, view: Any, info: RasterInfo, notes: list[str]) -> None:
    """Note, or refuse, a result whose pixels are much larger than the source's."""
    times = coarsening(dataset, view.crs, view.transform)
    by_points = georeferencing(dataset) is Georeferencing.GCPS
    if times <= _NOTED:
        return
    finer = float(f"{view.transform.a / times:.2g}")
    what = f"{info.path.name} would lose detail" if times > _REFUSED else "it loses detail"
    told = (
        f"{what} in {view.crs.to_string()[:60]}: a pixel of {view.transform.a:.6g} is {times:.1f} times as long as the"
        " source's"
    )
    if times > _REFUSED:
        remedy = f"submit with resolution={finer:g}, or in another target_crs"
        # it includes a pole, which is at infinity; or the grid is GDAL's, whatever is asked for
        if by_points or _is_too_large(dataset, view.width * times, view.height * times):
            remedy = _MADE_FOR_IT
        raise GeoAssetsError("RESOLUTION_LOST", told, remedy=remedy)
    notes.append(told if by_points else f"{told} (resolution={finer:g} keeps it)")


def unites(dataset: Any) -> bool:
    """Whether GDAL's warper would use something else than the mask, or ignore the alpha band beside it: see
    `unite_validity`.
    """
    return has_own_mask(dataset) and (dataset.nodata is not None or alpha_band(dataset) is not None)


def unite_validity(dataset: Any, path: Path) -> None:
    """Write a copy of `dataset`, which has a mask, without the nodata value that the mask overrules; masked pixels get
    alpha 0.
    """
    alpha = alpha_band(dataset)
    with gdal.create(path, {**_profile(dataset, dataset), "nodata": None}) as out:
        _copy_metadata(dataset, out)
        for piece in pieces(out):
            data, mask = (
                dataset.read(list(piece.bands), window=piece.window),
                dataset.read_masks(1, window=piece.window) != 0,
            )
            if alpha in piece.bands:
                data[piece.bands.index(alpha), ~mask] = 0
            out.write(data, list(piece.bands), window=piece.window)
            if alpha is None and piece.bands[-1] == out.count:
                out.write_mask(mask, window=piece.window)


def needs_mask(dataset: Any) -> bool:
    """Whether nothing in the pixels would distinguish the corners of a rotated image from data."""
    return not _has_nodata(dataset) and alpha_band(dataset) is None


def _has_nodata(dataset: Any) -> bool:
    """Whether a pixel of a dataset can have its nodata value: 1.5 is none of bytes, whatever the file says."""
    return dataset.nodata is not None and can_hold(numpy_dtype(dtype_names(dataset)[0]), dataset.nodata)


def _may_be_nan(dataset: Any) -> bool:
    """Whether NaN is what a dataset has in the place of values, without saying so: otherwise it would make NaN of all
    pixels beside it.
    """
    says_nothing = dataset.nodata is None and alpha_band(dataset) is None and not has_own_mask(dataset)
    return says_nothing and all(numpy_dtype(name).kind == "f" for name in dtype_names(dataset))


def _resampling(info: RasterInfo, name: str | None) -> Resampling:
    if name is None:
        return _RESAMPLING[info.kind]
    if name not in RESAMPLING:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"there is no resampling {name[:40]!r}; there are {', '.join(RESAMPLING)}"
        )
    if info.kind in {PixelKind.CATEGORICAL, PixelKind.MASK} and name not in OF_CODES:
        return _RESAMPLING[info.kind]
    return Resampling[name]


def _grid(
    dataset: Any, info: RasterInfo, target: CRS, request: ConvertRequest, placed: tuple[CRS, Affine], notes: list[str]
) -> dict[str, Any]:
    """Return transform and size, where they are not GDAL's own choice (which keeps the number of pixels along the
    diagonal).

    For ground control points leave that choice to `WarpedVRT`: given a transform, it ignores the points of its source,
    and the result is black.
    """
    asked = request.resolution is not None or request.web_tiles
    by_points = georeferencing(dataset) is Georeferencing.GCPS
    if asked and by_points:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{info.path.name} is placed by ground control points; it is reprojected on a grid of GDAL's choice only",
            remedy="submit with target_crs alone, then once more with the result",
        )
    try:
        grid = None if by_points else sane_grid(dataset, target, request.resolution, whole_world=request.web_tiles)
        if grid is None:
            transform, width, height = _gdals_grid(dataset, target, request.resolution, placed)
        else:
            transform, width, height = grid.transform, grid.width, grid.height
    except (*gdal.GDAL_ERRORS, ProjError) as error:
        why = gdal.reason(error, info.path)
        raise GeoAssetsError(
            "INVALID_CRS", f"{info.path.name} cannot be reprojected to {target.to_string()[:60]}: {why}"
        ) from error
    if grid and grid.beyond:
        notes.append(
            f"it lies across the edge of {target.to_string()[:60]}, and its grid goes on beyond it (to x ="
            f" {transform.c + width * transform.a:.9g})"
        )
    if request.web_tiles:
        transform, width, height = _on_web_tiles(transform, width, height)
        notes.extend(_another_resolution(request.resolution, transform.a))
    if _is_too_large(dataset, width, height):
        raise _too_large(dataset, info, target, request, (width, height), around=grid is not None)
    return (
        {"transform": transform, "width": width, "height": height}
        if asked or grid or placed[1] != dataset.transform
        else {}
    )


def _another_resolution(asked: float | None, size: float) -> Iterator[str]:
    """Yield a note where web map tiles have no zoom level of the resolution that is asked for."""
    if asked is not None and not math.isclose(asked, size, rel_tol=1e-4):
        zoom = round(math.log2(2 * _WEB_EDGE / _WEB_TILE / size))
        yield (
            f"its pixels are of {size:.6g} m and not of {asked:g}: web map tiles have fixed sizes, and zoom level"
            f" {zoom} is the nearest"
        )


def _is_too_large(dataset: Any, width: float, height: float) -> bool:
    return max(width, height) > MAX_SIDE or width * height > _most_pixels(dataset)


def _most_pixels(dataset: Any) -> int:
    return _MAX_GROWTH * max(int(dataset.width) * int(dataset.height), 1 << 16)


def _too_large(
    dataset: Any, info: RasterInfo, target: CRS, request: ConvertRequest, size: tuple[int, int], *, around: bool
) -> GeoAssetsError:
    """Return the refusal of a grid, with its limits, and what is within them."""
    width, height = size
    most = f"{MAX_SIDE:,} a side and {_most_pixels(dataset):,} altogether, {_MAX_GROWTH} times its own"
    pixels = f"{width:.4g} x {height:.4g} pixels in {target.to_string()[:60]}"
    told = f"{info.path.name} would have {pixels}; the most are {most}"
    remedy = _MADE_FOR_IT
    if request.resolution:
        times = max(width / MAX_SIDE, height / MAX_SIDE, math.sqrt(width * height / _most_pixels(dataset)))
        remedy = f"submit with resolution={_rounded_up(request.resolution * times):g} or more"
    elif around and request.web_tiles:
        remedy = f"submit with target_crs={WEB_CRS} instead of web_tiles: it lies across 180 degrees"
    return GeoAssetsError("TOO_LARGE", told, remedy=remedy)


def _rounded_up(number: float) -> float:
    """Return the next greater number of two digits."""
    digit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(number / digit * (1 + 1e-9)) * digit


def _gdals_grid(
    dataset: Any, target: CRS, resolution: float | None, placed: tuple[CRS, Affine]
) -> tuple[Affine, int, int]:
    crs, transform = placed
    if georeferencing(dataset) is Georeferencing.GCPS:
        where: dict[str, Any] = {"gcps": dataset.gcps[0]}
    else:
        bounds = array_bounds(dataset.height, dataset.width, transform)
        where = dict(zip(("left", "bottom", "right", "top"), bounds, strict=True))
    resolutions = (resolution, resolution) if resolution else None
    found: tuple[Affine, int, int] = calculate_default_transform(
        crs, target, dataset.width, dataset.height, resolution=resolutions, **where
    )
    return found


def _on_web_tiles(transform: Affine, width: int, height: int) -> tuple[Affine, int, int]:
    """Return the smallest grid of whole tiles around this one, at the zoom level whose pixel size is nearest."""
    whole = 2 * _WEB_EDGE / _WEB_TILE
    zoom = max(0, round(math.log2(whole / transform.a)))
    size = whole / 2**zoom
    tile = size * _WEB_TILE
    left = math.floor((transform.c + _WEB_EDGE) / tile + 1e-9)
    right = math.ceil((transform.c + width * transform.a + _WEB_EDGE) / tile - 1e-9)
    top = math.floor((_WEB_EDGE - transform.f) / tile + 1e-9)
    bottom = math.ceil((_WEB_EDGE - transform.f - height * transform.e) / tile - 1e-9)
    corner = Affine(size, 0, left * tile - _WEB_EDGE, 0, -size, _WEB_EDGE - top * tile)
    return corner, max(1, right - left) * _WEB_TILE, max(1, bottom - top) * _WEB_TILE


def outline(dataset: Any, view: Any, path: Path) -> None:
    """Write a GeoTIFF of one pixel with the metadata of `dataset` and the grid of its warped view."""
    with gdal.create(path, {**_profile(dataset, view), "width": 1, "height": 1}) as out:
        _copy_metadata(dataset, out)


def materialise(dataset: Any, view: Any, path: Path, nodata: float | None) -> None:
    """Write a warped view of `dataset` to `path`, with a mask where it has an alpha band of its own.

    Args:
        dataset: the source.
        view: its warped view.
        path: where the GeoTIFF is written.
        nodata: the value under a mask; also declared, for readers that know nodata only.
    """
    profile = _profile(dataset, view)
    possible = nodata is not None and can_hold(numpy_dtype(profile["dtype"]), nodata)
    with gdal.create(path, {**profile, "nodata": nodata} if needs_mask(dataset) and possible else profile) as out:
        _copy_metadata(dataset, out)
        _copy_pixels(view, out, mask=_mask_band(dataset, view))


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


def _profile(dataset: Any, view: Any) -> dict[str, Any]:
    return {
        **_STAGED,
        "crs": view.crs,
        "transform": view.transform,
        "width": view.width,
        "height": view.height,
        "count": dataset.count,
        "dtype": dtype_names(dataset)[0],
        "nodata": dataset.nodata if _has_nodata(dataset) else None,
    }


def _copy_metadata(dataset: Any, out: Any) -> None:
    out.colorinterp = dataset.colorinterp
    out.descriptions = dataset.descriptions
    out.units = tuple(unit or "" for unit in dataset.units)
    out.scales = dataset.scales
    out.offsets = dataset.offsets
    out.update_tags(**_kept(dataset.tags()))
    copy_to_another_grid(dataset, out)
    for band in dataset.indexes:
        out.update_tags(band, **_kept(dataset.tags(band)))
        coloured = dataset.colorinterp[band - 1] is ColorInterp.palette or gdal.zero_is_white(dataset)
        if coloured and not gdal.has_colours_in_vain(dataset):
            out.write_colormap(band, dataset.colormap(band))


def _kept(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags without statistics, which were of other pixels."""
    return {key: value for key, value in tags.items() if not key.startswith("STATISTICS_")}


def _mask_band(dataset: Any, view: Any) -> int | None:
    """Return the band of a view that marks its valid pixels and that the source does not have."""
    return view.count if view.count > dataset.count else None


def _copy_pixels(view: Any, out: Any, *, mask: int | None) -> None:
    for piece in pieces(out):
        data = view.read(list(piece.bands), window=piece.window)
        valid = view.read(mask, window=piece.window) >= _HALF if mask else None
        if valid is not None and out.nodata is not None:
            data[:, ~valid] = out.nodata
        out.write(data, list(piece.bands), window=piece.window)
        if valid is not None and piece.bands[-1] == out.count:
            out.write_mask(valid, window=piece.window)
