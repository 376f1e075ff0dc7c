"""The columns of a MapInfo Interchange file, and a copy in which all are text.

Here: the header of the .mif. GDAL reads 0 of `N/A` and the 1st of March of 20240230; of the copy it delivers what is
written. Not here: making values of the text (`declared.py`), the objects and rows of a file (`parts.py`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geo_assets.vector.reader.mapinfo_text import as_latin_1

#: Wire types by the types of a MIF that are not text.
_WIRES = {
    "integer": "int32", "smallint": "int32", "largeint": "int64", "float": "float64", "decimal": "float64",
    "logical": "bool", "date": "date32", "time": "time64[us]", "datetime": "timestamp[us]",
}  # fmt: skip

_COLUMNS = re.compile(rb"\s*columns\s+(\d{1,5})\b", re.IGNORECASE)
_COLUMN = re.compile(rb"""([ \t]*[^ \t(,)"\r\n]+[ \t]+)([A-Za-z]+)([^\r\n]*)(\r?\n?)""")
_TEXT = b"Char(254)"

#: Most bytes of a line of a header, and of all its lines.
_LONGEST, _MOST_BYTES = 65_536, 1 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """The lines of a .mif before its objects."""

    lines: list[bytes]
    first: int  # of its columns, by line
    wires: list[str]  # of each column

    @classmethod
    def of(cls, mif: Path) -> Header | None:
        """Read it; None where it is not understood, which is left to GDAL."""
        lines: list[bytes] = []
        first = count = 0
        with mif.open("rb") as file:
            while (line := file.readline(_LONGEST)).strip().upper() != b"DATA":
                if not line or len(line) == _LONGEST or file.tell() > _MOST_BYTES:
                    return None
                lines.append(line)
                if not first and (match := _COLUMNS.match(line)):
                    first, count = len(lines), int(match[1])
        found = [_COLUMN.fullmatch(line) for line in lines[first : first + count]]
        kinds = [match[2].decode().lower() for match in found if match]
        if not kinds or len(kinds) < count or not all(kind == "char" or kind in _WIRES for kind in kinds):
            return None
        return cls(lines, first, [_WIRES.get(kind, "string") for kind in kinds])

    def declared(self) -> Mapping[str | int, str]:
        """Return the wire type of each column that is not text, by its position."""
        return {i: wire for i, wire in enumerate(self.wires) if wire != "string"}

    def copy_as_text(self, mif: Path, to: Path, *, latin_1: bool) -> None:
        """Copy a .mif, of this header, with columns of text; `latin_1`: in bytes that GDAL does not decode."""
        lines = list(self.lines)
        for i, wire in enumerate(self.wires, self.first):
            if wire != "string":
                lines[i] = _COLUMN.sub(rb"\g<1>" + _TEXT + rb"\g<4>", lines[i], count=1)
        head = b"".join(lines)
        with mif.open("rb") as source, to.open("wb") as copy:
            copy.write(as_latin_1(head) if latin_1 else head)
            source.seek(sum(map(len, self.lines)))
            shutil.copyfileobj(source, copy)
