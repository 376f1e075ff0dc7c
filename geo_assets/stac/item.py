"""STAC 1.1 items of COGs, of tables and of other files.

Here: building one item. Not here: where it comes from (`provenance.py`), where its assets lie (`places.py`), validation
(`validation.py`), loading it (`pgstac.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from geo_assets.capture import taken
from geo_assets.longitudes import footprint, shortest_stretch
from geo_assets.raster.models import ConvertReport
from geo_assets.stac.bands import asset_key
from geo_assets.stac.eo import EXTENSION, common_name
from geo_assets.stac.extent import union
from geo_assets.text import says_all, slug
from geo_assets.vector.geoparquet import PARQUET
from geo_assets.vector.models import BoundingBox, LayerPlan

#: GDAL's names of data types that are the same in STAC, and those that differ.
_STAC_TYPES = {
    name: name
    for name in (
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    )
} | {
    "complex_int16": "cint16",
    "complex_int32": "cint32",
    "complex64": "cfloat32",
    "complex128": "cfloat64",
}


#: Degrees; a footprint must be a polygon even where everything is in one point.
_POINT_SIZE = 1e-6

#: The earliest time that ISO 8601, PostgreSQL and Python can all represent.
UNKNOWN_TIME = "0001-01-01T00:00:00Z"

_CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"

#: Characters of an id before its hash.
_LONGEST_SLUG = 60

#: The property that names the source of the time of capture.
_TOLD_BY = "geo_assets:datetime_from"

#: The property for the warnings about how the item's data were made; the most that it holds.
WARNINGS = "geo_assets:warnings"
_MOST_WARNINGS = 20

#: The role of the COG that stands for an item with several: the thumbnail shows it, and pictures that name none. The
#: order of assets does not say it: pgstac keeps none.
OVERVIEW = "overview"

#: Fields of bands -> the extension that has them.
_OF_BANDS = {"eo:common_name": EXTENSION, "classification:classes": _CLASSIFICATION}

_WORLD = (-180.0, -90.0, 180.0, 90.0)


def data_type(dtype: str) -> str:
    """STAC's name of GDAL's data type."""
    return _STAC_TYPES.get(dtype, "other")


def item_id(account: str, container: str, path: str) -> str:
    """Return a deterministic, readable, unique id: a slug of the path and a hash of account, container and path.

    Where the slug does not say all of the path, as of one in a deep folder or in another script, thousands of sources
    may have the same one: the slug is then of the end of the path, and the hash has 64 bits, of which a million sources
    have two alike once in thirty million times.
    """
    readable, digest = slug(path, length=len(path) or 1), _digest(account, container, path)
    if len(readable) <= _LONGEST_SLUG and says_all(readable, path):
        return f"{readable}-{digest[:8]}"
    return f"{readable[-_LONGEST_SLUG:].strip('-')}-{digest[:16]}"


def former_item_id(account: str, container: str, path: str) -> str:
    """Return the id that a source was given before ids had more than 32 bits of a hash: it keeps it."""
    return f"{slug(path, length=_LONGEST_SLUG)}-{_digest(account, container, path)[:8]}"


def _digest(account: str, container: str, path: str) -> str:
    return hashlib.sha256(f"{account}/{container}/{path}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CogAsset:
    """A COG as an item names it."""

    key: str  # the asset's key, where the item has several
    title: str | None
    href: str  # without credentials
    thumbnail: str | None  # of its PNG, without credentials
    report: ConvertReport
    named: bool = False  # the key was asked for, and counts also where it is the only one


def cog_item(
    *,
    identity: str,
    collection: str,
    title: str,
    modified: datetime,
    cogs: Sequence[CogAsset],
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the item of a source: the key of a single COG tells of its bands; several have keys of their own.

    Args:
        identity: the item's id.
        collection: the collection's id.
        title: the source's path.
        modified: when it is registered: its `updated`, and `created` if it is new; never its datetime.
        cogs: at least one; the first is what is shown of the item.
        warnings: the warnings about them.
    """
    import pystac

    reports = [cog.report for cog in cogs]
    geometry, bbox = union([(report.footprint or {}, report.bbox_4326 or ()) for report in reports])
    times = _times(reports)
    properties = {"title": title, "created": _iso(modified), "updated": _iso(modified), **times, **_said(warnings)}
    properties |= _grid(reports[0]) if len(cogs) == 1 else _common(reports)
    item = pystac.Item(identity, geometry, list(bbox), _moment(times), properties, collection=collection)
    item.stac_extensions = [
        _extension("projection", "v2.0.0"),
        _extension("file", "v2.1.0"),
        _extension("raster", "v2.0.0"),
    ]
    alone = len(cogs) == 1
    for number, cog in enumerate(cogs):
        key = asset_key(cog.report) if alone and not cog.named else cog.key
        asset = _cog_asset(cog, {} if alone else _grid(cog.report))
        if not alone and number == 0:
            asset.roles.append(OVERVIEW)
        item.add_asset(key, asset)
    bands = [band for asset in item.assets.values() for band in asset.extra_fields["bands"]]
    item.stac_extensions += [url for field, url in _OF_BANDS.items() if any(field in band for band in bands)]
    for number, cog in enumerate(cogs):
        if cog.thumbnail:
            asset = pystac.Asset(cog.thumbnail, title=cog.title, media_type=pystac.MediaType.PNG, roles=["thumbnail"])
            item.add_asset(f"{cog.key}-thumbnail" if number else "thumbnail", asset)
    whole: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return whole


