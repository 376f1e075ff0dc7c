"""The values of an ESRI ASCII grid, counted and read one by one before GDAL is believed.

Here: whether a grid has as many values as its header says, whether each is a number, and whether the type that GDAL
took for them can hold them all. Not here: the header itself, which GDAL reads.

GDAL reads a word as 0 and a missing value as the one before it, ignores surplus values, and turns a number beyond the
range of its type into the largest value of that type or infinity. It reports none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal

_KEYS = frozenset(
    {
        b"ncols",
        b"nrows",
        b"xllcorner",
        b"xllcenter",
        b"yllcorner",
        b"yllcenter",
        b"cellsize",
        b"dx",
        b"dy",
        b"nodata_value",
    }
)

#: Ten keys and their values.
_HEADER_BYTES = 4096

_CHUNK_BYTES = 1 << 20

#: No number is written with more digits.
_LONGEST_WORD = 400

#: Up to here every whole number is a float of 32 bits.
_WHOLE_FLOAT32 = 1 << 24

_AS_DOUBLES = "convert it, for example with: gdal_translate -oo DATATYPE=Float64 in.asc out.tif"


def refuse_wrong_values(path: Path, dataset: Any) -> None:
    """Read every value of an open ASCII grid.

    Raises:
        GeoAssetsError: UNREADABLE, too few or too many values, or not numbers; RASTER_UNSUPPORTED, GDAL's type cannot
            hold them.
    """
    count, dtype = 0, np.dtype(dataset.dtypes[0])
    for words in _words(path):
        values = _numbers(path, words)
        _refuse_what_does_not_fit(path, values, words, dtype)
        count += len(values)
    if count != dataset.width * dataset.height:
        declared = f"{dataset.width:,} x {dataset.height:,} = {dataset.width * dataset.height:,}"
        raise gdal.unreadable(path, "AAIGrid", f"it has {count:,} values; its header declares {declared}")


def _words(path: Path) -> Iterator[list[bytes]]:
    """Yield the words after the header, some at a time; a decimal comma becomes a point, as GDAL reads it."""
    with path.open("rb") as file:
        file.seek(_values_start(path, file.read(_HEADER_BYTES)))
        rest = b""
        while part := file.read(_CHUNK_BYTES):
            part = rest + part
            end = max(part.rfind(space) for space in (b" ", b"\n", b"\t", b"\r")) + 1
            part, rest = part[:end], part[end:]
            if len(rest) > _LONGEST_WORD:
                raise gdal.unreadable(path, "AAIGrid", f"{rest[:20]!r}… has {len(rest):,} characters and is no number")
            yield part.replace(b",", b".").split()
        yield rest.replace(b",", b".").split()


def _values_start(path: Path, head: bytes) -> int:
    """Return where the header ends; the header is pairs of a known key and a number: GDAL takes a word for 0."""
    at = 0
    while True:
        pair = head[at:].split(maxsplit=2)
        if len(pair) < 2 or pair[0].lower() not in _KEYS:
            return at
        key, word = (part.decode("ascii", "replace")[:40] for part in pair[:2])
        if not (_is_number(pair[1].replace(b",", b".")) or b"#" in pair[1]):  # 1.#QNAN, as Windows writes it
            raise gdal.unreadable(path, "AAIGrid", f"its header has {word!r} as {key}, which is not a number")
        at = head.index(pair[1], head.index(pair[0], at) + len(pair[0])) + len(pair[1])


def _numbers(path: Path, words: list[bytes]) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        return np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
        raise gdal.unreadable(path, "AAIGrid", f"{wrong[:40].decode('ascii', 'replace')!r} is not a number") from None


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _refuse_what_does_not_fit(
    path: Path, values: np.ndarray[Any, Any], words: list[bytes], dtype: np.dtype[Any]
) -> None:
    if dtype.kind == "i":
        info = np.iinfo(dtype)
        wrong = ~((values == np.trunc(values)) & (values >= info.min) & (values <= info.max))
    else:
        wrong = (
            np.isinf(values) & np.array([b"n" not in word.lower() for word in words])
            if np.isinf(values).any()
            else np.isinf(values)
        )
        wrong |= np.isfinite(values) & (np.abs(values) > np.finfo(dtype).max)
        with np.errstate(over="ignore"):
            wrong |= (np.abs(values) > _WHOLE_FLOAT32) & (values == np.trunc(values)) & (values.astype(dtype) != values)
    if wrong.any():
        word = words[int(np.argmax(wrong))].decode("ascii", "replace")
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED", f"{path.name} is read as {dtype}, which cannot hold {word[:40]}", remedy=_AS_DOUBLES
        )
