"""The CRS of a GeoJSON text, from everything in it that names one: the collection, its features and their geometries.

Here: what each of them says, and whether they agree. Not here: the text (`geojson.py`), what a name means
(`vector/crs.py`).

RFC 7946 knows no `crs`. GeoJSON of 2008 has it at any level, and PostGIS writes it into each geometry that is not in
EPSG:4326.
"""

from __future__ import annotations

import re
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.crs import parse_file_crs
from geo_assets.vector.reader.geojson_wkb import COLLECTION, is_geometry

#: RFC 7946: longitude and latitude on WGS 84, unless an older file declares another CRS.
_DEFAULT_CRS = "EPSG:4326"

#: Names that PROJ looks up and nothing else: codes, URNs (also of compound CRS) and OGC's URLs.
_NAME = re.compile(r"EPSG:|OGC:|urn:(x-)?ogc:def:crs[:,]|https?://(www\.)?opengis\.net/def/crs/", re.IGNORECASE)

#: An older URL of OGC's for a code.
_OLD_URL = re.compile(r"https?://(?:www\.)?opengis\.net/gml/srs/epsg\.xml#(\d+)", re.IGNORECASE)

#: Different names of one CRS that are remembered; more are compared each time.
_REMEMBERED = 32


class DeclaredCrs:
    """The CRS that the parts of a text name, gathered while it is read."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._first = self._other = ""  # two that are not equal
        self._agree = self._is_known = True

    def add(self, feature: Any) -> bool:
        """Take what a feature, or a bare geometry, names for itself.

        Returns: whether it has a geometry that leaves it to what contains the feature.
        """
        if not isinstance(feature, dict):
            return False
        geometry = feature if is_geometry(feature) else feature.get("geometry")
        return isinstance(geometry, dict) and self._geometry(geometry, feature.get("crs"))

    def say(self, crs: Any) -> None:
        """Take a `crs` member; one that names nothing known counts where no other one does."""
        self._take(name_of(crs))

    def say_nothing(self) -> None:
        """Take that geometries are in the CRS of a text that names none."""
        self._take(_DEFAULT_CRS)

    def settle(self, name: str, *, overridden: bool) -> str | None:
        """Return the CRS of the text; None where it names one that is unknown.

        Args:
            name: of the text, for messages.
            overridden: another CRS is used anyhow.

        Raises:
            GeoAssetsError: VECTOR_UNSUPPORTED, it names several.
        """
        if not self._agree and not overridden:
            by = "the crs of its collection, its features and its geometries"
            raise several_crs(name, self._first, self._other, by)
        if self._names:
            return self._first
        return _DEFAULT_CRS if self._is_known else None

    def _geometry(self, geometry: dict[str, Any], around: Any) -> bool:
        crs = geometry.get("crs")
        crs = around if crs is None else crs
        members = geometry.get("geometries") if geometry.get("type") == COLLECTION else None
        named = [m["crs"] for m in members if isinstance(m, dict) and m.get("crs")] if isinstance(members, list) else []
        for inner in (*named, *([] if crs is None else [crs])):
            self.say(inner)
        return crs is None and not (named and len(named) == len(members or ()))

    def _take(self, name: str | None) -> None:
        if name is None:
            self._is_known = False
            return
        if name in self._names:
            return
        if not self._names:
            self._first = name
        elif self._agree and not are_equal(self._first, name):
            self._agree, self._other = False, name
        if len(self._names) < _REMEMBERED:
            self._names.add(name)


def several_crs(name: str, first: str, other: str, by: str) -> GeoAssetsError:
    """The refusal of a file, or layer, whose geometries are in two CRSs."""
    return GeoAssetsError(
        "VECTOR_UNSUPPORTED",
        f"{name} has coordinates in more than one CRS: {first[:80]} and {other[:80]}, by {by}",
        remedy="write one file for each CRS, or name the one that all are in, with override_crs",
    )


def name_of(crs: Any) -> str | None:
    """Return the name in a `crs` member, in any of the ways in which it was ever written; None for others."""
    said = crs.get("properties") if isinstance(crs, dict) else None
    name = said.get("name") or said.get("urn") if isinstance(said, dict) else crs
    if isinstance(said, dict) and name is None and str(crs.get("type")).upper() == "EPSG":
        name = f"EPSG:{said.get('code')}"
    if not isinstance(name, str):
        return None
    old = _OLD_URL.fullmatch(name.strip())
    return f"EPSG:{old[1]}" if old else name.strip() if _NAME.match(name.strip()) else None


def are_equal(one: str | None, other: str | None) -> bool:
    """Whether two names are of one CRS."""
    first, second = parse_file_crs(one), parse_file_crs(other)
    return first is not None and second is not None and first.equals(second, ignore_axis_order=True)
