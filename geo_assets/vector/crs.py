"""Coordinate reference systems of a layer: its EPSG code, and the transformation to the CRS of its table.

Here: pyproj alone. Coordinates are x/longitude first everywhere (`always_xy`), as OGR, WKB and PostGIS have them.
Not here: reading a CRS from a file (`reader/ogr.py`, …), moving geometries (`reader/geometry.py`).

PROJ's search for a similar CRS is trusted at a confidence of 70 or more; at 25 it identifies the British National Grid
with one shortened parameter as a grid of Cyprus.
"""

from __future__ import annotations

import math
import warnings as suppressed
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from geo_assets.errors import GeoAssetsError
from geo_assets.once import remembered_by
from geo_assets.transformations import best_between
from geo_assets.vector.models import BoundingBox

if TYPE_CHECKING:
    from pyproj import CRS, Transformer

#: PROJ: 100 equal in every respect, 90 equal but for names, 70 equivalent parameters; below that it guesses.
_TRUSTED_CONFIDENCE = 70

#: Longitude first by definition; PostGIS stores that under the EPSG code.
_LONGITUDE_FIRST = {("OGC", "CRS84"): 4326, ("OGC", "CRS83"): 4269, ("OGC", "CRS27"): 4267}

#: A grid whose positions differ by less over the whole layer is the same grid, written with fewer digits. Metres.
_SAME_GRID_METRES = 0.5

#: What follows the name of a datum where it is said in words.
_IN_WORDS = " datum"

#: Points along each edge of a box when it is transformed: a curved edge may bulge out.
_DENSIFY = 21

#: Data reach a little beyond the area of their CRS. Degrees.
_AREA_MARGIN = 5.0

#: Tolerance of a pole or meridian that was computed, in the unit of the CRS.
_ROUNDING = 1e-6

#: Transformations that a process remembers: the files of a delivery are in few CRS, and PROJ takes 15 ms for one.
_REMEMBERED = 32

#: The authorities whose codes PostGIS has; their numbers do not overlap.
Authority = Literal["EPSG", "ESRI"]

_WORLD: BoundingBox = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True, slots=True)
class CrsPlan:
    """The transformation from the file's CRS to the table's."""

    source: str  # EPSG:code or WKT2
    name: str
    srid: int
    transform_name: str | None = None
    accuracy_m: float | None = None
    warnings: tuple[str, ...] = ()
    authority: Authority = "EPSG"  # that defines `srid`


def _itself(text: str) -> str:
    return text


def parse_file_crs(text: str | None) -> CRS | None:
    """Parse a file's CRS (WKT, PROJJSON or an authority's code); None where it does not locate the file on Earth."""
    from pyproj.exceptions import CRSError

    try:
        return _parsed(text) if text else None
    except CRSError:  # not remembered: PROJ fails in the same way where it cannot open its database for once
        return None


@remembered_by(_itself)
def _parsed(text: str) -> CRS | None:
    from pyproj import CRS

    crs = CRS.from_user_input(text)
    if crs.name.lower().startswith(("undefined", "unknown engineering")):
        return None
    while crs.is_bound and crs.source_crs is not None:  # of heights alone it has no two dimensions
        crs = crs.source_crs
    return _horizontal(crs) if crs.is_geographic or crs.is_projected or crs.is_geocentric else None


def are_one(a: CRS, b: CRS) -> bool:
    """Whether two CRSs are the same but for how they are written and the order of their axes."""
    if a.equals(b, ignore_axis_order=True):
        return True
    authority, code, _ = _code_of(a)
    return code is not None and (authority, code) == _code_of(b)[:2]


def code_of(crs: CRS | None) -> int | None:
    """Return the code of a CRS, by which PostGIS has it; None where it has none."""
    return None if crs is None else _code_of(crs)[1]


@dataclass(frozen=True, slots=True)
class Heights:
    """What a CRS says about heights, which the SRID of a table cannot."""

    name: str
    named: bool  # has a vertical CRS of its own


