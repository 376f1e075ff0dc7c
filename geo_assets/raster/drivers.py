"""The one GDAL driver that may open a file, chosen by its first bytes.

Here: the allow-list of raster formats and of containers of variables. The name of an upload proves nothing. Not here:
what is in a file (`inspect.py`, `variables.py`).
"""

from __future__ import annotations

from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import beside, gdal, xyz
from geo_assets.storage.foreign import CONVERTERS, not_read

#: First bytes -> the one driver that may open the file. A name's ending proves nothing.
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"II*\x00", "GTiff"),
    (b"MM\x00*", "GTiff"),
    (b"II+\x00", "GTiff"),  # BigTIFF
    (b"MM\x00+", "GTiff"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JP2OpenJPEG"),
    (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),  # a bare codestream
    (b"EHFA_HEADER_TAG", "HFA"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"UHL1", "DTED"),
    (b"VOL1", "DTED"),
    (b"HDR1", "DTED"),
    (b"NITF0", "NITF"),
    (b"NSIF0", "NITF"),
)

#: Formats that are not read: their first bytes and their names.
_FOREIGN: tuple[tuple[bytes, str], ...] = ((b"\x0e\x03\x13\x01", "HDF4"), (b"msid", "MrSID"), (b"%PDF-", "PDF"))

#: First bytes of an SQLite file, and where it names its application.
_SQLITE, _APPLICATION = b"SQLite format 3\x00", slice(68, 72)

#: Formats of many variables: first bytes, the driver that may open them, their names.
_CONTAINERS: tuple[tuple[bytes, str, str], ...] = (
    (b"CDF\x01", "netCDF", "NetCDF"),
    (b"CDF\x02", "netCDF", "NetCDF"),
    (b"CDF\x05", "netCDF", "NetCDF"),
    (b"\x89HDF\r\n\x1a\n", "HDF5", "HDF5 or NetCDF-4"),
    (b"GRIB", "GRIB", "GRIB"),
)

#: Words that an ESRI ASCII grid can begin with.
_ASCII_GRID = (b"ncols", b"nrows", b"xllc", b"yllc", b"cellsize")

_HEAD_BYTES = 128

#: Bytes of an SRTM tile: 1 and 3 seconds of arc, and the strips of 2 by 1 far north; int16, or bytes of water masks.
_HGT_BYTES = frozenset(n * k for n in (1201 * 1201, 3601 * 3601, 1801 * 3601) for k in (1, 2))


def driver_of(path: Path) -> str:
    """Return the driver for the first bytes of a file.

    Raises:
        GeoAssetsError: UNREADABLE (empty), RASTER_SUBDATASETS, UNSUPPORTED_FORMAT.
    """
    head = _head(path)
    if raw := beside.raw_driver(path):
        return raw
    for magic, _, name in _CONTAINERS:
        if head.startswith(magic):
            raise GeoAssetsError(
                "RASTER_SUBDATASETS", f"{path.name} is {name}, which holds variables; each is converted by itself"
            )
    for magic, driver in MAGIC:
        if head.startswith(magic):
            return driver
    if other := _driver_of_the_rest(path, head):
        return other
    if called := next((called for magic, called in _FOREIGN if head.startswith(magic)), not_read(path.name)):
        raise GeoAssetsError(
            "UNSUPPORTED_FORMAT", f"{path.name} is {called}, which is not read here", remedy=CONVERTERS[called]
        )
    begins = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in head[:24])
    known = ", ".join(name for driver, name in gdal.FORMATS.items() if driver not in gdal.CONTAINERS)
    raise GeoAssetsError(
        "UNSUPPORTED_FORMAT",
        f"{path.name} begins with {begins!r}, like none of the formats that are supported: {known}",
    )


def _driver_of_the_rest(path: Path, head: bytes) -> str | None:
    """Return the driver of formats that the first bytes alone do not identify."""
    ending = path.suffix.lower()
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(_SQLITE):
        return "GPKG" if head[_APPLICATION] in {b"GPKG", b"GP10", b"GP11"} else "MBTiles"
    if head.lstrip().lower().startswith(_ASCII_GRID):
        return "AAIGrid"
    if ending == ".hgt" and path.stat().st_size in _HGT_BYTES:
        return "SRTMHGT"
    return "XYZ" if ending == ".xyz" and xyz.looks_like_it(head) else None


def container_driver_of(path: Path) -> str | None:
    """Return the driver of a container of variables, by its first bytes; GTiff may hold many images, GPKG many tables;
    None for the rest.

    Raises:
        GeoAssetsError: UNREADABLE (empty).
    """
    head = _head(path)
    if _driver_of_the_rest(path, head) == "GPKG":
        return "GPKG"
    tiff = [driver for magic, driver in MAGIC if driver == "GTiff" and head.startswith(magic)]
    return next((driver for magic, driver, _ in _CONTAINERS if head.startswith(magic)), tiff[0] if tiff else None)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise GeoAssetsError("UNREADABLE", f"{path.name} cannot be opened: {error.strerror}") from error
    if not head:
        raise GeoAssetsError("UNREADABLE", f"{path.name} is empty (0 bytes)")
    return head