def _cog_asset(cog: CogAsset, grid: dict[str, Any]) -> Any:
    import pystac

    report = cog.report
    asset = pystac.Asset(
        cog.href,
        title=cog.title,
        media_type=pystac.MediaType.COG,
        roles=["data", "visual"] if _is_visual(report) else ["data"],
    )
    bands = [_band(report, i) for i in range(report.count)]
    if cog.named and report.count == 1 and (name := common_name(cog.key, cog.title or "")):
        bands[0]["eo:common_name"] = name
    asset.extra_fields = {
        "file:size": report.bytes,
        "file:checksum": f"1220{report.sha256}",  # multihash: sha2-256, 32 bytes
        "bands": bands,
        "raster:spatial_resolution": report.gsd or report.resolution[0],
        **grid,
    }
    return asset


def _said(warnings: Sequence[str]) -> dict[str, Any]:
    more = (
        [f"and {len(warnings) - _MOST_WARNINGS} more, in the account of the job"]
        if len(warnings) > _MOST_WARNINGS
        else []
    )
    return {WARNINGS: [*warnings[:_MOST_WARNINGS], *more]} if warnings else {}


def _extension(name: str, version: str) -> str:
    return f"https://stac-extensions.github.io/{name}/{version}/schema.json"


def _moment(times: dict[str, Any]) -> datetime | None:
    return datetime.fromisoformat(times["datetime"]) if times["datetime"] else None


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _times(reports: Sequence[ConvertReport]) -> dict[str, Any]:
    """Return the item's datetime, and start and end where it covers several times or a span; see `unknown_time` if the
    time is unknown.

    With several times the datetime is the first, not null as STAC also allows: pgstac's search omits items with null.
    """
    told = [
        r for r in reports if r.datetime_from in {"datetime", "datetime_regex"}
    ]  # a time given in the request precedes those of the bands
    bands = [] if told else [band.datetime for report in reports for band in report.bands if band.datetime]
    spans = [(b, b) for b in bands] or [
        (r.datetime, r.end_datetime or r.datetime) for r in told or reports if r.datetime
    ]
    if not spans:
        return unknown_time()
    by = "the bands" if bands else next(r.datetime_from for r in told or reports if r.datetime)
    return _span_of(spans, by)


def _span_of(spans: Sequence[tuple[str, str]], by: str | None) -> dict[str, Any]:
    moments = sorted(datetime.fromisoformat(text) for span in spans for text in span)
    source = {_TOLD_BY: by} if by else {}
    if moments[0] == moments[-1]:
        return {"datetime": _iso(moments[0]), **source}
    return {
        "datetime": _iso(moments[0]),
        "start_datetime": _iso(moments[0]),
        "end_datetime": _iso(moments[-1]),
        **source,
    }


