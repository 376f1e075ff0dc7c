"""The report of a COG: grid, CRS, bands, footprint, hashes, the software that made it.

Here: `describe`, when it was taken, the comparison of statistics that a source brought along with those of its pixels,
and what is said of its size.
Not here: whether the COG is right (`validate.py`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rasterio

from geo_assets import __version__
from geo_assets.capture import Taken, by_pattern, moment, of_product, taken
from geo_assets.raster import gdal, kept_blocks
from geo_assets.raster.footprint import footprint
from geo_assets.raster.gdal import stored_types
from geo_assets.raster.georeference import (
    dataset_crs,
    epsg,
    georeferencing,
    gsd,
    native_bounds,
    other_body,
    projjson,
    resolution,
    wkt2,
)
from geo_assets.raster.inspect import RasterInfo
from geo_assets.raster.models import BandReport, ConvertReport, ConvertRequest, Georeferencing, nodata_json
from geo_assets.raster.nodata import nodata_told
from geo_assets.raster.pixels import BandStatistics, Measurement, data_bands
from geo_assets.raster.profiles import Profile, choose_profile
from geo_assets.raster.tiff import Layout
from geo_assets.text import human_bytes

#: How far a STATISTICS_ item of the source may deviate, in parts of the range, before it is called stale.
_STALE = 1e-3

#: Values of a band whose colours are reported: those of a byte.
_MOST_COLOURS = 256


#: A COG is said to be much larger than its source from so many bytes, and so many times the source's.
LARGE, MUCH_LARGER = 100_000_000, 4


def captured(request: ConvertRequest, info: RasterInfo, notes: list[str]) -> Taken | None:
    """Return the time of capture: of the request, the file, its product's metadata or name, or the TIFF's own. What was
    asked for in vain is added to `notes`.
    """
    name = request.known_as or info.path.name
    found = taken(request.datetime, "datetime") if request.datetime else None
    if found is None and request.datetime_regex:
        found = by_pattern(request.datetime_regex, name)
        if found is None:
            notes.append("datetime_regex finds no time in its path")
    found = found or info.captured
    if found is None and request.product_datetime:
        found = taken(request.product_datetime, "the product's metadata")
    return found or of_product(name) or info.saved


def grown(info: RasterInfo, layout: Layout | None, profile: Profile, made: Path, asked: str | None = None) -> list[str]:
    """Say that a source was compressed with loss, where keeping every pixel of it makes a much larger file, and what
    would not: keeping its blocks, or which profile.

    Args:
        info: of the source.
        layout: of the source, if it is a TIFF.
        profile: that the COG was written with.
        made: the COG.
        asked: the profile that was asked for, which did not come near the pixels if it is another.
    """
    before, after = info.path.stat().st_size, made.stat().st_size
    if not profile.lossless or not kept_blocks.lossy(info, layout) or after < max(LARGE, MUCH_LARGER * before):
        return []
    ways = {
        "keep_lossy keeps its JPEG blocks as they are": kept_blocks.unsuited(info, layout) is None,
        "the profile visual makes a small COG, which differs a little more": (
            asked != "visual" and not choose_profile(info, "visual").lossless
        ),
    }
    told = (
        f"its pixels were compressed with loss into {human_bytes(before)}, and keeping each of them as it is takes"
        f" {human_bytes(after)}: {'; '.join(way for way, is_one in ways.items() if is_one)}"
    )
    return [told] if any(ways.values()) else []


def turned(layout: Layout | None) -> list[str]:
    """Say that viewers of photographs turn a TIFF, which GDAL does not; its COG has no such tag.

    Args:
        layout: of the source, if it is a TIFF.
    """
    orientation = layout.directories[0].orientation if layout and layout.directories else 1
    if orientation in {0, 1}:
        return []
    return [
        f"its orientation ({orientation}) is not used: rows and columns are as they are stored, and as GDAL reads them"
    ]


def still_turned(request: ConvertRequest, cog: Any) -> list[str]:
    """Say that a grid which is turned is that of target_crs already: it was not reprojected."""
    if not request.target_crs or not (cog.transform.b or cog.transform.d):
        return []
    told = "its grid is turned in target_crs, which is its own CRS, and was kept, pixel by pixel"
    return [f"{told}; with a resolution, it is put on a grid that is not turned"]


def hash_of(made: Path) -> str:
    """Return the SHA-256 of a file."""
    with made.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(
    info: RasterInfo, cog: Any, made: Path, sha256: str, profile: Profile, measurement: Measurement
) -> ConvertReport:
    """Return the report of an open COG, which lies at `made`, was made from `info` and whose pixels were measured."""
    crs = dataset_crs(cog)
    placed = (crs and not other_body(crs)) or georeferencing(cog) is Georeferencing.RPCS
    outline = footprint(cog, info.path.name) if placed else None
    statistics = measurement.statistics()
    seen = any(statistics[band - 1].valid_percent for band in data_bands(cog))
    warnings = [*_stale_statistics(cog, statistics), *([] if seen else ["no pixel is valid"])]
    return ConvertReport(
        driver=info.driver,
        profile=profile.name,
        kind=info.kind,
        georeferencing=georeferencing(cog) or (Georeferencing.TRANSFORM if crs else None),
        width=cog.width,
        height=cog.height,
        count=cog.count,
        dtypes=stored_types(cog),
        nodata=nodata_json(nodata_told(cog), info.dtype),
        epsg=epsg(crs),
        crs_wkt2=wkt2(crs),
        projjson=projjson(crs),
        transform=tuple(cog.transform)[:6],
        bbox=native_bounds(cog),
        footprint=outline.geometry if outline else None,
        bbox_4326=outline.bbox if outline else None,
        bands=tuple(_band(cog, band, s) for band, s in zip(cog.indexes, statistics, strict=True)),
        resolution=resolution(cog),
        gsd=gsd(cog),
        bytes=made.stat().st_size,
        sha256=sha256,
        pixels_sha256=measurement.sha256(),
        warnings=tuple(warnings),
        seconds=0,
        software=software(),
    )


def _band(cog: Any, band: int, statistics: BandStatistics) -> BandReport:
    description, unit = cog.descriptions[band - 1], cog.units[band - 1]
    return BandReport(
        name=description or f"b{band}",
        description=description or None,
        unit=unit or None,
        scale=cog.scales[band - 1],
        offset=cog.offsets[band - 1],
        colorinterp=cog.colorinterp[band - 1].name,
        minimum=statistics.minimum,
        maximum=statistics.maximum,
        mean=statistics.mean,
        stddev=statistics.stddev,
        valid_percent=statistics.valid_percent,
        datetime=moment(cog.tags(band).get("DATETIME", ""), earliest=1),
        colours=_colours(cog, band, statistics),
    )


def _colours(cog: Any, band: int, statistics: BandStatistics) -> dict[int, str]:
    """Return the colours of a table of colours for the values between the least and the greatest valid one."""
    low, high = statistics.minimum, statistics.maximum
    if cog.colorinterp[band - 1].name != "palette" or low is None or high is None or high - low >= _MOST_COLOURS:
        return {}
    found = {
        value: f"{red:02X}{green:02X}{blue:02X}"
        for value, (red, green, blue, _) in gdal.colour_table(cog, band).items()
    }
    return {value: colour for value, colour in sorted(found.items()) if low <= value <= high and value != cog.nodata}


def _stale_statistics(cog: Any, statistics: Sequence[BandStatistics]) -> list[str]:
    """Report STATISTICS_ items of the source that do not match its valid pixels; readers show them nevertheless."""
    stale = [str(band) for band, true in zip(cog.indexes, statistics, strict=True) if _is_stale(cog.tags(band), true)]
    return (
        [f"the statistics that band {', '.join(stale)} brought along are not those of its valid pixels"]
        if stale
        else []
    )


def _is_stale(tags: dict[str, str], true: BandStatistics) -> bool:
    if true.minimum is None or true.maximum is None:
        return False
    slack = _STALE * max(float(true.maximum) - float(true.minimum), 1e-9)
    for item, value in (
        ("MINIMUM", true.minimum),
        ("MAXIMUM", true.maximum),
        ("MEAN", true.mean),
        ("STDDEV", true.stddev),
    ):
        try:
            claimed = float(tags[f"STATISTICS_{item}"])
        except (KeyError, ValueError):
            continue
        if value is not None and not abs(claimed - value) <= slack:
            return True
    return False


@functools.cache
def software() -> dict[str, str]:
    """Return the software that makes COGs, with versions."""
    import pyproj

    return {
        "geo_assets": __version__,
        "rasterio": rasterio.__version__,
        "gdal": rasterio.__gdal_version__,
        "proj": pyproj.proj_version_str,
    }
