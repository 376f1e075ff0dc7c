"""What the text of a KML says that GDAL does not read as it is written, and a copy that it does.

Here: the columns that it declares, lines that are rings, times that are years, values without a declaration; a copy
whose values GDAL delivers as text, as they are written, and none in the place of another, and whose closed lines it can
write as WKB; notes about what it does not read. Not here: the pass
over the text (`xml_numbers.py`), making values of the text (`declared.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from geo_assets.text import how_many
from geo_assets.vector.reader.declared import widest
from geo_assets.vector.reader.edits import attribute_at, copy_edited
from geo_assets.vector.reader.kml_layers import CONTAINERS, LONGEST_TAG, Rows
from geo_assets.vector.reader.unused import KML_COLUMNS
from geo_assets.vector.reader.xml_parser import new_parser, parsed

#: Elements whose text is a time.
TIMES: frozenset[str] = frozenset({"when", "begin", "end"})

#: Wire types by the types of KML; any other is text.
_WIRES = {
    "bool": "bool", "boolean": "bool", "int": "int32", "short": "int32", "ushort": "int32", "uint": "int64",
    "float": "float64", "double": "float64",
}  # fmt: skip

_BOUNDARIES = frozenset({"outerBoundaryIs", "innerBoundaryIs"})

#: Elements of a placemark of which GDAL makes no column.
UNREAD = frozenset({"AddressDetails", "address", "phoneNumber"})

#: Elements whose children `KmlLook.start` takes.
PARENTS = CONTAINERS | {"Placemark", "kml"}

#: Other elements that it takes, and those that `KmlLook.end` takes; to be asked for all takes longer than to parse
#: them.
STARTS = UNREAD | CONTAINERS | {"LinearRing", "Model", "SimpleField", "Data", "Placemark"}
ENDS = TIMES | CONTAINERS | {"LinearRing", "Placemark"}

_RING = re.compile(rb"</?(?:[^\s/>:]+:)?(LinearRing)")
_ZONE = re.compile(r"T.*(Z|[-+]\d\d:\d\d)\s*$")
_YEAR = re.compile(rb"(?<!\d)\d{4}(?=\s*$)")
_YEAR_OR_MONTH = re.compile(r"\d{4}(-\d\d?)?")

#: Most bytes before the end of a year.
_LONGEST_YEAR = 64

#: Most characters of a time: more are none, and a pattern would take long for them.
_LONGEST_TIME = 64

#: Elements of which a KML has one at its root, others that a placemark has one of, and columns of its own that a value
#: without a declaration overwrites; what GDAL appends to the name of a declared one.
_ROOTS = CONTAINERS | {"Placemark", "GroundOverlay", "ScreenOverlay", "PhotoOverlay", "NetworkLink", "Tour"}
_GEOMETRIES = frozenset(
    {"Point", "LineString", "LinearRing", "Polygon", "MultiGeometry", "Model", "Track", "MultiTrack"}
)
_OVERWRITTEN = frozenset({"name", *map(str.casefold, KML_COLUMNS)})
_BESIDE = "2"

#: Names of values without a declaration that are kept: columns beyond it would be refused.
_MOST_NAMES = 2000


@dataclass(frozen=True, slots=True)
class SimpleField:
    """The declaration of a column."""

    name: str
    kind: str  # empty: none is declared
    offset: int  # of its element in the file, in bytes


@dataclass(slots=True)
class KmlText:
    """What the text of a KML says that GDAL does not; offsets are in bytes of the file."""

    fields: list[SimpleField] = field(default_factory=list)  # columns that it declares
    rings: list[int] = field(default_factory=list)  # where tags of rings begin that bound no polygon
    years: list[int] = field(default_factory=list)  # where times end that are a year, of which GDAL makes nothing
    renamed: list[tuple[int, str]] = field(
        default_factory=list
    )  # where values begin that GDAL would take for others, and their names in the copy
    zones: set[bool] = field(default_factory=set)  # whether its other times say their zone
    untyped: dict[str, None] = field(default_factory=dict)  # names of values that no schema declares: these are text
    unread: set[str] = field(default_factory=set)  # which of `UNREAD` it has
    lost: int = 0  # features where GDAL reads none
    several: int = 0  # features with more than one geometry
    beginnings: int = 0  # times that are a year or a month
    track_times: int = 0  # of the points of tracks
    models: int = 0  # geometries of which GDAL makes nothing
    rows: Rows = field(default_factory=Rows)  # of features

    @property
    def changes(self) -> tuple[list[Any], ...] | None:
        """What a copy for GDAL differs in; None: in nothing, none is wanted."""
        typed = [field for field in self.fields if field.kind]
        found: tuple[list[Any], ...] = (typed, self.rings, self.renamed, self.years)
        return (*found, sorted(self.zones) if self.years else []) if any(found) else None

    def notes(self, name: str) -> Iterator[str]:
        """Yield notes about times and geometries that are not as they are written.

        Args:
            name: of the KML, in messages.
        """
        if self.beginnings:
            are = how_many(self.beginnings, "time of {} is", "times of {} are").format(name)
            yield f"{are} a year or a month, which became its beginning"
        if self.track_times:
            times = how_many(self.track_times, "time is", "times are")
            yield f"{times} of the points of tracks of {name}, of which only the first and the last of a track are read"
        if self.models:
            yield f"{how_many(self.models, 'model')} of {name} became no geometry: a model has a place, but no outline"

    def declared_types(self) -> Mapping[str | int, str]:
        """Return the wire type of each column that is not text, by its name in lower case, as GDAL tells names
        apart.
        """
        wires: dict[str, set[str]] = {_declared_as(name.lower()): {"string"} for name in self.untyped}
        for declared in self.fields:
            wire = _WIRES.get(declared.kind.strip().lower(), "string")
            wires.setdefault(declared.name.lower(), set()).add(wire)
        types = {name: widest(found) for name, found in wires.items()}
        return {name: wire for name, wire in types.items() if wire != "string"}


class KmlLook:
    """What a parser meets in a KML."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.seen = KmlText()
        self._parser = parser
        self._marks = 0  # features of this root
        self._geometries = 0  # of this feature
        self._data: set[str] = set()  # names of its values without a declaration

    def start(self, path: Sequence[str], attributes: Mapping[str, str]) -> None:
        """An element of `STARTS` begins, or one in a container.

        Args:
            path: its name, and before it those of the elements that it is in, without namespaces.
            attributes: its own.
        """
        local, parent = path[-1], path[-2] if len(path) > 1 else ""
        if parent == "kml" and local in _ROOTS:  # of several roots GDAL reads the last
            self.seen.lost, self._marks = self.seen.lost + self._marks, 0
        self.seen.models += local == "Model"
        if parent == "Placemark" and local in _GEOMETRIES:
            self._geometries += 1
            self.seen.several += self._geometries == 2
        if _is_line(local, parent):
            self.seen.rings.append(self._parser.CurrentByteIndex)
        elif (local, parent) == ("SimpleField", "Schema"):
            here = self._parser.CurrentByteIndex
            self.seen.fields.append(SimpleField(attributes.get("name", ""), attributes.get("type", ""), here))
        elif (local, parent) == ("Data", "ExtendedData"):
            self._value(attributes.get("name", ""))
        elif local in UNREAD and parent == "Placemark":
            self.seen.unread.add(local)
        elif local == "Placemark":
            self._placemark(path)
        elif parent in CONTAINERS or local in CONTAINERS:
            self.seen.rows.interrupt()

    def _placemark(self, path: Sequence[str]) -> None:
        self._geometries = 0
        self._data.clear()
        if path[-2] in CONTAINERS:
            self.seen.rows.start(self._parser.CurrentByteIndex)
        if PARENTS.issuperset(path):
            self._marks += 1
        elif "Update" not in path:  # that of a link changes what was loaded by it
            self.seen.lost += 1

    def _value(self, name: str) -> None:
        """One without a declaration; GDAL tells names apart without regard to case, and the last overwrites others."""
        if name.casefold() in _OVERWRITTEN:
            name += _BESIDE
            self.seen.renamed.append((self._parser.CurrentByteIndex, name))
        folded = name.casefold()
        if folded in self._data:
            self.seen.unread.add(name)
        self._data.add(folded)
        if len(self.seen.untyped) < _MOST_NAMES:
            self.seen.untyped[name] = None

    def end(self, path: Sequence[str], text: str | None) -> None:
        """An element of `ENDS` ends.

        Args:
            path: as of `start`.
            text: of a time.
        """
        local, parent = path[-1], path[-2] if len(path) > 1 else ""
        if _is_line(local, parent):
            self.seen.rings.append(self._parser.CurrentByteIndex)
        elif local in CONTAINERS:
            self.seen.rows.interrupt()
        elif local == "Placemark":
            self.seen.rows.end(self._parser.CurrentByteIndex)
        elif text is not None:
            self._time(text.strip(), parent)

    def _time(self, text: str, parent: str) -> None:
        self.seen.track_times += parent == "Track"
        if len(text) > _LONGEST_TIME:
            return
        is_beginning = _YEAR_OR_MONTH.fullmatch(text) is not None
        self.seen.beginnings += is_beginning
        if is_beginning and len(text) == len("2024"):
            self.seen.years.append(self._parser.CurrentByteIndex)
        else:
            self.seen.zones.add(_ZONE.search(text) is not None)


