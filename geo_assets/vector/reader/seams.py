"""Geometries that a way to another CRS has torn apart: they cross the end of its longitudes, or reach beyond its last
latitude. They are cut there.

Here: one geometry before and after. Not here: where those ends are (`../ends.py`), moving a batch (`geometry.py`).

Whole turns are added to the vertices, until each lies where the one before it leads to: by the longitudes in the file,
or, where its CRS does not tell them, the short way around. What lies beyond an end then is cut off, and put back by a
turn. A ring around a pole does not come back to where it begins; it is closed over the pole.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.ends import Ends, Way
from geo_assets.vector.reader.repairs import made_valid

#: The last of shapely's ids of what has no members, and that of collections.
_LAST_SINGLE, _COLLECTION = 3, 7


def cut(before: Any, after: Any, way: Way) -> Any:
    """Return a geometry with nothing across an end of the target of a way; itself where nothing is, None where nothing
    is left.

    Args:
        before: the geometry in the file.
        after: the same, moved: with the same vertices.
        way: that moved it.
    """
    import shapely

    if (target := way.target) is None:
        return after
    old, new = _singles(before), _singles(after)
    whole = way.surely_whole(shapely.bounds(old), shapely.bounds(new)) | shapely.is_empty(new)
    pieces: list[Any] = []
    changed = False
    for one, other, is_whole in zip(old, new, whole, strict=True):
        made = None if is_whole else _pieces(one, other, way.source, target)
        pieces += [other] if made is None else made
        changed |= made is not None
    if not changed or not pieces:
        return after if pieces else None
    if shapely.get_type_id(after) == _COLLECTION:
        return shapely.geometrycollections(pieces)
    make = (shapely.multipoints, shapely.multilinestrings, shapely.multipolygons)[int(shapely.get_dimensions(after))]
    return make(pieces)


def _singles(geometry: Any) -> NDArray[Any]:
    import shapely

    parts = np.atleast_1d(np.asarray(geometry, dtype=object))
    while (shapely.get_type_id(parts) > _LAST_SINGLE).any():
        parts = shapely.get_parts(parts)
    return parts


def _pieces(before: Any, after: Any, source: Ends | None, target: Ends) -> list[Any] | None:
    """Return what is left of a single geometry; None where it is whole."""
    import shapely

    rings = shapely.get_rings([before]), shapely.get_rings([after])
    pairs = list(zip(*rings, strict=True)) if len(rings[0]) else [(before, after)]
    dimension = int(shapely.get_dimensions(after))
    turns = [_turns(old, new, source, target) for old, new in pairs] if dimension else []
    if not any(len(np.unique(each)) > 1 for each in turns):
        box = shapely.bounds([after])
        return None if target.hold(box)[0] else _within_latitudes(after, box[0], target)
    drawn = [_with_turns(new, added, target) for (_, new), added in zip(pairs, turns, strict=True)]
    if dimension == 1:
        return _in_place(drawn[0], target)
    shell, *holes = (shapely.union_all(_in_place(_closed(ring, target), target)) for ring in drawn)
    return _of_dimension(shapely.difference(shell, shapely.union_all(holes)) if holes else shell, 2)


def _turns(before: Any, after: Any, source: Ends | None, target: Ends) -> NDArray[np.float64]:
    """Return how many turns each vertex is from where it belongs."""
    import shapely

    found = target.turns(shapely.get_coordinates(after)[:, 0])
    if source is not None:
        return np.asarray(np.round(source.turns(shapely.get_coordinates(before)[:, 0]) - found))
    return np.concatenate([[0.0], -np.cumsum(np.round(np.diff(found)))])


def _with_turns(geometry: Any, turns: NDArray[np.float64], target: Ends) -> Any:
    """Return a line or ring as a line, each vertex further by some turns."""
    import shapely

    coordinates = shapely.get_coordinates(geometry, include_z=bool(shapely.has_z(geometry)))
    coordinates[:, 0] += turns * target.turn
    return shapely.linestrings(coordinates)


def _closed(line: Any, target: Ends) -> Any:
    """Return the polygon of a ring; one that does not end where it begins goes around the pole that it is nearer to."""
    import shapely

    coordinates = shapely.get_coordinates(line, include_z=bool(shapely.has_z(line)))
    if abs(coordinates[-1, 0] - coordinates[0, 0]) > target.turn / 2:
        over = coordinates[[-1, 0, 0]]
        over[:2, 1] = target.high if coordinates[:, 1].mean() > (target.low + target.high) / 2 else target.low
        coordinates = np.concatenate([coordinates, over])
    coordinates[-1] = coordinates[0]
    return shapely.polygons(coordinates)


def _in_place(geometry: Any, target: Ends) -> list[Any]:
    """Return the parts of a single geometry between the ends, each where its longitudes belong."""
    import shapely

    west, _, east, _ = shapely.bounds(geometry)
    edge, turn = target.middle - target.turn / 2, target.turn
    first, last = (math.floor((x - edge) / turn) for x in (west, east))
    return [
        _shifted(part, -number * turn)
        for number in range(first, last + 1)
        for part in _clipped(geometry, edge + number * turn, edge + (number + 1) * turn, target)
    ]


def _within_latitudes(geometry: Any, box: NDArray[np.float64], target: Ends) -> list[Any]:
    return _clipped(geometry, box[0] - target.turn, box[2] + target.turn, target)


def _clipped(geometry: Any, west: float, east: float, target: Ends) -> list[Any]:
    import shapely

    dimension = int(shapely.get_dimensions(geometry))
    sound = geometry if dimension < 2 or shapely.is_valid(geometry) else made_valid(geometry)
    if sound is None:
        return []
    return _of_dimension(shapely.intersection(sound, shapely.box(west, target.low, east, target.high)), dimension)


def _of_dimension(geometry: Any, dimension: int) -> list[Any]:
    """Return the members of a dimension: what only touches an end leaves a line or a point there."""
    import shapely

    parts = _singles(geometry)
    return list(parts[(shapely.get_dimensions(parts) == dimension) & ~shapely.is_empty(parts)])


def _shifted(geometry: Any, by: float) -> Any:
    import shapely

    if not by:
        return geometry

    def shift(coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        return coordinates + np.eye(1, coordinates.shape[1]) * by

    return shapely.transform(geometry, shift, include_z=bool(shapely.has_z(geometry)))
