"""Where pixels are: coordinate reference systems, grids, and the transformation from a pixel to longitude and latitude.

Here: calculations on a dataset's metadata. Not here: pixels, polygons (`footprint.py`), resampling (`reproject.py`).
"""

from __future__ import annotations

import functools
import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import WktVersion
from rasterio.errors import CRSError
from rasterio.transform import GCPTransformer, RPCTransformer, from_gcps

from geo_assets.epsg import no_such_code
from geo_assets.errors import GeoAssetsError
from geo_assets.once import remembered_by
from geo_assets.raster import gdal
from geo_assets.raster.models import Georeferencing

Floats = NDArray[np.float64]

#: authority:code and nothing else: PROJ would accept a URL, a file or a pipeline as a CRS.
_AUTHORITY_CODE = re.compile(r"^([A-Za-z][A-Za-z0-9_]{1,20}):([A-Za-z0-9]{1,20})$")

#: The radius of the Earth in metres. No ellipsoid or sphere of the Earth differs by a hundredth; Venus, the nearest
#: other body, by a twentieth.
_EARTH, _NOT_THE_EARTH = 6378137.0, 0.01

#: The directions of both axes of a projection about a pole, each along another meridian.
_ALONG_MERIDIANS = (["north", "north"], ["south", "south"])

#: Metres of one degree of latitude on the WGS 84 ellipsoid, in the mean.
_METRES_PER_DEGREE = 111_319.49

#: Two grids are the same when no corner differs by more than this part of a pixel: with PixelIsPoint GeoTIFF stores the
#: centre of a pixel, and adding and subtracting half a pixel is not exact in binary.
GRID_TOLERANCE = 1e-6


def parse_crs(text: str) -> CRS:
    """Return the CRS that `authority:code` names.

    Raises:
        GeoAssetsError: INVALID_CRS.
    """
    match = _AUTHORITY_CODE.match(text.strip())
    if match is None:
        raise GeoAssetsError("INVALID_CRS", f"{text[:80]!r} is not of the form EPSG:code")
    authority, code = match.groups()
    try:
        crs = (
            CRS.from_epsg(int(code))
            if authority.upper() == "EPSG" and code.isdigit()
            else CRS.from_user_input(f"{authority}:{code}")
        )
    except (CRSError, ValueError) as error:
        raise no_such_code(text[:80]) from error
    if not (crs.is_geographic or crs.is_projected):
        raise GeoAssetsError("INVALID_CRS", f"{text[:80]} is neither geographic nor projected")
    return _lonlat_order(crs)


def dataset_crs(dataset: Any) -> CRS | None:
    """Return the CRS of the grid, else of the ground control points; None where none is georeferenced to the Earth."""
    crs = dataset.crs or dataset.gcps[1]
    if not crs or crs.to_wkt().startswith(("LOCAL_CS", "ENGCRS")):
        return None
    return _lonlat_order(crs)


def _lonlat_order(crs: CRS) -> CRS:
    """Return EPSG:4326 for OGC:CRS84: every raster has longitude first, and a GeoTIFF can only name EPSG:4326."""
    if crs.is_geographic and _authority(crs) == ("OGC", "CRS84"):
        return CRS.from_epsg(4326)
    return crs


def georeferencing(dataset: Any) -> Georeferencing | None:
    """Return how the dataset is georeferenced; None if not at all."""
    if dataset.transform != Affine.identity():
        return Georeferencing.TRANSFORM
    if dataset.gcps[0]:
        return Georeferencing.GCPS
    return Georeferencing.RPCS if dataset.rpcs else None


def same_crs(a: CRS | None, b: CRS | None) -> bool:
    """Whether two CRS put the same pixels at the same places; None equals None.

    The order of their axes does not count: the columns of a raster go along the easting whatever its CRS says. Esri's
    definitions have the easting first, EPSG's of half of Europe the northing.
    """
    return bool(not a and not b) or bool(a and b and (a == b or _same_but_for_axes(_text(a), _text(b))))


@functools.lru_cache(maxsize=64)
def _same_but_for_axes(a: str, b: str) -> bool:
    from pyproj import CRS as Known  # noqa: N811 - rasterio has the other one
    from pyproj.exceptions import CRSError as NotUnderstood

    try:
        one, other = (Known.from_json_dict(_easting_first(Known.from_wkt(text).to_json_dict())) for text in (a, b))
    except NotUnderstood:
        return False
    return bool(one.equals(other))