def unknown_time() -> dict[str, Any]:
    """Return the times of an item of unknown date. STAC and pgstac require a span if datetime is null: this one is
    found by a search that is open to the past, as it may lie there, and by no other search for a time.

    An open span would be found under today, like the time of registration.
    """
    return {"datetime": None, "start_datetime": UNKNOWN_TIME, "end_datetime": UNKNOWN_TIME, _TOLD_BY: "unknown"}


def _grid(report: ConvertReport) -> dict[str, Any]:
    """Return the projection extension's fields of one COG, and the size of its pixels."""
    fields: dict[str, Any] = {
        "proj:code": f"EPSG:{report.epsg}" if report.epsg else None,
        "proj:shape": [report.height, report.width],
        "proj:transform": list(report.transform),
        "proj:bbox": list(report.bbox),
    }
    if report.epsg is None and report.projjson:
        fields["proj:projjson"] = report.projjson
    elif report.epsg is None and report.crs_wkt2:
        fields["proj:wkt2"] = report.crs_wkt2
    if report.gsd:
        fields["gsd"] = report.gsd
    return fields


def _common(reports: Sequence[ConvertReport]) -> dict[str, Any]:
    """Return the fields that several COGs share: the CRS where all have the same, the smallest pixel size."""
    codes = {report.epsg for report in reports}
    sizes = [report.gsd for report in reports if report.gsd]
    fields: dict[str, Any] = {"gsd": min(sizes)} if sizes else {}
    return fields | ({"proj:code": f"EPSG:{reports[0].epsg}"} if len(codes) == 1 and reports[0].epsg else {})


def _is_visual(report: ConvertReport) -> bool:
    return report.dtypes[0] == "uint8" and [b.colorinterp for b in report.bands[:3]] == ["red", "green", "blue"]


def _band(report: ConvertReport, index: int) -> dict[str, Any]:
    """Return one entry of STAC 1.1's `bands`: common metadata, statistics of the valid pixels, the raster extension's
    scale and offset.
    """
    band = report.bands[index]
    numbers = {
        "minimum": band.minimum,
        "maximum": band.maximum,
        "mean": band.mean,
        "stddev": band.stddev,
        "valid_percent": band.valid_percent,
    }
    entry: dict[str, Any] = {"name": band.name, "data_type": data_type(report.dtypes[index])}
    entry["statistics"] = {key: value for key, value in numbers.items() if value is not None}
    if report.nodata is not None:
        entry["nodata"] = report.nodata
    if band.description:
        entry["description"] = band.description
    if band.datetime:
        entry["datetime"] = band.datetime
    if band.unit:
        entry["unit"] = band.unit
    if band.scale != 1:
        entry["raster:scale"] = band.scale
    if band.offset != 0:
        entry["raster:offset"] = band.offset
    if band.colours:
        entry["classification:classes"] = [
            {"value": value, "name": f"value-{value}", "color_hint": colour} for value, colour in band.colours.items()
        ]
    return entry


@dataclass(frozen=True, slots=True)
class TableAsset:
    """A table as a GeoParquet file, as an item names it."""

    table: str  # schema.name
    href: str  # without credentials
    size: int  # bytes
    sha256: str


