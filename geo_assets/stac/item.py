"""STAC 1.1 items of COGs. Here: building and validating one item. Not here: loading it (`pgstac.py`)."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.models import ConvertReport
from geo_assets.text import slug
from geo_assets.vector.models import LayerPlan

#: GDAL's names of data types that STAC spells alike, and those that it spells otherwise.
_STAC_TYPES = {
    name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
} | {
    "complex_int16": "cint16",
    "complex64": "cfloat32",
    "complex128": "cfloat64",
}


#: Degrees; a footprint must be a polygon also where all is in one point.
_POINT_SIZE = 1e-6

_WORLD = (-180.0, -90.0, 180.0, 90.0)


def item_id(account: str, container: str, path: str) -> str:
    """Deterministic, readable, unique: a slug of the path and a hash of the whole place."""
    return f"{slug(path, length=60)}-{hashlib.sha256(f'{account}/{container}/{path}'.encode()).hexdigest()[:8]}"


def cog_item(
    *, identity: str, collection: str, title: str, href: str, thumbnail: str | None, modified: datetime, report: ConvertReport
) -> dict[str, Any]:
    """The validated item of a COG.

    Args:
        identity: the item's id.
        collection: the collection's id.
        title: the source's path.
        href: the COG, without credentials.
        thumbnail: its PNG, likewise.
        modified: when it was registered; the item's datetime where the file does not say when it was taken.
        report: what the conversion found.

    Raises:
        GeoAssetsError: STAC_INVALID.
    """
    import pystac

    taken = datetime.fromisoformat(report.datetime) if report.datetime else modified
    item = pystac.Item(
        identity, report.footprint, list(report.bbox_4326 or ()), taken, _cog_properties(title, modified, report), collection=collection
    )
    item.stac_extensions = [_extension("projection", "v2.0.0"), _extension("file", "v2.1.0"), _extension("raster", "v2.0.0")]
    asset = pystac.Asset(href, media_type=pystac.MediaType.COG, roles=["data", "visual"] if _is_visual(report) else ["data"])
    asset.extra_fields = {
        "file:size": report.bytes,
        "file:checksum": f"1220{report.sha256}",  # multihash: sha2-256, 32 bytes
        "bands": [_band(report, i) for i in range(report.count)],
        "raster:spatial_resolution": report.gsd or report.resolution[0],
    }
    item.add_asset("data", asset)
    if thumbnail:
        item.add_asset("thumbnail", pystac.Asset(thumbnail, media_type=pystac.MediaType.PNG, roles=["thumbnail"]))
    return _validated(item.to_dict(include_self_link=False, transform_hrefs=False))


def _extension(name: str, version: str) -> str:
    return f"https://stac-extensions.github.io/{name}/{version}/schema.json"


def _cog_properties(title: str, modified: datetime, report: ConvertReport) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "title": title,
        "created": modified.isoformat().replace("+00:00", "Z"),
        "proj:code": f"EPSG:{report.epsg}" if report.epsg else None,
        "proj:shape": [report.height, report.width],
        "proj:transform": list(report.transform),
        "proj:bbox": list(report.bbox),
    }
    if report.epsg is None and report.projjson:
        properties["proj:projjson"] = report.projjson
    elif report.epsg is None and report.crs_wkt2:
        properties["proj:wkt2"] = report.crs_wkt2
    if report.gsd:
        properties["gsd"] = report.gsd
    return properties


def _is_visual(report: ConvertReport) -> bool:
    return report.dtypes[0] == "uint8" and [b.colorinterp for b in report.bands[:3]] == ["red", "green", "blue"]


def _band(report: ConvertReport, index: int) -> dict[str, Any]:
    """One entry of STAC 1.1's `bands`: common metadata, statistics of the valid pixels, the raster extension's scale and offset."""
    band = report.bands[index]
    numbers = {
        "minimum": band.minimum,
        "maximum": band.maximum,
        "mean": band.mean,
        "stddev": band.stddev,
        "valid_percent": band.valid_percent,
    }
    entry: dict[str, Any] = {"name": band.name, "data_type": _STAC_TYPES.get(report.dtypes[index], "other")}
    entry["statistics"] = {key: value for key, value in numbers.items() if value is not None}
    if report.nodata is not None:
        entry["nodata"] = report.nodata
    if band.description:
        entry["description"] = band.description
    if band.unit:
        entry["unit"] = band.unit
    if band.scale != 1:
        entry["raster:scale"] = band.scale
    if band.offset != 0:
        entry["raster:offset"] = band.offset
    return entry


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
    from shapely.geometry import box, mapping, shape
    from shapely.ops import unary_union

    boxes = [layer.bbox_4326 for layer in layers if layer.bbox_4326] or [_WORLD]  # attributes alone are nowhere in particular
    bounds = [*(min(b[i] for b in boxes) for i in (0, 1)), *(max(b[i] for b in boxes) for i in (2, 3))]
    footprint = unary_union([shape(layer.footprint) for layer in layers if layer.footprint])
    if footprint.is_empty or footprint.geom_type not in {"Polygon", "MultiPolygon"}:  # points in one place have no area
        footprint = box(bounds[0] - _POINT_SIZE, bounds[1] - _POINT_SIZE, bounds[2] + _POINT_SIZE, bounds[3] + _POINT_SIZE)
    item = pystac.Item(identity, mapping(footprint), bounds, modified, {"title": title}, collection=collection)
    item.stac_extensions = [_extension("table", "v1.2.0"), _extension("projection", "v2.0.0")]
    for table, layer in zip(tables, layers, strict=True):
        asset = pystac.Asset(f"{href}?table={table['table']}", title=table["table"], roles=["data"])
        asset.extra_fields = {
            "table:row_count": table["rows"],
            "table:columns": [{"name": c.name, "type": c.sql_type} for c in layer.columns],
        }
        if layer.geometry_type is not None:
            asset.extra_fields["table:columns"].append({"name": "geom", "type": layer.geometry_type})
            asset.extra_fields |= {"table:primary_geometry": "geom", "proj:code": f"EPSG:{layer.srid}"}
        item.add_asset(table["table"].partition(".")[2], asset)
    return _validated(item.to_dict(include_self_link=False, transform_hrefs=False))


def _validated(item: dict[str, Any]) -> dict[str, Any]:
    """Against the core schemas that pystac carries. The extensions' schemas are online only, so their fields are built here alone."""
    from pystac import validation
    from pystac.errors import STACValidationError

    if not all(isinstance(x, int | float) and math.isfinite(x) for x in item["bbox"]):
        raise GeoAssetsError("STAC_INVALID", f"{item['id']}: its extent is not finite: {item['bbox']}")
    try:
        link = {"rel": "collection", "href": f"./{item['collection']}.json"}  # the API adds it; pgstac stores none
        validation.validate_dict({**item, "stac_extensions": [], "links": [link]})
    except STACValidationError as error:
        raise GeoAssetsError("STAC_INVALID", f"{item['id']}: {str(error).splitlines()[0]}") from error
    return item