def _declared_as(column: str) -> str:
    """Return how a column is declared: `name` of `name2`, which is beside a placemark's own."""
    own = column.removesuffix(_BESIDE)
    return own if own in _OVERWRITTEN else column


def _is_line(local: str, parent: str) -> bool:
    """Whether an element is a ring that bounds no polygon."""
    return local == "LinearRing" and parent not in _BOUNDARIES


class _Feature(Exception):  # noqa: N818 - no error: all that is looked for is behind us
    """A feature begins."""


def first_declared(path: Path) -> KmlText:
    """Return the columns that a KML declares before its first feature, which is where it mostly declares all."""
    look = KmlLook(parser := new_parser(namespaces=True))
    inside: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        inside.append(tag.rpartition(" ")[2])
        if inside[-1] == "Placemark":
            raise _Feature
        if inside[-1] in STARTS:
            look.start(inside, attributes)

    parser.StartElementHandler, parser.EndElementHandler = start, lambda _: inside.pop()
    with suppress(_Feature):
        parsed(parser, path)
    return KmlText(fields=look.seen.fields)


def copy_for_gdal(path: Path, to: Path, text: KmlText) -> None:
    """Copy a KML with nothing in the place of the types of its columns, `LineString` in that of `LinearRing`, with the
    beginnings of its years, and with names that are not those of a placemark's own values.

    Args:
        path: the KML.
        to: the copy.
        text: of the KML.
    """
    with path.open("rb") as source:
        copy_edited(source, to, sorted(_edits(source, text)))


def _edits(source: BinaryIO, text: KmlText) -> Iterator[tuple[int, int, bytes]]:
    """Yield what is replaced: where it begins, where it ends, by what."""
    for declared in text.fields:
        if declared.kind and (place := attribute_at(source, declared.offset, b"type")):
            yield *place, b""
    for offset in text.rings:
        source.seek(offset)
        if match := _RING.match(source.read(LONGEST_TAG)):
            yield offset + match.start(1), offset + match.end(1), b"LineString"
    for offset, name in text.renamed:
        if place := attribute_at(source, offset, b"name"):
            yield *place, b' name="%s"' % name.encode()
    beginning = b"-01-01T00:00:00Z" if text.zones == {True} else b"-01-01"  # as the others are, of which it is one
    for offset in text.years:
        begin = max(0, offset - _LONGEST_YEAR)
        source.seek(begin)
        if match := _YEAR.search(source.read(offset - begin)):  # not of characters that are written as entities
            yield begin + match.end(), begin + match.end(), beginning
