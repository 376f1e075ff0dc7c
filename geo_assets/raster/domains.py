"""Metadata of a raster beyond the default domain.

Here: which domains it has, and copies of them. Not here: the default domain, and what of it a COG lacks
(`comparison.py`); what GDAL's driver copies by itself (`cog_driver.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geo_assets.raster.inspect import RasterInfo

#: Domains that GDAL generates, or that the copy keeps in another way.
_GENERATED = frozenset(
    {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "COLOR_PROFILE", "RPC", "TIFF", "xml:XMP"}
)

#: Domains that tell where pixels are, in their former grid.
_OF_THE_GRID = frozenset({"GEOLOCATION", "ENVI", "TRE", "xml:TRE", "xml:gml.root-instance"})


def domains_of(dataset: Any) -> set[str]:
    """Return the domains of an open dataset and its bands, without those that GDAL generates."""
    spaces = (0, *dataset.indexes)
    return {name for space in spaces for name in dataset.tag_namespaces(space)} - _GENERATED


def copied_by_gdal(info: RasterInfo) -> dict[str, str]:
    """Return the option of GDAL's TIFF and COG drivers to copy domains; then it copies no metadata of bands."""
    return {"COPY_SRC_MDD": "YES"} if info.domains and not info.band_tags else {}


def copy_to_another_grid(dataset: Any, out: Any) -> None:
    """Copy the domains of a dataset and its bands to one that is written, but for those about the grid, and JSON, of
    which rasterio does not tell the text.
    """
    for space in (0, *dataset.indexes):
        for name in domains_of(dataset) & set(dataset.tag_namespaces(space)) - _OF_THE_GRID:
            items = dataset.tags(space, ns=name)
            if name.startswith("xml:"):  # one text; rasterio writes pairs, which GDAL takes as one again
                key, equals, value = items.get(name, "").partition("=")
                items = {key: value} if equals else {}
            if items and not name.startswith("json:"):
                out.update_tags(space, ns=name, **items)


def lost(info: RasterInfo, cog: Any) -> list[str]:
    """Return a note about the domains of a source that an open COG lacks."""
    names = sorted({*info.domains} - domains_of(cog))
    return [f"metadata domains are not carried over: {', '.join(names)}"[:300]] if names else []
