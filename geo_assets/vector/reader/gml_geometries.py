"""Geometries of a GML that GDAL leaves out or reads in part, and says nothing.

Here: which elements those are. Not here: the pass over the text that meets them (`xml_numbers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: No xlink is followed, not even within the file: GDAL would load any file that one names.
LINKED = "a geometry of which a part is a link, which is not followed"
PATCH = "a surface with a patch that cannot be read"

#: Faults of geometries that GDAL reads in part.
IN_PART = frozenset({LINKED, PATCH})

_NAMESPACE = "http://www.opengis.net/gml"
_HREF = "http://www.w3.org/1999/xlink href"

#: Elements of which GDAL makes no geometry, or only of some.
_UNKNOWN = frozenset({
    "BSpline", "Bezier", "Box", "Clothoid", "CompositeSolid", "CubicSpline", "Edge", "Envelope",
    "EnvelopeWithTimePeriod", "Face", "Geodesic", "GeodesicString", "GeometricComplex", "Grid", "MultiSolid", "Node",
    "OffsetCurve", "OrientableSurface", "Rectangle", "RectifiedGrid", "Ring", "TopoComplex", "TopoPoint", "TopoSolid",
    "TopoVolume",
})  # fmt: skip
_PATCHES = frozenset({"BSplineSurface", "Cone", "Cylinder", "Sphere"})

#: Links that are about a geometry, not a part of it.
_ABOUT = frozenset({"metaDataProperty", "descriptionReference"})


def fault_of(tags: Sequence[str], attributes: Mapping[str, str]) -> str | None:
    """Return what is wrong with an element of a feature, if anything is.

    Args:
        tags: the element, and before it those that it is in, from the feature on; each with its namespace.
        attributes: the element's.
    """
    if not tags[-1].startswith(_NAMESPACE):
        return None
    local, parent = _local(tags[-1]), tags[-2]
    if local in _PATCHES:
        return PATCH
    if local in _UNKNOWN and not any(_local(tag) == "boundedBy" for tag in tags):
        return f"its geometry is of the kind {local}, which cannot be read"
    if _HREF in attributes and local not in _ABOUT and parent.startswith(_NAMESPACE) and _is_geometry(_local(parent)):
        return LINKED
    return None


def _local(tag: str) -> str:
    return tag.rpartition(" ")[2]


def _is_geometry(local: str) -> bool:
    """Objects have capital letters, properties small ones; those of time are no geometry."""
    return local[:1].isupper() and not local.startswith("Time")
