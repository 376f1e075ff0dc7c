"""The layers of a KML: a small copy that has the same.

Here: features in a row, and a copy without them. Not here: the pass over the text that meets them (`xml_numbers.py`),
listing the layers of the copy (`listing.py`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from geo_assets.vector.reader.edits import copy_up_to

#: Elements of which GDAL makes layers.
CONTAINERS = frozenset({"Document", "Folder"})

_TAG = re.compile(rb"<((?:[^\s/>:]+:)?Placemark)")
_END_TAG = re.compile(rb"</(?:[^\s/>:]+:)?Placemark\s*>")

#: Most bytes of a tag up to the end of its name.
LONGEST_TAG = 1024


@dataclass(slots=True)
class Row:
    """Features of a container, one after the other, without the first."""

    begin: int  # of the first tag
    end: int = -1  # where the last end tag begins, or would
    count: int = 1


class Rows:
    """The rows of features in a KML, as a parser meets them; places are bytes of the file."""

    def __init__(self) -> None:
        self._found: list[Row] = []
        self._now: Row | None = None
        self._is_first = True

    def start(self, place: int) -> None:
        """A feature begins, in a container."""
        if self._is_first:
            self._is_first = False
        elif self._now is None:
            self._now = Row(place)
            self._found.append(self._now)
        else:
            self._now.count += 1

    def end(self, place: int) -> None:
        """It ends."""
        if self._now is not None:
            self._now.end = place

    def interrupt(self) -> None:
        """A container begins or ends, or anything but a feature is in one."""
        self._is_first, self._now = True, None

    def __iter__(self) -> Iterator[Row]:
        return iter(self._found)


def copy_of_layers(path: Path, to: Path, rows: Rows) -> None:
    """Copy a KML in which features after the first in a row are empty: GDAL opens it in no time, and its layers are the
    same. One without a name is called by its place among features.

    Args:
        path: the KML.
        to: the copy.
        rows: of the KML.
    """
    with path.open("rb") as source, to.open("wb") as copy:
        for row in rows:
            copy_up_to(source, copy, row.begin)
            tag = _TAG.match(source.read(LONGEST_TAG))
            copy.write(b"<%b/>" % (tag[1] if tag else b"Placemark") * row.count)
            source.seek(row.end)
            end_tag = _END_TAG.match(source.read(LONGEST_TAG))  # <Placemark/> has none
            source.seek(row.end + (end_tag.end() if end_tag else 0))
        shutil.copyfileobj(source, copy)