def table_item(
    *,
    identity: str,
    collection: str,
    title: str,
    href: str,
    modified: datetime,
    tables: Sequence[tuple[str, int]],
    layers: Sequence[LayerPlan],
    files: Sequence[TableAsset] = (),
    when: str | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the item of a vector source: one asset per table, and per file of a table; the extent of all.

    Args:
        identity: the item's id.
        collection: the collection's id.
        title: the source's path.
        href: the database, without credentials: `postgresql://host/name`.
        modified: when it is registered: its `updated`, and `created` if it is new; never its datetime.
        tables: (schema.name, rows) of each layer.
        layers: their plans, in the same order.
        files: of these tables, or of none.
        when: the time or span of the data, where it was given with the request.
        warnings: the warnings about them.
    """
    import pystac

    boxes = [layer.bbox_4326 for layer in layers if layer.bbox_4326]  # a table without geometry has no extent
    item = _of_boxes(boxes, when, warnings, identity=identity, collection=collection, title=title, modified=modified)
    item.stac_extensions = [_extension("table", "v1.2.0"), _extension("projection", "v2.0.0")]
    for (table, rows), layer in zip(tables, layers, strict=True):
        asset = pystac.Asset(f"{href}?table={table}", title=table, roles=["data"])
        asset.extra_fields = {
            "table:row_count": rows,
            "table:columns": [{"name": c.name, "type": c.sql_type} for c in layer.columns],
        }
        if layer.geometry_type is not None:
            asset.extra_fields["table:columns"].append({"name": "geom", "type": layer.geometry_type})
            asset.extra_fields |= {"table:primary_geometry": "geom", "proj:code": layer.crs_code}
        item.add_asset(table.partition(".")[2], asset)
    if files:
        item.stac_extensions.append(_extension("file", "v2.1.0"))
    for file in files:
        key = file.table.partition(".")[2]
        asset = pystac.Asset(file.href, title=f"{file.table} as GeoParquet", media_type=PARQUET, roles=["data"])
        about = {"file:size": file.size, "file:checksum": f"1220{file.sha256}"}  # multihash: sha2-256, 32 bytes
        asset.extra_fields = {**item.assets[key].extra_fields, **about}
        item.add_asset(f"{key}-geoparquet", asset)
    whole: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return whole


@dataclass(frozen=True, slots=True)
class FileAsset:
    """A file of any kind, as an item names it."""

    href: str  # without credentials
    media_type: str | None = None
    sha256: str | None = None


def file_item(
    *,
    identity: str,
    collection: str,
    title: str,
    modified: datetime,
    files: Sequence[FileAsset],
    box: BoundingBox | None,
    when: str | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the item of a source that became files: one asset per file.

    Args:
        identity: the item's id.
        collection: the collection's id.
        title: the source's path.
        modified: when it is registered: its `updated`, and `created` if it is new; never its datetime.
        files: that were made of it; their names differ.
        box: what they tell of; None: of no place in particular.
        when: the time or span of what they tell, where it was given with the request.
        warnings: what is worth knowing of them.
    """
    import pystac

    boxes = [box] if box else []
    item = _of_boxes(boxes, when, warnings, identity=identity, collection=collection, title=title, modified=modified)
    for file in files:
        name = file.href.rpartition("/")[2]
        asset = pystac.Asset(file.href, title=name, media_type=file.media_type, roles=["data"])
        if file.sha256:
            asset.extra_fields = {"file:checksum": f"1220{file.sha256}"}  # multihash: sha2-256, 32 bytes
        item.add_asset(name, asset)
    if any(file.sha256 for file in files):
        item.stac_extensions.append(_extension("file", "v2.1.0"))
    whole: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return whole


def _of_boxes(
    extents: Sequence[BoundingBox],
    when: str | None,
    warnings: Sequence[str],
    *,
    identity: str,
    collection: str,
    title: str,
    modified: datetime,
) -> Any:
    """An item without assets: the extent of what it is of, the world if there is none, and its time if that is told."""
    import pystac

    boxes = extents or [_WORLD]
    geometry, _ = union([(footprint(area), area) for area in map(_with_area, boxes)])
    west, east = shortest_stretch([(box[0], box[2]) for box in boxes])
    bounds = [west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)]
    told = taken(when, "datetime") if when else None
    times = _span_of([(told.start, told.end or told.start)], told.by) if told else unknown_time()
    properties = {"title": title, "created": _iso(modified), "updated": _iso(modified), **times, **_said(warnings)}
    return pystac.Item(identity, geometry, bounds, _moment(times), properties, collection=collection)


def _with_area(box: BoundingBox) -> BoundingBox:
    """A box with an area, also around points in one place or on a line, within longitudes and latitudes."""
    west, south, east, north = box
    if west == east:
        west, east = max(-180.0, west - _POINT_SIZE), min(180.0, east + _POINT_SIZE)
    if south == north:
        south, north = max(-90.0, south - _POINT_SIZE), min(90.0, north + _POINT_SIZE)
    return west, south, east, north
