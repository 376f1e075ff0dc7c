"""Columns that GDAL adds to every file of a format.

Here: which they are, and which of them a file leaves empty. Not here: reading them (`ogr.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from geo_assets.vector.reader.formats import Format

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns that a driver adds to every file, and the value of each where the file has none.
KML_COLUMNS: dict[str, Any] = {
    "id": None, "description": None, "timestamp": None, "begin": None, "end": None, "altitudeMode": None,
    "tessellate": -1, "extrude": 0, "visibility": -1, "drawOrder": None, "icon": None, "snippet": None,
}  # fmt: skip

#: Columns with the bounding box of each feature, which follows from its geometry.
_GML_BOX = frozenset({"lowerCorner", "upperCorner"})


class Unused:
    """Finds which of the columns that a driver adds to every file are empty."""

    def __init__(self, kind: Format, names: list[str]) -> None:
        """`names`: the columns of a layer, as GDAL calls them."""
        made_up: Callable[[str], bool] = {Format.KML: KML_COLUMNS.__contains__, Format.GPX: lambda _: True}.get(
            kind, lambda _: False
        )
        self._boxes = {i for i, name in enumerate(names) if kind is Format.GML and name in _GML_BOX}
        self._defaults = {
            i: KML_COLUMNS.get(name) if kind is Format.KML else None for i, name in enumerate(names) if made_up(name)
        }

    def add(self, columns: list[pa.Array | None]) -> None:
        """Add one batch."""
        import pyarrow.compute as pc

        for i, default in list(self._defaults.items()):
            column = columns[i]
            if column is None:
                continue
            differs = pc.is_valid(column) if default is None else pc.not_equal(column, default)
            if pc.any(differs).as_py():
                del self._defaults[i]

    @property
    def wanted(self) -> Collection[int]:
        """Return the columns whose values are of interest."""
        return self._defaults.keys()

    def positions(self) -> set[int]:
        """Return their positions."""
        return set(self._defaults) | self._boxes
