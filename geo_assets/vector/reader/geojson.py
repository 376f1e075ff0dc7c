"""GeoJSON and newline-delimited GeoJSON, feature by feature: ids, numbers, times and geometry as they are written.

Here: a stream of features out of a text of any length, the type of each property, WKB of each geometry or what is wrong
with it.
Not here: what becomes of a geometry (`geometry.py`).

Not by GDAL: its driver drops ids that repeat or are text, makes 2**53 + 1 beside 1.5 a double, NULL of a geometry that
it cannot read, and parses the text five times on the way to a table; this reads it three times.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.encodings import encoding_of_text, find_codec
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.layers import BATCH_ROWS, Batch, LayerRef, OpenLayer, places
from geo_assets.vector.reader.text_values import NAIVE, ZONED, TypeGuess, to_moments, to_times
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.sources import Dataset

#: RFC 7946: longitude and latitude on WGS 84, unless an older file says otherwise.
_DEFAULT_CRS = "EPSG:4326"

#: Text that is parsed at once, and the most that one feature may have. Characters.
_WINDOW, _LARGEST_FEATURE = 1 << 20, 200 * 1024**2

#: Coordinates of a batch. Bytes of WKB.
_BATCH_BYTES = 32 * 1024**2

#: PostgreSQL's most columns of a table.
_MOST_COLUMNS = 1600

#: Nesting of `coordinates`, and WKB's code, by type.
_DEPTHS = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_CODES = {"Point": 1, "LineString": 2, "Polygon": 3, "MultiPoint": 4, "MultiLineString": 5, "MultiPolygon": 6}
_COLLECTION = "GeometryCollection"
_DEEPEST_COLLECTION = 32

NOT_POSITIONS = "coordinates are not numbers"
BADLY_NESTED = "coordinates are nested wrongly for their type"
TOO_SHORT = "a position with fewer than two coordinates"
NO_FEATURE = "not a GeoJSON feature"

_EXACT_IN_DOUBLE = 2**53
_MAX_PRECISION = 76


class BadGeometryError(ValueError):
    """What is wrong with a geometry."""


@contextmanager
def open_geojson(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:  # noqa: ARG001 - as every opener
    """One pass over a file, after one that finds out its columns.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, it is JSON of another kind; TOO_LARGE.
    """
    encoding = _codec_of(ref.dataset) or encoding_of_text(ref.dataset.path)
    schema = _Schema()
    text = _Document(ref.dataset, encoding)
    for feature in text.features():
        schema.add(feature)
    schema.finish()
    findings = Findings()
    notes = [] if encoding.startswith("utf") else [f"it is not UTF-8; its text was read as {encoding}"]
    columns = schema.columns(findings)

    def batches(only: Collection[int] | None) -> Iterator[Batch]:
        rows: list[_Row] = []
        first, size = 1, 0
        for feature in _Document(ref.dataset, encoding).features():
            rows.append(_Row.of(feature))
            size += len(rows[-1].wkb or b"")
            if len(rows) == BATCH_ROWS or size > _BATCH_BYTES:
                yield _batch(rows, columns, only, first, findings)
                first, size = first + len(rows), 0
                rows = []
        if rows:
            yield _batch(rows, columns, only, first, findings)

    yield OpenLayer(
        [column.name for column in columns],
        [arrow_type(column.wire) for column in columns],
        text.crs,
        batches,
        warnings=notes,
        findings=findings,
    )


def _codec_of(dataset: Dataset) -> str | None:
    return find_codec(dataset.options.encoding) if dataset.options.encoding else None


class _Document:
    """The features of a file, each parsed alone; and the CRS that it names, once all have been seen."""

    def __init__(self, dataset: Dataset, encoding: str) -> None:
        self._dataset = dataset
        self._encoding = encoding
        self._named: dict[str, Any] = {}

    @property
    def crs(self) -> str | None:
        """Of the document; None where it names one that cannot be found out."""
        if "crs" not in self._named:
            return _DEFAULT_CRS
        crs = self._named["crs"]
        properties = crs.get("properties") if isinstance(crs, dict) else None
        name = properties.get("name") if isinstance(properties, dict) else None
        return (
            name if isinstance(name, str) and name.upper().startswith(("URN:OGC:DEF:CRS:", "EPSG:", "OGC:")) else None
        )

    def features(self) -> Iterator[Any]:
        """Everything that stands where a feature belongs."""
        with self._dataset.path.open(encoding=self._encoding, errors="surrogateescape", newline="") as file:
            window = Window(file, self._dataset.name)
            found = False
            while window.next_character(skip="\x1e"):
                found = True
                yield from self._document(window)
            if not found:
                raise GeoAssetsError("UNREADABLE", f"{self._dataset.name} holds no JSON")

    def _document(self, window: Window) -> Iterator[Any]:
        """One object of the text: a collection, whose features are not held together, a feature or a geometry."""
        if window.next_character() != "{":
            raise window.fault("an object is expected")
        members: dict[str, Any] = {}
        collection = False
        for key in window.keys():  # noqa: SIM118 - a generator that moves on
            if key == "features" and window.next_character() == "[":
                collection = True
                yield from window.elements()
            else:
                members[key] = window.value()
        self._named |= {"crs": members["crs"]} if "crs" in members else {}
        kind = members.get("type")
        if collection and kind in {"FeatureCollection", None}:
            return
        if collection or not (kind == "Feature" or kind in _DEPTHS or kind == _COLLECTION):
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED", f"{self._dataset.name} is JSON, but not GeoJSON (its type is {str(kind)[:40]!r})"
            )
        yield members


class Window:
    """A text that is read on as it is parsed; no more of it is held than the value at hand."""

    def __init__(self, file: TextIO, name: str, kind: str = "GeoJSON") -> None:
        self._file, self._name, self._kind = file, name, kind
        self._text = ""
        self._at = self._before = 0
        self._decode = json.JSONDecoder().raw_decode

    def fault(self, what: str) -> GeoAssetsError:
        """What is wrong here."""
        place = self._before + self._at
        return GeoAssetsError(
            "UNREADABLE", f"{self._name} is not readable as {self._kind}: {what} at character {place:,}"
        )

    def _more(self) -> bool:
        rest = self._text[self._at :]
        if len(rest) > _LARGEST_FEATURE:
            raise GeoAssetsError(
                "TOO_LARGE", f"{self._name} has a feature of more than {_LARGEST_FEATURE // 1024**2} MiB"
            )
        part = self._file.read(max(_WINDOW, len(rest)))
        self._before += self._at
        self._text, self._at = rest + part, 0
        return bool(part)

    def next_character(self, skip: str = "") -> str:
        """What comes after white space, without passing it; empty at the end."""
        blank = " \t\r\n" + skip
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in blank:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def keys(self) -> Iterator[str]:
        """The keys of the object that begins here; what each stands for must be taken before the next."""
        for _ in self._items("}"):
            if self.next_character() != '"':
                raise self.fault("a name in quotes is expected")
            key = self.value()
            self._pass(":")
            yield key

    def elements(self) -> Iterator[Any]:
        """The elements of the array that begins here."""
        for _ in self._items("]"):
            yield self.value()

    def _items(self, end: str) -> Iterator[None]:
        self._at += 1
        while (character := self.next_character()) != end:
            if not character:
                raise self.fault("it is cut off: the text ends")
            yield
            if self.next_character() != end:
                self._pass(",")
        self._at += 1

    def _pass(self, character: str) -> None:
        found = self.next_character()
        if found != character:
            raise self.fault(f"{character!r} is expected" if found else "it is cut off: the text ends")
        self._at += 1

    def value(self) -> Any:
        """The JSON value that begins here."""
        self.next_character()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                self._at = error.pos
                cut = "it is cut off: " if error.pos >= len(self._text.rstrip()) else ""
                raise self.fault(f"{cut}{error.msg[:80]}") from None
            except (RecursionError, ValueError) as error:  # thousands of digits
                raise self.fault(f"it is nested too deeply ({type(error).__name__})") from None
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._at = end
            return value


@dataclass(slots=True)
class _Row:
    """One feature, taken apart."""

    ident: Any
    properties: dict[str, Any]
    wkb: bytes | None
    fault: str | None = None

    @classmethod
    def of(cls, feature: Any) -> _Row:
        """Whatever stands where a feature belongs."""
        if not isinstance(feature, dict):
            return cls(None, {}, None, NO_FEATURE)
        bare = feature.get("type") in _DEPTHS or feature.get("type") == _COLLECTION
        if not bare and feature.get("type") != "Feature" and "geometry" not in feature:
            return cls(None, {}, None, NO_FEATURE)
        geometry = feature if bare else feature.get("geometry")
        properties = _properties(feature)
        ident = None if bare else _scalar(feature.get("id"))
        if geometry is None:
            return cls(ident, properties, None)
        try:
            return cls(ident, properties, to_wkb(geometry))
        except BadGeometryError as error:
            return cls(ident, properties, None, str(error))
        except OverflowError:
            return cls(ident, properties, None, "coordinates are not finite numbers")


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def _scalar(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the layer; the id of a feature is the one that comes from no property."""

    name: str
    key: str | None
    wire: str
    as_text: bool = False  # values of several kinds: those that are no text as JSON writes them


