"""What the text of a KML says that GDAL does not read as it is written, and a copy that it does.

Here: the columns that it declares, lines that are rings, times that are years, values without a declaration; a copy
whose values GDAL delivers as text, as they are written, and whose closed lines it can write as WKB. Not here: the pass
over the text (`xml_numbers.py`), making values of the text (`declared.py`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from geo_assets.vector.reader.declared import widest
from geo_assets.vector.reader.kml_layers import CONTAINERS, LONGEST_TAG, Rows, copy_up_to
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

#: Elements that `KmlLook.start` takes, beside those in a container, and `KmlLook.end`; to be asked for all others takes
#: longer than to parse them.
STARTS = UNREAD | CONTAINERS | {"LinearRing", "SimpleField", "Data"}
ENDS = TIMES | CONTAINERS | {"LinearRing", "Placemark"}

_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_NAME = re.compile(rb"<[^\s/>]+")
_RING = re.compile(rb"</?(?:[^\s/>:]+:)?(LinearRing)")
_ZONE = re.compile(r"T.*(Z|[-+]\d\d:\d\d)\s*$")
_YEAR = re.compile(rb"(?<!\d)\d{4}(?=\s*$)")

#: Most bytes of one declaration, and before the end of a year.
_LONGEST, _LONGEST_YEAR = 65_536, 64

#: Names of values without a declaration that are kept: columns beyond it would be refused.
_MOST_NAMES = 2000


@dataclass(frozen=True, slots=True)
class SimpleField:
    """The declaration of a column."""

    name: str
    kind: str  # empty: none is declared
    offset: int  # of its element in the file, in bytes


@dataclass(frozen=True, slots=True)
class KmlText:
    """What the text of a KML says that GDAL does not; offsets are in bytes of the file."""

    fields: list[SimpleField] = field(default_factory=list)  # columns that it declares
    rings: list[int] = field(default_factory=list)  # where tags of rings begin that bound no polygon
    years: list[int] = field(default_factory=list)  # where times end that are a year, of which GDAL makes nothing
    zones: set[bool] = field(default_factory=set)  # whether its other times say their zone
    untyped: dict[str, None] = field(default_factory=dict)  # names of values that no schema declares: these are text
    unread: set[str] = field(default_factory=set)  # which of `UNREAD` it has
    rows: Rows = field(default_factory=Rows)  # of features

    @property
    def changes(self) -> tuple[list[SimpleField], list[int], list[int], set[bool]] | None:
        """What a copy for GDAL differs in; None: in nothing, none is wanted."""
        typed = [field for field in self.fields if field.kind]
        wanted = typed or self.rings or self.years
        return (typed, self.rings, self.years, self.zones if self.years else set()) if wanted else None

    def declared_types(self) -> Mapping[str | int, str]:
        """Return the wire type of each column that is not text, by its name in lower case, as GDAL tells names
        apart.
        """
        wires: dict[str, set[str]] = {name.lower(): {"string"} for name in self.untyped}
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

    def start(self, path: Sequence[str], attributes: Mapping[str, str]) -> None:
        """An element of `STARTS` begins, or one in a container.

        Args:
            path: its name, and before it those of the elements that it is in, without namespaces.
            attributes: its own.
        """
        local, parent = path[-1], path[-2] if len(path) > 1 else ""
        if _is_line(local, parent):
            self.seen.rings.append(self._parser.CurrentByteIndex)
        elif (local, parent) == ("SimpleField", "Schema"):
            here = self._parser.CurrentByteIndex
            self.seen.fields.append(SimpleField(attributes.get("name", ""), attributes.get("type", ""), here))
        elif (local, parent) == ("Data", "ExtendedData") and len(self.seen.untyped) < _MOST_NAMES:
            self.seen.untyped[attributes.get("name", "")] = None
        elif local in UNREAD and parent == "Placemark":
            self.seen.unread.add(local)
        elif parent in CONTAINERS and local == "Placemark":
            self.seen.rows.start(self._parser.CurrentByteIndex)
        elif parent in CONTAINERS or local in CONTAINERS:
            self.seen.rows.interrupt()

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
        elif text is not None and len(text.strip()) == len("2024") and text.strip().isdigit():
            self.seen.years.append(self._parser.CurrentByteIndex)
        elif text is not None:
            self.seen.zones.add(_ZONE.search(text) is not None)


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
    """Copy a KML with nothing in the place of the types of its columns, `LineString` in that of `LinearRing`, and with
    the beginnings of its years.

    Args:
        path: the KML.
        to: the copy.
        text: of the KML.
    """
    with path.open("rb") as source:
        edits = sorted(_edits(source, text))
        source.seek(0)
        with to.open("wb") as copy:
            for begin, end, instead in edits:
                copy_up_to(source, copy, begin)
                copy.write(instead)
                source.seek(end)
            shutil.copyfileobj(source, copy)


def _edits(source: BinaryIO, text: KmlText) -> Iterator[tuple[int, int, bytes]]:
    """Yield what is replaced: where it begins, where it ends, by what."""
    for declared in (each for each in text.fields if each.kind):
        source.seek(declared.offset)
        head = source.read(_LONGEST)
        match = _NAME.match(head)
        while match and (match := _ATTRIBUTE.match(head, match.end())):
            if match[1] == b"type":
                yield declared.offset + match.start(), declared.offset + match.end(), b""
                break
    for offset in text.rings:
        source.seek(offset)
        if match := _RING.match(source.read(LONGEST_TAG)):
            yield offset + match.start(1), offset + match.end(1), b"LineString"
    beginning = b"-01-01T00:00:00Z" if text.zones == {True} else b"-01-01"  # as the others are, of which it is one
    for offset in text.years:
        begin = max(0, offset - _LONGEST_YEAR)
        source.seek(begin)
        if match := _YEAR.search(source.read(offset - begin)):  # not of characters that are written as entities
            yield begin + match.end(), begin + match.end(), beginning