def heights_of(text: str | None) -> Heights | None:
    """Return the vertical part of a file's CRS; None where it has none."""
    from pyproj.exceptions import CRSError

    try:
        return _heights(text) if text else None
    except CRSError:
        return None


@remembered_by(_itself)
def _heights(text: str) -> Heights | None:
    from pyproj import CRS

    crs: CRS | None = CRS.from_user_input(text)
    while crs is not None and crs.is_bound and crs.source_crs is not None:
        crs = crs.source_crs
    if crs is None or len(crs.axis_info) < 3:
        return None
    for part in crs.sub_crs_list:
        if part.is_vertical:
            code = part.to_epsg()
            return Heights(f"{part.name!r}" + (f" (EPSG:{code})" if code else ""), named=True)
    return Heights("above the ellipsoid", named=False)


def plan_crs(
    file_crs: CRS, target_crs: CRS | None, bounds: BoundingBox, name: str, *, max_accuracy_m: float | None = None
) -> CrsPlan:
    """Plan how a layer is transformed to the CRS of its table.

    Args:
        file_crs: the layer's.
        target_crs: the wanted one, or None to keep the layer's.
        bounds: of the layer, in its CRS.
        name: the file's or layer's name, for messages.
        max_accuracy_m: a transformation whose accuracy is worse, or unknown, is refused. Metres.

    Raises:
        GeoAssetsError: INVALID_CRS, the CRS has no EPSG code and no target is given, or there is no transformation to
            the target; TRANSFORM_INACCURATE.
    """
    plan = _plan_crs(file_crs, target_crs, bounds, name)
    if (
        max_accuracy_m is not None
        and plan.transform_name is not None
        and not (plan.accuracy_m is not None and plan.accuracy_m <= max_accuracy_m)
    ):
        how_good = "an unknown accuracy" if plan.accuracy_m is None else f"an accuracy of {plan.accuracy_m:g} m"
        why = f" ({'; '.join(plan.warnings)})" if plan.warnings else ""
        raise GeoAssetsError(
            "TRANSFORM_INACCURATE",
            f"{name}: {plan.transform_name!r} to EPSG:{plan.srid} has {how_good}; {max_accuracy_m:g} m are asked"
            f" for{why}",
        )
    return plan


def domain_of(crs: CRS) -> BoundingBox | None:
    """Return the possible coordinates of a geographic CRS, in its unit, twice around the globe; None for others."""
    if not crs.is_geographic:
        return None
    quarter = math.pi / 2 / crs.axis_info[0].unit_conversion_factor
    return (-4 * quarter - _ROUNDING, -quarter - _ROUNDING, 4 * quarter + _ROUNDING, quarter + _ROUNDING)


def axes_look_swapped(crs: CRS, bounds: BoundingBox) -> bool:
    """Whether a layer is outside the area of its CRS, and inside once x and y are swapped.

    Args:
        crs: the layer's.
        bounds: of the layer, in that CRS, before anything was rejected.
    """
    west, south, east, north = bounds
    return not _in_its_area(crs, (west + east) / 2, (south + north) / 2) and _in_its_area(
        crs, (south + north) / 2, (west + east) / 2
    )


def _in_its_area(crs: CRS, x: float, y: float) -> bool:
    area = crs.area_of_use
    if area is None:
        return True
    if crs.is_geographic:
        factor = math.degrees(crs.axis_info[0].unit_conversion_factor)
        longitude, latitude = x * factor, y * factor
    else:
        longitude, latitude = _to_geodetic(crs.srs).transform(x, y)
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        return False
    width = area.east - area.west if area.east >= area.west else area.east - area.west + 360
    east_of_west = (longitude - (area.west - _AREA_MARGIN)) % 360
    north_of_south = (
        area.south - _AREA_MARGIN <= latitude <= area.north + _AREA_MARGIN and abs(latitude) <= 90 + _ROUNDING
    )
    return bool(north_of_south and east_of_west <= width + 2 * _AREA_MARGIN)


