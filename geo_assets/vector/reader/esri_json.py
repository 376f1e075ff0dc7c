"""Esri JSON, rewritten for GDAL: features stay in order, and the features with a geometry are known.

Here: a copy in which no feature has an id of its own and every value fits its column and its type; and which features
have a geometry. Not here: reading them (`ogr.py`).

GDAL sorts features by their object id, loses those below zero, writes 2147483647 for larger numbers and 0 for values
that are not numbers, and makes NULL of a geometry that it cannot read.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from geo_assets.vector.encodings import encoding_of_text
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.geojson_crs import are_equal
from geo_assets.vector.reader.json_text import Window
from geo_assets.vector.reader.sqlite_values import NO_DATE, NO_INTEGER, NO_NUMBER
from geo_assets.vector.reader.text_values import parse_moment

NO_FEATURE = "not a feature"
UNREADABLE = "coordinates that cannot be read"
CURVED = "curves of Esri's, which cannot be read"
ANOTHER_CRS = "another CRS than that of the file"

_PARTS = ("rings", "paths", "points")
_CURVES = ("curveRings", "curvePaths")

_SMALL, _WHOLE, _LARGE, _ID = (
    "esriFieldTypeSmallInteger",
    "esriFieldTypeInteger",
    "esriFieldTypeBigInteger",
    "esriFieldTypeOID",
)
_WHOLE_NUMBERS = frozenset({_SMALL, _WHOLE, _LARGE, _ID})
_LARGEST = {_SMALL: 2**15 - 1, _WHOLE: 2**31 - 1, _ID: 2**31 - 1}
_SINGLE = "esriFieldTypeSingle"
_NUMBERS = frozenset({_SINGLE, "esriFieldTypeDouble"})
_LARGEST_SINGLE = 3.4028234663852886e38
_MOMENT = "esriFieldTypeDate"  # milliseconds since 1970
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MOMENT, _LAST_MOMENT = -62_135_596_800_000, 253_402_300_799_999  # of the years 1 to 9999

#: Numbers of an undeclared column that GDAL would change: it makes doubles of them, or cuts them off.
_AS_TEXT = "esriFieldTypeString"
_EXACT_IN_DOUBLE, _BEYOND_INTEGERS = 2**53, 2**63

_WEB_MERCATOR = {102100: 3857, 102113: 3857}

#: Member of a feature of the copy that holds values that do not fit their column. GDAL ignores it.
_ODD = "odd"


def copy(path: Path, to: Path, name: str) -> None:
    """Rewrite a file in UTF-8.

    Raises:
        GeoAssetsError: UNREADABLE; TOO_LARGE, one feature is.
    """
    members: dict[str, Any] = {}
    largest: Counter[str] = Counter()
    fractions: set[str] = set()
    reference: Any = None  # that of the first geometry which has one
    for feature in _features(path, name, members):
        reference = reference or _reference(feature)
        for key, value in _attributes(feature).items():
            if type(value) is int:
                largest[key] = max(largest[key], abs(value))
            elif type(value) is float:
                fractions.add(key)
    members.pop("objectIdFieldName", None)
    kinds = _settle_types(members, largest)
    if reference is not None:
        members["spatialReference"] = members.get("spatialReference") or reference
    for key, number in largest.items():
        if number >= _BEYOND_INTEGERS or (number > _EXACT_IN_DOUBLE and key in fractions):
            kinds.setdefault(key, _AS_TEXT)
    with to.open("w", encoding="utf-8", errors="replace") as file:
        file.write(json.dumps(members)[:-1] + f'{", " if members else ""}"features": [')
        for place, feature in enumerate(_features(path, name, {})):
            file.write(("," if place else "") + "\n" + json.dumps(_fitted(feature, kinds, members)))
        file.write("\n]}\n")


def said(path: Path, name: str, findings: Findings) -> dict[int, str]:
    """Return, by position, for each feature of a copy with a geometry what is wrong with it if GDAL cannot read it.

    Args:
        path: the copy.
        name: the source's name, for messages.
        findings: takes the values that do not fit their column.
    """
    faults = {}
    for place, feature in enumerate(_features(path, name, {})):
        for column, (value, fault) in feature.get(_ODD, {}).items():
            findings.add(column, fault, (value,))
        if (fault := _fault(feature.get("geometry"))) is not None:
            faults[place] = fault
    return faults


def _settle_types(members: dict[str, Any], largest: Counter[str]) -> dict[str, str]:
    """Return the type of each column, wide enough; none is the feature's id."""
    fields = members.get("fields")
    named = [field for field in fields if isinstance(field, dict)] if isinstance(fields, list) else []
    kinds: dict[str, str] = {}
    for field in named:
        kind, name = field.get("type"), field.get("name")
        if not isinstance(name, str) or not isinstance(kind, str):
            continue
        if kind in _LARGEST:
            field["type"] = _LARGE if largest[name] > _LARGEST[kind] else _WHOLE if kind == _ID else kind
        kinds[name] = field["type"]
    return kinds


