"""One raster becomes a validated COG: exact copy through GDAL's COG driver, then proof.

Here: `convert`, the one door. It runs in the sandboxed child. Not here: reprojection, footprints, thumbnails (not built yet).

GDAL's driver, never rio-cogeo's `cog_translate`, which goes through a WarpedVRT and so changes pixels under masks,
drops GCPs and shifts georeferencing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which `copy` lets through
from rasterio.errors import RasterioError
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.models import ConvertReport, ConvertRequest

#: First bytes -> the one driver that may open the file. An ending proves nothing.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"II*\x00", "GTiff"),
    (b"MM\x00*", "GTiff"),
    (b"II+\x00", "GTiff"),
    (b"MM\x00+", "GTiff"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x00\x00\x00\x0cjP  ", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
)

#: Formats of many variables: each must become its own COG, which is not built yet.
_SUBDATASETS = (b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x89HDF", b"GRIB")

#: Declared pixels above this are refused before any is read: a 3 KB sparse file can declare a terabyte.
_MAX_PIXELS = 2_000_000 * 1_000_000

#: Rows are compared in strips of about this many bytes.
_STRIP_BYTES = 64 * 1024 * 1024


def convert(request: ConvertRequest) -> ConvertReport:
    """Write the COG at `request.destination`, or leave nothing there.

    Raises:
        GeoAssetsError: UNSUPPORTED_FORMAT, RASTER_SUBDATASETS, UNREADABLE, RASTER_NO_CRS, TOO_LARGE, COG_VALIDATION_FAILED.
    """
    source, destination = Path(request.source), Path(request.destination)
    driver = _driver(source)
    try:
        return _convert(source, destination, driver, request)
    except (RasterioError, CPLE_BaseError) as error:
        destination.unlink(missing_ok=True)
        reason = str(error.__cause__ or error).replace(str(source.parent), "").strip()
        raise GeoAssetsError("UNREADABLE", f"{source.name} is not readable as {driver}: {reason}"[:500]) from error
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _driver(source: Path) -> str:
    with source.open("rb") as file:
        head = file.read(16)
    if head.startswith(_SUBDATASETS):
        raise GeoAssetsError("RASTER_SUBDATASETS", f"{source.name} holds several variables, which are not taken apart yet")
    for magic, driver in _MAGIC:
        if head.startswith(magic):
            return driver
    raise GeoAssetsError("UNSUPPORTED_FORMAT", f"{source.name} does not begin like any raster format that is read here")


def _convert(source: Path, destination: Path, driver: str, request: ConvertRequest) -> ConvertReport:
    with rasterio.open(source, driver=driver) as dataset:
        if dataset.width * dataset.height * dataset.count > _MAX_PIXELS:
            raise GeoAssetsError("TOO_LARGE", f"{source.name} declares {dataset.width} x {dataset.height} x {dataset.count} pixels")
        if not (dataset.crs or dataset.gcps[1]):
            raise GeoAssetsError("RASTER_NO_CRS", f"{source.name} does not say in which CRS it is")
        with rasterio.Env(GDAL_NUM_THREADS=str(request.threads)):
            rasterio.shutil.copy(dataset, destination, driver="COG", **_options(dataset, request))
        with rasterio.open(destination, driver="GTiff") as cog:
            pixels = _prove(source.name, dataset, cog)
            return _report(driver, cog, destination, pixels)


def _options(dataset: Any, request: ConvertRequest) -> dict[str, str]:
    categorical = dataset.colorinterp[0].name == "palette" or "NBITS" in dataset.tags(1, ns="IMAGE_STRUCTURE")
    return {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "NO" if categorical or dataset.dtypes[0].startswith("complex") else "YES",
        "BLOCKSIZE": "512",
        "OVERVIEWS": "IGNORE_EXISTING",  # a source's own can be stale
        "OVERVIEW_RESAMPLING": "NEAREST" if categorical or dataset.dtypes[0].startswith("complex") else "AVERAGE",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": str(request.threads),
    }


def _prove(name: str, source: Any, cog: Any) -> str:
    """Everything that the copy must have kept; returns the hash of the pixels."""
    valid, errors, warnings = cog_validate(cog.name, strict=True)
    problems = [] if valid else [*errors, *warnings]
    facts = ("count", "dtypes", "crs", "transform", "scales", "offsets", "units", "descriptions", "colorinterp", "mask_flag_enums")
    problems += [f"{fact} differ" for fact in facts if getattr(source, fact) != getattr(cog, fact)]
    if not np.array_equal(np.array(source.nodatavals, float), np.array(cog.nodatavals, float), equal_nan=True):
        problems.append("nodata differ")
    pixels = _pixel_hash(source)
    if pixels != _pixel_hash(cog):
        problems.append("pixels differ")
    if problems:
        raise GeoAssetsError("COG_VALIDATION_FAILED", f"{name}: {'; '.join(problems)}")
    return pixels


def _pixel_hash(dataset: Any) -> str:
    """SHA-256 of the pixels and masks, in strips; NaNs of any payload count as equal."""
    digest = hashlib.sha256()
    row_bytes = dataset.width * np.dtype(dataset.dtypes[0]).itemsize
    rows = max(1, _STRIP_BYTES // row_bytes)
    for band in dataset.indexes:
        for top in range(0, dataset.height, rows):
            window = Window(0, top, dataset.width, min(rows, dataset.height - top))
            data = dataset.read(band, window=window)
            if data.dtype.kind == "f":
                data[np.isnan(data)] = np.nan
            digest.update(data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes())
            digest.update(dataset.read_masks(band, window=window).tobytes())
    return digest.hexdigest()


def _report(driver: str, cog: Any, path: Path, pixels: str) -> ConvertReport:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ConvertReport(
        driver=driver,
        width=cog.width,
        height=cog.height,
        count=cog.count,
        dtypes=cog.dtypes,
        epsg=cog.crs.to_epsg() if cog.crs else None,
        crs_wkt=cog.crs.to_wkt() if cog.crs else "",
        transform=tuple(cog.transform)[:6],
        bbox=tuple(cog.bounds),
        bytes=path.stat().st_size,
        sha256=sha256,
        pixels_sha256=pixels,
    )
