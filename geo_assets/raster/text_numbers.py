"""Numbers that stand in a text, read before GDAL is believed, which takes a word for 0 and rounds a number to its type.

Here: a text in parts, words as numbers, and which of these a type of pixels cannot hold as they are written. Not here:
where the words of a format stand (`ascii_grid.py`, `xyz.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal

_PART_BYTES = 1 << 20

#: No number is written with more digits, and no line with more of them.
_LONGEST = 400

#: Below it every whole number is a double.
_WHOLE_DOUBLES = 1 << 53

#: Characters of a word whose number a float of 32 bits has: six digits and a point, or a whole number.
_SURELY_HELD = 7

#: How what is no finite number may be written. Of other forms (-nan, infinity) GDAL makes 0, of some since 3.12 only.
_NOT_FINITE = frozenset(
    {b"nan", b"NaN", *(sign + word for sign in (b"", b"+", b"-") for word in (b"inf", b"Inf", b"INF"))}
)

#: A power of ten beyond those of doubles.
_FAR = 999


def parts(path: Path, driver: str, file: BinaryIO, ends: bytes) -> Iterator[bytes]:
    """Yield the rest of an open text in parts, each up to one of the characters `ends`.

    Raises:
        GeoAssetsError: UNREADABLE, none of these is to be found.
    """
    rest = b""
    while part := file.read(_PART_BYTES):
        part = rest + part
        end = max(part.rfind(character) for character in ends) + 1
        part, rest = part[:end], part[end:]
        if len(rest) > _LONGEST:
            raise _too_long(path, driver, rest)
        yield part
    yield rest


def numbers(path: Path, driver: str, words: Sequence[bytes]) -> NDArray[np.float64]:
    """Return words as numbers.

    Raises:
        GeoAssetsError: UNREADABLE, one of them is none; RASTER_UNSUPPORTED, GDAL does not read it as it is written.
    """
    if max(map(len, words), default=0) > _LONGEST:
        raise _too_long(path, driver, max(words, key=len))
    try:
        values = np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        values = None
    if values is None or b"_" in b" ".join(words):
        wrong = next(word for word in words if not is_number(word))
        raise gdal.unreadable(path, driver, f"{shown(wrong)!r} is not a number")
    not_finite = np.flatnonzero(~np.isfinite(values)).tolist()
    if misread := next((words[i] for i in not_finite if is_misread(words[i])), None):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has {shown(misread)!r}, of which GDAL makes 0",
            remedy="write nan, inf or -inf in its place, or a nodata value",
        )
    return values


def _too_long(path: Path, driver: str, word: bytes) -> GeoAssetsError:
    return gdal.unreadable(path, driver, f"{word[:20]!r}… has {len(word):,} characters and is no number")


def is_number(word: bytes) -> bool:
    """Whether a word is a number, of which Python takes more forms than others: 1_000."""
    try:
        float(word)
    except ValueError:
        return False
    return b"_" not in word


def is_misread(word: bytes) -> bool:
    """Whether a word that is no finite number is written as GDAL does not read it."""
    return b"n" in word.lower() and word not in _NOT_FINITE


def shown(word: bytes) -> str:
    """Return a word for people."""
    return word[:40].decode("ascii", "replace")


def not_held(values: NDArray[np.float64], words: Sequence[bytes], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Return where a pixel of this type, in as many digits as the word has, is another number than the word.

    Args:
        values: the numbers that the words are.
        words: as they are written.
        dtype: of the pixels.
    """
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.asarray((values != np.trunc(values)) | (values < info.min) | (values > info.max))
    with np.errstate(over="ignore", invalid="ignore"):
        held = values.astype(dtype)
        off = np.abs(held - values)
    wrong = np.isinf(held)  # GDAL makes the largest float of an infinity
    if dtype == np.float64 and wrong.any():
        wrong &= np.array([b"n" not in word.lower() for word in words])  # it is not written as infinity
    if off.any() and max(map(len, words)) > _SURELY_HELD:
        wrong |= off > _last_places(words) / 2 + np.spacing(np.abs(values))
    far = np.flatnonzero(np.isfinite(values) & (np.abs(values) >= _WHOLE_DOUBLES))
    for i in far.tolist():  # a double may be off there itself
        wrong[i] |= words[i].lstrip(b"+-").isdigit() and int(words[i]) != int(held[i])
    return np.asarray(wrong)


def _last_places(words: Sequence[bytes]) -> NDArray[np.float64]:
    """Return what one in the last place of each word is worth."""
    text = np.frombuffer(b" ".join(words) + b" ", np.uint8)
    ends, points, marks = (np.flatnonzero(found) for found in (text == 0x20, text == 0x2E, text | 0x20 == 0x65))
    powers = np.zeros(len(words), np.int64)
    with_power, with_point = np.searchsorted(ends, marks), np.searchsorted(ends, points)
    if marks.size:
        powers[with_power] = _powers(text, marks, ends[with_power])
        ends[with_power] = marks
    powers[with_point] -= ends[with_point] - points - 1
    with np.errstate(over="ignore"):
        return np.asarray(10.0**powers)


def _powers(text: NDArray[np.uint8], marks: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the powers of ten between these places."""
    powers = np.zeros(len(marks), np.int64)
    for step in range(1, int(np.max(ends - marks))):
        digits = text[np.minimum(marks + step, ends)].astype(np.int64) - ord("0")  # less than 0: a sign, the end
        powers = np.where(digits < 0, powers, np.minimum(powers * 10 + digits, _FAR))
    return np.where(text[marks + 1] == ord("-"), -powers, powers)
