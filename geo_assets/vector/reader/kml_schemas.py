"""Columns that a KML declares, and a copy in which none has a type and every ring is part of a polygon.

Here: a copy whose values GDAL delivers as text, as they are written, and whose closed lines it can write as WKB.
Not here: finding the declarations (`xml_numbers.py`), making values of the text (`declared.py`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geo_assets.vector.reader.declared import widest

#: Wire types by the types of KML; any other is text.
_WIRES = {
    "bool": "bool", "boolean": "bool", "int": "int32", "short": "int32", "ushort": "int32", "uint": "int64",
    "float": "float64", "double": "float64",
}  # fmt: skip

_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_NAME = re.compile(rb"<[^\s/>]+")
_RING = re.compile(rb"</?(?:[^\s/>:]+:)?(LinearRing)")  # as long as what replaces it

#: Most bytes of one declaration, and of a tag up to the end of its name.
_LONGEST, _LONGEST_NAME = 65_536, 1024


@dataclass(frozen=True, slots=True)
class SimpleField:
    """The declaration of a column."""

    name: str
    kind: str  # empty: none is declared
    offset: int  # of its element in the file, in bytes


def declared_types(fields: Sequence[SimpleField], untyped: Collection[str] = ()) -> Mapping[str | int, str]:
    """Return the wire type of each column that is not text, by its name in lower case, as GDAL tells names apart.

    Args:
        fields: the declarations.
        untyped: names that values without a declaration have, anywhere in the file: these are text.
    """
    wires: dict[str, set[str]] = {name.lower(): {"string"} for name in untyped}
    for field in fields:
        wires.setdefault(field.name.lower(), set()).add(_WIRES.get(field.kind.strip().lower(), "string"))
    types = {name: widest(found) for name, found in wires.items()}
    return {name: wire for name, wire in types.items() if wire != "string"}


def copy_for_gdal(path: Path, to: Path, fields: Sequence[SimpleField], rings: Sequence[int]) -> None:
    """Copy a KML with blanks in the place of the types of its columns, and `LineString` in that of `LinearRing`.

    Args:
        path: the KML.
        to: the copy.
        fields: declarations with a type.
        rings: where tags of rings that are no boundary begin, in bytes.
    """
    shutil.copyfile(path, to)
    with to.open("r+b") as file:
        for field in fields:
            file.seek(field.offset)
            head = file.read(_LONGEST)
            match = _NAME.match(head)
            while match and (match := _ATTRIBUTE.match(head, match.end())):
                if match[1] == b"type":
                    file.seek(field.offset + match.start())
                    file.write(b" " * (match.end() - match.start()))
                    break
        for offset in rings:
            file.seek(offset)
            if match := _RING.match(file.read(_LONGEST_NAME)):
                file.seek(offset + match.start(1))
                file.write(b"LineString")
