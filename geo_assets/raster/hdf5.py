"""Detection of HDF5 files that refer to other files, by their bytes, before a library opens them.

Here: the three ways in which an HDF5 (and so a NetCDF-4) file reads other files: raw data of a dataset in any file of
the machine, a virtual dataset over other HDF5 files, a link to an object in another. HDF5 follows each and has no
option to forbid it; GDAL then returns the bytes of /etc/passwd as pixels.
Not here: reading HDF5.

The search is for bytes that the library itself insists on (a message's version, the signature at the address that it
holds), so that it finds every such file that works; a harmless file is refused by chance about once in a thousand
gigabytes. Source: HDF5 File Format Specification 3.0, IV.A.2.h (external files), IV.A.2.i (layout), IV.A.2.g (links),
III.G (fractal heap).
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError

Bytes = NDArray[np.uint8]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_REMEDY = "rewrite it as one file, for example with: h5repack, or nccopy"

#: Looked at a time; and the bytes of the longest fixed part, by which pieces overlap.
_PIECE, _OVERLAP = 16 * 1024**2, 32

#: A heap of names with the length of a filter that is not 0.
_FRACTAL_HEAP = re.compile(rb"FRHP\x00[\s\S]{2}(?!\x00\x00)[\s\S]{2}")


def refuse_other_files(path: Path) -> None:
    """Refuse an HDF5 file that refers to other files.

    Raises:
        GeoAssetsError: RASTER_UNSUPPORTED.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(SIGNATURE)] != SIGNATURE:
            return
        if not _plain_addresses(data):
            raise _refusal(path, "addresses its parts in an unusual way")
        for start in range(0, len(data), _PIECE):
            piece = np.frombuffer(data[start : start + _PIECE + _OVERLAP] + bytes(_OVERLAP), np.uint8)
            if any(_is_external_files(data, start + at) for at in _external_files(piece)):
                raise _refusal(path, "keeps the values of a dataset in another file")
            if any(_points_to(data, data[start + at + 2 : start + at + 10], b"GCOL") for at in _virtual_layouts(piece)):
                raise _refusal(path, "has a virtual dataset, made of other files")
            if any(_is_external_link(data, start + at) for at in _external_links(piece)):
                raise _refusal(path, "has a link into another file")
        if _FRACTAL_HEAP.search(data):
            raise _refusal(path, "hides the names of its members by compression")


def _external_files(piece: Bytes) -> Iterator[int]:
    """Yield where the body of a message of type 7 may begin: version 1, after a header of 4, 6 or 8 bytes; the address
    is below 2**48.
    """
    first = piece[8:-16] == 1
    kind = piece == 7
    kind = kind[4:-20] | kind[2:-22] | kind[:-24]
    return _places(first & kind & (piece[22:-2] == 0) & (piece[23:-1] == 0), 8)


def _virtual_layouts(piece: Bytes) -> Iterator[int]:
    """Yield where the body of a layout message may begin: version 4 or 5, class 3 (virtual), then an address below
    2**48.
    """
    version = (piece[:-16] & 0xFE) == 4
    return _places(version & (piece[1:-15] == 3) & (piece[8:-8] == 0) & (piece[9:-7] == 0), 0)


def _external_links(piece: Bytes) -> Iterator[int]:
    """Yield where a link message may begin: version 1, flags that say that a type follows, type 64 (external)."""
    flags = (piece[1:-15] & 0xE8) == 0x08
    return _places((piece[:-16] == 1) & flags & (piece[2:-14] == 64), 0)


def _places(found: NDArray[np.bool_], skipped: int) -> Iterator[int]:
    return (int(at) + skipped for at in np.flatnonzero(found))


def _refusal(path: Path, what: str) -> GeoAssetsError:
    return GeoAssetsError("RASTER_UNSUPPORTED", f"{path.name} {what}, which is not followed", remedy=_REMEDY)


def _plain_addresses(data: mmap.mmap) -> bool:
    """Whether addresses have eight bytes and count from the beginning of the file, as every library writes them."""
    if len(data) < 48:
        return True  # nothing that could be opened
    early = data[8] < 2
    base = data[24:32] if data[8] == 0 else data[28:36] if early else data[12:20]
    return data[13 if early else 9] == 8 and base == bytes(8)


def _points_to(data: mmap.mmap, address: bytes, signature: bytes) -> bool:
    where = int.from_bytes(address, "little")
    return where + len(signature) <= len(data) and data[where : where + len(signature)] == signature


def _is_external_files(data: mmap.mmap, body: int) -> bool:
    """Whether a whole external-files message is here: version 1, three bytes, slots, used slots, and the address of a
    local heap with the names.
    """
    if body + 16 > len(data) or data[body] != 1:
        return False
    slots, used = struct.unpack_from("<HH", data, body + 4)
    return 0 < used <= slots and _points_to(data, data[body + 8 : body + 16], b"HEAP")


def _is_external_link(data: mmap.mmap, at: int) -> bool:
    """Whether a whole link message is here: a name, then as many bytes as it says: 0, a file name, a path."""
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
