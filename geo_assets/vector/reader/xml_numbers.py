"""Coordinates, features and values of GML, KML and GPX, as they are written in the text.

Here: one pass by expat, for faults that GDAL ignores: it reads 0 where a coordinate is not a number, skips a waypoint
that lacks one, ends a layer of GML at the first geometry that it cannot read, and passes over some values of KML and
GPX. Not here: what is special to KML (`kml_schemas.py`) and GML (`gml_text.py`), reading features (`ogr.py`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.once import remembered_of_file
from geo_assets.text import how_many
from geo_assets.vector.reader.gml_text import GmlLook, GmlText
from geo_assets.vector.reader.kml_schemas import ENDS, PARENTS, STARTS, TIMES, KmlLook, KmlText
from geo_assets.vector.reader.xml_parser import new_parser, parsed

#: Elements whose text is coordinates, and those of GPX that have them as attributes.
_COORDINATES = frozenset({"coordinates", "pos", "posList", "coord"})
_NAMESPACES = (
    "http://www.opengis.net/gml",
    "http://www.opengis.net/kml",
    "http://earth.google.com/kml",
    "http://www.google.com/kml",
)
_TEXTS = _COORDINATES | TIMES
_GPX_POINTS = frozenset({"wpt", "rtept", "trkpt"})

#: Levels of a GPX down to a point, and to the children of the points of its tracks.
_POINT_DEPTH, _BELOW_POINTS = 3, 5

#: A letter that is not part of an exponent. A GML may define its own separator of numbers.
_NO_NUMBER = re.compile(r"[^\W\d_eE]")

#: All characters of numbers and of what separates them.
_OF_NUMBERS = b"0123456789+-.eE, \t\r\n"

_SHOWN = 3

#: Names of values that may become no column that are kept.
_MOST_NAMES = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """What the text of a file says that GDAL does not."""

    named: dict[str, str] = field(default_factory=dict)  # values that may become no column, and which would have them
    kml: KmlText = field(default_factory=KmlText)
    gml: GmlText = field(default_factory=GmlText)


@remembered_of_file  # it is asked for when the file is inspected, and when it is loaded
def check_numbers(path: Path, name: str) -> Seen:
    """Check every coordinate. XML that is not well-formed is left to GDAL.

    Raises:
        GeoAssetsError: UNREADABLE, coordinates that are not numbers, or features where GDAL reads none.
    """
    look = _Look()
    if not parsed(look.parser, path):
        return Seen()
    if look.count:
        shown = ", ".join(f"{text!r} in line {line:,}" for line, text in look.faults)
        what = "coordinates are no numbers" if look.count > 1 else "coordinate is no number"
        raise GeoAssetsError(
            "UNREADABLE", f"{look.count:,} {what} in {name}: {shown}", remedy="correct them and upload it again"
        )
    kml = look.kml.seen if look.kml else KmlText()
    if kml.lost:
        raise GeoAssetsError(
            "UNREADABLE",
            f"{how_many(kml.lost, 'placemark')} of {name} would not be read: beside the Document or Folder that is the"
            " last, or in an element that KML does not have",
            remedy="put all of them into one Document, or into folders in it, and upload it again",
        )
    named = {**look.named, **{name: name for name in kml.untyped}, **dict.fromkeys(sorted(kml.unread), "")}
    return Seen(named, kml, look.gml.seen)


class _Look:
    """The handlers that expat calls."""

    def __init__(self) -> None:
        self.parser = parser = new_parser(namespaces=True)
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        self.named: dict[str, str] = {}
        self.kml: KmlLook | None = None
        self.gml = GmlLook(parser)
        self.faults: list[tuple[int, str]] = []
        self.count = 0
        self._locals: dict[str, str] = {}  # names without namespace, by tag
        self._path: list[str] = []
        self._tags: list[str] = []  # the same with namespaces
        self._text: list[str] | None = None
        self._depth = 0
        self._is_leaf = False

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        local = self._locals.get(tag) or self._locals.setdefault(tag, tag.rpartition(" ")[2])
        self._path.append(local)
        self._tags.append(tag)
        self._is_leaf = True
        depth = len(self._path)
        if depth == 1 and local == "kml":
            self.kml = KmlLook(self.parser)
        if self.kml:
            if local in STARTS or (depth > 1 and self._path[-2] in PARENTS):
                self.kml.start(self._path, attributes)
        elif self.gml.wants(local, attributes):
            self.gml.start(self._path, self._tags, attributes)
        if local in _TEXTS and self._counts(tag, local):
            self._text, self._depth = [], depth
            self.parser.CharacterDataHandler = self._text.append
        elif local in _GPX_POINTS and self._path[0] == "gpx":
            for axis in ("lat", "lon"):
                if not _is_number(attributes.get(axis, "")):
                    self._fault(attributes.get(axis, f"no {axis}"))

    def _counts(self, tag: str, local: str) -> bool:
        """Whether the text of an element is coordinates, or a time of a KML."""
        if local in TIMES:
            return self.kml is not None
        return tag.startswith(_NAMESPACES) or (tag == local and self.kml is not None)

    def _end(self, _: str) -> None:
        text, local = None, self._path[-1]
        if self._text is not None and len(self._path) == self._depth:
            text = "".join(self._text)
            self._text = None
            self.parser.CharacterDataHandler = None
            if local in _COORDINATES and _has_words(text):
                self._fault(next(word for word in text.split() if _NO_NUMBER.search(word)))
        if self.kml:
            if local in ENDS:
                self.kml.end(self._path, text)
        else:
            self.gml.end(len(self._path))
        if self._is_leaf and not self.kml and len(self.named) < _MOST_NAMES and (column := self._extension()):
            self.named[local] = column
        self._is_leaf = False
        self._path.pop()
        self._tags.pop()

    def _extension(self) -> str:
        """Return the name of what programs add to a point or a segment of a GPX, and in which the innermost element is;
        empty where it is in none. GDAL makes a column of it only where it is also added to a route or a track.
        """
        if self._path[0] != "gpx" or "extensions" not in self._path[_POINT_DEPTH:_BELOW_POINTS]:
            return ""
        at = self._path.index("extensions", _POINT_DEPTH)
        return self._path[at + 1] if len(self._path) > at + 1 else ""

    def _fault(self, text: str) -> None:
        self.count += 1
        if len(self.faults) < _SHOWN:
            self.faults.append((self.parser.CurrentLineNumber, text[:40]))


def _has_words(text: str) -> bool:
    """Whether coordinates hold what is no number; most hold nothing but their characters, which is soon seen."""
    return bool(text.encode().translate(None, _OF_NUMBERS)) and _NO_NUMBER.search(text) is not None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
