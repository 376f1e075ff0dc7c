"""Copies of texts in which some bytes are others.

Here: copying with edits, and where an attribute stands in a tag. Not here: what is edited (`kml_schemas.py`,
`gml_text.py`, `kml_layers.py`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

_NAME = re.compile(rb"<[^\s/>]+")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>"']+)\s*=\s*("[^"]*"|'[^']*')""")

#: Most bytes of a tag.
_LONGEST = 65_536

#: Copied at a time.
_PIECE = 1 << 20


def copy_edited(source: BinaryIO, to: Path, edits: Iterable[tuple[int, int, bytes]]) -> None:
    """Copy a file with other bytes in some places.

    Args:
        source: the file.
        to: the copy.
        edits: where each begins and ends, in ascending order, and what is there instead.
    """
    source.seek(0)
    with to.open("wb") as copy:
        for begin, end, instead in edits:
            copy_up_to(source, copy, begin)
            copy.write(instead)
            source.seek(end)
        shutil.copyfileobj(source, copy)


def copy_up_to(source: BinaryIO, copy: BinaryIO, end: int) -> None:
    """Copy what comes before a place."""
    while (length := min(end - source.tell(), _PIECE)) > 0:
        copy.write(source.read(length))


def attribute_at(source: BinaryIO, tag: int, name: bytes) -> tuple[int, int] | None:
    """Return where an attribute begins and ends, with the blanks before it; None where the tag has none of that name.

    Args:
        source: the text.
        tag: where the tag begins.
        name: of the attribute.
    """
    source.seek(tag)
    head = source.read(_LONGEST)
    match = _NAME.match(head)
    while match and (match := _ATTRIBUTE.match(head, match.end())):
        if match[1] == name:
            return tag + match.start(), tag + match.end()
    return None
