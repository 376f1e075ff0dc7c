"""Repair of one geometry.

Here: GEOS's repair, of the parts that need it. Not here: batches, counts and reasons (`geometry.py`).
"""

from __future__ import annotations

from typing import Any


def made_valid(geometry: Any) -> Any:
    """Return the geometry as GEOS repairs it, by its structure and without collapsed parts; None where it cannot."""
    import shapely

    try:
        return shapely.make_valid(geometry, method="structure", keep_collapsed=False)
    except shapely.errors.ShapelyError:
        return None
