"""The numbers of a GPX, held against its text.

Here: one pass by expat that finds what GDAL may read as another number, and its values, batch by batch.
Not here: coordinates (`xml_numbers.py`), making values of text (`declared.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geo_assets.once import remembered_of_file
from geo_assets.vector.reader.declared import DeclaredType, typed
from geo_assets.vector.reader.xml_parser import new_parser, parsed
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.findings import Findings

#: The element of a feature by GDAL's name of the layer.
_ELEMENTS = {
    "waypoints": "wpt", "routes": "rte", "tracks": "trk", "route_points": "rtept", "track_points": "trkpt"
}  # fmt: skip

#: Columns that GDAL adds by counting.
_COUNTED = frozenset({"route_fid", "route_point_id", "track_fid", "track_seg_id", "track_seg_point_id"})

_WIRES = {"int32": "int32", "int64": "int64", "double": "float64"}

#: Text that GDAL reads as it is.
_PLAIN = {"int32": re.compile(r"[-+]?\d{1,9}"), "int64": re.compile(r"[-+]?\d{1,18}")}
_PLAIN_NUMBER = re.compile(r"[-+]?\d{1,17}(\.\d{1,30})?")

#: A number that begins as a code does. In an extension, whose type nobody declares, all of its column stays text.
_CODE = re.compile(r"[-+]?0\d.*")
_NONE = re.compile(r"(?!)")


@dataclass(slots=True)
class GpxCheck:
    """The check of one layer."""

    columns: dict[int, tuple[str, str, dict[int, str]]]  # by position: name, wire type, text by feature
    notes: tuple[str, ...] = ()
    hidden: frozenset[int] = frozenset()

    @classmethod
    def of(cls, path: Path, layer: str, names: list[str], types: list[pa.DataType]) -> GpxCheck | None:
        """Make the check; None where there is nothing to put right. Types that are too narrow for an integer, and those
        of codes such as 007, are changed in place.
        """
        import pyarrow as pa

        numbers = {
            name: (i, _WIRES[str(types[i])])
            for i, name in enumerate(names)
            if str(types[i]) in _WIRES and name not in _COUNTED
        }
        wires = tuple((name, wire) for name, (_, wire) in numbers.items())
        found, codes = _odd_texts(path, _ELEMENTS.get(layer, ""), wires)
        columns = {}
        for name, odd in found.items():
            position, wire = numbers[name]
            declared = DeclaredType("string" if name in codes else wire)
            declared.add(pa.array(odd.values(), pa.string()))
            types[position] = arrow_type(declared.wire)
            columns[position] = (name, declared.wire, odd)
        return cls(columns) if columns else None

    def correct(self, columns: list[pa.Array | None], fids: pa.Array, findings: Findings) -> None:
        """Put the values of the text in the place of GDAL's, or NULL."""
        import pyarrow as pa
        import pyarrow.compute as pc

        features = fids.to_pylist()
        for position, (name, wire, odd) in self.columns.items():
            column = columns[position]
            if column is None:
                continue
            mask = np.array([fid in odd for fid in features], dtype=np.bool_)
            texts = pa.array([odd[fid] for fid in features if fid in odd], pa.string())
            values = typed(texts, wire, name, findings)
            columns[position] = pc.replace_with_mask(column.cast(arrow_type(wire)), pa.array(mask), values)


@remembered_of_file  # it is asked for when the file is inspected, and when it is loaded
def _odd_texts(
    path: Path, element: str, wires: tuple[tuple[str, str], ...]
) -> tuple[dict[str, dict[int, str]], frozenset[str]]:
    """Return by column and feature the text that may not be what GDAL reads, and the columns of codes, of which it is
    all text. XML that is not well-formed is left to GDAL.
    """
    plain = {name: _PLAIN.get(wire, _PLAIN_NUMBER) for name, wire in wires}
    look = _Look(element, plain)
    if not _has(path, element) or not parsed(look.parser, path):
        return {}, frozenset()
    codes = frozenset(look.codes)
    if codes:
        look = _Look(element, plain | dict.fromkeys(codes, _NONE))
        parsed(look.parser, path)
    return {name: odd for name, odd in look.odd.items() if odd}, codes


def _has(path: Path, element: str) -> bool:
    """Whether a file holds the name of an element: of the five layers of a GPX, most are empty."""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as text:
        return text.find(element.encode()) >= 0


class _Look:
    """The handlers that expat calls. A value is a child of a feature, or of its `extensions`, and the last of its name;
    elements within it are part of its text, as they are to GDAL.
    """

    def __init__(self, element: str, plain: dict[str, re.Pattern[str]]) -> None:
        self.parser = parser = new_parser()
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        self.odd: dict[str, dict[int, str]] = {name: {} for name in plain}
        self.codes: set[str] = set()
        self._plain = plain
        self._element = element
        self._feature = -1
        self._depth = self._at = self._value_at = 0  # of the element, of the feature, of the value; 0: in none
        self._extended = False
        self._column = ""
        self._text: list[str] = []

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self._depth += 1
        if self._value_at:
            self._text.append(f"<{tag}>")
        elif not self._at:
            if tag == self._element:
                self._feature += 1
                self._at = self._depth
        elif self._depth == self._at + 1 and tag == "extensions":
            self._extended = True
        elif self._depth == self._at + 1 + self._extended and (column := tag.replace(":", "_")) in self.odd:
            self._column, self._value_at, self._text = column, self._depth, []
            self.parser.CharacterDataHandler = self._text.append

    def _end(self, tag: str) -> None:
        if self._depth == self._value_at:
            self._value("".join(self._text))
            self._value_at = 0
            self.parser.CharacterDataHandler = None
        elif self._value_at:
            self._text.append(f"</{tag}>")
        elif self._depth == self._at:
            self._at = 0
        elif self._depth == self._at + 1:
            self._extended = False
        self._depth -= 1

    def _value(self, text: str) -> None:
        odd = self.odd[self._column]
        if self._extended and _CODE.fullmatch(text.strip()):
            self.codes.add(self._column)
        if self._plain[self._column].fullmatch(text.strip()):
            odd.pop(self._feature, None)
        elif text:
            odd[self._feature] = text
