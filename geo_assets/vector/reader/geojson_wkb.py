"""WKB of GeoJSON geometries.

Here: one geometry, checked, as ISO WKB, or what is wrong with it. Not here: repair and rejection (`geometry.py`).
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

#: Nesting of `coordinates`, and WKB's code, by type.
DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_CODES = {"Point": 1, "LineString": 2, "Polygon": 3, "MultiPoint": 4, "MultiLineString": 5, "MultiPolygon": 6}
COLLECTION = "GeometryCollection"
_DEEPEST_COLLECTION = 32

NOT_POSITIONS = "coordinates are not numbers"
BADLY_NESTED = "coordinates are nested wrongly for their type"
TOO_SHORT = "a position with fewer than two coordinates"


class BadGeometryError(ValueError):
    """What is wrong with a geometry."""


def to_wkb(geometry: Any, depth: int = 0) -> bytes:
    """Return ISO WKB of a GeoJSON geometry; with z where one of its positions has more than two coordinates.
    Coordinates after z are dropped.

    Raises:
        BadGeometryError: it is not a geometry.
        OverflowError: a coordinate is larger than any double.
    """
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == COLLECTION and depth < _DEEPEST_COLLECTION:
        members = geometry.get("geometries")
        if not isinstance(members, list):
            raise BadGeometryError(BADLY_NESTED)
        return struct.pack("<BII", 1, 7, len(members)) + b"".join(to_wkb(member, depth + 1) for member in members)
    if kind not in DEPTHS:
        raise BadGeometryError(f"unknown geometry type {str(kind)[:30]!r}")
    lines = _lines(geometry.get("coordinates"), DEPTHS[kind])
    return _Writer(kind, lines).write(geometry["coordinates"])


def _lines(coordinates: Any, depth: int) -> list[list[Any]]:
    """Return the lists of positions in nested coordinates, each checked."""
    if not isinstance(coordinates, list):
        raise BadGeometryError(BADLY_NESTED)
    lines = [[coordinates]] if depth == 0 and coordinates else [coordinates] if depth else []
    for _ in range(depth - 1):
        if not all(type(line) is list for line in lines):
            raise BadGeometryError(BADLY_NESTED)
        lines = list(chain.from_iterable(lines))
    for line in lines:
        if type(line) is not list or not set(map(type, line)) <= {list}:
            raise BadGeometryError(BADLY_NESTED)
        kinds = set(map(type, chain.from_iterable(line)))
        if not kinds <= {int, float}:
            raise BadGeometryError(BADLY_NESTED if list in kinds else NOT_POSITIONS)
        if line and min(map(len, line)) < 2:
            raise BadGeometryError(TOO_SHORT)
    return lines


@dataclass(slots=True)
class _Writer:
    """Writes WKB of checked coordinates."""

    kind: str
    lines: list[list[Any]]
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = 3 if any(len(position) > 2 for line in self.lines for position in line) else 2

    def write(self, coordinates: list[Any]) -> bytes:
        if self.kind == "Point":
            return self._header("Point") + (
                self._positions(self.lines[0]) if self.lines else struct.pack("<2d", np.nan, np.nan)
            )
        if self.kind in {"LineString", "Polygon"}:
            return self._part(self.kind, coordinates)
        single = self.kind.removeprefix("Multi")
        return (
            self._header(self.kind)
            + struct.pack("<I", len(coordinates))
            + b"".join(self._part(single, c) for c in coordinates)
        )

    def _part(self, kind: str, coordinates: list[Any]) -> bytes:
        if kind == "Point":
            return self._header(kind) + self._positions([coordinates])
        if kind == "LineString":
            return self._header(kind) + self._counted(coordinates)
        return self._header(kind) + struct.pack("<I", len(coordinates)) + b"".join(map(self._counted, coordinates))

    def _header(self, kind: str) -> bytes:
        return struct.pack("<BI", 1, _CODES[kind] + (1000 if self.width == 3 else 0))

    def _counted(self, line: list[Any]) -> bytes:
        return struct.pack("<I", len(line)) + self._positions(line)

    def _positions(self, line: list[Any]) -> bytes:
        if set(map(len, line)) - {self.width}:
            line = [[*position[: self.width], *[0.0] * (self.width - len(position))] for position in line]
        return array("d", chain.from_iterable(line)).tobytes()
