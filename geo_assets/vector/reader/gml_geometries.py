"""Geometries of a GML that GDAL leaves out or reads in part, and says nothing.

Here: which elements those are. Not here: the pass over the text that meets them (`xml_numbers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

#: No xlink is followed, not even within the file: GDAL would load any file that one names.
LINKED = "a geometry of which a part is a link, which is not followed"
PATCH = "a surface with a patch that cannot be read"

#: Faults of geometries that GDAL reads in part.
IN_PART = frozenset({LINKED, PATCH})

NAMESPACE = "http://www.opengis.net/gml"
_HREF = "http://www.w3.org/1999/xlink href"

#: Elements of which GDAL makes no geometry, or only of some.
_UNKNOWN = frozenset({
    "BSpline", "Bezier", "Box", "Clothoid", "CompositeSolid", "CubicSpline", "Edge", "Envelope",
    "EnvelopeWithTimePeriod", "Face", "Geodesic", "GeodesicString", "GeometricComplex", "Grid", "MultiSolid", "Node",
    "OffsetCurve", "OrientableSurface", "Rectangle", "RectifiedGrid", "TopoComplex", "TopoPoint", "TopoSolid",
    "TopoVolume",
})  # fmt: skip
_PATCHES = frozenset({"BSplineSurface", "Cone", "Cylinder", "Sphere"})

#: Elements that may be at fault.
SUSPECTS = _UNKNOWN | _PATCHES

#: Elements that are a geometry, whatever GDAL makes of them.
GEOMETRIES = _UNKNOWN | {
    "CompositeCurve", "CompositeSurface", "Curve", "GeometryCollection", "LineString", "LinearRing", "MultiCurve",
    "MultiGeometry", "MultiLineString", "MultiPoint", "MultiPolygon", "MultiSurface", "OrientableCurve", "Point",
    "Polygon", "PolyhedralSurface", "Solid", "Surface", "Tin", "TriangulatedSurface",
} - {"Box", "Edge", "Envelope", "EnvelopeWithTimePeriod", "Face", "Node", "TopoComplex", "TopoPoint", "TopoSolid",
     "TopoVolume"}  # fmt: skip

_KINDS = ("curve", "geometry", "lineString", "point", "polygon", "solid", "surface")

#: Properties of a geometry that hold a part of it; others are about it, or about topology.
_PARTS = frozenset({
    "baseCurve", "baseSurface", "exterior", "innerBoundaryIs", "interior", "lineStringProperty", "outerBoundaryIs",
    "patches", "pointProperty", "pointRep", "polygonPatches", "polygonProperty", "segments", "trianglePatches",
    *(f"{kind}Member" for kind in _KINDS), *(f"{kind}Members" for kind in _KINDS),
})  # fmt: skip


def may_be_at_fault(local: str, attributes: Mapping[str, str]) -> bool:
    """Whether `fault_of` may say something of an element, by its name without namespace."""
    return local in SUSPECTS or _HREF in attributes


def fault_of(tags: Sequence[str], attributes: Mapping[str, str]) -> str | None:
    """Return what is wrong with an element of a feature, if anything is.

    Args:
        tags: the element, and before it those that it is in, from the feature on; each with its namespace.
        attributes: the element's.
    """
    if not tags[-1].startswith(NAMESPACE):
        return None
    local, parent = _local(tags[-1]), tags[-2]
    if local in _PATCHES:
        return PATCH
    if local in _UNKNOWN and not any(_local(tag) == "boundedBy" for tag in tags):
        return _unknown(local)
    if _HREF in attributes and local in _PARTS and parent.startswith(NAMESPACE) and _is_geometry(_local(parent)):
        return LINKED
    return None


@cache
def _unknown(local: str) -> str:
    """The fault of a kind; one text for all features that have it."""
    return f"its geometry is of the kind {local}, which cannot be read"


def _local(tag: str) -> str:
    return tag.rpartition(" ")[2]


def _is_geometry(local: str) -> bool:
    """Objects have capital letters, properties small ones; those of time are no geometry."""
    return local[:1].isupper() and not local.startswith("Time")