def _fitted(feature: Any, kinds: dict[str, str], members: dict[str, Any]) -> dict[str, Any]:
    """Return a feature whose values fit their columns' types, and its geometry the CRS of the file; others are set
    aside.
    """
    if not isinstance(feature, dict):
        return {"attributes": {}, "geometry": NO_FEATURE}
    attributes, odd = dict(_attributes(feature)), {}
    for column, value in attributes.items():
        kind = kinds.get(column)
        if (fault := _misfit(value, kind)) is not None:
            odd[column] = (str(value), fault)
            attributes[column] = None
        elif value is not None and kind == _MOMENT:
            attributes[column] = _milliseconds(value)
        elif kind == _AS_TEXT and type(value) in {int, float}:
            attributes[column] = str(value)
    kept = {key: value for key, value in feature.items() if key != _ODD}
    if (own := _reference(feature)) and not _agree(own, members.get("spatialReference")):
        kept["geometry"] = ANOTHER_CRS
    return {**kept, "attributes": attributes, **({_ODD: odd} if odd else {})}


def _reference(feature: Any) -> Any:
    """Return what a geometry says of its own CRS."""
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    return geometry.get("spatialReference") if isinstance(geometry, dict) else None


def _agree(one: Any, other: Any) -> bool:
    """Whether two spatial references are of one CRS, as far as they say one."""
    if one == other or not isinstance(one, dict) or not isinstance(other, dict):
        return True
    ours, theirs = _codes(one), _codes(other)
    if ours and theirs:
        return bool(ours & theirs)
    names = [f"EPSG:{min(codes)}" if codes else said.get("wkt") for codes, said in ((ours, one), (theirs, other))]
    return not all(isinstance(name, str) for name in names) or are_equal(names[0], names[1])


def _codes(reference: dict[str, Any]) -> set[int]:
    """Return the codes of a CRS: that of now, that of before, and EPSG's of Esri's for Web Mercator."""
    said = {reference[key] for key in ("wkid", "latestWkid") if type(reference.get(key)) is int}
    return {_WEB_MERCATOR.get(code, code) for code in said}


def _misfit(value: Any, kind: str | None) -> str | None:
    """Return what is wrong with a value in a column of this type."""
    if value is None or kind is None:
        return None
    number = _number(value)
    if kind in _WHOLE_NUMBERS:
        whole = value if type(value) is int else int(number) if number is not None and number == number // 1 else None
        return None if whole is not None and -(2**63) <= whole < 2**63 else NO_INTEGER
    if kind in _NUMBERS:
        fits = number is not None and not (type(value) is int and int(number) != value)
        return None if fits and not (kind == _SINGLE and abs(number or 0) > _LARGEST_SINGLE) else NO_NUMBER
    if kind == _MOMENT:
        return NO_DATE if _milliseconds(value) is None else None
    return None


def _milliseconds(value: Any) -> int | None:
    """Return when a moment was; None where it is none, or GDAL makes another one of it: it takes the milliseconds of
    one before 1970 for positive, and knows no year after 9999.
    """
    number = _number(value)
    if number is None and isinstance(value, str) and (moment := parse_moment(value)) is not None:
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        number = since / timedelta(milliseconds=1)
    if number is None or number != number // 1 or not _FIRST_MOMENT <= number <= _LAST_MOMENT:
        return None
    return int(number) if number >= 0 or number % 1000 == 0 else None


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _attributes(feature: Any) -> dict[str, Any]:
    found = feature.get("attributes") if isinstance(feature, dict) else None
    return found if isinstance(found, dict) else {}


def _fault(geometry: Any) -> str | None:
    """Return what is wrong with a geometry that GDAL cannot read; None where there is none: no geometry, no parts, or
    NaN, Esri's empty point.
    """
    if not isinstance(geometry, dict):
        return None if geometry is None else geometry if geometry in (NO_FEATURE, ANOTHER_CRS) else UNREADABLE
    if any(geometry.get(part) for part in _CURVES):
        return CURVED
    if any(geometry.get(part) for part in _PARTS):
        return UNREADABLE
    return None if all(geometry.get(axis) is None or geometry.get(axis) == "NaN" for axis in "xy") else UNREADABLE


def _features(path: Path, name: str, members: dict[str, Any]) -> Iterator[Any]:
    """Yield every element of the features array, whatever it is; other members of the document are put into
    `members`.
    """
    with path.open(encoding=encoding_of_text(path), errors="surrogateescape", newline="") as file:
        window = Window(file, name, "Esri JSON")
        if window.next_character() != "{":
            raise window.fault("an object is expected")
        for key in window.keys():  # noqa: SIM118 - a generator that moves on
            if key == "features" and window.next_character() == "[":
                yield from window.elements()
            else:
                members[key] = window.value()
