"""The columns that locate the rows of a table without geometry (CSV, spreadsheets, plain Parquet): two columns, or one.

Here: which columns those are, and WKB of their values, or what is wrong with them. Ambiguous values are refused.
Not here: reading the table (`delimited.py`, `spreadsheets.py`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.arrow_types import as_text
from geo_assets.vector.reader.geojson_crs import are_equal, name_of
from geo_assets.vector.reader.srids import ANOTHER_SRID, srid_of_most

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.models import LayerOptions

Names = frozenset[str]

_WGS84 = "EPSG:4326"


def _affixed(pattern: str, xs: Names, ys: Names) -> tuple[Names, Names]:
    """Return names with the same words before or behind them."""
    return frozenset(pattern.format(name) for name in xs), frozenset(pattern.format(name) for name in ys)


def _both(*names: tuple[str, str]) -> tuple[Names, Names]:
    return frozenset(x for x, _ in names), frozenset(y for _, y in names)


def _all(families: Sequence[tuple[Names, Names]]) -> tuple[Names, Names]:
    return frozenset().union(*(xs for xs, _ in families)), frozenset().union(*(ys for _, ys in families))


# Names of columns without blanks, underscores, hyphens and points (see `_bare`), in families: x is not taken from one
# and y from another, as long as one has both.

_DEGREES = (frozenset({"longitude", "lon", "lng", "long"}), frozenset({"latitude", "lat"}))
_IN_DEGREES = [
    _DEGREES,
    *(
        _affixed(pattern, *_DEGREES)
        for pattern in ("decimal{}", "{}wgs84", "geo{}", "gps{}", "{}dd", "{}deg", "{}degrees", "intpt{}")
    ),
    _both(("longitud", "latitud"), ("longitudine", "latitudine")),
    _both(("laengengrad", "breitengrad"), ("längengrad", "breitengrad")),
]
_LONGITUDES, _LATITUDES = _all(_IN_DEGREES)

_XY = (frozenset("x"), frozenset("y"))
_IN_A_GRID = [
    _XY,
    _both(("easting", "northing"), ("eastings", "northings"), ("utme", "utmn"), ("utmeasting", "utmnorthing")),
    *(
        _affixed(pattern, *_XY)
        for pattern in (
            "{}coord",
            "coord{}",
            "point{}",
            "{}coordinate",
            "coordinate{}",
            "{}koordinate",
            "{}utm",
            "utm{}",
        )
    ),
    _both(("rechtswert", "hochwert"), ("ostwert", "nordwert"), ("rw", "hw")),
]

#: Pairs of names, and the CRS that they imply; eastings may be metres of any grid, or degrees: the file does not say.
_PAIRS = (
    *((*family, _WGS84) for family in (*_IN_DEGREES, (_LONGITUDES, _LATITUDES))),
    *((*family, None) for family in (*_IN_A_GRID, _all(_IN_A_GRID))),
)

_GEOMETRIES = {
    "wkt", "geometry", "geom", "thegeom", "wktgeom", "geomwkt", "geometrywkt", "wktgeometry", "ewkt", "geomewkt", "wkb",
    "ewkb", "wkbgeometry", "geomwkb",
    "shape", "geojson", "geoshape", "geomgeojson", "stasgeojson", "stastext", "stasewkt",
}  # fmt: skip
_POINTS = {"geopoint2d", "geopoint"}

#: What programs write between the words of a name.
_BETWEEN = re.compile(r"[\s_.-]+")

_WKT = re.compile(
    r"\s*(?:SRID=(\d+);\s*)?((?:MULTI)?"
    r"(?:POINT|LINESTRING|POLYGON|GEOMETRYCOLLECTION|CURVE|SURFACE|CIRCULARSTRING|COMPOUNDCURVE|CURVEPOLYGON"
    r"|POLYHEDRALSURFACE|TIN|TRIANGLE))\s*(?:(?:ZM|Z|M)\s*)?(?:\(|EMPTY\b)",
    re.IGNORECASE,
)
_HEX = re.compile(r"\s*(?:\\x)?0[01][0-9A-Fa-f]{16,}\s*")
_JSON = re.compile(r'\s*\{.*"(?:coordinates|geometries)"', re.DOTALL)
_CRS = re.compile(r'"crs"\s*:\s*')
_POINT = re.compile(r"\s*[-+]?\d+(?:\.\d+)?\s*,\s*[-+]?\d+(?:\.\d+)?\s*")

#: What says that EWKB has an SRID, and the digits up to its end.
_EWKB_SRID = 0x20000000
_EWKB_HEAD = 18

#: A number as programs write it, with a decimal point or, where that was detected, a comma.
_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_COMMA = r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?$"
#: Thousands separators, also non-breaking blanks and apostrophes.
_BLANKS = " '’\u00a0\u202f"
_BY_COMMAS, _BY_POINTS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$", r"^[+-]?\d{1,3}(\.\d{3})+(,\d*)?$"
_SURELY_BY_COMMAS = r"^[+-]?\d{1,3}((,\d{3})+\.\d*|(,\d{3}){2,})$"
_EITHER = re.compile(r"[+-]?\d{1,3},\d{3}")

#: No coordinate says what its comma is: a point is a decimal mark, one comma may be either.
UNDECIDED = ""
_BY_MARKS = {".": _BY_COMMAS, ",": _BY_POINTS, UNDECIDED: _SURELY_BY_COMMAS}


def _by_blanks(decimal: str) -> str:
    return rf"^[+-]?\d{{1,3}}([{_BLANKS}]\d{{3}})+([{decimal or '.'}]\d*)?$"


#: Degrees, minutes and seconds, with a sign or a letter for the hemisphere, where no blank follows another. O is east
#: in one language and west in another.
_DMS = re.compile(
    r"\s*([NSEW])?\s*([+-]?\d{1,3}(?:\.\d+)?)\s*[°ºd:\s]\s*"
    r"(?:(\d{1,2}(?:\.\d+)?)\s*(?:['′’m:\s]|$)\s*)?(?:(\d{1,2}(?:\.\d+)?)\s*(?:[\"″”s]|''|′′)?\s*)?([NSEW])?\s*",
    re.IGNORECASE,
)

NOT_NUMBERS = "coordinates are not numbers"
#: Those of rows that have the other decimal mark than most.
BY_POINT, BY_COMMA = (f"{NOT_NUMBERS} with a decimal {mark}" for mark in ("point", "comma"))
NOT_WKT = "unreadable WKT"
NOT_WKB = "unreadable WKB"
NOT_GEOJSON = "unreadable GeoJSON geometry"
ANOTHER_CRS = "another CRS than the other rows"

Kind = Literal["pair", "wkt", "wkb", "geojson", "point"]


@dataclass(frozen=True, slots=True)
class Placing:
    """The columns that locate a row, and how they are written."""

    kind: Kind
    columns: tuple[int, ...]  # positions: x and y, or one
    crs: str | None  # as far as the file says
    decimal: str = "."  # or a comma, or `UNDECIDED`
    srid: int | None = None  # from EWKT and EWKB, else of the CRS that was said
    notes: tuple[str, ...] = ()

    @property
    def geometry(self) -> int | None:
        """Return the column that becomes the geometry and not an attribute."""
        return self.columns[0] if self.kind in {"wkt", "wkb", "geojson"} else None

    def place(self, batch: pa.RecordBatch) -> tuple[pa.Array, dict[int, str]]:
        """Return WKB of each row, null where it is empty; and what is wrong by row."""
        columns = [as_text(batch.column(i)) for i in self.columns]
        if self.kind == "pair":
            return _from_pair(columns[0], columns[1], self.decimal)
        if self.kind == "point":
            return _from_points(columns[0])
        return _from_values(columns[0].to_pylist(), self.kind, self._fault_of_crs)

    def _fault_of_crs(self, value: str) -> str | None:
        """Return what is wrong with a geometry that says another CRS than the others."""
        if self.kind == "geojson":
            crs = _crs_of_json(value)
            return None if crs == self.crs or are_equal(crs, self.crs) else ANOTHER_CRS
        return None if _srid(value) in {self.srid, None} else ANOTHER_SRID


def find_placing(
    header: Sequence[str], rows: list[list[str]], options: LayerOptions, name: str, *, attributes: bool = False
) -> Placing | None:
    """Find the columns that locate the rows of a table: by the options, else by the names of its columns.

    Args:
        header: its columns.
        rows: some of its first rows, as text.
        options: x, y, wkt, decimal are used.
        name: its name in messages.
        attributes: rows need no location.

    Raises:
        GeoAssetsError: VECTOR_NO_GEOMETRY; UNKNOWN_COLUMN; INVALID_PARAMETERS, coordinates that are ambiguous.
    """
    names = [_bare(column) for column in header]
    if options.wkt is not None:
        return _geometry(_named(options.wkt, header, name, "wkt"), rows, options, name)
    if options.x is not None and options.y is not None:
        x, y = (_named(wanted, header, name, option) for wanted, option in ((options.x, "x"), (options.y, "y")))
        return _pair(x, y, _crs_of_names(names[x], names[y]), rows, options, name)
    for i, column in enumerate(names):
        if column in _GEOMETRIES and _kind_in(rows, i) is not None:
            return _geometry(i, rows, options, name)
    for i, column in enumerate(names):
        if column in _POINTS and (_POINT.fullmatch(_first(rows, i)) or _json_point(_first(rows, i))):
            return Placing("point", (i,), _WGS84)
    for xs, ys, crs in _PAIRS:
        found = [next((i for i, column in enumerate(names) if column in wanted), None) for wanted in (xs, ys)]
        if found[0] is not None and found[1] is not None:
            return _pair(found[0], found[1], crs, rows, options, name)
    if attributes:
        return None
    shown = ", ".join(repr(column[:40]) for column in header[:8])
    lacks = (
        f"has no longitude/latitude or WKT columns; its columns are {shown}" if shown else "is empty: it has no columns"
    )
    raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{name} {lacks}")


def geometry_columns(header: Sequence[str], options: LayerOptions, name: str) -> list[int]:
    """Return the columns that may hold geometry: the one that an option names, else those whose names say so.

    Raises:
        GeoAssetsError: UNKNOWN_COLUMN.
    """
    if options.wkt is not None:
        return [_named(options.wkt, header, name, "wkt")]
    return [i for i, column in enumerate(header) if _bare(column) in _GEOMETRIES | _POINTS]


def _bare(name: str) -> str:
    return _BETWEEN.sub("", name).casefold()


def _named(wanted: str, header: Sequence[str], name: str, option: str) -> int:
    from geo_assets.vector.where import find_column

    return find_column(wanted, list(header), option, name)


def _crs_of_names(x: str, y: str) -> str | None:
    return _WGS84 if x in _LONGITUDES and y in _LATITUDES else None


def _first(rows: list[list[str]], column: int) -> str:
    return next((row[column] for row in rows if len(row) > column and row[column].strip()), "")


def _kind_of(value: str) -> Kind | None:
    if _WKT.match(value):
        return "wkt"
    if _HEX.fullmatch(value):
        return "wkb"
    return "geojson" if _JSON.match(value) else None


def _kind_in(rows: list[list[str]], column: int) -> Kind | None:
    """Return how geometries are written in a column: as in the first row that has one."""
    return next(filter(None, (_kind_of(row[column]) for row in rows if len(row) > column)), None)


def _geometry(column: int, rows: list[list[str]], options: LayerOptions, name: str) -> Placing:
    kind = _kind_in(rows, column)
    if kind is None:
        shown = _first(rows, column)[:40]
        raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{name}: the column holds neither WKT, WKB nor GeoJSON: {shown!r}")
    if kind == "geojson":
        named = Counter(_crs_of_json(row[column]) for row in rows if len(row) > column and row[column].strip())
        return Placing(kind, (column,), named.most_common(1)[0][0])
    srid, notes = srid_of_most(_srid(row[column]) or 0 for row in rows if len(row) > column and _kind_of(row[column]))
    return Placing(kind, (column,), f"EPSG:{srid}" if srid else None, srid=srid or said_srid(options), notes=notes)


def said_srid(options: LayerOptions) -> int | None:
    """Return the code of the CRS that was said of a layer."""
    said = re.search(r"\d+$", options.source_crs or "")
    return int(said[0]) if said else None


def _crs_of_json(value: str) -> str | None:
    """Return the CRS that a geometry of GeoJSON names, as PostGIS writes it; None where it is not known."""
    match = _CRS.search(value)
    try:
        crs = json.JSONDecoder().raw_decode(value, match.end())[0] if match else None
    except (ValueError, RecursionError):
        return None
    return _WGS84 if crs is None else name_of(crs)


def _srid(value: str) -> int | None:
    """Return the SRID of EWKT or EWKB; None where there is none, or 0."""
    if match := _WKT.match(value):
        return int(match[1]) or None if match[1] and len(match[1]) < 7 else None
    raw = _bytes(value.strip().removeprefix("\\x")[:_EWKB_HEAD])
    if raw is None or len(raw) < 9:
        return None
    order: Literal["little", "big"] = "little" if raw[0] == 1 else "big"
    return int.from_bytes(raw[5:9], order) or None if int.from_bytes(raw[1:5], order) & _EWKB_SRID else None


def _bytes(value: str) -> bytes | None:
    try:
        return bytes.fromhex(value.strip().removeprefix("\\x"))
    except ValueError:
        return None


def _pair(x: int, y: int, crs: str | None, rows: list[list[str]], options: LayerOptions, name: str) -> Placing:
    values = [row[i].strip() for row in rows for i in (x, y) if len(row) > i and row[i].strip()]
    return Placing("pair", (x, y), crs, options.decimal or _decimal_of(values, geographic=crs is not None, name=name))


def _decimal_of(values: list[str], *, geographic: bool, name: str) -> str:
    """Return the decimal mark of coordinates, as far as some of them decide it; where there are both, that of most.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, `530,000` may be 530 or 530000, and no other value decides it.
    """
    if any(re.match(_SURELY_BY_COMMAS, v) for v in values):
        return "."
    unclear = next((v for v in values if _EITHER.fullmatch(v)), None)
    # no longitude or latitude has thousands
    commas = sum("," in v and (geographic or not _EITHER.fullmatch(v)) and _has_comma(v) for v in values)
    points = sum("." in v and (geographic or not re.match(_BY_POINTS, v)) and bool(re.match(_PLAIN, v)) for v in values)
    if commas > points:
        return ","
    if unclear is None or commas:
        return UNDECIDED
    raise GeoAssetsError(
        "INVALID_PARAMETERS",
        f"{name} has coordinates such as {unclear!r}, whose comma may separate thousands or decimals",
        remedy=(
            "say which: --decimal . (the comma parts thousands) or --decimal , (it parts decimals); decimal=… of a job"
        ),
    )


def _has_comma(value: str) -> bool:
    """Whether it is a number where the comma is the decimal mark."""
    return any(re.match(pattern, value) for pattern in (_COMMA, _BY_POINTS, _by_blanks(",")))


def _has_point(value: str) -> bool:
    """Whether it is a number where the point is the decimal mark."""
    return any(re.match(pattern, value) for pattern in (_PLAIN, _BY_COMMAS, _by_blanks(".")))


def _from_pair(x_text: pa.Array, y_text: pa.Array, decimal: str) -> tuple[pa.Array, dict[int, str]]:
    (x, x_empty), (y, y_empty) = _numbers(x_text, decimal, "EW"), _numbers(y_text, decimal, "NS")
    missing = x_empty & y_empty
    faulty = ~missing & (np.isnan(x) | np.isnan(y))
    wrong = {row: _wrong_with(decimal, x_text[row], y_text[row]) for row in np.flatnonzero(faulty).tolist()}
    return points(x, y, ~(missing | faulty)), wrong


def _wrong_with(decimal: str, *values: pa.Scalar[Any]) -> str:
    """Return why a row is rejected: where it has the other decimal mark, with that of the file."""
    is_number, reason = (_has_point, BY_COMMA) if decimal == "," else (_has_comma, BY_POINT)
    return reason if all(is_number(str(value.as_py() or "").strip()) for value in values) else NOT_NUMBERS


def points(x: Any, y: Any, valid: Any) -> pa.Array:
    """Return WKB of points; null where they are not valid."""
    import pyarrow as pa

    wkb = np.zeros(len(x), dtype=[("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")])
    wkb["order"], wkb["type"], wkb["x"], wkb["y"] = 1, 1, x, y
    made = pa.Array.from_buffers(pa.binary(wkb.dtype.itemsize), len(x), [None, pa.py_buffer(wkb)]).cast(pa.binary())
    return pa.compute.if_else(pa.array(valid), made, pa.scalar(None, pa.binary()))


def _numbers(values: pa.Array, decimal: str, hemispheres: str) -> tuple[Any, Any]:
    """Return values (NaN where there is none) and where the field is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(values.type):  # a spreadsheet's numbers, or what it has in their place
        t, kind = pa.types, values.type
        are_numbers = t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind)
        found = values if are_numbers else pa.nulls(len(values), pa.float64())
        return pc.cast(found, pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.asarray(values.is_null())
    trimmed = pc.utf8_trim_whitespace(values)
    empty = pc.fill_null(pc.equal(trimmed, ""), fill_value=True)
    numeric = pc.match_substring_regex(trimmed, _COMMA if decimal == "," else _PLAIN)
    grouped = pc.or_(
        pc.match_substring_regex(trimmed, _BY_MARKS[decimal]), pc.match_substring_regex(trimmed, _by_blanks(decimal))
    )
    thousands = f"[{'.' if decimal == ',' else ','}{_BLANKS}]"
    bare = pc.if_else(grouped, pc.replace_substring_regex(trimmed, thousands, ""), trimmed)
    plain = pc.replace_substring(pc.replace_substring_regex(bare, r"^\+", ""), ",", ".")
    known = pc.fill_null(pc.or_(numeric, grouped), fill_value=False)
    found = (
        pc.if_else(known, plain, pa.scalar(None, pa.string())).cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    )
    is_empty = empty.to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(~known.to_numpy(zero_copy_only=False) & ~is_empty).tolist():
        found[row] = _degrees(trimmed[row].as_py(), decimal, hemispheres)
    return found, is_empty


def _degrees(text: str, decimal: str, hemispheres: str) -> float:
    """Return `51°30'26"N` in degrees; NaN where it is not an angle."""
    written = " ".join(text.split())
    match = _DMS.fullmatch(written.replace(",", ".") if decimal == "," or "." not in written else written)
    if not match or not (match[1] or match[5] or any(sign in text for sign in "°º")) or (match[1] and match[5]):
        return float("nan")
    letter = (match[1] or match[5] or "").upper()
    degrees, minutes, seconds = float(match[2]), float(match[3] or 0), float(match[4] or 0)
    if (letter and letter not in hemispheres) or minutes >= 60 or seconds >= 60 or (letter and degrees < 0):
        return float("nan")
    size = abs(degrees) + minutes / 60 + seconds / 3600
    return -size if letter in {"S", "W"} or match[2].startswith("-") else size


def _from_points(values: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    """Read `51.5, 7.25`: latitude first, as written by the portals that use this column name."""
    found = [_point(value) for value in values.to_pylist()]
    xy = np.array([pair or (np.nan, np.nan) for pair in found], dtype=np.float64).reshape(-1, 2)
    empty = np.array([not (value or "").strip() for value in values.to_pylist()], dtype=bool)
    faulty = np.isnan(xy).any(axis=1) & ~empty
    return points(xy[:, 0], xy[:, 1], ~(faulty | empty)), dict.fromkeys(np.flatnonzero(faulty).tolist(), NOT_NUMBERS)


def _point(value: str | None) -> tuple[float, float] | None:
    if value and _POINT.fullmatch(value):
        latitude, longitude = map(float, value.split(","))
        return longitude, latitude
    return _json_point(value or "")


def _json_point(value: str) -> tuple[float, float] | None:
    if not value.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(value)
        return float(found["lon"]), float(found["lat"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _from_values(
    values: list[Any], kind: str, fault_of_crs: Callable[[str], str | None]
) -> tuple[pa.Array, dict[int, str]]:
    import pyarrow as pa
    import shapely

    made: list[Any] = [None] * len(values)
    faults: dict[int, str] = {}
    if kind == "wkt" and not any(value and "=" in value[:12] for value in values):  # all at once, where possible
        try:
            geometries = shapely.from_wkt(np.asarray([value or None for value in values], dtype=object))
            return pa.array(shapely.to_wkb(geometries, flavor="iso"), pa.binary()), {}
        except (shapely.errors.ShapelyError, NotImplementedError):
            pass
    for row, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if (fault := fault_of_crs(value)) is None:
            made[row], fault = _one(value, kind)
        if fault is not None:
            faults[row] = fault
    return pa.array(made, pa.binary()), faults


def _one(value: str, kind: str) -> tuple[bytes | None, str | None]:
    import shapely

    if kind == "geojson":
        from geo_assets.vector.reader.geojson_wkb import BadGeometryError, to_wkb

        try:
            return to_wkb(json.loads(value)), None
        except BadGeometryError as error:
            return None, str(error)
        except (ValueError, RecursionError, OverflowError):
            return None, NOT_GEOJSON
    if kind == "wkb":
        raw = _bytes(value)
        return (raw, None) if raw is not None and len(raw) > 5 else (None, NOT_WKB)
    try:
        text = re.sub(r"^\s*SRID=\d+;", "", value, flags=re.IGNORECASE)
        return shapely.to_wkb(shapely.from_wkt(text), flavor="iso"), None
    except (shapely.errors.ShapelyError, NotImplementedError):
        return None, _fault_of_wkt(text)


def _fault_of_wkt(text: str) -> str:
    """Return what is wrong with text that shapely does not take for WKT: a curve, by its name, or rubbish."""
    from geo_assets.vector.reader.geometry import CURVES, unsupported

    match = _WKT.match(text)
    kinds = {kind.upper(): kind for kind in CURVES.values()}
    return unsupported(kinds[match[2].upper()]) if match and match[2].upper() in kinds else NOT_WKT
