"""The CRS of a layer of GML whose geometries name it in several ways, or name several.

Here: whether the names are of one CRS. Not here: the pass over the text that meets them (`gml_text.py`). The order of
the axes, which depends on the way, is GDAL's matter: it follows it geometry by geometry, and says no CRS of the layer.
"""

from __future__ import annotations

from collections.abc import Collection

from geo_assets.vector.crs import are_one, parse_file_crs
from geo_assets.vector.reader.geojson_crs import name_of, several_crs


def crs_of_names(names: Collection[str], title: str, *, overridden: bool) -> str | None:
    """Return the CRS that all of several names mean; None where they do not tell.

    Args:
        names: `srsName` of the geometries, each once; empty of one that has none.
        title: of the layer, for messages.
        overridden: another CRS is used anyhow.

    Raises:
        GeoAssetsError: VECTOR_UNSUPPORTED, they mean several.
    """
    if len(names) < 2 or "" in names or overridden:
        return None
    known = {name: crs for name in names if (crs := parse_file_crs(name_of(name))) is not None}
    if not known:
        return None
    (first, crs), *others = known.items()
    for other, found in others:
        if not are_one(crs, found):
            raise several_crs(title, first, other, "the srsName of its geometries")
    return name_of(first) if len(known) == len(names) else None
