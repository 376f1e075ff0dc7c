"""What GeoParquet 1.1 says of a file's geometries, in its metadata.

Here: the metadata alone, written and read. Not here: writing tables (`tables/export.py`) and items
(`stac/geoparquet.py`), reading (`reader/parquet.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

#: The media type of Parquet.
PARQUET = "application/vnd.apache.parquet"

#: The sides of a box, as the fields of a struct.
SIDES = ("xmin", "ymin", "xmax", "ymax")


#: Numbers of a box, without heights and with them.
_BOXES = frozenset({4, 6})


class Bounds:
    """The box of geometries, one after the other."""

    def __init__(self) -> None:
        self._sides: list[float] = []

    def add(self, xmin: float, ymin: float, xmax: float, ymax: float) -> None:
        """Widen it by another box; one of NaN, as that of no geometry, is left out."""
        if math.isnan(xmin):
            return
        old = self._sides or [xmin, ymin, xmax, ymax]
        self._sides = [min(xmin, old[0]), min(ymin, old[1]), max(xmax, old[2]), max(ymax, old[3])]

    def stored(self) -> list[float]:
        """As xmin, ymin, xmax, ymax; empty without any."""
        return self._sides


def metadata(column: str, kinds: Iterable[str], bounds: Bounds, *, box: str, crs: dict[str, Any] | None = None) -> str:
    """Return the value of the key `geo`.

    Args:
        column: of the geometries, as WKB.
        kinds: of geometries, as GeoJSON calls them, with ` Z` where they have heights; none: any.
        bounds: of all of them.
        box: the column that holds the box of each, as a struct.
        crs: as PROJJSON; empty: unknown; None: longitude and latitude on WGS 84.
    """
    said = {
        "encoding": "WKB",
        "geometry_types": sorted(kinds),
        **({} if crs is None else {"crs": crs or None}),
        **({"bbox": bounds.stored()} if bounds.stored() else {}),
        "covering": {"bbox": {side: [box, side] for side in SIDES}},
    }
    return json.dumps({"version": "1.1.0", "primary_column": column, "columns": {column: said}}, sort_keys=True)


def kinds_of(column: dict[str, Any]) -> tuple[str, ...]:
    """Return the kinds of geometry that a column's metadata states; nothing where it states none, or no list."""
    kinds = column.get("geometry_types")
    return tuple(kind for kind in kinds if isinstance(kind, str)) if isinstance(kinds, list) else ()


def bounds_of(column: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """Return the extent that a column's metadata states; None where it states none, or one across the antimeridian."""
    box = column.get("bbox")
    if not isinstance(box, list) or len(box) not in _BOXES or not all(type(side) in {int, float} for side in box):
        return None
    half = len(box) // 2
    try:
        west, south, east, north = (float(side) for side in (*box[:2], *box[half : half + 2]))
    except OverflowError:  # a whole number beyond any double
        return None
    is_box = all(map(math.isfinite, (west, south, east, north))) and west <= east and south <= north
    return (west, south, east, north) if is_box else None
