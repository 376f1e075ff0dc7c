"""How this package uses GDAL: its settings, one named driver on every open, its errors and warnings translated.

Here: what every other module of the package needs around a call into rasterio.
Not here: what is read (`inspect.py`) or written (`cog.py`).

A name given to `open_raster` is the only driver that GDAL may try. `GDAL_SKIP` does not protect: the first `WarpedVRT`
of a process registers the VRT driver again, and a text file named `.tif` then reads any file of the machine.
"""

from __future__ import annotations

import ctypes
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import (
    CPLE_BaseError,
    CPLE_OutOfMemoryError,
)  # GDAL's own errors, which rasterio.shutil.copy lets through
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from geo_assets.errors import GeoAssetsError
from geo_assets.text import without_name

#: What people call the formats of GDAL's drivers.
FORMATS = {
    "GTiff": "GeoTIFF",
    "PNG": "PNG",
    "JPEG": "JPEG",
    "JP2OpenJPEG": "JPEG 2000",
    "AAIGrid": "ASCII grid",
    "HFA": "Erdas Imagine",
    "WEBP": "WebP",
    "GIF": "GIF",
    "BMP": "BMP",
    "DTED": "DTED",
    "SRTMHGT": "SRTM",
    "EHdr": "ESRI raw pixels (.bil, .bip, .bsq, .flt with .hdr)",
    "ENVI": "ENVI",
    "NITF": "NITF",
    "XYZ": "XYZ",
    "GPKG": "GeoPackage",
    "MBTiles": "MBTiles",
    "netCDF": "NetCDF",
    "HDF5": "HDF5",
    "HDF5Image": "HDF5",
    "GRIB": "GRIB",
}

#: Of `FORMATS`, those that hold variables and are taken apart before anything else.
CONTAINERS = frozenset({"netCDF", "HDF5", "HDF5Image", "GRIB"})

#: What GDAL, rasterio and PROJ raise. UnicodeError: metadata that is not text. CRSError is a ValueError only. rasterio
#: raises SystemError for a failure that GDAL does not explain: copying a truncated PNG.
GDAL_ERRORS = (RasterioError, CPLE_BaseError, CRSError, UnicodeError, SystemError)

_OPTIONS = {
    "GDAL_TIFF_INTERNAL_MASK": "YES",  # a mask in a file of its own would be left behind
    "GTIFF_REPORT_COMPD_CS": "YES",  # GeoTIFF 1.0 files lose their vertical CRS otherwise
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GRIB_NORMALIZE_UNITS": "NO",  # GDAL makes degrees Celsius of kelvins otherwise
}

#: Values beyond a variable's `valid_range` stay what they are: GDAL would replace them by nodata, or by 0 without one.
_OPEN_OPTIONS = {"netCDF": {"HONOUR_VALID_RANGE": "NO"}}

#: Some decoders only warn of damage and continue. Extraneous bytes between JPEG segments harm no pixel.
_DAMAGE = re.compile(r"Premature end|Corrupt JPEG data(?!.*extraneous)|Discarding \d+ bytes")

#: Warnings about our own calls, not about the file.
_NOISE = re.compile(r"Unable to find driver|GDAL_SKIP|GetNoDataValue\(\)")

#: Advice to programmers that GDAL appends.
_ADVICE = re.compile(r" \(this (error|warning) can be turned .*?\)")

#: The folders of a file, in what GDAL says of it.
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s'\"/:]+/)+")

#: The most messages kept: a file with a fault in each of a million blocks gets a report of a few lines.
_MAX_MESSAGES = 20


class Log(logging.Handler):
    """The warnings of GDAL during a session."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message once."""
        message = _FOLDERS.sub("", _ADVICE.sub("", record.getMessage()))
        message = message.split(" in ", 1)[-1] if message.startswith("CPLE_") else message
        if message not in self.messages and not _NOISE.search(message) and len(self.messages) < _MAX_MESSAGES:
            self.messages.append(message)

    def damage(self) -> str | None:
        """Return the first message that means wrong pixels."""
        return next((m for m in self.messages if _DAMAGE.search(m)), None)


@contextmanager
def session(**more: str) -> Iterator[Log]:
    """GDAL set up for one file, or for some with options of their own; yields what it warns of. Nothing is printed."""
    log, logger = Log(), logging.getLogger("rasterio")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(log)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        with warnings.catch_warnings(), rasterio.Env(**_OPTIONS, **more):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield log
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
        logger.propagate = propagate


def enter_thread() -> None:
    """Apply the settings of `session` to a new thread, until it ends: GDAL's settings are per thread."""
    rasterio.Env(**_OPTIONS).__enter__()


def open_raster(path: Path | str, driver: str = "GTiff", **options: Any) -> Any:
    """Open for reading with one named driver; a Path, so that no part of a name is taken for a URL.

    A string is the name of a part of a container, composed by ourselves: see `variables.py`. Behind the driver's name
    may stand open options, each as NAME=VALUE.
    """
    name, *asked = driver.split()
    options = {**_OPEN_OPTIONS.get(name, {}), **dict(option.split("=") for option in asked), **options}
    return rasterio.open(path if isinstance(path, str) else path.absolute(), driver=name, **options)