class _Schema:
    """What each property holds."""

    def __init__(self) -> None:
        self._guesses: dict[str | None, _Guess] = {}
        self._waiting: list[Any] = []

    def add(self, feature: Any) -> None:
        """Take in one feature; its geometry is not kept."""
        if isinstance(feature, dict):
            feature = {key: value for key, value in feature.items() if key in {"id", "type", "properties"}}
        self._waiting.append(feature)
        if len(self._waiting) == BATCH_ROWS:
            self.finish()

    def finish(self) -> None:
        """Take in what is waiting."""
        features = [f for f in self._waiting if isinstance(f, dict)]
        self._waiting = []
        rows = [_properties(f) for f in features]
        for key in dict.fromkeys(chain.from_iterable(rows)):
            self._guess(key).add([row.get(key) for row in rows])
        idents = [_scalar(f.get("id")) for f in features if f.get("type") == "Feature"]
        if any(ident is not None for ident in idents):
            self._guess(None).add(idents)

    def _guess(self, key: str | None) -> _Guess:
        if len(self._guesses) > _MOST_COLUMNS:
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED_TYPE",
                f"its features have more than {_MOST_COLUMNS:,} properties of different names",
            )
        return self._guesses.setdefault(key, _Guess(times=key is not None))

    def columns(self, findings: Findings) -> list[_Column]:
        """The id, where there is one, then the properties in the order in which they were met."""
        keys = [key for key in self._guesses if key is not None]
        made = [self._guesses[key].column(key, key, findings) for key in keys]
        if None not in self._guesses:
            return made
        name = next(
            name
            for name in ("id", "feature_id", *(f"feature_id_{i}" for i in range(2, 10**6)))
            if name not in self._guesses
        )
        return [self._guesses[None].column(name, None, findings), *made]