def _easting_first(crs: dict[str, Any]) -> dict[str, Any]:
    """Return a CRS as PROJJSON with the horizontal axes of all its parts in one order and under one name."""
    if parts := crs.get("components"):
        return {**crs, "components": [_easting_first(part) for part in parts]}
    if source := crs.get("source_crs"):
        return {**crs, "source_crs": _easting_first(source)}
    system = crs.get("coordinate_system", {})
    directions = [axis["direction"] for axis in system.get("axis", ())]
    plain = sorted(directions) == ["east", "north"]
    if not plain and directions not in _ALONG_MERIDIANS:
        return crs
    unit = {k: v for k, v in system["axis"][0].items() if k == "unit"}
    axes = [
        {"name": "Easting", "abbreviation": "E", "direction": "east", **unit},
        {"name": "Northing", "abbreviation": "N", "direction": "north", **unit},
    ]
    return {**crs, "coordinate_system": {**system, "axis": axes}}


def same_transform(a: Affine, b: Affine, width: int, height: int) -> bool:
    """Whether two transforms put every pixel of a grid at the same place."""
    size = max(abs(a.a), abs(a.b), abs(a.d), abs(a.e))
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    return all(math.dist(_apply(a, *c), _apply(b, *c)) <= GRID_TOLERANCE * size for c in corners)


def _apply(t: Affine, column: Any, row: Any) -> tuple[Any, Any]:
    """Return x and y; affine 3 has deprecated its `*` for points, and affine 2 has no `@`."""
    return t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f


def epsg(crs: CRS | None) -> int | None:
    """Return the EPSG code of a CRS that states its own, or is equal to one of the registry."""
    try:
        return _epsg(crs) if crs else None
    except CRSError:
        return None


def wkt2(crs: CRS | None) -> str | None:
    """WKT 2:2019."""
    return _text(crs) if crs else None


def _text(crs: CRS) -> str:
    return str(crs.to_wkt(version=WktVersion.WKT2_2019))


# PROJ looks through its registry for the code of a CRS that states none, which takes up to 60 ms; the files of a
# delivery have few CRSs


@remembered_by(_text)
def _epsg(crs: CRS) -> int | None:
    found: int | None = crs.to_epsg()
    return found


@remembered_by(_text)
def _authority(crs: CRS) -> tuple[str, str] | None:
    found: tuple[str, str] | None = crs.to_authority()
    return found


def projjson(crs: CRS | None) -> dict[str, Any] | None:
    """PROJJSON, as a dictionary."""
    if not crs:
        return None
    try:
        found = crs.to_dict(projjson=True)
    except CRSError:
        return None
    return json.loads(found) if isinstance(found, str) else (found or None)


def other_body(crs: CRS | None) -> str | None:
    """Return the name of the body's ellipsoid, where a CRS is not of the Earth."""
    try:
        return _other_body(crs) if crs else None
    except CRSError:
        return None


def heights(crs: CRS) -> str | None:
    """What a CRS measures heights from, and in which unit, for people; None where it says nothing of heights."""
    found = _heights(crs)
    return f"{found.reference} in {found.unit}" if found else None


@remembered_by(_text)
def _other_body(crs: CRS) -> str | None:
    from pyproj import CRS as Known  # noqa: N811 - rasterio has the other one
    from pyproj.exceptions import CRSError as NotUnderstood

    try:
        ellipsoid = Known.from_wkt(_text(crs)).ellipsoid
    except NotUnderstood:
        return None
    if ellipsoid is None or abs(ellipsoid.semi_major_metre / _EARTH - 1) <= _NOT_THE_EARTH:
        return None
    return str(ellipsoid.name)


def vertical_unit(crs: CRS | None) -> str | None:
    """Return the unit of the vertical part of a compound CRS, in which GDAL takes the bands of a GeoTIFF without a unit
    of their own to be.
    """
    found = _heights(crs)
    return found.unit if found and found.compound else None


@dataclass(frozen=True, slots=True)
class _Heights:
    """How a CRS measures heights."""

    reference: str  # what from, in words
    unit: str
    compound: bool  # by a vertical CRS of its own


def _heights(crs: CRS | None) -> _Heights | None:
    try:
        return _heights_of(crs) if crs else None
    except CRSError:
        return None


@remembered_by(_text)
def _heights_of(crs: CRS) -> _Heights | None:
    from pyproj import CRS as Known  # noqa: N811 - rasterio has the other one
    from pyproj.exceptions import CRSError as NotUnderstood

    try:
        known = Known.from_wkt(_text(crs))
    except NotUnderstood:
        return None
    for part in known.sub_crs_list:
        if part.is_vertical:
            return _Heights(f"by {part.name!r}", str(part.axis_info[0].unit_name), compound=True)
    if len(known.axis_info) < 3:
        return None
    return _Heights("above the ellipsoid", str(known.axis_info[2].unit_name), compound=False)


