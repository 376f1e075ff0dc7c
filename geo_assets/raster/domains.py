"""Metadata of a raster beyond the default domain.

Here: which domains it has, and copies of them; its colour profile and its XMP, which a TIFF holds in tags. Not here:
the default domain, and what of it a COG lacks (`comparison.py`); what GDAL's driver copies by itself
(`cog_driver.py`).
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geo_assets.raster.inspect import RasterInfo

#: Domains that GDAL generates, or that the copy keeps in another way.
_GENERATED = frozenset(
    {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "COLOR_PROFILE", "RPC", "TIFF", "xml:XMP"}
)

#: Domains that tell where pixels are, in their former grid.
_OF_THE_GRID = frozenset({"GEOLOCATION", "ENVI", "TRE", "xml:TRE", "xml:gml.root-instance"})

#: Tags of a TIFF: XMP and a colour profile (ICC.1, annex B.4).
XMP, ICC = 700, 34675

#: Bytes of either that are kept: whoever opens a COG reads them.
_MOST_BYTES = 1 << 20

#: A colour profile begins with its size; after 16 bytes comes its colour space, after 36 this.
_ICC_SPACE, _ICC_MARK, _ICC = slice(16, 20), slice(36, 40), b"acsp"


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
        for name in set(dataset.tag_namespaces(space)) - _GENERATED - _OF_THE_GRID:
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


def embedded(dataset: Any, notes: list[str]) -> dict[int, bytes]:
    """Return the XMP and the colour profile of an open dataset by their tags in a TIFF; what is not kept is noted."""
    kept = {}
    for tag, what, found in ((ICC, "colour profile", _colour_profile(dataset)), (XMP, "XMP", _xmp(dataset))):
        if isinstance(found, str):
            notes.append(f"its {what} is not kept: {found}")
        elif found and len(found) > _MOST_BYTES:
            notes.append(f"its {what} is not kept: it has {len(found):,} bytes, the limit is {_MOST_BYTES:,}")
        elif found:
            kept[tag] = found
    return kept


def _colour_profile(dataset: Any) -> bytes | str | None:
    """Return the colour profile, or why it is none of its colours: GDAL turns some into red, green and blue."""
    if (text := dataset.tags(ns="COLOR_PROFILE").get("SOURCE_ICC_PROFILE")) is None:
        return None
    try:
        profile = base64.b64decode(text, validate=True)
    except binascii.Error:
        profile = b""
    grey = dataset.colorinterp[0].name in {"gray", "undefined"}
    fits = profile[_ICC_MARK] == _ICC and profile[_ICC_SPACE] == (b"GRAY" if grey else b"RGB ")
    return profile if fits else "it is not one of its colours"


def _xmp(dataset: Any) -> bytes | str | None:
    try:
        text: str | None = dataset.tags(ns="xml:XMP").get("xml:XMP")
    except UnicodeError:
        return "it is not UTF-8"
    return text.encode() if text else None