def _plan_crs(file_crs: CRS, target_crs: CRS | None, bounds: BoundingBox, name: str) -> CrsPlan:
    _check_on_earth(file_crs, name)
    authority, code, warning = _code_of(file_crs)
    source = f"{authority}:{code}" if code and not warning else file_crs.to_wkt("WKT2_2019")
    is_in_words = code is None and _IN_WORDS in _datum_of(file_crs)
    if is_in_words and (same := _same_grid(file_crs, source, bounds, _is_datum_by_name)) is not None:
        grid, code, metres = same
        said = (
            f"its CRS {file_crs.name!r} on {_datum_of(file_crs)!r} was taken for EPSG:{code} ({grid.name}), from which"
            f" it differs by at most {max(metres, 0.001):.3f} m here"
        )
        plan = _plan_crs(grid, target_crs, bounds, name)
        return replace(plan, warnings=(said, *plan.warnings))
    if target_crs is None and code is not None:
        return CrsPlan(source, file_crs.name, code, warnings=(warning,) if warning else (), authority=authority)
    if target_crs is None:
        return _nearest_grid(file_crs, source, bounds, name)
    srid = _code_of_target(target_crs)
    if code == srid and not warning:
        return CrsPlan(source, file_crs.name, srid)
    return _transformed(file_crs, source, target_crs, srid, bounds)


def is_kept(file_crs: CRS, target_crs: CRS | None) -> bool:
    """Whether a layer is certain to stay in its CRS, one of EPSG's, whatever its extent is."""
    authority, code, warning = _code_of(file_crs)
    if authority != "EPSG" or code is None:
        return False
    return target_crs is None or (code == target_crs.to_epsg() and warning is None)


def _check_on_earth(crs: CRS, name: str) -> None:
    """Check that a CRS is of the Earth: footprints are longitude and latitude there.

    Raises:
        GeoAssetsError: INVALID_CRS, of another body, or one that PROJ cannot place.
    """
    from pyproj.exceptions import ProjError

    try:
        _to_degrees(crs.srs)
    except ProjError as error:
        raise GeoAssetsError(
            "INVALID_CRS",
            f"the CRS of {name}, {crs.name!r}, cannot be brought to longitude and latitude on Earth:"
            f" {str(error)[:200]}",
        ) from error


@remembered_by(_itself)
def _to_degrees(crs: str) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


@remembered_by(_itself)
def _to_geodetic(crs: str) -> Transformer:
    """To the longitudes and latitudes that a projected CRS is made of."""
    from pyproj import CRS, Transformer

    projected = CRS.from_user_input(crs)
    return Transformer.from_crs(projected, projected.geodetic_crs, always_xy=True)


