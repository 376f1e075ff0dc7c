"""Small pure helpers on text and iterables that several packages share.

Here: functions of a few lines without a dependency. Not here: anything with a subject of its own.
"""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items, in order (itertools.batched is there from Python 3.12)."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def strict_json(text: str) -> Any:
    """The value of a JSON text. Python's own reading keeps the last of two values of a key, and takes NaN.

    Raises:
        ValueError: it is no JSON, or names a key twice.
        RecursionError: it is nested too deep.
    """
    return json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        msg = f"it names a key twice: {ascii(next(name for name in names if names.count(name) > 1))[:60]}"
        raise ValueError(msg)
    return found


def _refuse_constant(name: str) -> None:
    msg = f"it holds {name}, which JSON does not have"
    raise ValueError(msg)


def how_many(number: int, one: str, many: str = "") -> str:
    """`1 file`, `2 files`; `many` where that is not the word and an s: `1 geometry is`, `2 geometries are`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def human_bytes(count: float) -> str:
    """`12.3 MB`."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def human_seconds(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours_of_day = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours_of_day} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def one_line(text: str) -> str:
    """Text without anything that moves a cursor or begins another line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def spelt_out(text: str) -> str:
    """The text on one line: what begins another, moves a cursor or turns the order of letters is spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def utf_16_of(head: bytes) -> str | None:
    """Return the codec of text in UTF-16, by its byte order mark or by the zeros of two ASCII characters; None for any
    other bytes. Windows' Notepad and PowerShell save such text.

    Args:
        head: the first bytes.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [byte == 0 for byte in head[:4]]
    if zeros == [True, False, True, False]:
        return "utf-16-be"
    return "utf-16-le" if zeros == [False, True, False, True] else None


def escaped(body: bytes, limit: int) -> str:
    """The first `limit` characters as one printable line: control characters, line breaks and bidi marks are
    spelt out.
    """
    text = body[: limit * 4].decode("utf-8", "backslashreplace")
    return spelt_out(text)[:limit]


def without_name(said: str, name: str) -> str:
    """The sentence without the name of the file, which was given before: `NAME: …` loses the name, elsewhere it becomes
    `it`.
    """
    if "." not in name:  # it may be a word like any other
        return said
    named = rf"(?<![\w.-])['\"`]?{re.escape(name)}['\"`]?(?![\w-]|\.\w)"
    named_again = re.sub(rf"(^|\s+){named}\s*:\s*", lambda match: ": " if match[1] else "", said)
    return re.sub(r"^it not ", "it is not ", re.sub(named, "it", named_again))  # as GDAL says it


def slug(text: str, *, length: int, separator: str = "-") -> str:
    """`text` in `[a-z0-9]` and the separator: accents folded, the rest collapsed, cut to `length`; empty
    becomes `x`.
    """
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", separator, folded).strip(separator)[:length].strip(separator) or "x"


def says_all(made: str, text: str) -> bool:
    """Whether a slug or a plain name has each letter and digit of the text that it was made of: few other texts make
    the same one.
    """
    return [c for c in made.lower() if c.isalnum()] == [c for c in text.lower() if c.isalnum()]


def plain_name(text: str, *, length: int = 200) -> str:
    """A file or folder name that every program opens and no URL has to encode: ASCII letters, digits, `.`, `_` and `-`.

    Accents are folded, each run of other characters becomes one `_`; cut to `length`; empty becomes `x`. Different
    texts may become the same name.
    """
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", folded)[:length].lstrip(".").rstrip("._") or "x"