@contextmanager
def opened_raster(path: Path | str, driver: str) -> Iterator[tuple[Any, bool]]:
    """As `open_raster`, and whether GDAL gives a usable georeference: a truncated field leaves an invalid transform."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotGeoreferencedWarning)
        dataset = open_raster(path, driver)
        dataset.transform  # noqa: B018 - asks GDAL
    with dataset:
        yield dataset, not any(issubclass(w.category, NotGeoreferencedWarning) for w in caught)


#: Of glibc's mallopt: fill new memory with the complement of a byte, 0 to stop.
_M_PERTURB = -6


@contextmanager
def memory_filled(byte: int) -> Iterator[None]:
    """Fill new memory with this byte, so that bytes which a decoder did not write can be detected. glibc only."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_PERTURB, 0xFF ^ byte)
    try:
        yield
    finally:
        mallopt(_M_PERTURB, 0)


def create(path: Path, profile: dict[str, Any]) -> Any:
    """A new dataset for writing."""
    return rasterio.open(path.absolute(), "w", **profile)


def dtype_names(dataset: Any) -> tuple[str, ...]:
    """Return rasterio's name of each band's type."""
    return tuple(str(dtype) for dtype in dataset.dtypes)


def stored_types(dataset: Any) -> tuple[str, ...]:
    """Return as `dtype_names`, and complex integers of 32 bits as `complex_int32`: rasterio reads them, and calls them,
    as floats.
    """
    names = dtype_names(dataset)
    if "complex64" not in names:
        return names
    with rasterio.MemoryFile(ext=".vrt") as told:
        rasterio.shutil.copy(dataset, told.name, driver="VRT")
        types = _DATA_TYPE.findall(told.read())
    # masks come last
    return tuple("complex_int32" if kind == b"CInt32" else name for name, kind in zip(names, types, strict=False))


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy type in which rasterio reads a band of this type."""
    return np.dtype("complex64" if name == "complex_int16" else name)


def nbits_of(dataset: Any) -> int | None:
    """Return the bits of a sample where they are not those of its data type."""
    text = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "")
    bits = int(text) if text.isdigit() else None
    return None if bits == numpy_dtype(dtype_names(dataset)[0]).itemsize * 8 else bits


def own_masks(dataset: Any) -> list[bool]:
    """Return of each band whether its validity is stored as a mask, neither as a nodata value nor as an alpha band."""
    return [
        MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags and MaskFlags.nodata not in flags
        for flags in dataset.mask_flag_enums
    ]


#: The types of bands in the text of a VRT.
_DATA_TYPE = re.compile(rb'<VRTRasterBand dataType="(\w+)"')

#: Types of pixels that may be numbers of entries in a TIFF's table of colours.
_INDEXES = frozenset({"uint8", "uint16"})


def has_colours_in_vain(dataset: Any) -> bool:
    """Whether an open dataset has a table of colours that a TIFF cannot have, for its type of pixels."""
    if zero_is_white(dataset):
        return dataset.count > 1 or dataset.dtypes[0] not in _INDEXES
    return dataset.colorinterp[0] is ColorInterp.palette and dataset.dtypes[0] not in _INDEXES


def zero_is_white(dataset: Any) -> bool:
    """Whether an open dataset is a TIFF in which zero is white, which only GDAL's table of colours for it tells."""
    return bool(dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES")


def colour_table(dataset: Any, band: int) -> dict[int, tuple[int, int, int, int]]:
    """Return the colours of an open dataset's values as RGBA; none where it has no table of them, whatever it says of
    the colours of its bands.
    """
    try:
        return dict(dataset.colormap(band))
    except ValueError:
        return {}


def reason(error: BaseException, path: Path) -> str:
    """Return GDAL's first error message, which is the most precise one, without the directory of `path`."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = "GDAL fails without a reason" if isinstance(error, SystemError) else _ADVICE.sub("", str(error))
    text = " ".join(text.replace(f"{path.absolute().parent}/", "").split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"


def unreadable(path: Path, driver: str, why: str, *, remedy: str | None = None) -> GeoAssetsError:
    """Return the error for a file that is damaged or is not what it claims to be."""
    said, named = without_name(why, path.name), driver.partition(" ")[0]
    return GeoAssetsError(
        "UNREADABLE", f"{path.name} is not readable as {FORMATS.get(named, named)}: {said}", remedy=remedy
    )


@contextmanager
def reading(path: Path, driver: str, *, opened: Path | None = None) -> Iterator[None]:
    """Turn whatever GDAL raises while `path` is read into UNREADABLE; `opened` is the name that GDAL was given, if
    another.

    Raises:
        GeoAssetsError: UNREADABLE.
        MemoryError: GDAL could not allocate.
    """
    try:
        yield
    except CPLE_OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    except GDAL_ERRORS as error:
        raise unreadable(
            path, driver, reason(error, opened or path).replace(opened.name if opened else path.name, path.name)
        ) from error