def native_transform(dataset: Any) -> Affine:
    """Return the affine transform, or the one that fits the ground control points best."""
    if georeferencing(dataset) is Georeferencing.GCPS:
        return from_gcps(dataset.gcps[0])
    return dataset.transform


def native_bounds(dataset: Any) -> tuple[float, float, float, float]:
    """Return west, south, east, north of the four corners, also of a rotated grid, in the CRS of the dataset."""
    transform = native_transform(dataset)
    xs, ys = _apply(transform, np.array([0, 1, 0, 1]) * dataset.width, np.array([0, 0, 1, 1]) * dataset.height)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def resolution(dataset: Any) -> tuple[float, float]:
    """Return the size of a pixel along columns and along rows, in the unit of the CRS."""
    t = native_transform(dataset)
    return math.hypot(t.a, t.d), math.hypot(t.b, t.e)


def gsd(dataset: Any) -> float | None:
    """Return the size of a pixel in metres, at the centre of the grid."""
    crs = dataset_crs(dataset)
    if crs is None or georeferencing(dataset) is Georeferencing.RPCS:
        return None
    along, down = resolution(dataset)
    if crs.is_geographic and other_body(crs):
        return None
    if crs.is_geographic:
        latitude = _apply(native_transform(dataset), dataset.width / 2, dataset.height / 2)[1]
        along, down = along * _METRES_PER_DEGREE * math.cos(math.radians(latitude)), down * _METRES_PER_DEGREE
    else:
        factor = crs.linear_units_factor[1]
        along, down = along * factor, down * factor
    size = (along + down) / 2
    return round(size, 6) if math.isfinite(size) and size > 0 else None


class PixelToLonLat:
    """Transforms pixel coordinates (column, row; 0, 0 is the outer corner of the first pixel) to EPSG:4326."""

    def __init__(self, dataset: Any, crs: CRS | None = None) -> None:
        """`crs` is for a dataset that has none of its own."""
        self._how = georeferencing(dataset)
        self._transform = dataset.transform
        self._gcps, self._rpcs = dataset.gcps[0], dataset.rpcs
        crs = crs or dataset_crs(dataset)
        self.geographic = bool(crs and crs.is_geographic) and self._how is Georeferencing.TRANSFORM
        self._to_4326 = _transformer(crs) if crs else None

    def __call__(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitudes and latitudes in degrees; infinite where a point has none."""
        xs, ys = self._native(np.asarray(columns, float), np.asarray(rows, float))
        if self._to_4326 is None:
            return xs, ys
        longitudes, latitudes = self._to_4326.transform(xs, ys)
        return np.asarray(longitudes, float), np.asarray(latitudes, float)

    def _native(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        try:
            return self._placed(columns, rows)
        except gdal.GDAL_ERRORS as error:
            raise GeoAssetsError("RASTER_UNSUPPORTED", f"its {self._how} do not place its pixels: {error}") from error

    def _placed(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        if self._how is Georeferencing.GCPS:
            with GCPTransformer(self._gcps) as move:
                xs, ys = move.xy(rows, columns, offset="ul")
        elif self._how is Georeferencing.RPCS:
            with RPCTransformer(self._rpcs, RPC_HEIGHT=self._rpcs.height_off) as move:
                xs, ys = move.xy(rows, columns, offset="ul")
        else:
            xs, ys = _apply(self._transform, columns, rows)
        return np.asarray(xs, float), np.asarray(ys, float)


def _transformer(crs: CRS) -> Any:
    """Return the transformer to EPSG:4326, longitude first. pyproj, because it gives infinity for a point that cannot
    be transformed, and continues.
    """
    from pyproj.exceptions import ProjError

    try:
        return transformer(wkt2(crs), "EPSG:4326")
    except ProjError as error:
        raise GeoAssetsError(
            "INVALID_CRS", f"its CRS cannot be transformed to longitude and latitude: {error}"
        ) from error


@functools.lru_cache(maxsize=32)
def transformer(source: str | None, target: str | None) -> Any:
    """Return pyproj's transformer between two CRSs, as text; x or longitude first. To make one takes 1 to 10 ms, and a
    raster that is reprojected needs ten.

    Raises:
        pyproj.exceptions.ProjError: there is none.
    """
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)
