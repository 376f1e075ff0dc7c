"""HDF5 files that are made of other files: found by their bytes, before a library opens them.

Here: the three ways in which an HDF5 (and so a NetCDF-4) file reads what lies outside of it: the raw data of a dataset in any file
of the machine, a virtual dataset over other HDF5 files, a link to an object in another. HDF5 follows each without being asked and has
no switch against it; GDAL then returns the bytes of /etc/passwd as pixels.
Not here: reading HDF5.

The search is for bytes that the library itself insists on (a message's version, the signature at the address that it holds), so that
no file that works escapes it; an honest file is refused by chance about once in a thousand gigabytes.
Source: HDF5 File Format Specification 3.0, IV.A.2.h (external files), IV.A.2.i (layout), IV.A.2.g (links), III.G (fractal heap).
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

from geo_assets.errors import GeoAssetsError

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_REMEDY = "write it anew as one file, for example with: h5repack, or nccopy"

#: A message of type 7 in a header of version 1 or 2, with or without an order of creation, whose body begins with version 1.
_EXTERNAL_FILES = re.compile(rb"\x07(?=[\s\S]{3}\x01|[\s\S]{5}\x01|[\s\S]{7}\x01)")

#: The body of a layout message: version 4 or 5, class 3 (virtual), then an address.
_VIRTUAL = re.compile(rb"[\x04\x05]\x03(?=([\s\S]{8}))")

#: A link message: version 1, flags that say a type follows, type 64 (external).
_EXTERNAL_LINK = re.compile(rb"\x01[\x08-\x0f\x18-\x1f]\x40")

_FRACTAL_HEAP = re.compile(rb"FRHP\x00[\s\S]{2}(?!\x00\x00)[\s\S]{2}")


def refuse_other_files(path: Path) -> None:
    """Refuse an HDF5 file that is not whole in itself.

    Raises:
        GeoAssetsError: RASTER_UNSUPPORTED.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(SIGNATURE)] != SIGNATURE:
            return
        if not _plain_addresses(data):
            raise _refusal(path, "addresses its parts in an unusual way")
        if any(_is_external_files(data, m.start() + skip) for m in _EXTERNAL_FILES.finditer(data) for skip in (4, 6, 8)):
            raise _refusal(path, "keeps the values of a dataset in another file")
        if any(_points_to(data, m[1], b"GCOL") for m in _VIRTUAL.finditer(data)):
            raise _refusal(path, "has a virtual dataset, made of other files")
        if any(_is_external_link(data, m.start()) for m in _EXTERNAL_LINK.finditer(data)):
            raise _refusal(path, "has a link into another file")
        if _FRACTAL_HEAP.search(data):
            raise _refusal(path, "hides the names of its members by compression")


def _refusal(path: Path, what: str) -> GeoAssetsError:
    return GeoAssetsError("RASTER_UNSUPPORTED", f"{path.name} {what}, which is not followed", remedy=_REMEDY)


def _plain_addresses(data: mmap.mmap) -> bool:
    """Addresses of eight bytes that count from the beginning of the file, as every library writes them."""
    if len(data) < 48:
        return True  # nothing that could be opened
    early = data[8] < 2
    base = data[24:32] if data[8] == 0 else data[28:36] if early else data[12:20]
    return data[13 if early else 9] == 8 and base == bytes(8)


def _points_to(data: mmap.mmap, address: bytes, signature: bytes) -> bool:
    where = int.from_bytes(address, "little")
    return where + len(signature) <= len(data) and data[where : where + len(signature)] == signature


def _is_external_files(data: mmap.mmap, body: int) -> bool:
    """Version 1, then three bytes, slots, used slots, and the address of a local heap with the names."""
    if body + 16 > len(data) or data[body] != 1:
        return False
    slots, used = struct.unpack_from("<HH", data, body + 4)
    return 0 < used <= slots and _points_to(data, data[body + 8 : body + 16], b"HEAP")


def _is_external_link(data: mmap.mmap, at: int) -> bool:
    """Whether a whole link message stands here: a name, then as many bytes as it says: 0, a file name, a path."""
    flags = data[at + 1]
    body = at + 3 + (8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 0x03)
    name = int.from_bytes(data[body : body + width], "little")
    start = body + width + name
    if not name or start + 2 > len(data):
        return False
    (length,) = struct.unpack_from("<H", data, start)
    value = data[start + 2 : start + 2 + length]
    return len(value) == length >= 4 and value[0] == 0 and value[-1] == 0 and value.count(0, 1) >= 2 and value[1] != 0
