"""GDAL's COG driver: what it is asked for beside a profile, and what of a raster a TIFF cannot hold.

Here: its creation options about metadata and overviews, and notes about what is left behind. Not here: which rasters it
writes, and the proof (`cog.py`); the writer of the others (`onepass.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio.shutil

from geo_assets.raster import domains, gdal, given_overviews
from geo_assets.raster.onepass import VIRTUAL
from geo_assets.raster.origin import Origin, Task


def copy(task: Task, origin: Origin, dataset: Any) -> None:
    """Write the COG of an open dataset, of `origin`, to `task.made`, and a VRT of it to `onepass.VIRTUAL`.

    Raises:
        GDAL's errors.
    """
    rasterio.shutil.copy(dataset, task.work / VIRTUAL, driver="VRT")
    metadata = metadata_options(task, origin)
    options = {**task.profile.options(task.request.threads), **metadata}
    if max(dataset.shape) <= task.profile.block_size:
        options["OVERVIEWS"] = (
            "NONE"  # GDAL would copy those of the source, which it is told to ignore, where it needs none
        )
    if not given_overviews.needed(dataset, task.profile):
        rasterio.shutil.copy(dataset, task.made, driver="COG", **options)
        return
    if task.profile.overview_resampling == "MODE":  # where some codes are nodata: the result is one of the codes
        rasterio.shutil.copy(dataset, task.made, driver="COG", **{**options, "OVERVIEW_RESAMPLING": "NEAREST"})
        return
    staged = task.work / "staged.tif"
    given_overviews.stage(dataset, staged, task.profile, metadata)
    with gdal.open_raster(staged) as with_overviews:
        rasterio.shutil.copy(with_overviews, task.made, driver="COG", **{**options, "OVERVIEWS": "FORCE_USE_EXISTING"})


def metadata_options(task: Task, origin: Origin) -> dict[str, str]:
    """Choose what GDAL copies: the metadata of bands, or the domains beyond the default one, not both; see
    `domains.lost`.
    """
    options = domains.copied_by_gdal(task.info)
    if origin.path == task.info.path and task.layout and task.layout.geotiff_minor == 0:
        options["GEOTIFF_VERSION"] = "1.0"  # as it was: 1.0 and 1.1 readers differ in what they make of a vertical CRS
    return options


def left_behind(made: Path) -> list[str]:
    """Return what GDAL wrote beside the COG, which is delivered alone."""
    notes = []
    for extra in sorted(made.parent.glob(f"{made.name}.*")):
        if _NAMES not in extra.read_bytes():  # see `names_left_behind`
            notes.append(f"a TIFF cannot hold what is in its {extra.suffix} file; left out")
        extra.unlink()
    return notes


#: Elements of a band in a VRT: names of its classes, which have no place in a TIFF, and a table about them, which GDAL
#: writes into a TIFF since 3.11.
_NAMES, _TABLE = b"<CategoryNames", b"<GDALRasterAttributeTable"


def names_left_behind(work: Path) -> list[str]:
    """Return that a raster names its classes, by its VRT (`onepass.VIRTUAL`) in a directory: whoever looks for the
    names in the COG should know why they are not there.
    """
    named = _NAMES in (work / VIRTUAL).read_bytes()
    return ["a TIFF cannot hold the names of its categories; left out"] if named else []


def not_warped(dataset: Any, work: Path) -> list[str]:
    """Return which tables of an open dataset a reprojected copy lacks. `work` is a private directory."""
    rasterio.shutil.copy(dataset, work / VIRTUAL, driver="VRT")
    text = (work / VIRTUAL).read_bytes()
    # a table without words is the one that GDAL makes of colours
    tables = (("attribute table", _TABLE in text and b'"String"' in text), ("names of categories", _NAMES in text))
    held = [what for what, there in tables if there]
    return [f"of its tables, these are not carried over: {', '.join(held)}"] if held else []
