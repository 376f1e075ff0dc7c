"""STAC 1.1 items of COGs. Here: building and validating one item. Not here: loading it (`pgstac.py`)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.models import ConvertReport
from geo_assets.text import slug
from geo_assets.vector.models import LayerPlan

#: Vertices a side when bounds are taken to longitude and latitude: their edges are curves there.
_DENSIFY = 21


def item_id(account: str, container: str, path: str) -> str:
    """Deterministic, readable, unique: a slug of the path and a hash of the whole place."""
    return f"{slug(path, length=60)}-{hashlib.sha256(f'{account}/{container}/{path}'.encode()).hexdigest()[:8]}"


def cog_item(*, identity: str, collection: str, title: str, href: str, modified: datetime, report: ConvertReport) -> dict[str, Any]:
    """The validated item of a COG.

    Args:
        identity: the item's id.
        collection: the collection's id.
        title: the source's path.
        href: the COG, without credentials.
        modified: the item's datetime: nothing in the file says when it was captured.
        report: what the conversion found.

    Raises:
        GeoAssetsError: STAC_INVALID.
    """
    import pystac
    from pyproj import CRS, Transformer
    from shapely.geometry import box, mapping

    crs = CRS.from_wkt(report.crs_wkt)
    bounds = Transformer.from_crs(crs, 4326, always_xy=True).transform_bounds(*report.bbox, densify_pts=_DENSIFY)
    code = f"EPSG:{report.epsg}" if report.epsg else None
    properties: dict[str, Any] = {
        "title": title,
        "proj:code": code,
        "proj:shape": [report.height, report.width],
        "proj:transform": list(report.transform),
        "proj:bbox": list(report.bbox),
    }
    if code is None:
        properties["proj:wkt2"] = crs.to_wkt()
    item = pystac.Item(identity, mapping(box(*bounds)), list(bounds), modified, properties, collection=collection)
    item.stac_extensions = [
        "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
        "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    ]
    asset = pystac.Asset(href, media_type=pystac.MediaType.COG, roles=["data"])
    asset.extra_fields = {
        "file:size": report.bytes,
        "file:checksum": f"1220{report.sha256}",  # multihash: sha2-256, 32 bytes
        "bands": [{"name": f"b{i}", "data_type": dtype} for i, dtype in enumerate(report.dtypes, 1)],
    }
    item.add_asset("data", asset)
    return _validated(item.to_dict(include_self_link=False, transform_hrefs=False))


def table_item(
    *, identity: str, collection: str, title: str, href: str, modified: datetime, tables: list[dict[str, Any]], layers: list[LayerPlan]
) -> dict[str, Any]:
    """The validated item of a vector source: one asset a table, the extent of all.

    Args:
        identity: the item's id.
        collection: the collection's id.
        title: the source's path.
        href: the database, without credentials: `postgresql://host/name`.
        modified: the item's datetime.
        tables: `{table, rows}` of each layer.
        layers: their plans, in the same order.

    Raises:
        GeoAssetsError: STAC_INVALID.
    """
    import pystac
    from shapely.geometry import mapping, shape
    from shapely.ops import unary_union

    footprint = unary_union([shape(layer.footprint) for layer in layers])
    item = pystac.Item(identity, mapping(footprint), list(footprint.bounds), modified, {"title": title}, collection=collection)
    item.stac_extensions = [
        "https://stac-extensions.github.io/table/v1.2.0/schema.json",
        "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    ]
    for table, layer in zip(tables, layers, strict=True):
        asset = pystac.Asset(f"{href}?table={table['table']}", title=table["table"], roles=["data"])
        asset.extra_fields = {
            "table:row_count": table["rows"],
            "table:primary_geometry": "geom",
            "table:columns": [{"name": c.name, "type": c.sql_type} for c in layer.columns]
            + [{"name": "geom", "type": layer.geometry_type}],
            "proj:code": f"EPSG:{layer.srid}",
        }
        item.add_asset(table["table"].partition(".")[2], asset)
    return _validated(item.to_dict(include_self_link=False, transform_hrefs=False))


def _validated(item: dict[str, Any]) -> dict[str, Any]:
    """Against the core schemas that pystac carries. The extensions' schemas are online only, so their fields are built here alone."""
    from pystac import validation
    from pystac.errors import STACValidationError

    try:
        link = {"rel": "collection", "href": f"./{item['collection']}.json"}  # the API adds it; pgstac stores none
        validation.validate_dict({**item, "stac_extensions": [], "links": [link]})
    except STACValidationError as error:
        raise GeoAssetsError("STAC_INVALID", f"{item['id']}: {str(error).splitlines()[0]}") from error
    return item