def definition_of(authority: str, code: int) -> tuple[str, str] | None:
    """Return what PostGIS stores of a CRS: WKT and PROJ's string; None where PROJ does not know it."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_authority(authority, code)
    except CRSError:
        return None
    with suppressed.catch_warnings():
        suppressed.simplefilter("ignore")  # that PROJ's string says less than WKT
        try:
            return crs.to_wkt("WKT1_GDAL"), crs.to_proj4()
        except CRSError:  # WKT 1 has no words for it
            return crs.to_wkt("WKT2_2019"), ""


def transformer(plan_source: str, srid: int) -> Transformer:
    """The transformer from a plan's CRS to the table's; picks the best operation for each point, as geopandas and
    PostGIS do.

    PROJ's are not thread-safe; pyproj makes one for each thread that uses it.
    """
    return _transformer(plan_source, srid)


@lru_cache(_REMEMBERED)
def _transformer(source: str, srid: int) -> Transformer:
    from pyproj import Transformer

    return Transformer.from_crs(source, f"EPSG:{srid}", always_xy=True)


def geographic_box(crs: str, bounds: BoundingBox, along: int = _DENSIFY) -> BoundingBox:
    """Return a box in longitude and latitude (EPSG:4326), degrees; west > east where it crosses the antimeridian.

    Args:
        crs: of the bounds.
        bounds: the box in that CRS.
        along: points along each of its edges.
    """
    box = bounds if _is_wgs84(crs) else _to_degrees(crs).transform_bounds(*bounds, densify_pts=along)
    if not all(map(math.isfinite, box)):
        return _WORLD
    west, south, east, north = box
    if (west < -180 or east > 180) and east - west < 360:
        west, east = (west + 180) % 360 - 180, (east + 180) % 360 - 180
    return (_within(west, 180), _within(south, 90), _within(east, 180), _within(north, 90))


@remembered_by(_itself)
def _is_wgs84(crs: str) -> bool:
    from pyproj import CRS

    return bool(CRS.from_user_input(crs).to_epsg() == 4326)


def _within(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


def _horizontal(crs: CRS) -> CRS:
    """Return the CRS without heights and without a wrapping towgs84, as an SRID describes it."""
    if crs.is_bound and crs.source_crs is not None:
        return _horizontal(crs.source_crs)
    if crs.is_compound:
        return _horizontal(crs.sub_crs_list[0])
    return crs.to_2d()


def _text(crs: CRS) -> str:
    """Return what pyproj made a CRS from."""
    return str(crs.srs)


@remembered_by(_text)
def _code_of(crs: CRS) -> tuple[Authority, int | None, str | None]:
    """Return authority and code, EPSG's before Esri's, and a warning where the code is of a similar CRS, not
    the same. To look for the code of one that states none takes 8 ms to 0.2 s.
    """
    from pyproj import CRS

    identifier = crs.to_json_dict().get("id", {})
    own = (identifier.get("authority"), identifier.get("code"))
    authority: Authority = "EPSG"
    code = _LONGITUDE_FIRST.get(own) or crs.to_epsg(min_confidence=_TRUSTED_CONFIDENCE)
    swapped = _with_axes_swapped(crs) if code is None else None
    if swapped is not None and (code := swapped.to_epsg(min_confidence=_TRUSTED_CONFIDENCE)):
        crs = swapped
    if code is None:
        found = crs.to_authority("ESRI", min_confidence=_TRUSTED_CONFIDENCE)
        authority, code = "ESRI", int(found[1]) if found is not None else None
    if code is None:
        return authority, None, None
    known = CRS.from_authority(authority, code)
    if identifier or crs.equals(known, ignore_axis_order=True):
        return authority, code, None
    said = (
        f"its CRS {crs.name!r} was taken for {authority}:{code} ({known.name}), which it equals in effect but not to"
        " the letter"
    )
    return authority, code, said


def _with_axes_swapped(crs: CRS) -> CRS | None:
    """Return a CRS with the other order of its two axes: without authority GDAL has longitude first, EPSG last."""
    from pyproj import CRS

    said = crs.to_json_dict()
    if len(axes := said.get("coordinate_system", {}).get("axis", ())) != 2:
        return None
    return CRS.from_json_dict({**said, "coordinate_system": {**said["coordinate_system"], "axis": axes[::-1]}})


def _code_of_target(target: CRS) -> int:
    code = target.to_epsg()
    if code is None:  # parse_code only lets EPSG codes through
        raise GeoAssetsError("INVALID_CRS", f"the target CRS {target.name!r} has no EPSG code")
    return int(code)


def _transformed(file_crs: CRS, source: str, target: CRS, srid: int, bounds: BoundingBox, *warnings: str) -> CrsPlan:
    best = best_between(file_crs, target, geographic_box(source, bounds))
    if best is None:
        raise GeoAssetsError(
            "INVALID_CRS", f"there is no transformation from {file_crs.name!r} to EPSG:{srid} ({target.name})"
        )
    if best.missing_grids is not None:
        how_good = "an unknown accuracy" if best.accuracy_m is None else f"an accuracy of {best.accuracy_m:g} m"
        warnings += (
            (
                f"the best transformation to EPSG:{srid} needs a grid that is not installed{best.missing_grids}; this"
                f" one has {how_good}"
            ),
        )
    elif best.guessed is not None:
        warnings += (best.guessed,)
    return CrsPlan(source, file_crs.name, srid, best.name, best.accuracy_m, warnings)


def _nearest_grid(file_crs: CRS, source: str, bounds: BoundingBox, name: str) -> CrsPlan:
    """Return the EPSG grid on the same datum that hardly differs here; coordinates are transformed to it, which is
    exact.
    """
    found = _same_grid(file_crs, source, bounds, _is_datum_by_code)
    if found is None:
        raise GeoAssetsError(
            "INVALID_CRS",
            f"the CRS of {name}, {file_crs.name!r}, has no EPSG code, and PostGIS needs one",
            remedy="submit with --param target_crs=EPSG:… to have it transformed",
        )
    grid, code, metres = found
    warning = (
        f"its CRS {file_crs.name!r} has no EPSG code; it was transformed to EPSG:{code} ({grid.name}), "
        f"from which it differs by at most {max(metres, 0.001):.3f} m here"
    )
    return _transformed(file_crs, source, grid, code, bounds, warning)


def _same_grid(
    file_crs: CRS, source: str, bounds: BoundingBox, is_of_datum: Callable[[CRS, CRS], bool]
) -> tuple[CRS, int, float] | None:
    from pyproj import CRS
    from pyproj.aoi import AreaOfInterest
    from pyproj.database import query_crs_info
    from pyproj.enums import PJType

    if not file_crs.is_projected or file_crs.geodetic_crs is None:
        return None
    candidates = query_crs_info(
        "EPSG", PJType.PROJECTED_CRS, area_of_interest=AreaOfInterest(*geographic_box(source, bounds)), contains=False
    )
    best: tuple[CRS, int, float] | None = None
    for candidate in candidates:
        grid = CRS.from_epsg(int(candidate.code))
        if not is_of_datum(file_crs, grid):
            continue
        metres = _largest_shift(file_crs, grid, bounds)  # infinite where there is no transformation between them
        if metres <= (best[2] if best else _SAME_GRID_METRES):
            best = (grid, int(candidate.code), metres)
    return best


def _is_datum_by_code(crs: CRS, grid: CRS) -> bool:
    code = crs.geodetic_crs.to_epsg() if crs.geodetic_crs else None
    return code is not None and grid.geodetic_crs is not None and grid.geodetic_crs.to_epsg() == code


def _is_datum_by_name(crs: CRS, grid: CRS) -> bool:
    """Whether a CRS names the datum of a grid in words that PROJ does not know, as MapInfo's: `CH1903+ datum for
    Switzerland`; the ellipsoid and the meridian must be the same, too.
    """
    datum = _datum_of(grid)
    if not datum or not _datum_of(crs).startswith(f"{datum}{_IN_WORDS}"):
        return False
    shapes = [
        (each.ellipsoid.semi_major_metre, round(each.ellipsoid.inverse_flattening, 6), each.prime_meridian.longitude)
        for each in (crs, grid)
        if each.ellipsoid is not None and each.prime_meridian is not None
    ]
    return len(shapes) == 2 and shapes[0] == shapes[1]


def _datum_of(crs: CRS) -> str:
    return str(crs.datum.name) if crs.datum is not None else ""


def _largest_shift(one: CRS, other: CRS, bounds: BoundingBox) -> float:
    """Return how far the corners of a box move between two grids, in the file's units, treated as metres."""
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    west, south, east, north = bounds
    xs, ys = [west, east, east, west], [south, south, north, north]
    try:
        new_xs, new_ys = Transformer.from_crs(one, other, always_xy=True).transform(xs, ys)
    except ProjError:
        return math.inf
    return max(math.hypot(a - c, b - d) for a, b, c, d in zip(xs, ys, new_xs, new_ys, strict=True))