class _Guess:
    """The type that holds every value of a property."""

    def __init__(self, *, times: bool) -> None:
        self._kinds: set[type] = set()
        self._elements: set[type] = set()
        self._text = TypeGuess(numbers=False, times=True) if times else None
        self._low = self._high = 0
        self._scale: int | None = 0

    def add(self, values: list[Any]) -> None:
        """Take in the values of some features."""
        import pyarrow as pa

        kinds = set(map(type, values)) - {type(None)}
        self._kinds |= kinds
        if str in kinds and self._text is not None:
            self._text.add(pa.array([_clean(v) for v in values if type(v) is str], pa.string()))
        if int in kinds:
            whole = [v for v in values if type(v) is int]
            self._low, self._high = min(self._low, *whole), max(self._high, *whole)
        if float in kinds:
            self._scale = _scale(np.array([v for v in values if type(v) is float]), self._scale)
        if list in kinds:
            self._add_lists([v for v in values if type(v) is list])

    def _add_lists(self, lists: list[list[Any]]) -> None:
        self._elements |= set(map(type, chain.from_iterable(lists)))
        whole = [v for v in chain.from_iterable(lists) if type(v) is int]
        if whole:
            self._low, self._high = min(self._low, *whole), max(self._high, *whole)

    def column(self, name: str, key: str | None, findings: Findings) -> _Column:
        """Name and type; what stays text although it looks like times is said."""
        kinds = self._kinds
        if kinds == {str} and self._text is not None:
            self._text.say(name, findings)
            return _Column(name, key, self._text.wire)
        if kinds <= {str}:
            return _Column(name, key, "string")
        if kinds == {list}:
            return _Column(name, key, self._list_wire())
        if kinds & {list, dict}:
            return _Column(name, key, "json")
        if kinds == {bool}:
            return _Column(name, key, "bool")
        wire = self._number_wire(kinds) if kinds <= {int, float} else None
        return _Column(name, key, wire or "string", as_text=wire is None)

    def _number_wire(self, kinds: set[type]) -> str | None:
        if kinds == {float}:
            return "float64"
        if kinds == {int}:
            return self._whole_wire()
        if max(-self._low, self._high) <= _EXACT_IN_DOUBLE:
            return "float64"
        digits, scale = len(str(max(-self._low, self._high))), self._scale
        return f"decimal({digits + scale}, {scale})" if scale is not None and digits + scale <= _MAX_PRECISION else None

    def _whole_wire(self) -> str | None:
        for bits in (32, 64):
            if -(2 ** (bits - 1)) <= self._low and self._high < 2 ** (bits - 1):
                return f"int{bits}"
        digits = len(str(max(-self._low, self._high)))
        return f"decimal({max(digits, 20)}, 0)" if digits <= _MAX_PRECISION else None

    def _list_wire(self) -> str:
        kinds = self._elements - {type(None)}
        if kinds <= {str}:
            return "list<string>"
        wire = "bool" if kinds == {bool} else self._number_wire(kinds) if kinds <= {int, float} else None
        return f"list<{wire}>" if wire in {"bool", "int32", "int64", "float64"} else "json"


