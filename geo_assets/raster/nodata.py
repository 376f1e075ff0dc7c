"""The nodata value of a raster, exactly.

Here: what a dataset tells of it, also with 64 bits. Not here: which pixels are valid (`pixels.py`), a copy of a source
whose header names one that no pixel has (`origin.py`).

rasterio has it as a double, which holds 53 bits: of 2**53 + 1 it says 2**53, of 2**64 - 1 nothing. The text of a VRT
has all digits.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import rasterio.shutil
from rasterio.io import MemoryFile

#: Types whose numbers a double does not hold.
WIDE = frozenset({"int64", "uint64"})

#: A nodata value in the XML that GDAL writes.
ELEMENT = re.compile(rb"<NoDataValue\b[^>]*>(.*?)</NoDataValue>", re.DOTALL)

_BAND = b"<VRTRasterBand "

#: The mask of a dataset or a band, which is a band in the XML too.
_MASK = re.compile(rb"<MaskBand>.*?</MaskBand>", re.DOTALL)


def nodata_values(dataset: Any) -> tuple[float | None, ...]:
    """Return the nodata value of each band of an open dataset, those of 64-bit integers as int."""
    said: tuple[float | None, ...] = dataset.nodatavals
    if dataset.dtypes[0] not in WIDE:
        return said
    with MemoryFile(ext=".vrt") as file:
        rasterio.shutil.copy(dataset, file.name, driver="VRT")
        exact = [ELEMENT.search(band) for band in _MASK.sub(b"", file.read()).split(_BAND)[1:]]
    # a driver for raw pixels tells it as a double only
    return tuple(_whole(found[1]) if found else _whole(value) for found, value in zip(exact, said, strict=True))


def _whole(value: bytes | float | None) -> float | None:
    """Return a number as int, where it is a whole one."""
    if isinstance(value, bytes):
        return int(value) if re.fullmatch(rb"-?\d+", value) else float(value)
    return int(value) if value is not None and float(value).is_integer() else value


def nodata_told(dataset: Any) -> float | None:
    """Return the nodata value of the first band of an open dataset; see `nodata_values`."""
    said: float | None = dataset.nodata
    return nodata_values(dataset)[0] if dataset.dtypes[0] in WIDE else said


def nodata_of(dataset: Any) -> float | None:
    """Return the nodata value as its pixels hold it: a header in text may name one that is no float32, for which the
    nearest stands, or that is far beyond their range, which no pixel can have.
    """
    said = nodata_told(dataset)
    if said is None or dataset.dtypes[0] != "float32":
        return said
    with np.errstate(over="ignore"):
        held = float(np.float32(said))
    return None if math.isinf(held) and not math.isinf(said) else held
