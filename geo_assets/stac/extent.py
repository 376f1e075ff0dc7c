"""The combined extent of several footprints, as GeoJSON in EPSG:4326.

Here: the union of geometries that are cut at the antimeridian already (RFC 7946, 3.1.9), and of their bounding boxes on
the circle.
Not here: making a footprint (`raster/footprint.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geo_assets.longitudes import shortest_stretch

#: Precision of footprints in degrees.
_GRAIN = 1e-7


def union(
    footprints: Sequence[tuple[dict[str, Any], Sequence[float]]],
) -> tuple[dict[str, Any], tuple[float, float, float, float]]:
    """Return the union of footprints, each with its bounding box; a single one unchanged.

    Args:
        footprints: Polygons or MultiPolygons within -180 to 180 degrees; west > east in a box that crosses the
            antimeridian.

    Returns:
        A valid Polygon or MultiPolygon with exterior rings anticlockwise, and the smallest box around all, likewise.
    """
    if len(footprints) == 1:
        geometry, bbox = footprints[0]
        return geometry, tuple(bbox)  # type: ignore[return-value]
    import shapely
    from shapely.geometry import MultiPolygon, mapping, shape

    shapes = [shapely.make_valid(shape(geometry)) for geometry, _ in footprints]
    whole = shapely.set_precision(shapely.union_all(shapes, grid_size=_GRAIN), _GRAIN)
    polygons = [
        p
        for part in shapely.get_parts(whole)
        for p in shapely.get_parts(part)
        if p.geom_type == "Polygon" and p.area > 0
    ]
    parts = list(shapely.orient_polygons(polygons))
    boxes = [bbox for _, bbox in footprints]
    west, east = shortest_stretch([(bbox[0], bbox[2]) for bbox in boxes])
    geometry = mapping(parts[0] if len(parts) == 1 else MultiPolygon(parts))
    return geometry, (west, min(bbox[1] for bbox in boxes), east, max(bbox[3] for bbox in boxes))
