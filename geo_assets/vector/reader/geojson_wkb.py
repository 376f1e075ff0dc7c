"""WKB of GeoJSON geometries.

Here: one geometry, checked, as ISO WKB, or what is wrong with it; many at once, without a look at each. Not here:
repair and rejection (`geometry.py`).
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

#: Nesting of `coordinates`, and WKB's code, by type.
DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_CODES = {"Point": 1, "LineString": 2, "Polygon": 3, "MultiPoint": 4, "MultiLineString": 5, "MultiPolygon": 6}
_DIMENSIONS = {2: 0, 3: 1000, 4: 3000}  # what is added to it, by the number of coordinates
COLLECTION = "GeometryCollection"
_DEEPEST_COLLECTION = 32
LEAST_OF_RING = 4

_TYPE = re.compile(r'"type"\s*:\s*"(\w+)"')

_NUMBERS = frozenset({int, float})  # not bool, which Python takes for a number

NOT_POSITIONS = "coordinates are not numbers"
BADLY_NESTED = "coordinates are nested wrongly for their type"
TOO_SHORT = "a position with fewer than two coordinates"


class BadGeometryError(ValueError):
    """What is wrong with a geometry."""


def is_geometry(value: Any) -> bool:
    """Whether JSON is a geometry, by its type."""
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and (kind in DEPTHS or kind == COLLECTION)


def to_wkb(geometry: Any, depth: int = 0) -> bytes:
    """Return ISO WKB of a GeoJSON geometry; with z where one of its positions has more than two coordinates,
    and with m, as which a fourth is dropped and counted, where one has more than three.

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
    if not isinstance(kind, str) or kind not in DEPTHS:
        raise BadGeometryError(f"unknown geometry type {str(kind)[:30]!r}")
    if (quick := _quick(kind, geometry.get("coordinates"))) is not None:
        return quick
    lines = _lines(geometry.get("coordinates"), DEPTHS[kind])
    return _Writer(kind, lines).write(geometry["coordinates"])


def kind_of_text(text: str) -> str:
    """Return the type of a geometry that contains no object, as text; empty where it is not sure."""
    match = _TYPE.search(text)
    return match[1] if match and text.count('"type"') == text.count('"coordinates"') == 1 else ""


def wkb_of_texts(kind: str, texts: Sequence[str]) -> list[bytes] | None:
    """Return ISO WKB of geometries of one type that contain no object, as text; None where one of them is not as most
    are: empty, faulty, or with another number of coordinates. Made by Arrow and GEOS, which hold no lock.
    """
    import pyarrow as pa
    import pyarrow.json as arrow_json
    import shapely

    if kind not in DEPTHS:
        return None
    nested = pa.float64()
    for _ in range(DEPTHS[kind] + 1):
        nested = pa.list_(nested)
    try:
        lines = "\n".join(text.replace("\n", " ").replace("\r", " ") for text in texts).encode()
        table = arrow_json.read_json(
            pa.BufferReader(lines),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=pa.schema([("coordinates", nested)]), unexpected_field_behavior="ignore"
            ),
        )
        parts = _nested(table["coordinates"].combine_chunks(), DEPTHS[kind], len(texts))
        if parts is None or (kind.endswith("Polygon") and not _are_closed(parts[0], parts[1][0])):
            return None
        code = shapely.GeometryType[kind.upper()]
        made: list[bytes] = shapely.to_wkb(shapely.from_ragged_array(code, *parts), flavor="iso").tolist()
    except (pa.ArrowInvalid, UnicodeEncodeError, shapely.errors.GEOSException, ValueError):
        return None
    return made


def _nested(column: Any, depth: int, count: int) -> tuple[Any, Any] | None:
    """Return positions and the offsets of what contains them, from the innermost; None where anything is missing."""
    offsets = []
    for _ in range(depth + 1):
        own = np.asarray(column.offsets)
        if column.null_count or (np.diff(own) == 0).any():
            return None
        offsets.append(own - own[0])
        column = column.flatten()
    width = offsets[-1][1] if len(offsets[-1]) > 1 else 0
    if (
        column.null_count
        or width not in {2, 3}
        or (np.diff(offsets[-1]) != width).any()
        or len(offsets[0]) != count + 1
    ):
        return None
    return np.asarray(column).reshape(-1, width), tuple(reversed(offsets[:-1])) or None


def _are_closed(positions: Any, rings: Any) -> bool:
    """Whether rings end where they begin; GEOS would close others, and say nothing."""
    first, last = positions[rings[:-1]], positions[rings[1:] - 1]
    return bool((first == last).all() and (np.diff(rings) >= LEAST_OF_RING).all())


def _quick(kind: str, coordinates: Any) -> bytes | None:
    """Return the same of a geometry whose positions are all of one width, in half the time; None for any other, also
    for those with a fault.
    """
    try:
        first = coordinates
        for _ in range(DEPTHS[kind]):
            first = first[0]
        width = len(first)
        if kind == "Point":
            body = _plain([coordinates], width)
        elif kind == "LineString":
            body = _plain_line(coordinates, width)
        elif kind == "Polygon":
            body = _plain_polygon(coordinates, width)
        elif kind == "MultiPolygon":
            polygon = _header("Polygon", width)
            members = (polygon + _plain_polygon(rings, width) for rings in coordinates)
            body = struct.pack("<I", len(coordinates)) + b"".join(members)
        else:
            return None
    except (TypeError, ValueError, LookupError, OverflowError):
        return None
    return _header(kind, width) + body if width in {2, 3} else None


def _plain_polygon(rings: Any, width: int) -> bytes:
    return struct.pack("<I", len(rings)) + b"".join(_plain_line(ring, width) for ring in rings)


def _plain_line(line: Any, width: int) -> bytes:
    return struct.pack("<I", len(line)) + _plain(line, width)


def _plain(line: Any, width: int) -> bytes:
    numbers = list(chain.from_iterable(line))
    if set(map(len, line)) != {width} or not set(map(type, numbers)) <= _NUMBERS:
        raise ValueError
    return array("d", numbers).tobytes()


def _header(kind: str, width: int) -> bytes:
    return struct.pack("<BI", 1, _CODES[kind] + _DIMENSIONS[width])


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
        if not kinds <= _NUMBERS:
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
        longest = max((len(position) for line in self.lines for position in line), default=2)
        self.width = min(longest, 4)

    def write(self, coordinates: list[Any]) -> bytes:
        if self.kind == "Point":
            return _header("Point", self.width) + (
                self._positions(self.lines[0]) if self.lines else struct.pack("<2d", np.nan, np.nan)
            )
        if self.kind in {"LineString", "Polygon"}:
            return self._part(self.kind, coordinates)
        single = self.kind.removeprefix("Multi")
        return (
            _header(self.kind, self.width)
            + struct.pack("<I", len(coordinates))
            + b"".join(self._part(single, c) for c in coordinates)
        )

    def _part(self, kind: str, coordinates: list[Any]) -> bytes:
        if kind == "Point":
            return _header(kind, self.width) + self._positions([coordinates])
        if kind == "LineString":
            return _header(kind, self.width) + self._counted(coordinates)
        return (
            _header(kind, self.width) + struct.pack("<I", len(coordinates)) + b"".join(map(self._counted, coordinates))
        )

    def _counted(self, line: list[Any]) -> bytes:
        return struct.pack("<I", len(line)) + self._positions(line)

    def _positions(self, line: list[Any]) -> bytes:
        if set(map(len, line)) - {self.width}:
            line = [[*position[: self.width], *[0.0] * (self.width - len(position))] for position in line]
        return array("d", chain.from_iterable(line)).tobytes()