def _scale(values: np.ndarray[Any, Any], least: int | None) -> int | None:
    """Decimals that hold every value to the letter; None where none do."""
    if least is None or not np.isfinite(values).all():
        return None
    return next((scale for scale in range(least, 18) if (np.round(values, scale) == values).all()), None)


def _clean(text: str) -> str:
    """Without halves of characters, which neither UTF-8 nor PostgreSQL has."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _batch(
    rows: list[_Row], columns: list[_Column], only: Collection[int] | None, first: int, findings: Findings
) -> Batch:
    import pyarrow as pa

    arrays: list[pa.Array | None] = []
    for position, column in enumerate(columns):
        if only is not None and position not in only:
            arrays.append(None)
            continue
        values = [row.ident if column.key is None else row.properties.get(column.key) for row in rows]
        arrays.append(_array(values, column, findings))
    faults = {place: row.fault for place, row in enumerate(rows) if row.fault is not None}
    return Batch(arrays, pa.array([row.wkb for row in rows], pa.binary()), faults, places(first, len(rows)))


def _array(values: list[Any], column: _Column, findings: Findings) -> pa.Array:
    import pyarrow as pa

    wire = column.wire
    if wire == "json":
        return pa.ExtensionArray.from_storage(
            pa.json_(), pa.array([None if v is None else _dump(v) for v in values], pa.string())
        )
    if column.as_text:
        values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    if wire in {"string", "date32", "time64[us]", ZONED, NAIVE}:
        text = pa.array([None if v is None else _clean(v) for v in values], pa.string())
        if wire in {ZONED, NAIVE}:
            return to_moments(text, wire, column.name, findings)
        return to_times(text) if wire == "time64[us]" else text.cast(arrow_type(wire))
    if wire.startswith("decimal"):
        values = [None if v is None else Decimal(str(v)) for v in values]
    if wire == "list<string>":
        values = [None if v is None else [None if e is None else _clean(e) for e in v] for v in values]
    return pa.array(values, arrow_type(wire))


def _dump(value: Any) -> str:
    try:
        return _clean(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except ValueError:  # NaN and infinity, which JSON has not, as text
        return _clean(json.dumps(_finite(value), ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def to_wkb(geometry: Any, depth: int = 0) -> bytes:
    """ISO WKB of a GeoJSON geometry; with z where one of its positions has more than two coordinates. What comes after
    z is left out.

    Raises:
        BadGeometryError: it is none.
        OverflowError: a coordinate is larger than any double.
    """
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == _COLLECTION and depth < _DEEPEST_COLLECTION:
        members = geometry.get("geometries")
        if not isinstance(members, list):
            raise BadGeometryError(BADLY_NESTED)
        return struct.pack("<BII", 1, 7, len(members)) + b"".join(to_wkb(member, depth + 1) for member in members)
    if kind not in _DEPTHS:
        raise BadGeometryError(f"unknown geometry type {str(kind)[:30]!r}")
    lines = _lines(geometry.get("coordinates"), _DEPTHS[kind])
    return _Writer(kind, lines).write(geometry["coordinates"])


def _lines(coordinates: Any, depth: int) -> list[list[Any]]:
    """The lists of positions in nested coordinates, each checked."""
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
    """WKB of checked coordinates."""

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
